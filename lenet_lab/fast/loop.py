"""The loop inside the graph: many iterations in one `session.run`, each batch cut into shards, one for each core.

The values are the plain loop's (`training.iterate`), except for rounding. A small
operation keeps one core busy and leaves the others idle; here every core takes
its shard of the batch through the whole network. And Python takes part only
once in many iterations.
"""

import itertools
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from lenet_lab import training
from lenet_lab.analysis import evaluation
from lenet_lab.analysis.inference import EVALUATION_BATCH
from lenet_lab.analysis.summaries import Record, scalars
from lenet_lab.classifier import Classifier
from lenet_lab.compat import describe_error, set_seed, tf
from lenet_lab.fast.blocks import find_block_forms
from lenet_lab.fast.copies import Replacements, copy_all, upstream
from lenet_lab.fast.obstacles import find_obstacle
from lenet_lab.input_data import DataSet
from lenet_lab.runs import Model, Run
from lenet_lab.sessions import ServerLostError, copy_variables

SCOPE = "lenet_lab_loop"
BUILDING = threading.RLock()  # two threads must not add to one graph at once
MIN_SHARD = 16  # images; smaller shards cost more than they save
DIVERGED = 1e4  # nats, a loss that training will hardly recover from
IMAGES_PER_CALL = 2048  # images in one `session.run`: some tenths of a second, so Ctrl-C stays responsive


class Measure(NamedTuple):
    """Tensors for the loss and the accuracy of a batch that is split among the cores."""

    x: tf.Tensor  # float32 [batch, 784], placeholder
    y_true: tf.Tensor  # float32 [batch, 10], placeholder
    loss: tf.Tensor  # float32 scalar, in nats
    accuracy: tf.Tensor  # float32 scalar in [0, 1]


class Shard(NamedTuple):
    """A part of a batch."""

    device: str | None  # where it is computed; None leaves the choice to TensorFlow
    inputs: Replacements  # what takes the place of the classifier's placeholders


class GraphLoop(NamedTuple):
    """Tensors of a loop in a graph: what is fed to it, and what it returns."""

    x: tf.Tensor  # float32 [iterations, batch, 784], placeholder
    y_true: tf.Tensor  # float32 [iterations, batch, 10], placeholder
    keep_prob: tf.Tensor  # float32 scalar, placeholder
    records: tuple[tf.Tensor, ...]  # [iterations] each: loss, accuracy, seconds since 1970 as float64
    measure: Measure


def fast_loop(run: Run, dataset: DataSet, batch_size: int) -> training.Loop | None:
    """The fast loop for a run, or None, with a message, if it would train another network.

    Parameters
    ----------
    run : Run
    dataset : DataSet
        To be trained on. Both loops are compared on its first images.
    batch_size : int
    """
    graph = run.classifier.graph
    with BUILDING:
        set_seed(graph, run.seed)  # copies of random operations must get this run's seed, not a later run's
        decided: dict[str, str | None] = _stored(graph, "fast_loop")
        if "obstacle" not in decided:
            decided["obstacle"] = find_obstacle(run.classifier) or _find_difference(run, dataset, batch_size)
            if decided["obstacle"]:
                message = f"Training with the plain loop, which is slower: {decided['obstacle']}."
                print(message, file=sys.stderr, flush=True)
    if decided["obstacle"]:
        return None
    loop_for(run, batch_size)
    return training.Loop(iterate, measure, batches_at_a_time(batch_size))


