"""Where things go: the lab's folder, numbered run directories, figure files; and files written whole or not at all."""

import operator
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

EXPERIMENTS = "experiments/results.json"  # committed: what `python -m lenet_lab experiments` measured on MNIST
FIRST_NOTEBOOK = Path("notebooks", "1_tensorflow_101.ipynb")  # the lab's folder is the one that holds it


class LabError(ValueError):
    """A mistake in what was given to the lab: a wrong value, file or folder.

    The message says in one sentence what was wrong, what was expected and what
    to do. The command line prints it as one line; any other ValueError is a bug
    and keeps its traceback.
    """


def whole_number(what: str, value: Any, low: int | None = None, high: int | None = None) -> int:
    """Check that a value is a whole number, NumPy's included, from `low` to `high`, and return it as an int."""
    try:
        number = operator.index(value)
    except TypeError as error:
        raise LabError(f"{what} is {value!r}, expected a whole number") from error
    if (low is not None and number < low) or (high is not None and number > high):
        raise LabError(
            f"{what} is {value}, expected a whole number from {low}" + (" up" if high is None else f" to {high}")
        )
    return number


def enter_lab() -> Path:
    """Make the lab's folder the working directory, wherever Jupyter was started.

    The lab's folder is the nearest one, at or above the working directory, whose
    `notebooks` folder holds the lab's first notebook. `MNIST_data/`, `logs/` and
    `MNIST_figures/` are found from there. If there is no such folder, nothing
    changes. A second call changes nothing either.

    Returns
    -------
    pathlib.Path
        The working directory after the call.

    Examples
    --------
    Outside the lab, the working directory stays as it is:

    >>> import os, tempfile
    >>> from lenet_lab import enter_lab
    >>> before = os.getcwd()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     os.chdir(folder)
    ...     unchanged = os.path.samefile(enter_lab(), folder)
    ...     os.chdir(before)
    >>> unchanged
    True
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FIRST_NOTEBOOK).is_file():
            os.chdir(folder)
            return folder
    return here


def next_path(path_pattern: str) -> str:
    """Claim the next free numbered directory, such as `logs/run_03` for `logs/run_%02d`.

    The search doubles a number until its directory does not exist, then bisects
    for a free number whose predecessor is taken (docs/lab.md, "Run directories"). Creating
    the directory claims it, so two processes never share one.

    Parameters
    ----------
    path_pattern : str
        A path with exactly one decimal integer field, such as
        ``"logs/lenet5/run_%02d"``; ``%%`` stands for a percent sign.

    Returns
    -------
    str
        The directory. It exists, is empty, and belongs to the caller alone.

    Raises
    ------
    LabError
        If the pattern does not have exactly one integer field.
    OSError
        If the directory can't be created.

    See Also
    --------
    numbered_paths : The directories that exist already.

    Examples
    --------
    >>> import os, tempfile
    >>> from lenet_lab import next_path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pattern = os.path.join(folder, "lenet5", "run_%02d")
    ...     runs = [next_path(pattern) for _ in range(3)]
    >>> [os.path.basename(run) for run in runs]
    ['run_01', 'run_02', 'run_03']
    """
    pattern = _parse(path_pattern)
    while True:
        directory = pattern.path(first_free(pattern))
        try:
            os.makedirs(directory)
            return directory
        except FileExistsError:
            pass  # another process was quicker: look for the next one


def numbered_paths(path_pattern: str) -> list[str]:
    """List a pattern's existing directories in the order of their numbers.

    Numbers may be missing, and 9 comes before 10. Only names that the pattern
    makes count: ``run_%02d`` makes `run_07` and `run_107`, but not `run_7`.

    Parameters
    ----------
    path_pattern : str
        A path with exactly one decimal integer field, as in `next_path`. The
        field may be in the name of a parent folder: ``"logs/%d/run"``.

    Returns
    -------
    list of str
        The directories; empty if there are none.

    Raises
    ------
    LabError
        If the pattern does not have exactly one integer field.
    OSError
        If a folder can't be read.

    See Also
    --------
    next_path : Creates the next directory.
    """
    pattern = _parse(path_pattern)
    folder, beginning = os.path.split(pattern.before)
    separators = re.escape(os.sep + (os.altsep or ""))
    ending = re.split(f"[{separators}]", pattern.after)[0]
    name = re.compile(f"{re.escape(beginning)} *([0-9]+){re.escape(ending)}", re.DOTALL)
    try:
        entries = os.listdir(folder or ".")
    except (FileNotFoundError, NotADirectoryError):
        return []
    numbers = sorted({int(match[1]) for match in map(name.fullmatch, entries) if match})
    # The number of run_7 leads to run_07, which is in the list only if it exists.
    return [path for path in map(pattern.path, numbers) if os.path.isdir(path)]


class Pattern(NamedTuple):
    """A path pattern, split at its integer field."""

    before: str
    field: str  # such as "%02d"
    after: str

    def path(self, number: int) -> str:
        return self.before + self.field % number + self.after


def _parse(path_pattern: str) -> Pattern:
    text = r"((?:[^%]|%%)*)"
    match = re.fullmatch(text + r"(%0?[0-9]{0,2}[di])" + text, os.fspath(path_pattern), re.DOTALL)
    if not match:
        raise LabError(
            f"path pattern {path_pattern!r} can't be numbered: expected exactly one integer field, "
            "as in 'logs/run_%02d'; write any other percent sign as '%%'"
        )
    before, field, after = match.groups()
    after = after.rstrip(os.sep + (os.altsep or ""))
    return Pattern(before.replace("%%", "%"), field, after.replace("%%", "%"))


def first_free(pattern: Pattern) -> int:
    """A number that is free although the one before it is taken."""
    high = 1
    while os.path.lexists(pattern.path(high)):
        high *= 2
    low = high // 2
    while low + 1 < high:
        middle = (low + high) // 2
        if os.path.lexists(pattern.path(middle)):
            low = middle
        else:
            high = middle
    return high


def figure_path(folder: str, name: str, data_name: str) -> Path:
    """Return the path for a figure made on a data set, and create its folder.

    Figures made on MNIST go into `folder` itself. Figures made on other data go
    into a folder below it that bears the data's name, so that they never
    overwrite one made on MNIST.

    Parameters
    ----------
    folder : str
        The figures' folder, `MNIST_figures` in the lab.
    name : str
        The file's name, such as ``"Loss.svg"``.
    data_name : str
        The data set's name, `mnist.name`.

    Returns
    -------
    pathlib.Path
        The figure's path. Its folder exists.

    Raises
    ------
    OSError
        If the folder can't be created.
    """
    directory = Path(folder)
    if data_name != "MNIST":
        directory = directory / (re.sub(r"[^\w-]", "_", data_name) or "_")
    directory.mkdir(parents=True, exist_ok=True)
    return directory / name


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Replace a file at once, at the end of a `with` block that did not fail.

    Anyone who reads `path` gets the old content or the new one, never a part.

    Parameters
    ----------
    path : str or pathlib.Path
        The file to replace or create; its folder must exist.

    Yields
    ------
    pathlib.Path
        The file to write in the block. It has the same extension as `path`,
        from which Matplotlib tells the format.
    """
    path = Path(path)
    part = path.with_name(f".{os.getpid()}-{threading.get_ident()}.{path.name}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
