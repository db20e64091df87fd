"""A run of a classifier: its session, its event files, its place in training, its saved variables."""

import dataclasses
import functools
import time
from pathlib import Path

import numpy as np

from lenet_lab.classifier import Classifier
from lenet_lab.compat import tf
from lenet_lab.loop import cores, without_loops
from lenet_lab.paths import next_path

MODEL_FILE = "model.ckpt"
VALIDATION = "validation"  # the sub-run with the validation curves


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

    @functools.cached_property
    def validation_writer(self) -> tf.summary.FileWriter:
        """The event file of the validation curves, a run of its own in TensorBoard."""
        return tf.summary.FileWriter(str(Path(self.directory, VALIDATION)))

    def flush(self) -> None:
        """Bring all events to disk."""
        self.writer.flush()
        if "validation_writer" in self.__dict__:
            self.validation_writer.flush()

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        """Close the session and the event files; a second call does nothing."""
        self.writer.close()
        if "validation_writer" in self.__dict__:
            self.validation_writer.close()
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
