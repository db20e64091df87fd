"""Networks that the fast loop can't copy, and why."""

from lenet_lab.classifier import Classifier
from lenet_lab.compat import tf
from lenet_lab.fast.copies import upstream

CONTROL_FLOW = ("Switch", "Merge", "Enter", "Exit", "NextIteration", "LoopCond")


def find_obstacle(classifier: Classifier) -> str | None:
    """Why a classifier's network can't be copied into a loop, or None if it can.

    Parameters
    ----------
    classifier : Classifier
    """
    graph = classifier.graph
    if graph.get_collection(tf.GraphKeys.UPDATE_OPS):
        return "the network has update operations, as batch normalisation does"
    variables = graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
    for variable in variables:
        if variable.op.type not in ("Variable", "VariableV2"):
            return f"the variable {variable.op.name} is a resource variable, as in TensorFlow 2"
    reads = {variable.value(): variable.value() for variable in variables}
    operations = upstream([classifier.train_loss, classifier.loss, classifier.accuracy], reads)
    for op in operations:
        if op.type.removeprefix("Ref") in CONTROL_FLOW:
            return f"the network's operation {op.name} belongs to a tf.cond or a tf.while_loop"
    for op in operations:
        obstacle = _obstacle_in(op)
        if obstacle:
            return f"the network's operation {op.name} {obstacle}"
    return None


def _obstacle_in(op: tf.Operation) -> str | None:
    if any(attr.HasField("func") for attr in op.node_def.attr.values()):
        return "calls a function"
    if "_gradient_op_type" in op.node_def.attr:
        return "has a gradient of its own"
    if op.op_def.is_stateful and "Random" not in op.type and op.type != "Placeholder":
        return f"has a state ({op.type})"
    return None
