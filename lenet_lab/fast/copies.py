"""Copies of a part of a graph: tensors computed again, with other tensors in place of some that they depend on."""

from collections.abc import Sequence

from lenet_lab.compat import tf
from lenet_lab.paths import LabError

CONTROL_FLOW = ("Switch", "Merge", "Enter", "Exit", "NextIteration", "LoopCond")
COPIED_GRADIENTS = {"LenetLabBlockConv2D"}  # that of `blocks`, which refers only to its operation

Replacements = dict[tf.Tensor, tf.Tensor]  # from a tensor of the graph to the one that takes its place


def copy(outputs: Sequence[tf.Tensor], replacements: Replacements) -> list[tf.Tensor]:
    """Copy what lies between some replaced tensors and the outputs; share everything else.

    Parameters
    ----------
    outputs : sequence of tensors
    replacements : dict
        From tensors that the outputs depend on to the tensors to use instead.

    Returns
    -------
    list of tensors
        The outputs as computed from the replacements.

    Raises
    ------
    ValueError
        If an operation between them has another gradient in a copy, or none.
    """
    changed = set(replacements)
    operations = []
    for op in upstream(outputs, replacements):
        if any(tensor in changed for tensor in op.inputs):
            changed.update(op.outputs)
            operations.append(op)
            if obstacle := find_copy_obstacle(op):
                raise LabError(
                    f"the operation {op.name} {obstacle}, so the network can't be copied, as augmentation and "
                    "sharpness-aware training need it"
                )
    return _import_copies(outputs, operations, replacements)


def copy_all(outputs: Sequence[tf.Tensor], replacements: Replacements) -> list[tf.Tensor]:
    """Copy every operation that the outputs depend on, as far back as the replaced tensors.

    The body of a loop needs this. It would share a tensor from outside the loop
    by computing it once for all iterations, even if the tensor is random.
    """
    return _import_copies(outputs, upstream(outputs, replacements), replacements)


def find_copy_obstacle(op: tf.Operation) -> str | None:
    """Why a copy of an operation would have another gradient, or none; None if it has the same."""
    if op.type.removeprefix("Ref") in CONTROL_FLOW:
        return "belongs to a tf.cond or a tf.while_loop"
    if any(attr.HasField("func") for attr in op.node_def.attr.values()):
        return "calls a function"
    gradient = op.node_def.attr.get("_gradient_op_type")
    if gradient and gradient.s.decode() not in COPIED_GRADIENTS:
        return "has a gradient of its own"  # which refers to the tensors of the original
    return None


def upstream(outputs: Sequence[tf.Tensor], stop: Replacements) -> list[tf.Operation]:
    """The operations that tensors depend on, in the order they were made, not going past the tensors in `stop`."""
    found: set[tf.Operation] = set()
    waiting = [tensor.op for tensor in outputs if tensor not in stop]
    while waiting:
        op = waiting.pop()
        if op not in found:
            found.add(op)
            waiting.extend(tensor.op for tensor in op.inputs if tensor not in stop)
            waiting.extend(op.control_inputs)
    return [op for op in outputs[0].graph.get_operations() if op in found]


def _import_copies(
    outputs: Sequence[tf.Tensor], operations: list[tf.Operation], replacements: Replacements
) -> list[tf.Tensor]:
    names = {op.name for op in operations}
    inputs = {tensor for op in operations for tensor in op.inputs}
    outside = {tensor.name: tensor for tensor in inputs if tensor.op.name not in names}
    outside |= {tensor.name: new for tensor, new in replacements.items() if tensor in inputs}
    copied = [tensor for tensor in outputs if tensor not in replacements and tensor.op.name in names]
    copies = tf.import_graph_def(
        tf.GraphDef(node=[_self_contained(op.node_def, names) for op in operations]),
        input_map=outside,
        return_elements=[tensor.name for tensor in copied],
        name="copy",
    )
    results = dict(zip(copied, copies or ())) | replacements
    return [results.get(tensor, tensor) for tensor in outputs]


def _self_contained(node: tf.NodeDef, names: set[str]) -> tf.NodeDef:
    """The node without control inputs from operations that are not copied, and free of any colocation."""
    inputs = [name for name in node.input if not name.startswith("^") or name[1:] in names]
    del node.input[:]  # `node_def` is a new message at every call
    node.input.extend(inputs)
    node.attr.pop("_class", None)
    return node
