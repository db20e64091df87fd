"""A run of a classifier: its session and event file, the training loop, the measured accuracy, the saved model."""

import dataclasses
import platform
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lenet_lab.classifier import Classifier
from lenet_lab.compat import tf
from lenet_lab.input_data import DataSet, Datasets
from lenet_lab.loop import can_loop, cores, loop_for, without_loops
from lenet_lab.paths import next_path

MODEL_FILE = "model.ckpt"
EVALUATION_BATCH = 2500  # images evaluated at a time, which bounds the memory
IMAGES_PER_CALL = 2048  # images trained on in one `session.run`: a tenth of a second or two, so Ctrl-C stays alive


@dataclasses.dataclass
class History:
    """What `optimize` measured: per iteration, and per epoch."""

    step_loss: list[float] = dataclasses.field(default_factory=list)  # nats, of the batch after its update
    step_accuracy: list[float] = dataclasses.field(default_factory=list)
    loss: list[float] = dataclasses.field(default_factory=list)  # mean of the epoch's step_loss
    train_accuracy: list[float] = dataclasses.field(default_factory=list)  # the whole set, after the epoch
    validation_accuracy: list[float] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)  # the epoch's training, evaluation left out


class Run:
    """An open session with its variables, its event file and its place in training.

    A context manager: leaving the `with` block closes it. Without one, call
    `close`. `start_run` makes it.
    """

    def __init__(self, classifier: Classifier, directory: str, seed: int):
        self.classifier = classifier
        self.directory = directory
        self.seed = seed
        self.rng = np.random.RandomState(seed)  # draws the order of the training images
        self.step = 0  # iterations done
        self.epoch = 0  # epochs done
        self.history = History()
        self.data_name: str | None = None  # the data set this run was trained or measured on
        self.batch_size: int | None = None  # of the last training
        self.test_accuracy: float | None = None
        self.inference_traces = 0
        # A thread for each core, none for parts of an operation: `loop` keeps the cores busy. TensorFlow
        # obeys only the first session of a process; after another one, training is a little slower.
        config = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=cores())
        self.session = tf.Session(graph=classifier.graph, config=config)
        self.session.run(classifier.init_op)
        self.writer = tf.summary.FileWriter(directory)
        graph_def = without_loops(classifier.graph).SerializeToString()
        self.writer.add_event(tf.Event(wall_time=time.time(), graph_def=graph_def))
        self.writer.flush()

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        """Close the session and the event file; a second call does nothing."""
        self.writer.close()
        self.session.close()


def start_run(classifier: Classifier, path_pattern: str, seed: int | None = None) -> Run:
    """Open a session, initialise the variables and open an event file with the graph in it.

    Parameters
    ----------
    classifier : Classifier
    path_pattern : str
        Where runs are kept, such as ``"logs/lenet5/run_%02d"``; the run gets the
        next free number (lab cell 13).
    seed : int, optional
        From it come the initial weights, the order of the images and the
        dropout. Without it they are drawn by chance; `run.seed` tells what was.

    Returns
    -------
    Run
        For a `with` block, or to be closed with its `close`.
    """
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0] >> 1)
    _seed_random_operations(classifier.graph, seed)
    return Run(classifier, next_path(path_pattern), seed)


def optimize(
    run: Run, mnist: Datasets, epochs: int, batch_size: int, keep_prob: float = 0.75, fast: bool = True
) -> History:
    """Train (lab cells 15 and 35).

    In each iteration the next batch updates the variables; then the loss and
    the accuracy of that batch, now with dropout off, become one event each. After
    each epoch the mean of those losses is printed, with the accuracy on all
    training and all validation images. The training set is shuffled anew before
    every epoch. Interrupted, it leaves the events written and the run usable; called
    again, it goes on.

    Parameters
    ----------
    run : Run
    mnist : Datasets
        With flat images and one-hot labels.
    epochs : int
        How many to add to those done before.
    batch_size : int
        From 1 to the size of the training set; what fills no batch waits for
        another epoch.
    keep_prob : float, default 0.75
        For a classifier with dropout: the chance of a feature to be kept.
    fast : bool, default True
        Run many iterations in one `session.run`, as `loop.build_loop` tells; the
        values are the same but for rounding. False runs the two calls of
        `iterate` for each batch.

    Returns
    -------
    History
        Also kept as `run.history`.

    Raises
    ------
    ValueError
        If the data or a setting does not fit, before anything is changed.
    """
    _check(run, mnist, epochs, batch_size, keep_prob)
    _tell_data(run, mnist)
    run.batch_size = batch_size
    try:
        for _ in range(epochs):
            first = train_epoch(run, mnist.train, batch_size, keep_prob, fast)
            _end_epoch(run, mnist, first)
    finally:
        run.writer.flush()
    return run.history


