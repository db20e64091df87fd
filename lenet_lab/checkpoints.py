"""Saved variables: a model's, and checkpoints, which hold all that a run needs to continue its training."""

import dataclasses
import hashlib
import json
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lenet_lab.classifier import Classifier
from lenet_lab.compat import describe_error, set_seed, tf
from lenet_lab.paths import LabError, numbered_paths, whole_file
from lenet_lab.runs import History, Model, Run, start_run
from lenet_lab.sessions import ServerLostError, copy_variables

MODEL_FILE = "model.ckpt"
FOLDER = "checkpoints"
MAX_TO_KEEP = 3  # if the last checkpoint is damaged, there is one before it
# A run's attributes in its checkpoint, besides the variables, the history and the state of `rng`.
PROGRESS = ("seed", "shards", "step", "epoch", "data_name", "batch_size", "test_accuracy", "inference_traces")


class CheckpointError(OSError):
    """A checkpoint could not be written. The message says why, and which one is still good."""


def save_model(run: Model, folder: str | Path | None = None) -> str:
    """Save all variables (docs/lab.md, "Question: training").

    Parameters
    ----------
    run : Run
        An open run.
    folder : str or path, optional
        It is made if need be; by default the run's directory.

    Returns
    -------
    str
        The path for `restore_model`.

    Examples
    --------
    >>> path = save_model(run)
    >>> path.removeprefix(run.directory)
    '/model.ckpt'
    """
    directory = run.directory if folder is None and isinstance(run, Run) else folder
    if directory is None:
        raise LabError("this model has no directory of its own, expected a folder to save it in")
    path = Path(directory, MODEL_FILE)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _session_here(run) as session:
        return run.classifier.saver.save(session, str(path), write_meta_graph=False, write_state=folder is None)


def restore_model(run: Model, path: str) -> None:
    """Restore the variables that `save_model` saved from a classifier built the same way.

    Parameters
    ----------
    run : Run
        An open run of that classifier.
    path : str
        What `save_model` returned.

    Raises
    ------
    ValueError
        If there is no saved model at this path, or it is damaged or of another
        network. The run's variables then stay as they are.

    Examples
    --------
    >>> restore_model(run, save_model(run))
    """
    check_fits(run.classifier, path)
    try:
        saved = tf.train.load_checkpoint(path)
        values = {variable: saved.get_tensor(variable.op.name) for variable in _variables(run.classifier)}
    except tf.errors.OpError as error:
        raise LabError(f"the model saved at {path} is damaged: {describe_error(error)}") from error
    copy_variables(values, run.session)


def check_fits(classifier: Classifier, path: str) -> None:
    """Raise a ValueError unless a saved model has every variable of a classifier."""
    saved = saved_shapes(path)
    for name, shape in sorted((v.op.name, tuple(v.shape.as_list())) for v in _variables(classifier)):
        if saved.get(name) != shape:
            raise LabError(f"the model saved at {path} is of another network: it has no variable {name} {shape}")


def saved_shapes(path: str) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a saved model's variables; a ValueError if there is no such model."""
    if Path(path).is_dir():
        raise LabError(f"{path} is a folder; expected the path that save_model returned, such as {path}/{MODEL_FILE}")
    try:
        return {name: tuple(shape) for name, shape in tf.train.list_variables(path)}
    except (tf.errors.OpError, ValueError) as error:
        raise LabError(f"no saved model at {path}; expected a path that save_model returned") from error


def save_checkpoint(run: Run) -> str:
    """Save a run between two epochs as `checkpoints/epoch-0007.*` in its directory.

    TensorFlow's `tf.train.Saver` writes the variables: the weights, the
    optimizer's slots, the seed and the step of the dropout. A JSON file holds the
    rest, with the SHA-256 of what the saver wrote. It is written last and all at
    once, so a checkpoint that has one is complete. Only the last `MAX_TO_KEEP`
    are kept.

    Returns
    -------
    str
        The checkpoint's path, which `restore_model` accepts.

    Raises
    ------
    CheckpointError
        If it can't be written, for example on a full disk. Earlier checkpoints
        stay as they are.
    """
    folder = Path(run.directory, FOLDER)
    path = folder / f"epoch-{run.epoch:04d}"
    state = {
        "place": {name: getattr(run, name) for name in PROGRESS},
        "history": dataclasses.asdict(run.history),
        "rng": run.rng.get_state(legacy=False),
    }
    try:
        folder.mkdir(exist_ok=True)
        run.flush()  # a resumed run will not write these events again
        # Without TensorFlow's own list of checkpoints, which would name this one before it is complete.
        with _session_here(run) as session:
            run.classifier.saver.save(session, str(path), write_meta_graph=False, write_state=False)
        state["sha256"] = {file.name: _sha256(file) for file in _variable_files(path)}
        with whole_file(path.with_suffix(".json")) as part:
            part.write_text(json.dumps(state, default=np.ndarray.tolist))
    except ServerLostError:  # `optimize` says what stays
        raise
    except (OSError, tf.errors.OpError, ValueError, IndexError) as error:  # a full disk shows in each of these
        raise CheckpointError(f"no checkpoint at {path} ({describe_error(error)}); {what_stays(run)}") from error
    for old in _checkpoints(folder)[:-MAX_TO_KEEP]:
        _remove(old)
    return str(path)


