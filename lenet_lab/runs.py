"""A run of a classifier: its session, its event files, its progress in training, its saved variables."""

import functools
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from filelock import FileLock, Timeout

from lenet_lab.classifier import Classifier
from lenet_lab.compat import cores, open_events, set_seed, tf
from lenet_lab.paths import LabError, next_path, whole_number
from lenet_lab.sessions import check_target, open_session, workers

AnyModel = TypeVar("AnyModel", bound="Model")


@dataclass
class History:
    """What `optimize` measured, per iteration and per epoch."""

    step_loss: list[float] = field(default_factory=list)  # nats, of the batch after its update
    step_accuracy: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)  # mean of the epoch's step_loss
    train_accuracy: list[float] = field(default_factory=list)  # the whole set, after the epoch
    validation_accuracy: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # the epoch's training, without its evaluation


class Model:
    """A classifier and a session with its variables. Use it in a `with` block, or call `close`."""

    _session: tf.Session | None = None

    def __init__(self, classifier: Classifier, target: str = "", shards: int | None = None):
        self.classifier = classifier
        self.target = target  # where the session is; empty on this machine
        self._session = open_session(classifier.graph, target)
        self.workers = workers(self._session)  # the devices of a cluster; empty on this machine
        self.shards = shards or max(cores(), len(self.workers))  # of a batch, in the fast loop

    @property
    def session(self) -> tf.Session:
        """The open session."""
        if self._session is None:
            raise LabError("this run is closed; open one with start_run or resume_run, and use it in its `with` block")
        return self._session

    def __enter__(self: AnyModel) -> AnyModel:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the session. A second call does nothing."""
        if self._session is not None:
            self._session.close()
        self._session = None


class Run(Model):
    """A model in training, with its directory, event files and progress; see `start_run` and `resume_run`."""

    def __init__(self, classifier: Classifier, directory: str, seed: int, target: str = "", shards: int | None = None):
        self.directory = directory
        self.seed = seed
        self.rng = np.random.RandomState(seed)  # shuffles the training images
        self.step = 0  # iterations done
        self.epoch = 0  # epochs done
        self.history = History()
        self.data_name: str | None = None  # the data set of this run
        self.batch_size: int | None = None  # of the last training
        self.test_accuracy: float | None = None
        self.inference_traces = 0
        self._writers: list[tf.summary.FileWriter] = []
        self._lock = FileLock(Path(directory, ".lock"))
        try:
            self._lock.acquire(blocking=False)
        except Timeout as error:
            raise OSError(f"{directory}: this run is open already, here or in another process; close it") from error
        try:
            super().__init__(classifier, target, shards)
            self.writer = self._open_events(directory)
        except BaseException:
            self.close()
            raise

    @functools.cached_property
    def validation_writer(self) -> tf.summary.FileWriter:
        """The event file of the validation curves, which TensorBoard shows as a run of its own."""
        return self._open_events(str(Path(self.directory, "validation")))

    def flush(self) -> None:
        """Write all events to disk."""
        for writer in self._writers:
            writer.flush()

    def close(self) -> None:
        """Close the session and the event files. A second call does nothing."""
        try:
            for writer in self._writers:
                writer.close()
        finally:
            super().close()
            self._lock.release()

    def _open_events(self, directory: str) -> tf.summary.FileWriter:
        self._writers.append(open_events(directory))
        return self._writers[-1]


def start_run(
    classifier: Classifier, path_pattern: str, seed: int | None = None, target: str = "", shards: int | None = None
) -> Run:
    """Open a session and an event file, and initialize the variables (docs/lab.md, "Session").

    Parameters
    ----------
    classifier : Classifier
        The graph to run.
    path_pattern : str
        Where runs are kept, such as ``"logs/lenet5/run_%02d"``. The run gets the next free number.
    seed : int, optional
        Of the initial weights, the order of the images and the dropout. With the same versions, number of shards and
        family of processors, the same seed gives the same bits. By default it is random; see ``run.seed``.
    target : str, optional
        A TensorFlow server whose cluster holds the session, such as ``"grpc://localhost:2222"`` (docs/cluster.md).
    shards : int, optional
        Into how many parts the fast loop cuts a batch; by default this machine's cores, or a cluster's workers if more.

    Returns
    -------
    Run
        Use it in a `with` block, or call its `close`.

    Raises
    ------
    ValueError, OSError
        If a setting is invalid; if a file can't be written or no server answers.

    Examples
    --------
    >>> with start_run(classifier, f"{folder}/run_%02d", seed=1) as run:
    ...     run.seed, run.step, run.directory.rpartition("/")[2]
    (1, 0, 'run_01')
    """
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0] >> 1)
    seed = whole_number("seed", seed, 0, 2**32 - 1)
    if shards is not None:
        shards = whole_number("shards", shards, 1)
    check_target(target)
    run = Run(classifier, next_path(path_pattern), seed, target, shards)
    try:
        set_seed(classifier.graph, seed)
        run.session.run(classifier.init_op)
        graph_def = classifier.graph_def.SerializeToString()
        run.writer.add_event(tf.Event(wall_time=time.time(), graph_def=graph_def))
        run.flush()
    except BaseException:
        run.close()
        raise
    return run