def train_epoch(
    run: Run, dataset: DataSet, batch_size: int, keep_prob: float = 0.75, fast: bool = True
) -> int:
    """One pass over a data set, as `optimize` does it, nothing measured or printed at its end.

    Returns
    -------
    int
        Where in `run.history.step_loss` its iterations begin.
    """
    fast = fast and can_loop(run.classifier)
    train = iterate_in_graph if fast else iterate
    at_a_time = batches_at_a_time(batch_size) if fast else 1
    first = len(run.history.step_loss)
    started = time.perf_counter()
    with tqdm(
        total=dataset.num_examples // batch_size, desc=f"epoch {run.epoch + 1}", unit="batch", leave=False
    ) as bar:
        for x_batches, y_batches in dataset.epoch(batch_size, run.rng, at_a_time):
            with interrupts_deferred():  # what the variables have learnt, the event file tells
                record(run, *train(run, x_batches, y_batches, keep_prob))
            bar.update(len(x_batches))
    run.history.seconds.append(time.perf_counter() - started)
    run.epoch += 1
    return first


def iterate(
    run: Run, x_batches: np.ndarray, y_batches: np.ndarray, keep_prob: float
) -> tuple[Sequence[float], Sequence[float], Sequence[float]]:
    """Train on some batches, one after the other: the plain loop.

    Parameters
    ----------
    run : Run
    x_batches : float32 array [iterations, batch, 784]
    y_batches : float array [iterations, batch, 10]
    keep_prob : float

    Returns
    -------
    losses, accuracies, wall_times : sequences [iterations]
        Of each batch after its update; seconds since 1970.
    """
    c = run.classifier
    dropout = {} if c.keep_prob is None else {c.keep_prob: keep_prob}
    records = []
    for x_batch, y_batch in zip(x_batches, y_batches):
        batch = {c.x: x_batch, c.y_true: y_batch}
        run.session.run(c.opt_step, feed_dict=batch | dropout)
        loss, accuracy = run.session.run([c.loss, c.accuracy], feed_dict=batch)
        records.append((float(loss), float(accuracy), time.time()))
    return tuple(zip(*records))