def resume_run(classifier: Classifier, directory: str, target: str = "") -> Run:
    """Open a run again at its last checkpoint, in the same directory.

    Training then continues as if it had never stopped: at the same epoch, the
    variables have the same bits. TensorBoard drops what was recorded after the
    checkpoint.

    Parameters
    ----------
    classifier : Classifier
        Built the same way as the run's. Its dropout should be `models.dropout`,
        since no file holds the state of `tf.nn.dropout`.
    directory : str
        Of a run that `optimize` trained with `checkpoint_every`.
    target : str, optional
        As for `start_run`. It need not be where the run was before.

    Returns
    -------
    Run
        Use it in a `with` block. Its `epoch` is the number of epochs done:
        ``optimize(run, mnist, 40 - run.epoch, 128)``.

    Raises
    ------
    ValueError
        If there is no complete checkpoint, or it is of another network.
    OSError
        If the run is still open, here or in another process; if no server answers.

    Examples
    --------
    >>> with start_run(classifier, f"{folder}/run_%02d", seed=1) as run:
    ...     history = optimize(run, mnist, 1, 100, checkpoint_every=1)
    Epoch:  01   =====> Loss = ...
    >>> with resume_run(classifier, run.directory) as run:
    ...     run.epoch, run.step
    (1, 10)
    """
    path = last_complete(directory)
    if path is None:
        raise LabError(
            f"{directory} has no complete checkpoint; expected one that optimize(..., checkpoint_every=1) saves"
        )
    check_fits(classifier, str(path))
    state = json.loads(path.with_suffix(".json").read_text())
    run = Run(classifier, directory, state["place"]["seed"], target)
    try:
        set_seed(classifier.graph, run.seed)
        restore_model(run, str(path))
        for name, value in state["place"].items():  # checkpoints of earlier versions have no `shards`
            setattr(run, name, value)
        run.history = History(**state["history"])
        run.rng.set_state(state["rng"])
        _remove_unfinished(path)
        for writer in (run.writer, run.validation_writer):
            # At a START, TensorBoard drops what it read from this step on. Its server's reader ignores the
            # first START in a file.
            for _ in range(2):
                writer.add_session_log(tf.SessionLog(status=tf.SessionLog.START), run.step)
        run.flush()
    except BaseException:
        run.close()
        raise
    return run


def resume_or_start(
    classifier: Classifier, path_pattern: str, seed: int | None = None, shards: int | None = None
) -> Run:
    """Resume the run with the highest number that has a checkpoint; without one, start a run (see `start_run`)."""
    for directory in reversed(numbered_paths(path_pattern)):
        if last_complete(directory):
            return resume_run(classifier, directory)
    return start_run(classifier, path_pattern, seed, shards=shards)


def what_stays(run: Run) -> str:
    """A clause for error messages: which checkpoint of a run is still good."""
    path = last_complete(run.directory)
    if path is None:
        return "there is no earlier checkpoint"
    return f"the last good checkpoint is {path}, from which resume_run(classifier, {run.directory!r}) continues"


def last_complete(directory: str) -> Path | None:
    """The path of a run's newest complete and undamaged checkpoint, without a file ending; None if there is none."""
    return next(filter(_is_complete, reversed(_checkpoints(Path(directory, FOLDER)))), None)


@contextmanager
def interrupts_deferred(once: bool = False) -> Iterator[None]:
    """Delay Ctrl-C until the end of the block; with `once`, only the first, as where a server may never answer."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread gets interrupts
        yield
        return
    waiting = []

    def interrupt(*arguments: Any) -> None:
        waiting.append(arguments)
        if once and len(waiting) > 1 and callable(before):
            before(*arguments)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if waiting and callable(before):
        before(*waiting[0])


@contextmanager
def _session_here(run: Model) -> Iterator[tf.Session]:
    """The run's session or, if that is elsewhere, one with copies of its variables: savers use a session's own disk."""
    if not run.target:
        yield run.session
        return
    variables = _variables(run.classifier)
    with Model(run.classifier) as here:
        copy_variables(dict(zip(variables, run.session.run(variables))), here.session)
        yield here.session


def _variables(classifier: Classifier) -> list[tf.Variable]:
    return classifier.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)


def _checkpoints(folder: Path) -> list[Path]:
    """The paths of the finished checkpoints, by epoch, each without a file ending."""
    names = (path for path in folder.glob("epoch-*.json") if re.fullmatch(r"epoch-\d{4,}", path.stem))
    return sorted((path.with_suffix("") for path in names), key=_epoch)


def _epoch(path: Path) -> int:
    return int(path.name.partition("-")[2].partition(".")[0])


def _variable_files(path: Path) -> list[Path]:
    return [Path(f"{path}.index"), Path(f"{path}.data-00000-of-00001")]


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _is_complete(path: Path) -> bool:
    """Whether a checkpoint's files are as they were when it was finished."""
    try:
        state: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
        expected = state["sha256"]
        return {"place", "history", "rng"} <= state.keys() and all(
            _sha256(path.parent / name) == sha256 for name, sha256 in expected.items()
        )
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False


def _remove(path: Path) -> None:
    """Remove a checkpoint, its JSON file first, so that what is left never looks complete."""
    for file in (path.with_suffix(".json"), *_variable_files(path)):
        file.unlink(missing_ok=True)


def _remove_unfinished(path: Path) -> None:
    """Remove what lies in the folder beyond a checkpoint, from which training now continues."""
    kept = {old.name for old in _checkpoints(path.parent) if _epoch(old) <= _epoch(path)}
    for file in path.parent.iterdir():
        if file.is_file() and file.name.partition(".")[0] not in kept:
            file.unlink()
