"""A run of a classifier: its session, its event files, its place in training, its saved variables."""

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from lenet_lab.classifier import Classifier
from lenet_lab.compat import tf
from lenet_lab.loop import cores, without_loops
from lenet_lab.paths import next_path

MODEL_FILE = "model.ckpt"
VALIDATION = "validation"  # the sub-run with the validation curves
LOCK_FILE = ".lock"  # held while a run is open


@dataclasses.dataclass
class History:
    """What `optimize` measured: per iteration, and per epoch."""

    step_loss: list[float] = dataclasses.field(default_factory=list)  # nats, of the batch after its update
    step_accuracy: list[float] = dataclasses.field(default_factory=list)
    loss: list[float] = dataclasses.field(default_factory=list)  # mean of the epoch's step_loss
    train_accuracy: list[float] = dataclasses.field(default_factory=list)  # the whole set, after the epoch
    validation_accuracy: list[float] = dataclasses.field(default_factory=list)
    validation_loss: list[float] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)  # the epoch's training, evaluation left out


class EventFile:
    """What a `FileWriter` writes through, made to tell every failure, as of a full disk, in one way.

    TensorFlow's own tells one once, by some exception or other, and from then on
    drops what it is given.
    """

    def __init__(self, event_file, directory: str):
        self._event_file = event_file
        self._directory = directory
        self._failure: Exception | None = None

    def add_event(self, event: tf.Event) -> None:
        self._call(self._event_file.add_event, event)

    def flush(self) -> None:
        self._call(self._event_file.flush)

    def close(self) -> None:
        if not self._failure:
            self._call(self._event_file.close)

    def _call(self, method: Callable[..., None], *arguments: tf.Event) -> None:
        try:
            if not self._failure:
                method(*arguments)
        except Exception as error:
            self._failure = error
        if self._failure:
            raise OSError(
                f"{self._directory}: no more events can be written ({reason(self._failure)}); "
                "make room, then go on from the last checkpoint, if there is one, with resume_run"
            )


class Run:
    """An open session with its variables, its event file and its place in training.

    A context manager: leaving the `with` block closes it. Without one, call
    `close`. `start_run` makes it, and `checkpoints.resume_run`.
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
        self._lock = FileLock(Path(directory, LOCK_FILE))
        try:
            self._lock.acquire(blocking=False)
        except Timeout as error:
            raise OSError(f"{directory}: this run is still open, here or in another process; close it first") from error
        # A thread for each core, none for parts of an operation: `loop` keeps the cores busy. TensorFlow
        # obeys only the first session of a process; after another one, training is a little slower.
        config = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=cores())
        self.session = tf.Session(graph=classifier.graph, config=config)
        self._writers: list[tf.summary.FileWriter] = []
        self.writer = self._open_events(directory)

    @functools.cached_property
    def validation_writer(self) -> tf.summary.FileWriter:
        """The event file of the validation curves, a run of its own in TensorBoard."""
        return self._open_events(str(Path(self.directory, VALIDATION)))

    def flush(self) -> None:
        """Bring all events to disk."""
        for writer in self._writers:
            writer.flush()

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        """Close the session and the event files; a second call does nothing."""
        try:
            for writer in self._writers:
                writer.close()
        finally:
            self.session.close()
            self._lock.release()

    def _open_events(self, directory: str) -> tf.summary.FileWriter:
        """A new event file; TensorBoard reads a directory's in the order of their names."""
        earlier = len(list(Path(directory).glob("events.out.tfevents.*")))
        writer = tf.summary.FileWriter(directory, filename_suffix=f".{earlier}" if earlier else None)
        writer.event_writer = EventFile(writer.event_writer, directory)
        self._writers.append(writer)
        return writer


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
        dropout: the same seed on the same machine and versions gives the same
        numbers, bit for bit. Without it they are drawn by chance; `run.seed`
        tells what was.

    Returns
    -------
    Run
        For a `with` block, or to be closed with its `close`.
    """
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0] >> 1)
    seed_random_operations(classifier.graph, seed)
    run = Run(classifier, next_path(path_pattern), seed)
    run.session.run(classifier.init_op)
    graph_def = without_loops(classifier.graph).SerializeToString()
    run.writer.add_event(tf.Event(wall_time=time.time(), graph_def=graph_def))
    run.flush()
    return run


def save_model(run: Run, folder: str | Path | None = None) -> str:
    """Save all variables, by default in the run's directory; returns the path for `restore_model`."""
    path = Path(folder or run.directory, MODEL_FILE)
    return run.classifier.saver.save(run.session, str(path), write_meta_graph=False, write_state=folder is None)


def restore_model(run: Run, path: str) -> None:
    """Bring back the variables that `save_model` saved from a classifier built the same way.

    Raises
    ------
    ValueError
        If there is no such saved model, or a damaged one, or one of another
        network; the run's variables stay as they are.
    """
    check_fits(run.classifier, path)
    try:
        run.classifier.saver.restore(run.session, path)
    except tf.errors.OpError as error:
        raise ValueError(f"the model saved at {path} is damaged: {reason(error)}") from error


def check_fits(classifier: Classifier, path: str) -> None:
    """Raise a ValueError unless a saved model has every variable of a classifier."""
    saved = saved_shapes(path)
    with classifier.graph.as_default():
        wanted = {v.op.name: tuple(v.shape.as_list()) for v in tf.global_variables()}
    unlike = sorted(name for name, shape in wanted.items() if saved.get(name) != shape)
    if unlike:
        raise ValueError(f"the model saved at {path} is of another network: it lacks {unlike[0]} {wanted[unlike[0]]}")


def saved_shapes(path: str) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a saved model's variables; a ValueError where there is none."""
    try:
        return {name: tuple(shape) for name, shape in tf.train.list_variables(path)}
    except (tf.errors.OpError, ValueError) as error:
        raise ValueError(f"no saved model at {path}; expected what save_model returned") from error


def seed_random_operations(graph: tf.Graph, seed: int) -> None:
    """Seed every random operation of a finished graph, each in its own way.

    `tf.set_random_seed` reaches only operations that are made after it, but a
    graph here is built once and may be run with many seeds.
    """
    random_operations = [op for op in graph.get_operations() if "seed2" in op.node_def.attr]
    for number, op in enumerate(random_operations, start=1):
        op._set_attr("seed", tf.AttrValue(i=seed))
        op._set_attr("seed2", tf.AttrValue(i=number))


def reason(error: Exception) -> str:
    """What went wrong, in one line: TensorFlow tells it between lines that tell where."""
    where = ("Graph execution error", "Detected at", "Node:", " ", "\t")
    lines = [line for line in str(error).splitlines() if line and not line.startswith(where)]
    return lines[0] if lines else type(error).__name__