def iterate_in_graph(
    run: Run,
    x_batches: np.ndarray,
    y_batches: np.ndarray,
    keep_prob: float,
    options: tf.RunOptions | None = None,
    run_metadata: tf.RunMetadata | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `iterate` does, in one `session.run`, which also takes TensorFlow's options for a trace."""
    loop = loop_for(run.classifier, batch_size=x_batches.shape[1])
    feed = {loop.x: x_batches, loop.y_true: y_batches, loop.keep_prob: keep_prob}
    return run.session.run(loop.records, feed, options, run_metadata)


def evaluate(run: Run, dataset: DataSet) -> float:
    """The share of a data set's images that are classified rightly, dropout off."""
    measure = run.classifier
    if can_loop(measure):
        measure = loop_for(measure, batch_size=min(dataset.num_examples, EVALUATION_BATCH)).measure
    right = 0.0
    for part in np.array_split(np.arange(dataset.num_examples), -(-dataset.num_examples // EVALUATION_BATCH)):
        images, labels = dataset.images[part[0] : part[-1] + 1], dataset.labels[part[0] : part[-1] + 1]
        accuracy = run.session.run(measure.accuracy, feed_dict={measure.x: images, measure.y_true: labels})
        right += len(part) * float(accuracy)
    return right / dataset.num_examples


def print_accuracy(run: Run, mnist: Datasets) -> None:
    """Print the accuracy on the test set, and trace how it was computed (lab cell 15).

    All test images pass in one `session.run` under FULL_TRACE; its memory and
    times go into the event file under `inference`, on later calls
    `inference_2` and so on. TensorBoard's graph page shows them. The accuracy is
    kept as `run.test_accuracy`.
    """
    _tell_data(run, mnist)
    metadata = tf.RunMetadata()
    accuracy = run.session.run(
        run.classifier.accuracy,
        feed_dict={run.classifier.x: mnist.test.images, run.classifier.y_true: mnist.test.labels},
        options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE),
        run_metadata=metadata,
    )
    run.inference_traces += 1
    tag = "inference" if run.inference_traces == 1 else f"inference_{run.inference_traces}"
    run.writer.add_run_metadata(metadata, tag, run.step)
    run.writer.flush()
    run.test_accuracy = float(accuracy)
    print(f"Accuracy on test-set: {accuracy:.1%}")


def save_model(run: Run) -> str:
    """Save all variables in the run's directory; returns the path for `restore_model`."""
    return run.classifier.saver.save(
        run.session, str(Path(run.directory, MODEL_FILE)), write_meta_graph=False
    )


def restore_model(run: Run, path: str) -> None:
    """Bring back the variables that `save_model` saved from a classifier built the same way.

    Raises
    ------
    ValueError
        If there is no such saved model, or one of another network; the run's
        variables stay as they are.
    """
    if not Path(f"{path}.index").exists():
        raise ValueError(f"no saved model at {path}; expected what save_model returned")
    saved = {name: tuple(shape) for name, shape in tf.train.list_variables(path)}
    with run.classifier.graph.as_default():
        wanted = {v.op.name: tuple(v.shape.as_list()) for v in tf.global_variables()}
    unlike = sorted(name for name, shape in wanted.items() if saved.get(name) != shape)
    if unlike:
        raise ValueError(f"the model saved at {path} is of another network: it lacks {unlike[0]} {wanted[unlike[0]]}")
    run.classifier.saver.restore(run.session, path)


def _seed_random_operations(graph: tf.Graph, seed: int) -> None:
    """Seed every random operation of a finished graph, each in its own way.

    `tf.set_random_seed` reaches only operations that are made after it, but a
    graph here is built once and may be run with many seeds.
    """
    random_operations = [op for op in graph.get_operations() if "seed2" in op.node_def.attr]
    for number, op in enumerate(random_operations, start=1):
        op._set_attr("seed", tf.AttrValue(i=seed))
        op._set_attr("seed2", tf.AttrValue(i=number))


def _check(run: Run, mnist: Datasets, epochs: int, batch_size: int, keep_prob: float) -> None:
    if epochs < 0:
        raise ValueError(f"epochs is {epochs}, expected 0 or more")
    if not 1 <= batch_size <= mnist.train.num_examples:
        raise ValueError(
            f"batch size is {batch_size}, expected 1 to {mnist.train.num_examples}, the size of the training set"
        )
    if not 0 < keep_prob <= 1:
        raise ValueError(f"keep_prob is {keep_prob}, expected above 0 and at most 1")
    if mnist.train.images.shape[1:] != (784,) or mnist.train.labels.shape[1:] != (10,):
        raise ValueError(
            f"images are {mnist.train.images.shape[1:]} and labels {mnist.train.labels.shape[1:]} each, "
            "expected (784,) and (10,): read the data with reshape=True and one_hot=True"
        )


def _tell_data(run: Run, mnist: Datasets) -> None:
    """Let TensorBoard's text page say which data and settings the run has."""
    from tensorboard.summary.v1 import text_pb  # late: it takes a while to import

    if run.data_name == mnist.name:
        return
    run.data_name = mnist.name
    text = f"data: **{mnist.name}**, seed: {run.seed}, TensorFlow {tf.VERSION}, Python {platform.python_version()}"
    run.writer.add_summary(text_pb("data", text), run.step)


def batches_at_a_time(batch_size: int) -> int:
    """How many batches `train_epoch` trains on in one `session.run`."""
    return max(1, min(64, IMAGES_PER_CALL // batch_size))


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Let Ctrl-C wait until the block is done."""
    if threading.current_thread() is not threading.main_thread():  # it reaches the main thread alone
        yield
        return
    waiting = []
    before = signal.signal(signal.SIGINT, lambda *arguments: waiting.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if waiting and callable(before):
        before(*waiting[0])


def record(run: Run, losses: Sequence[float], accuracies: Sequence[float], wall_times: Sequence[float]) -> None:
    """Keep each iteration's loss and accuracy, as one event and in the history."""
    for loss, accuracy, wall_time in zip(losses, accuracies, wall_times):
        values = [("Loss", float(loss)), ("Accuracy", float(accuracy))]
        summary = tf.Summary(value=[tf.Summary.Value(tag=tag, simple_value=value) for tag, value in values])
        run.writer.add_event(tf.Event(wall_time=wall_time, step=run.step, summary=summary))
        run.history.step_loss.append(values[0][1])
        run.history.step_accuracy.append(values[1][1])
        run.step += 1


def _end_epoch(run: Run, mnist: Datasets, first: int) -> None:
    """Measure and print, after an epoch whose iterations stand in the history from `first` on."""
    history = run.history
    history.loss.append(float(np.mean(history.step_loss[first:])))
    history.train_accuracy.append(evaluate(run, mnist.train))
    history.validation_accuracy.append(evaluate(run, mnist.validation))
    print(f"Epoch:  {run.epoch:02d}   =====> Loss = {history.loss[-1]:.6f}")
    print(
        f"Epoch:  {run.epoch:02d}   =====> Training Acc: {history.train_accuracy[-1]:.1%}"
        f"   Validation Acc: {history.validation_accuracy[-1]:.1%}",
        flush=True,
    )
