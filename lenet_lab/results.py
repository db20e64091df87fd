"""What came out of each run: a small JSON file beside its events, found again and put into a table."""

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lenet_lab.compat import tf
from lenet_lab.models import count_parameters, markdown_table
from lenet_lab.paths import whole_file
from lenet_lab.runs import Run

FILE = "result.json"


def save_result(run: Run, title: str) -> dict[str, Any]:
    """Keep a trained run's figures in `result.json` in its directory.

    Parameters
    ----------
    run : Run
        After `optimize` and `print_accuracy`.
    title : str
        What the table calls it, such as ``"LeNet-5, Adam"``.

    Raises
    ------
    ValueError
        If the run has not been both trained and tested.
    """
    if not run.history.loss or run.test_accuracy is None:
        raise ValueError(f"{run.directory}: nothing to keep yet, expected optimize and print_accuracy before")
    result = {
        "title": title,
        "data": run.data_name,
        "parameters": count_parameters(run.classifier.graph),
        "epochs": run.epoch,
        "batch_size": run.batch_size,
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
    with whole_file(Path(run.directory, FILE)) as part:  # other notebooks may be reading
        part.write_text(json.dumps(result, indent=1) + "\n")
    return result


def find_result(logs: str, **wanted: Any) -> dict[str, Any] | None:
    """The newest result below a folder that has the wanted values, or None.

    For example ``find_result("logs", title="LeNet-5, Adam", data="MNIST", epochs=40)``.
    """
    for result in reversed(read_results(logs)):
        if all(result.get(key) == value for key, value in wanted.items()):
            return result
    return None


def read_results(logs: str, since: float = 0.0) -> list[dict[str, Any]]:
    """The results below a folder, oldest first, that were kept after a time (seconds since 1970)."""
    files = [(path.stat().st_mtime, path) for path in Path(logs).rglob(FILE)]
    return [json.loads(path.read_text()) for time, path in sorted(files) if time >= since]


def results_table(results: list[dict[str, Any]]) -> str:
    """Results as a Markdown table that also reads well printed; it names the data of each row."""
    rows = [("model", "data", "epochs", "loss", "training", "validation", "test", "training time")]
    for r in results:
        accuracies = (f"{r[key]:.1%}" for key in ("train_accuracy", "validation_accuracy", "test_accuracy"))
        rows.append(
            (r["title"], r["data"], str(r["epochs"]), f"{r['loss']:.6f}", *accuracies, f"{r['seconds']:.0f} s")
        )
    return markdown_table(rows)


def optimizer_table(results: Mapping[str, dict[str, Any]]) -> str:
    """The lab's table of optimizers: test accuracy and training time, as Markdown, with the data's name.

    Parameters
    ----------
    results : mapping
        From a column's heading, such as ``"AdamOptimizer"``, to what `save_result` returned.
    """
    names = sorted({r["data"] for r in results.values()})
    rows = [
        (f"Optimizer ({', '.join(names)})", *results),
        ("Testing Accuracy", *(f"{r['test_accuracy']:.1%}" for r in results.values())),
        ("Training Time", *(f"{r['seconds']:.0f} s" for r in results.values())),
    ]
    return markdown_table(rows)