def batches_at_a_time(batch_size: int) -> int:
    """How many batches one `session.run` trains on."""
    return max(1, min(64, IMAGES_PER_CALL // batch_size))


def iterate(
    run: Model,
    x_batches: np.ndarray,
    y_batches: np.ndarray,
    keep_prob: float,
    options: tf.RunOptions | None = None,
    run_metadata: tf.RunMetadata | None = None,
) -> list[Record]:
    """Do what `training.iterate` does in one `session.run`, which TensorFlow's options can trace."""
    loop = loop_for(run, x_batches.shape[1])
    feed = {loop.x: x_batches, loop.y_true: y_batches, loop.keep_prob: keep_prob}
    records = []
    for loss, accuracy, time in zip(*run.session.run(loop.records, feed, options, run_metadata)):
        event = tf.Event(wall_time=time, summary=scalars(loss, accuracy))
        records.append((float(loss), float(accuracy), event))
    return records


def measure(run: Model, dataset: DataSet) -> tuple[float, float]:
    """Do what `evaluation.measure` does, on all cores."""
    batch_size = min(dataset.num_examples, EVALUATION_BATCH)
    return evaluation.measure(run, dataset, loop_for(run, batch_size).measure)


def count_shards(run: Model, batch_size: int) -> int:
    """Into how many shards a batch is cut."""
    return max(1, min(run.shards, batch_size // MIN_SHARD))


def loop_for(run: Model, batch_size: int) -> GraphLoop:
    """The loop of a run's classifier for batches of a given size, built on first use."""
    shards = count_shards(run, batch_size)
    devices = tuple(run.workers[shard % len(run.workers)] if run.workers else None for shard in range(shards))
    with BUILDING:
        loops: dict[tuple[str | None, ...], GraphLoop] = _stored(run.classifier.graph, "fast_loops")
        if devices not in loops:
            loops[devices] = build_loop(run.classifier, devices)
        return loops[devices]


def build_loop(classifier: Classifier, devices: Sequence[str | None]) -> GraphLoop:
    """Add to a classifier's graph a loop that trains on one batch after another, as the plain loop does.

    Each iteration updates the variables on a batch, with `classifier.optimizer`
    and its slots, then measures the loss and the accuracy of that batch with
    dropout off. The network in the loop is copied from the graph, once for each
    shard, under the name scope `SCOPE`.

    Parameters
    ----------
    classifier : Classifier
    devices : sequence of str or None
        Where each shard is computed; None leaves the choice to TensorFlow. A batch
        has at least as many images.
    """
    with classifier.graph.as_default(), tf.name_scope(SCOPE):
        x = tf.placeholder(tf.float32, [None, None, 784], name="inputs")
        y_true = tf.placeholder(tf.float32, [None, None, 10], name="labels")
        keep_prob = tf.placeholder(tf.float32, [], name="keep_prob")
        iterations, batch_size = tf.unstack(tf.shape(x)[:2])
        sizes = _shard_sizes(batch_size, len(devices))

        def body(i: tf.Tensor, *records: tf.TensorArray) -> tuple[Any, ...]:
            batch = _split_batch(classifier, x[i], y_true[i], sizes, devices)
            updated = _update(classifier, _read_variables(after=i), batch, sizes, keep_prob)
            loss, accuracy = _measure(classifier, _read_variables(after=updated), batch, sizes)
            with tf.control_dependencies([loss, accuracy]):
                time = tf.timestamp()
                done = i + 1
            return done, *(array.write(i, value) for array, value in zip(records, (loss, accuracy, time)))

        arrays = [tf.TensorArray(dtype, iterations) for dtype in (tf.float32, tf.float32, tf.float64)]
        _, *arrays = tf.while_loop(
            lambda i, *_: i < iterations, body, [0, *arrays], parallel_iterations=1, back_prop=False
        )
        records = tuple(array.stack() for array in arrays)
        return GraphLoop(x, y_true, keep_prob, records, _build_measure(classifier, devices))


def _build_measure(classifier: Classifier, devices: Sequence[str | None]) -> Measure:
    x = tf.placeholder(tf.float32, [None, 784], name="inputs")
    y_true = tf.placeholder(tf.float32, [None, 10], name="labels")
    sizes = _shard_sizes(tf.shape(x)[0], len(devices))
    variables = {variable.value(): variable.value() for variable in tf.global_variables()}
    batch = _split_batch(classifier, x, y_true, sizes, devices)
    return Measure(x, y_true, *_measure(classifier, variables, batch, sizes))


def _shard_sizes(batch_size: tf.Tensor, shards: int) -> tf.Tensor:
    """The number of images in each shard, int32 [shards]."""
    ends = [batch_size * shard // shards for shard in range(shards + 1)]
    return tf.stack([end - start for start, end in itertools.pairwise(ends)])


def _split_batch(
    classifier: Classifier, x: tf.Tensor, y_true: tf.Tensor, sizes: tf.Tensor, devices: Sequence[str | None]
) -> list[Shard]:
    parts = zip(devices, *(tf.split(tensor, sizes, num=len(devices)) for tensor in (x, y_true)))
    return [Shard(device, {classifier.x: x_part, classifier.y_true: y_part}) for device, x_part, y_part in parts]


def _update(
    classifier: Classifier, variables: Replacements, batch: list[Shard], sizes: tf.Tensor, keep_prob: tf.Tensor
) -> tf.Operation:
    """One step of the optimizer on the mean of the shards' losses."""
    fed = variables if classifier.keep_prob is None else variables | {classifier.keep_prob: keep_prob}
    drawn = _draw(classifier, variables, sizes)
    losses = [_copy([classifier.train_loss], fed | random, shard)[0] for shard, random in zip(batch, drawn)]
    trained = tf.trainable_variables()
    values = [variables[variable.value()] for variable in trained]
    gradients = classifier.optimizer.compute_gradients(
        _mean(losses, sizes),
        values,
        colocate_gradients_with_ops=any(shard.device for shard in batch),  # a worker computes its shard's gradient
    )
    return classifier.optimizer.apply_gradients(
        [(gradient, variable) for (gradient, _), variable in zip(gradients, trained)],
        global_step=tf.train.get_global_step(),
    )


def _measure(
    classifier: Classifier, variables: Replacements, batch: list[Shard], sizes: tf.Tensor
) -> tuple[tf.Tensor, ...]:
    """Loss and accuracy of a batch."""
    measured = [_copy([classifier.loss, classifier.accuracy], variables, shard) for shard in batch]
    return tuple(_mean(values, sizes) for values in zip(*measured))


def _read_variables(after: tf.Tensor | tf.Operation) -> Replacements:
    """The variables' values after an operation; the graph's own reads would happen once for all iterations."""
    with tf.control_dependencies([after]):
        return {variable.value(): variable.read_value() for variable in tf.global_variables()}


def _draw(classifier: Classifier, variables: Replacements, sizes: tf.Tensor) -> list[Replacements]:
    """For each shard its random numbers, as for dropout: drawn for the whole batch, then split like the images."""
    shards: list[Replacements] = [{} for _ in range(sizes.shape[0])]
    for op in upstream([classifier.train_loss], variables):
        shape = op.outputs[0].shape if op.outputs else tf.TensorShape(None)
        if "Random" in op.type and shape.rank and shape.as_list()[0] is None:  # one row for each image
            (random,) = op.outputs
            shape = tf.stack([tf.reduce_sum(sizes), *shape.as_list()[1:]])
            (whole,) = copy_all([random], variables | {op.inputs[0]: shape})
            for shard, rows in zip(shards, tf.split(whole, sizes, num=len(shards))):
                shard[random] = rows
    return shards


def _mean(values: Sequence[tf.Tensor], sizes: tf.Tensor) -> tf.Tensor:
    """The mean over a batch, from the means over its shards."""
    weights = tf.cast(sizes, tf.float32) / tf.cast(tf.reduce_sum(sizes), tf.float32)
    return tf.add_n([value * weights[shard] for shard, value in enumerate(values)])


def _copy(outputs: Sequence[tf.Tensor], replacements: Replacements, shard: Shard) -> list[tf.Tensor]:
    """Copy into the loop for a shard, with block forms in place of convolutions where there is one."""
    replacements = replacements | shard.inputs
    with tf.device(shard.device):
        for form in find_block_forms(upstream(outputs, replacements)):
            replacements[form.result] = form.compute(*copy_all(form.inputs, replacements))
        return copy_all(outputs, replacements)


def _find_difference(run: Run, dataset: DataSet, batch_size: int) -> str | None:
    """Why the fast loop would train another network, as a comparison shows; None if it would not.

    Both loops take two steps on small batches, from the same weights near the
    run's, in sessions of their own. So they must agree on the training loss, its
    gradient, the optimizer and the measuring.
    """
    c = run.classifier
    size = min(max(2, count_shards(run, batch_size)) * MIN_SHARD, dataset.num_examples)  # at least two shards
    steps = min(2, dataset.num_examples // size)
    x, y_true = (array[: steps * size].reshape(steps, size, -1) for array in (dataset.images, dataset.labels))
    values = _values_nearby(run)
    # Two random operations with a state of their own never draw the same, so dropout can't be compared with them.
    random = [op for op in upstream([c.train_loss], {}) if "Random" in op.type and op.op_def.is_stateful]
    keep_prob = 1.0 if random else 0.5
    plain = _losses(run, training.iterate, values, x, y_true, keep_prob)
    if random and not _agree(plain, _losses(run, training.iterate, values, x, y_true, keep_prob, warm_up=1)):
        return "the network's loss is random even where keep_prob is 1"
    try:
        fast = _losses(run, iterate, values, x, y_true, keep_prob)
    except ServerLostError:  # it says nothing about the network
        raise
    except Exception as error:  # noqa: BLE001 - whatever fails in a copy, the plain loop can do without it
        return f"the network can't be copied into a loop ({describe_error(error)})"
    if not _agree(plain, fast):
        return "cutting a batch into parts changes what the network learns from it"
    return None


def _values_nearby(run: Run) -> dict[tf.Variable, np.ndarray]:
    """The values of a run's variables, with a little noise in those that are trained."""
    graph = run.classifier.graph
    trained = graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES)
    variables = graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
    values = dict(zip(variables, run.session.run(variables)))
    rng = np.random.RandomState(0)
    return values | {v: values[v] + 0.1 * rng.standard_normal(values[v].shape) for v in trained}


def _losses(
    run: Run,
    iterate: Callable[..., Sequence[Record]],
    values: dict[tf.Variable, np.ndarray],
    x: np.ndarray,
    y_true: np.ndarray,
    keep_prob: float,
    warm_up: int = 0,
) -> list[float]:
    """The losses of some iterations in a new session that begins with these values of the variables."""
    losses: list[float] = []
    with Model(run.classifier, run.target, run.shards) as model:
        for _ in range(1 + warm_up):
            copy_variables(values, model.session)
            losses = [loss for loss, *_ in iterate(model, x, y_true, keep_prob)]
    return losses


def _agree(losses: list[float], others: list[float]) -> bool:
    """Whether losses are the same except for rounding, as long as training does not diverge, which magnifies it."""
    comparable = [(loss, other) for loss, other in zip(losses, others) if loss < DIVERGED]
    return all(np.isclose(loss, other, rtol=1e-4, atol=1e-5) for loss, other in comparable)


def _stored(graph: tf.Graph, name: str) -> dict:
    """A dictionary that the graph keeps in a collection, so that it lives as long as the graph."""
    collection = graph.get_collection_ref(f"lenet_lab/{name}")
    if not collection:
        collection.append({})
    return collection[0]
