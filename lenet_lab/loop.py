"""The fast path of training: many iterations in one `session.run`, each batch shared out among the cores.

The values are the plain loop's (`training.iterate`), but for rounding. While one
small operation runs, TensorFlow leaves the other cores idle; here every core
takes its share of the batch through the whole network. And Python takes part
once in many iterations.
"""

import os
from typing import NamedTuple

from lenet_lab.blocks import find_shortcuts
from lenet_lab.classifier import Classifier
from lenet_lab.compat import tf
from lenet_lab.optimizers import uphill

Replaced = dict[tf.Tensor, tf.Tensor]  # from tensors of the classifier to what takes their place in a copy


SCOPE = "lenet_lab_loop"
LEAST_SHARE = 16  # images; sharing out fewer costs more than it saves


class Measure(NamedTuple):
    """Loss and accuracy of a batch that is shared out among the cores."""

    x: tf.Tensor  # float32 [batch, 784], placeholder
    y_true: tf.Tensor  # float32 [batch, 10], placeholder
    loss: tf.Tensor  # float32 scalar, in nats
    accuracy: tf.Tensor  # float32 scalar in [0, 1]


class Loop(NamedTuple):
    """A loop in a graph: what is fed to it, and what it gives."""

    x: tf.Tensor  # float32 [iterations, batch, 784], placeholder
    y_true: tf.Tensor  # float32 [iterations, batch, 10], placeholder
    keep_prob: tf.Tensor  # float32 scalar, placeholder
    records: tuple[tf.Tensor, ...]  # [iterations] each: loss, accuracy, float64 seconds since 1970
    measure: Measure


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def can_loop(classifier: Classifier) -> bool:
    """Whether a loop would do what the plain loop does.

    Not so for batch normalisation, since there a share of a batch gives other
    values than the batch; nor for resource variables, which a copy can't tell apart.
    """
    with classifier.graph.as_default():
        # Only a variable of TensorFlow 1's own kind is read in one place.
        return not tf.get_collection(tf.GraphKeys.UPDATE_OPS) and all(
            variable.value() is variable.value() for variable in tf.global_variables()
        )


