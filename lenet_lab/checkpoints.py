"""Checkpoints: all that a run's training needs to go on, kept on disk every few epochs, and taken up again."""

import dataclasses
import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

from lenet_lab.classifier import Classifier
from lenet_lab.compat import tf
from lenet_lab.paths import whole_file
from lenet_lab.runs import History, Run, check_fits, reason, restore_model, seed_random_operations, start_run

FOLDER = "checkpoints"
KEPT = 3  # should the last one be damaged, there is one before it
# Of a run, besides its variables, its history and what the order of the images is drawn from.
PLACE = ("seed", "step", "epoch", "data_name", "batch_size", "test_accuracy", "inference_traces")


class CheckpointError(OSError):
    """A checkpoint could not be written; the message says why, and which one stays good."""


def save_checkpoint(run: Run) -> str:
    """Keep a run between two epochs on disk: `checkpoints/epoch-0007.*` in its directory.

    TensorFlow's `tf.train.Saver` writes the variables: weights, the optimizer's
    slots, the dropout's seed and step. The rest, with the SHA-256 of what the
    saver wrote, goes into a JSON file that appears last and at once: where it
    stands, the checkpoint is whole. Only the last `KEPT` stay.

    Returns
    -------
    str
        The checkpoint's path, without an ending; `restore_model` takes it.

    Raises
    ------
    CheckpointError
        If it can't be written, as on a full disk; the ones before stay as they are.
    """
    folder = Path(run.directory, FOLDER)
    path = folder / f"epoch-{run.epoch:04d}"
    state = {
        "place": {name: getattr(run, name) for name in PLACE},
        "history": dataclasses.asdict(run.history),
        "rng": run.rng.get_state(legacy=False),
    }
    try:
        folder.mkdir(exist_ok=True)
        run.flush()  # the events of these epochs are not drawn again
        # Without TensorFlow's own list of checkpoints, which would name one before it is whole.
        run.classifier.saver.save(run.session, str(path), write_meta_graph=False, write_state=False)
        state["sha256"] = {file.name: _sha256(file) for file in _variable_files(path)}
        with whole_file(path.with_suffix(".json")) as part:
            part.write_text(json.dumps(state, default=np.ndarray.tolist))
    except (OSError, tf.errors.OpError, ValueError, IndexError) as error:  # TensorFlow's kinds for a full disk differ
        raise CheckpointError(f"no checkpoint at {path} ({reason(error)}); {what_stays(run)}") from error
    for old in _found(folder)[:-KEPT]:
        _remove(old)
    return str(path)


def resume_run(classifier: Classifier, directory: str) -> Run:
    """Open a run again where its last checkpoint left it, in the same directory.

    What follows is what would have followed: training it to the same epoch
    gives the very same variables as if it had never stopped. TensorBoard is
    told to forget what was recorded after the checkpoint.

    Parameters
    ----------
    classifier : Classifier
        Built the same way as the run's. A network that draws by chance must
        draw as `models.dropout` does, from variables.
    directory : str
        Of a run that `optimize` trained with `checkpoint_every`.

    Returns
    -------
    Run
        For a `with` block. Its `epoch` tells how many are done:
        ``optimize(run, mnist, 40 - run.epoch, 128)``.

    Raises
    ------
    ValueError
        If there is no whole checkpoint, or it is of another network.
    OSError
        If the run is still open, here or in another process.
    """
    path = last_whole(directory)
    if path is None:
        raise ValueError(f"{directory} has no whole checkpoint, expected one of optimize(..., checkpoint_every=1)")
    check_fits(classifier, str(path))
    state = json.loads(path.with_suffix(".json").read_text())
    seed_random_operations(classifier.graph, state["place"]["seed"])
    run = Run(classifier, directory, state["place"]["seed"])
    restore_model(run, str(path))
    for name in PLACE:
        setattr(run, name, state["place"][name])
    run.history = History(**state["history"])
    run.rng.set_state(state["rng"])
    _remove_unfinished(path)
    for writer in (run.writer, run.validation_writer):
        # TensorBoard drops what it read at this step or later, unless it takes the first START for the run's own.
        for _ in range(2):
            writer.add_session_log(tf.SessionLog(status=tf.SessionLog.START), run.step)
    run.flush()
    return run


def resume_or_start(classifier: Classifier, path_pattern: str, seed: int | None = None) -> Run:
    """Go on with the newest run of a pattern if it has a checkpoint, or else start one; see `start_run`."""
    newest = None
    for number in itertools.count(1):
        if not Path(path_pattern % number).exists():
            break
        newest = path_pattern % number
    if newest and last_whole(newest):
        return resume_run(classifier, newest)
    return start_run(classifier, path_pattern, seed)


def what_stays(run: Run) -> str:
    """In words, the last good checkpoint of a run."""
    path = last_whole(run.directory)
    if path is None:
        return "no earlier checkpoint was made"
    return f"the last good checkpoint is {path}, from which resume_run(classifier, {run.directory!r}) goes on"


def last_whole(directory: str) -> Path | None:
    """A run's newest checkpoint to which nothing has happened since, without an ending; None if there is none."""
    return next(filter(_is_whole, reversed(_found(Path(directory, FOLDER)))), None)


def _found(folder: Path) -> list[Path]:
    """The checkpoints that were finished, by epoch, each without its ending."""
    return sorted(path.with_suffix("") for path in folder.glob("epoch-*.json"))


def _variable_files(path: Path) -> list[Path]:
    return [Path(f"{path}.index"), Path(f"{path}.data-00000-of-00001")]


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _is_whole(path: Path) -> bool:
    """Whether nothing happened to a checkpoint since it was finished."""
    try:
        promised: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())["sha256"]
        return all(_sha256(path.parent / name) == sha256 for name, sha256 in promised.items())
    except (OSError, ValueError, KeyError):
        return False


def _remove(path: Path) -> None:
    """First the JSON file, so that no part of a checkpoint passes for a whole one."""
    for file in (path.with_suffix(".json"), *_variable_files(path)):
        file.unlink(missing_ok=True)


def _remove_unfinished(path: Path) -> None:
    """What a process that was killed left behind a checkpoint, which training will make again."""
    kept = {old.name for old in _found(path.parent) if old <= path}
    for file in path.parent.iterdir():
        if file.name.partition(".")[0] not in kept:
            file.unlink()
