"""Where things go: the lab's folder, numbered run directories, figure files; a file written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EXPERIMENTS = "experiments/results.json"  # committed; what `experiments` measured on MNIST


def enter_lab() -> Path:
    """Make the lab's folder the working directory, wherever Jupyter was started.

    The lab's folder is the nearest one, at or above the working directory, that
    holds a `notebooks` folder; `MNIST_data/`, `logs/` and `MNIST_figures/` are
    found from there. Where there is none, nothing changes. Calling it again is
    harmless.

    Returns
    -------
    pathlib.Path
        The working directory after the call.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "notebooks").is_dir():
            os.chdir(folder)
            return folder
    return here


def next_path(path_pattern: str) -> str:
    """Claim the next free numbered directory, e.g. `logs/run_03` for `logs/run_%02d`.

    Doubles a number until its directory does not exist, then bisects for a free
    one whose predecessor is taken (lab cell 13). The directory is claimed by
    creating it, so that two processes never share one.

    Parameters
    ----------
    path_pattern : str
        A path with one integer field, such as ``"logs/lenet5/run_%02d"``.

    Returns
    -------
    str
        The directory, which exists and is the caller's alone.

    Raises
    ------
    ValueError
        If the pattern does not hold exactly one integer field.
    OSError
        If the directory can't be made.
    """
    try:
        distinct = path_pattern % 1 != path_pattern % 2
    except (TypeError, ValueError):
        distinct = False
    if not distinct:
        raise ValueError(
            f"path pattern {path_pattern!r} must hold one integer field, as in 'logs/run_%02d'"
        )
    while True:
        directory = _first_free(path_pattern)
        try:
            os.makedirs(os.path.dirname(directory) or ".", exist_ok=True)
            os.mkdir(directory)
            return directory
        except FileExistsError:
            if not os.path.isdir(os.path.dirname(directory) or "."):
                raise  # a file stands where a parent folder should be: no number will help
            # else: another process was quicker, look again


def _first_free(path_pattern: str) -> str:
    high = 1
    while os.path.exists(path_pattern % high):
        high *= 2
    low = high // 2
    while low + 1 < high:
        middle = (low + high) // 2
        if os.path.exists(path_pattern % middle):
            low = middle
        else:
            high = middle
    return path_pattern % high


def figure_path(folder: str, name: str, data_name: str) -> Path:
    """Where a figure made on `data_name` belongs.

    Figures made on MNIST stand in `folder` itself; those made on anything else
    in a folder below it that bears the data's name, so that they never
    overwrite a figure made on MNIST.

    Parameters
    ----------
    folder : str
        The figures' folder, `MNIST_figures` in the lab; it is made if need be.
    name : str
        The file's name, such as ``"Loss.svg"``.
    data_name : str
        The data set's name, `mnist.name`.
    """
    directory = Path(folder)
    if data_name != "MNIST":
        directory = directory / data_name.replace(" ", "_").replace("/", "_")
    directory.mkdir(parents=True, exist_ok=True)
    return directory / name


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Where to write a file aside; at the end of a block that did not fail, it takes its place at once.

    Whoever reads `path` gets the old content or the new one, never a part.
    """
    path = Path(path)
    part = path.with_name(f".{os.getpid()}.{path.name}")  # the ending stays, from which matplotlib tells the format
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
