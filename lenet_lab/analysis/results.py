"""The result of each run: a small JSON file in the run's directory, found again later and shown in tables."""

import json
import platform
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from lenet_lab.analysis.layers import count_parameters
from lenet_lab.analysis.tables import markdown_table
from lenet_lab.compat import tf
from lenet_lab.paths import LabError, whole_file
from lenet_lab.runs import Run

RESULT_FILE = "result.json"
NO_RESULTS = "No results yet."


class Result(TypedDict):
    """What `save_result` writes about a run."""

    title: str
    data: str  # the data set's name
    parameters: int  # how many are trainable
    epochs: int
    batch_size: int
    seed: int
    loss: float  # nats, the mean over the last epoch's batches
    train_accuracy: float  # this and the other accuracies in [0, 1], after the last epoch
    validation_accuracy: float
    test_accuracy: float
    seconds: float  # spent on training, measuring not included
    directory: str  # the run's
    tensorflow: str  # version
    python: str  # version


def save_result(run: Run, title: str) -> Result:
    """Write what came of a trained run to `result.json` in its directory.

    Parameters
    ----------
    run : Run
        After `optimize` and `print_accuracy`.
    title : str
        Its name in the tables, such as ``"LeNet-5, Adam"``.

    Returns
    -------
    dict
        What the file holds, see `Result`.

    Raises
    ------
    LabError
        If the run has not been both trained and tested.
    """
    if not run.history.loss or run.test_accuracy is None:
        raise LabError(f"{run.directory}: nothing to keep yet; call optimize and print_accuracy first")
    result: Result = {
        "title": title,
        "data": str(run.data_name),
        "parameters": count_parameters(run.classifier.graph),
        "epochs": run.epoch,
        "batch_size": int(run.batch_size or 0),
        "seed": run.seed,
        "loss": run.history.loss[-1],
        "train_accuracy": run.history.train_accuracy[-1],
        "validation_accuracy": run.history.validation_accuracy[-1],
        "test_accuracy": run.test_accuracy,
        "seconds": sum(run.history.seconds),
        "directory": run.directory,
        "tensorflow": tf.VERSION,
        "python": platform.python_version(),
    }
    with whole_file(Path(run.directory, RESULT_FILE)) as part:  # another notebook may be reading it
        part.write_text(json.dumps(result, indent=1) + "\n")
    return result


def find_result(logs: str | Path, **wanted: Any) -> Result | None:
    """Find the newest result with certain values.

    Parameters
    ----------
    logs : str or Path
        The folder to search, with all folders below it; it need not exist.
    **wanted
        Fields of a `Result` and the values that they must have, such as
        ``title="LeNet-5, Adam", data="MNIST", epochs=40``.

    Returns
    -------
    dict or None
        None if there is no such result.

    Raises
    ------
    LabError
        If results have no field of a name in `wanted`.
    """
    unknown = sorted(set(wanted) - set(Result.__annotations__))
    if unknown:
        raise LabError(f"results have no field {unknown[0]!r}, expected one of {', '.join(Result.__annotations__)}")
    for result in reversed(read_results(logs)):
        if wanted.items() <= result.items():
            return result
    return None


def read_results(logs: str | Path, since: float = 0.0) -> list[Result]:
    """Read all results below a folder; a warning names each `result.json` that holds none.

    Parameters
    ----------
    logs : str or Path
        The folder to search, with all folders below it; it need not exist.
    since : float, default 0
        Leave out results written before this time, in seconds since 1970.

    Returns
    -------
    list of dict
        See `Result`; oldest first.
    """
    files = sorted((path.stat().st_mtime, path) for path in Path(logs).rglob(RESULT_FILE))
    results: list[Result] = []
    for time, path in files:
        if time >= since:
            result = _read_object(path)
            if result.keys() >= set(Result.__annotations__):
                results.append(result)  # type: ignore[arg-type]
            else:
                warnings.warn(f"{path} is left out: it is no result written by save_result", stacklevel=2)
    return results


def results_table(results: Sequence[Result]) -> str:
    """Make a table of results, each with the name of its data.

    Parameters
    ----------
    results : sequence of dict
        From `save_result`, `find_result` or `read_results`.

    Returns
    -------
    str
        A Markdown table, which also reads well printed; where there are no
        results, a sentence that says so.
    """
    if not results:
        return NO_RESULTS
    rows: list[tuple[str, ...]] = [
        ("model", "data", "epochs", "loss", "training", "validation", "test", "training time")
    ]
    for r in results:
        accuracies = (r["train_accuracy"], r["validation_accuracy"], r["test_accuracy"])
        shares = (f"{accuracy:.1%}" for accuracy in accuracies)
        rows.append((r["title"], r["data"], str(r["epochs"]), f"{r['loss']:.6f}", *shares, f"{r['seconds']:.0f} s"))
    return markdown_table(rows)


def optimizer_table(results: Mapping[str, Result]) -> str:
    """Make the lab's table of optimizers: test accuracy and training time, with the data's name.

    Parameters
    ----------
    results : mapping
        From a column's heading, such as ``"AdamOptimizer"``, to what
        `save_result` returned.

    Returns
    -------
    str
        A Markdown table, which also reads well printed; where there are no
        results, a sentence that says so.
    """
    if not results:
        return NO_RESULTS
    names = sorted({r["data"] for r in results.values()})
    rows = [
        (f"Optimizer ({', '.join(names)})", *results),
        ("Testing Accuracy", *(f"{r['test_accuracy']:.1%}" for r in results.values())),
        ("Training Time", *(f"{r['seconds']:.0f} s" for r in results.values())),
    ]
    return markdown_table(rows)


def describe_model(path: str | Path) -> dict[str, Any]:
    """Describe a saved model by the `result.json` beside it.

    Parameters
    ----------
    path : str or Path
        What `save_model` returned.

    Returns
    -------
    dict
        `title`, `data` (the data set's name) and whatever else the file holds.
        Without a readable file, these two say that nothing is known.
    """
    return {"title": "a model", "data": "unknown data"} | _read_object(Path(path).parent / RESULT_FILE)


def _read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; an empty one if the file is missing, damaged or holds something else."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
