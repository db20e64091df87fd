"""The exercises at the end of the notebooks: settings, results and their tables."""

import inspect
import json
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lenet_lab.analysis.tables import markdown_table
from lenet_lab.beyond.experiments import read_experiments
from lenet_lab.course import networks, solutions
from lenet_lab.course.solutions import SEED, Row
from lenet_lab.input_data import Datasets, read_mnist
from lenet_lab.paths import EXPERIMENTS, FIRST_NOTEBOOK, LabError, enter_lab, whole_file

FILE = "experiments/exercises.json"  # committed
DOCUMENT = "docs/exercises.md"  # shows the file's rows as tables


class Exercise(NamedTuple):
    """An exercise: its notebook, the function for its answer, and the settings with which it is computed."""

    notebook: int
    compute: Callable[..., list[Row]]
    settings: dict[str, Any]
    reads_results: bool = False  # `compute` is given the results of `make experiments` instead of MNIST


LADDER = ["adam", "dropout", "affine", "beyond"]
EXERCISES = {
    "softmax_rates": Exercise(1, solutions.softmax_rates, {"epochs": 10, "rates": [0.01, 0.1, 1.0, 10.0]}),
    "unchanged_weights": Exercise(1, solutions.unchanged_weights, {"epochs": 10, "rate": 0.1, "deviation": 0.1}),
    "batch_sizes": Exercise(
        1,
        solutions.batch_sizes,
        {"epochs": 10, "settings": [[10, 0.01], [100, 0.01], [1000, 0.01], [10, 0.001], [1000, 0.1]]},
    ),
    "initial_weights": Exercise(
        1, solutions.initial_weights, {"epochs": 10, "rate": 0.1, "deviations": [0.0, 0.1, 1.0]}
    ),
    "lenet5_rates": Exercise(2, solutions.lenet5_rates, {"epochs": 5, "rates": [0.001, 0.01, 0.1, 1.0]}),
    "kernel_sizes": Exercise(2, solutions.kernel_sizes, {"epochs": 10, "rate": 0.1, "sides": [3, 5, 7]}),
    "as_in_1998": Exercise(2, solutions.as_in_1998, {"epochs": 10, "rate": 0.1}),
    "deeper": Exercise(2, solutions.deeper, {"epochs": 10, "rate": 0.1}),
    "optimizers": Exercise(
        3,
        solutions.optimizers,
        {"epochs": 10, "rates": {"gradient descent": 0.1, "momentum 0.9": 0.01, "Adam": 0.001}},
    ),
    "adam_rates": Exercise(3, solutions.adam_rates, {"epochs": 5, "rates": [0.001, 0.01, 0.1]}),
    "first_step": Exercise(3, solutions.first_step, {"rate": 0.001, "names": ["gradient descent", "Adam"]}),
    "confused_pairs": Exercise(3, solutions.confused_pairs, {"epochs": 10, "pairs": 3}),
    "keep_probs": Exercise(4, solutions.keep_probs, {"epochs": 10, "rate": 0.001, "keep": [1.0, 0.75, 0.5, 0.25]}),
    "dropout_places": Exercise(4, solutions.dropout_places, {"epochs": 10, "rate": 0.001, "keep": [0.75, 0.5]}),
    "averaged_predictions": Exercise(
        4, solutions.averaged_predictions, {"epochs": 10, "rate": 0.001, "keep_prob": 0.5, "passes": [1, 3, 10, 30]}
    ),
    "shifted_digits": Exercise(
        4, solutions.shifted_digits, {"epochs": 10, "rate": 0.001, "keep_prob": 0.75, "pixels": [0, 1, 2, 3, 4, 5]}
    ),
    "mcnemar_by_hand": Exercise(5, solutions.mcnemar_by_hand, {"name": "dropout", "other": "adam"}, True),
    "seeds_needed": Exercise(5, solutions.seeds_needed, {"name": "dropout", "other": "adam"}, True),
    "best_of_five": Exercise(5, solutions.best_of_five, {"names": ["gradient_descent", *LADDER]}, True),
    "early_stopping": Exercise(5, solutions.early_stopping, {"names": LADDER}, True),
    "augmentation_strengths": Exercise(
        6, solutions.augmentation_strengths, {"epochs": 10, "rate": 0.003, "factors": [0.0, 0.5, 1.0, 2.0]}
    ),
    "vote_of_networks": Exercise(6, solutions.vote_of_networks, {"names": LADDER}, True),
    "vote_of_shifts": Exercise(6, solutions.vote_of_shifts, {"epochs": 10, "rate": 0.001, "pixels": [0, 1, 2]}),
    "hard_digits": Exercise(6, solutions.hard_digits, {"names": LADDER}, True),
}

# How a table shows the numbers in a column. Others are losses or shares.
FORMATS = {
    "learning rate": "g", "deviation": "g", "keep_prob": "g", "strength": "g", "p": ".2g",
    "median step": ".1e", "longest step": ".1e", "epoch of the lowest loss": ".1f",
}  # fmt: skip


def run_exercises(names: Sequence[str] = ()) -> None:
    """Compute exercises on MNIST, print their tables, and keep their results in the repository.

    Results that the file has with the same settings are not computed again. So it
    can be stopped at any time and called again.

    Parameters
    ----------
    names : sequence of str
        Keys of `EXERCISES`; by default all.

    Raises
    ------
    LabError
        If there is no exercise of a name, this is not called in the lab's folder,
        or the file of results is damaged.
    lenet_lab.data.idx.DataError
        If MNIST can't be read or downloaded. Results on the stand-in digits are never committed.
    """
    names = names or list(EXERCISES)
    _refuse_unknown(names)
    if not (enter_lab() / FIRST_NOTEBOOK).is_file():
        raise LabError(f"{Path.cwd()} is not in the lab's folder; change to that folder first")
    results = update_results(names, read_mnist("MNIST_data/"), FILE)
    for name in names:
        print(f"\nNotebook {EXERCISES[name].notebook}, {name}:\n\n{exercise_table(results, name)}")
    document = Path(DOCUMENT)
    if document.exists():
        with whole_file(document) as part:
            part.write_text(filled(document.read_text("utf-8"), results), "utf-8")