def loop_for(classifier: Classifier, batch_size: int) -> Loop:
    """The classifier's loop for batches of a size, built when it is first asked for."""
    shares = max(1, min(cores(), batch_size // LEAST_SHARE))
    if shares not in classifier.loops:
        classifier.loops[shares] = build_loop(classifier, shares)
    return classifier.loops[shares]


def without_loops(graph: tf.Graph) -> tf.GraphDef:
    """A graph as the lab draws it, with the shapes of its tensors."""
    graph_def = graph.as_graph_def(add_shapes=True)
    nodes = [node for node in graph_def.node if not node.name.startswith(SCOPE)]
    return tf.GraphDef(node=nodes, versions=graph_def.versions, library=graph_def.library)


def build_loop(classifier: Classifier, shares: int) -> Loop:
    """Add to a classifier's graph a loop that does what the plain loop does, batch after batch.

    Each turn updates the variables on a batch, with `classifier.optimizer` and
    its slots, then measures loss and accuracy of that batch with dropout off.
    The network in it is copied from the graph, once for each share, under the
    scope `SCOPE`.

    Parameters
    ----------
    classifier : Classifier
    shares : int
        Into how many parts a batch is cut; at most its size.
    """
    with classifier.graph.as_default(), tf.name_scope(SCOPE):
        x = tf.placeholder(tf.float32, [None, None, 784], name="inputs")
        y_true = tf.placeholder(tf.float32, [None, None, 10], name="labels")
        keep_prob = tf.placeholder(tf.float32, [], name="keep_prob")
        iterations, batch_size = tf.unstack(tf.shape(x)[:2])
        sizes = _sizes(batch_size, shares)

        def turn(i, *records):
            parts = _share_out(classifier, x[i], y_true[i], sizes)
            before = _read_variables(after=i)
            for part, drawn in zip(parts, _draw(classifier, before, sizes)):
                part.update(drawn)
            updated = _update(classifier, before, parts, sizes, keep_prob)
            loss, accuracy = _measure(classifier, _read_variables(after=updated), parts, sizes)
            with tf.control_dependencies([loss, accuracy]):
                time = tf.timestamp()
                done = i + 1
            return done, *(array.write(i, value) for array, value in zip(records, (loss, accuracy, time)))

        arrays = [tf.TensorArray(dtype, iterations) for dtype in (tf.float32, tf.float32, tf.float64)]
        _, *arrays = tf.while_loop(
            lambda i, *_: i < iterations, turn, [0, *arrays], parallel_iterations=1, back_prop=False
        )
        records = tuple(array.stack() for array in arrays)
        return Loop(x, y_true, keep_prob, records, _build_measure(classifier, shares))


def _build_measure(classifier: Classifier, shares: int) -> Measure:
    x = tf.placeholder(tf.float32, [None, 784], name="inputs")
    y_true = tf.placeholder(tf.float32, [None, 10], name="labels")
    sizes = _sizes(tf.shape(x)[0], shares)
    variables = {variable.value(): variable.value() for variable in tf.global_variables()}
    return Measure(x, y_true, *_measure(classifier, variables, _share_out(classifier, x, y_true, sizes), sizes))


def _sizes(batch_size: tf.Tensor, shares: int) -> tf.Tensor:
    """How many images each share has, int32 [shares]."""
    ends = [batch_size * share // shares for share in range(shares + 1)]
    return tf.stack([end - start for start, end in zip(ends, ends[1:])])


def _share_out(classifier: Classifier, x: tf.Tensor, y_true: tf.Tensor, sizes: tf.Tensor) -> list[Replaced]:
    shares = zip(*(tf.split(tensor, sizes, num=sizes.shape.as_list()[0]) for tensor in (x, y_true)))
    return [{classifier.x: x_share, classifier.y_true: y_share} for x_share, y_share in shares]


def _update(
    classifier: Classifier, variables: Replaced, parts: list[Replaced], sizes: tf.Tensor, keep_prob: tf.Tensor
) -> tf.Operation:
    fed = variables if classifier.keep_prob is None else variables | {classifier.keep_prob: keep_prob}
    deformed = [{classifier.x: _copy([classifier.x_train], variables | part)[0]} for part in parts]

    def loss(values):
        at = fed | {variable.value(): value for variable, value in zip(trained, values)}
        losses = [_copy([classifier.loss], at | part | images)[0] for part, images in zip(parts, deformed)]
        return _mean(losses, sizes)

    trained = tf.trainable_variables()
    values = [variables[variable.value()] for variable in trained]
    if classifier.radius:
        values = uphill(values, loss(values), classifier.radius)
    gradients = classifier.optimizer.compute_gradients(loss(values), values)
    return classifier.optimizer.apply_gradients(
        [(gradient, variable) for (gradient, _), variable in zip(gradients, trained)],
        global_step=tf.train.get_global_step(),
    )


def _measure(
    classifier: Classifier, variables: Replaced, parts: list[Replaced], sizes: tf.Tensor
) -> tuple[tf.Tensor, ...]:
    measured = [_copy([classifier.loss, classifier.accuracy], variables | part) for part in parts]
    return tuple(_mean(values, sizes) for values in zip(*measured))


def _read_variables(after: tf.Tensor | tf.Operation) -> Replaced:
    """The variables as they are now; what the graph reads of them, a loop would read once for all turns."""
    with tf.control_dependencies([after]):
        return {variable.value(): variable.read_value() for variable in tf.global_variables()}


def _draw(classifier: Classifier, variables: Replaced, sizes: tf.Tensor) -> list[Replaced]:
    """What is drawn by chance for each image, as for dropout: drawn for the whole batch, then shared out."""
    draws = [{} for _ in range(sizes.shape[0])]
    for op in _operations_behind([classifier.loss, classifier.x_train], variables):
        shape = op.outputs[0].shape
        if "Random" in op.type and shape.rank and shape.as_list()[0] is None:  # as many as there are images
            (drawn,) = op.outputs
            shape = tf.stack([tf.reduce_sum(sizes), *shape.as_list()[1:]])
            (whole,) = _copy([drawn], variables | {op.inputs[0]: shape})
            for draw, rows in zip(draws, tf.split(whole, sizes, num=len(draws))):
                draw[drawn] = rows
    return draws


def _mean(values: list[tf.Tensor], sizes: tf.Tensor) -> tf.Tensor:
    """The mean over a batch, from the means over its shares."""
    weights = tf.cast(sizes, tf.float32) / tf.cast(tf.reduce_sum(sizes), tf.float32)
    return tf.add_n([value * weights[share] for share, value in enumerate(values)])


def _copy(outputs: list[tf.Tensor], replaced: Replaced) -> list[tf.Tensor]:
    """Compute tensors of the classifier from others in place of some that they are computed from."""
    replaced = dict(replaced)
    for shortcut in find_shortcuts(_operations_behind(outputs, replaced)):
        replaced[shortcut.result] = shortcut.compute(*_copy_as_it_is(shortcut.inputs, replaced))
    return _copy_as_it_is(outputs, replaced)


def _copy_as_it_is(outputs: list[tf.Tensor], replaced: Replaced) -> list[tf.Tensor]:
    operations = _operations_behind(outputs, replaced)
    taken = {tensor for op in operations for tensor in op.inputs}
    copied = [tensor for tensor in outputs if tensor not in replaced]
    copies = tf.import_graph_def(
        tf.GraphDef(node=[op.node_def for op in operations]),
        input_map={tensor.name: new for tensor, new in replaced.items() if tensor in taken},
        return_elements=[tensor.name for tensor in copied],
        name="copy",
    )
    return [replaced[tensor] if tensor in replaced else copies[copied.index(tensor)] for tensor in outputs]


def _operations_behind(outputs: list[tf.Tensor], stop: Replaced) -> list[tf.Operation]:
    """The operations that tensors are computed from, those before `stop` left out, in the order they were made."""
    found, waiting = set(), list(outputs)
    while waiting:
        tensor = waiting.pop()
        if tensor not in stop and tensor.op not in found:
            found.add(tensor.op)
            waiting.extend(tensor.op.inputs)
    order = {op: number for number, op in enumerate(outputs[0].graph.get_operations())}
    return sorted(found, key=order.__getitem__)
