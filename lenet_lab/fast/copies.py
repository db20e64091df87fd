"""Copies of a part of a graph: tensors computed again, with other tensors in place of some that they depend on."""

from collections.abc import Sequence

from lenet_lab.compat import tf

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
    """
    changed = set(replacements)
    operations = []
    for op in upstream(outputs, replacements):
        if any(tensor in changed for tensor in op.inputs):
            changed.update(op.outputs)
            operations.append(op)
    return _import_copies(outputs, operations, replacements)


def copy_all(outputs: Sequence[tf.Tensor], replacements: Replacements) -> list[tf.Tensor]:
    """Copy every operation that the outputs depend on, as far back as the replaced tensors.

    The body of a loop needs this. It would share a tensor from outside the loop
    by computing it once for all iterations, even if the tensor is random.
    """
    return _import_copies(outputs, upstream(outputs, replacements), replacements)


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
