"""Networks that the fast loop can't copy, and why."""

from lenet_lab.classifier import Classifier
from lenet_lab.compat import tf
from lenet_lab.fast.copies import find_copy_obstacle, upstream


def find_obstacle(classifier: Classifier) -> str | None:
    """Why a classifier's network can't be copied into a loop, or None if it can.

    Parameters
    ----------
    classifier : Classifier
    """
    graph = classifier.graph
    if graph.get_collection(tf.GraphKeys.UPDATE_OPS):
        return "the network has update operations, as batch normalisation does"
    if len(graph.get_collection(tf.GraphKeys.SUMMARIES)) > 2:  # loss and accuracy
        return "the network has summaries of its own"
    variables = graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
    for variable in variables:
        if variable.op.type not in ("Variable", "VariableV2"):
            return f"the variable {variable.op.name} is a resource variable, as in TensorFlow 2"
    reads = {variable.value(): variable.value() for variable in variables}
    operations = upstream([classifier.train_loss, classifier.loss, classifier.accuracy], reads)
    for find in (find_copy_obstacle, _find_state):
        for op in operations:
            if obstacle := find(op):
                return f"the network's operation {op.name} {obstacle}"
    return None


def _find_state(op: tf.Operation) -> str | None:
    if op.op_def.is_stateful and "Random" not in op.type and op.type != "Placeholder":
        return f"has a state ({op.type})"
    return None