def update_results(names: Sequence[str], mnist: Datasets, file: str | Path) -> dict[str, Any]:
    """Compute what a file of results lacks, and write the file again after each exercise.

    Parameters
    ----------
    names : sequence of str
        Keys of `EXERCISES`.
    mnist : Datasets
        With flat images and one-hot labels.
    file : str or path
        A JSON file; it need not exist.

    Returns
    -------
    dict
        The content of the file: ``"data"``, the data set's name, ``"seed"``, and
        ``"exercises"``, for each its settings, rows and, if it trains, the time.

    Raises
    ------
    LabError
        If there is no exercise of a name, or the file is damaged or has results on other data.
    """
    _refuse_unknown(names)
    file = Path(file)
    results: dict[str, Any] = {"data": mnist.name, "seed": SEED, "exercises": {}}
    if file.exists():
        results = _read_results(file)
    if results["data"] != mnist.name:
        raise LabError(f"{file} has results on {results['data']}, not on {mnist.name}; use another file")
    for name in names:
        exercise, done = EXERCISES[name], results["exercises"]
        if name in done and done[name]["settings"] == exercise.settings and not exercise.reads_results:
            continue
        print(f"\n== Notebook {exercise.notebook}, {name}", flush=True)
        done[name] = _compute(exercise, mnist)
        results["exercises"] = {key: done[key] for key in EXERCISES if key in done}
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as part:
            part.write_text(json.dumps(results, indent=1) + "\n")
    return results


def _refuse_unknown(names: Sequence[str]) -> None:
    unknown = sorted(set(names) - set(EXERCISES))
    if unknown:
        raise LabError(f"there is no exercise {unknown[0]!r}; choose from {', '.join(EXERCISES)}")


def _read_results(file: Path) -> dict[str, Any]:
    try:
        results = json.loads(file.read_text())
        is_whole = {"data", "seed", "exercises"} <= results.keys() and all(
            {"settings", "rows"} <= entry.keys() for entry in results["exercises"].values()
        )
    except (ValueError, AttributeError):
        results, is_whole = {}, False
    if not is_whole:
        raise LabError(f"{file} is damaged: it holds no results of exercises; restore it with git, or delete it")
    return results


def _compute(exercise: Exercise, mnist: Datasets) -> dict[str, Any]:
    if exercise.reads_results:  # at once, so its time says nothing
        return {"settings": exercise.settings, "rows": exercise.compute(read_experiments(), **exercise.settings)}
    started = time.perf_counter()
    rows = exercise.compute(mnist, **exercise.settings)
    return {"settings": exercise.settings, "seconds": round(time.perf_counter() - started), "rows": rows}


def exercise_table(results: dict[str, Any], name: str) -> str:
    """Make the table of an exercise's rows.

    Parameters
    ----------
    results : dict
        From `update_results`.
    name : str
        A key of `EXERCISES`.

    Returns
    -------
    str
        A Markdown table. A row without a value for a column has an empty cell there.
    """
    rows = results["exercises"][name]["rows"]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [[_cell(column, row[column]) if column in row else "" for column in columns] for row in rows]
    return markdown_table([columns, *cells])


def _cell(column: str, value: str | int | float) -> str:
    if isinstance(value, float):
        return format(value, FORMATS.get(column, ".4f" if "loss" in column else ".2%"))
    return value if isinstance(value, str) else f"{value:,}"


def filled(document: str, results: dict[str, Any]) -> str:
    """Put code and results into a document, each between two comments.

    Between ``<!-- code: build_deeper -->`` and ``<!-- end -->`` comes the source
    of that network or function, between ``<!-- answer: deeper -->`` and
    ``<!-- end -->`` the call that computed an exercise's rows, and their table.

    Parameters
    ----------
    document : str
        In Markdown. What stands between the comments is replaced.
    results : dict
        From `update_results`. What it lacks stays as it is.

    Returns
    -------
    str
    """

    def fill(place: re.Match[str]) -> str:
        kind, name = place["kind"], place["name"]
        if kind == "code":
            content = _python(inspect.getsource(getattr(networks, name, None) or getattr(solutions, name)))
        elif name in results["exercises"]:
            content = f"{_python(_call(name))}\n\n{exercise_table(results, name)}\n\n{_caption(results, name)}"
        else:
            return place[0]
        return f"<!-- {kind}: {name} -->\n\n{content}\n\n<!-- end -->"

    return re.sub(r"<!-- (?P<kind>code|answer): (?P<name>\w+) -->.*?<!-- end -->", fill, document, flags=re.DOTALL)


def _python(code: str) -> str:
    return f"```python\n{code.strip()}\n```"


def _call(name: str) -> str:
    exercise = EXERCISES[name]
    arguments = ["results" if exercise.reads_results else "mnist"]
    arguments += [f"{key}={value!r}" for key, value in exercise.settings.items()]
    return f"solutions.{name}({', '.join(arguments)})"


def _caption(results: dict[str, Any], name: str) -> str:
    if EXERCISES[name].reads_results:
        return f"*From {EXPERIMENTS}.*"
    epochs = results["exercises"][name]["settings"].get("epochs")
    return f"*{results['data']}, seed {results['seed']}{f', {epochs} epochs' if epochs else ''}.*"
