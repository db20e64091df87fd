"""Write the tables of README.md, docs/results.md and docs/cluster.md, from the committed notebooks and experiments.

Call it after `make notebooks` or `make experiments`: .venv/bin/python tools/write_tables.py
"""

import re
from pathlib import Path

import nbformat

from lenet_lab.analysis.tables import markdown_table
from lenet_lab.beyond.experiments import (
    CONFIGURATIONS,
    accuracies,
    accuracy_table,
    comparison_table,
    read_experiments,
)
from lenet_lab.notebooks import EXTRA_NOTEBOOKS, NOTEBOOKS, parameters_of
from lenet_lab.paths import EXPERIMENTS, whole_file

ROOT = Path(__file__).parent.parent
HEADING = ("original notebook", "write-up", "here")
ON_MNIST = "test accuracy on MNIST"
TITLES = ("softmax, gradient descent", "LeNet-5, gradient descent", "LeNet-5, Adam", "LeNet-5, Adam, dropout")
# What the two documents report: the original notebook, the write-up.
SOFTMAX = ("", "91.9%")
GRADIENT_DESCENT = ("95.4%", "95.7%")
ADAM = ("99.8%, no output in our copy", "99.0%")
DROPOUT = ("99.2%, but trained without it", "98.8%, left on in the test")


def tables():
    """The tables of each document."""
    results = read_experiments(ROOT / EXPERIMENTS)
    lab, beyond = (parameters_of(read_notebook(name)) for name in NOTEBOOKS[4:])
    pairs = [("adam", "gradient_descent"), ("dropout", "adam"), ("dropout", "keep_prob_25"), *beyond["steps"]]
    return {
        "README.md": [means_table(results)],
        "docs/results.md": [
            means_table(results),
            accuracy_table(results, lab["lab"]),
            single_runs_table(),
            reported_table(results),
            accuracy_table(results, beyond["ladder"], times=False),
            comparison_table(results, pairs),
            names_table(results),
        ],
        "docs/cluster.md": [shown_table(EXTRA_NOTEBOOKS[0], "| workers")],
    }


def means_table(results):
    """What the two documents report beside the means of our experiments."""
    return markdown_table(
        [
            (ON_MNIST, *HEADING),
            ("softmax regression", *SOFTMAX, mean_and_deviation(results, "softmax")),
            ("LeNet-5, gradient descent", *GRADIENT_DESCENT, mean_and_deviation(results, "gradient_descent")),
            ("LeNet-5, Adam", *ADAM, mean_and_deviation(results, "adam")),
            ("LeNet-5, Adam, dropout", *DROPOUT, mean_and_deviation(results, "dropout")),
        ]
    )


def single_runs_table():
    """What the two documents report beside the run that each notebook shows."""
    softmax, gradient_descent, adam, dropout = (single_run(*run) for run in zip(NOTEBOOKS[:4], TITLES, strict=True))
    return markdown_table(
        [
            ("one run each", *HEADING),
            ("test accuracy before training", "9.8%", "9.8%", printed(NOTEBOOKS[0], r"Accuracy on test-set: (\S+)")),
            ("softmax regression: loss of epoch 1", "1.176319", "1.177169", printed(NOTEBOOKS[0], r"Loss = (\S+)")),
            (f"loss of epoch {softmax['epochs']}", "", "0.303337", softmax["loss"]),
            ("test accuracy", *SOFTMAX, softmax["test"]),
            ("LeNet-5, gradient descent: test accuracy", *GRADIENT_DESCENT, gradient_descent["test"]),
            ("training time", "18 min 39 s", "819 s", gradient_descent["training time"]),
            ("LeNet-5, Adam: test accuracy", *ADAM, adam["test"]),
            ("training time", "18 min 52 s", "806 s", adam["training time"]),
            ("with dropout: test accuracy", *DROPOUT, dropout["test"]),
            ("training time", "", "", dropout["training time"]),
        ]
    )


def reported_table(results):
    """What was reported elsewhere about two more of our networks."""
    better, quarter = mean_and_deviation(results, "beyond"), mean_and_deviation(results, "keep_prob_25")
    return markdown_table(
        [
            (ON_MNIST, "reported", "here"),
            ("LeNet-5, trained better", "99.05% (1998); 99.2%, trained on distorted digits", better),
            ("dropout that keeps a quarter, the original notebook's `rate=0.75`", "", quarter),
        ]
    )


def names_table(results):
    """The names of our experiments."""
    names = [name for name in CONFIGURATIONS if name in results["runs"]]
    rows = [(f"`{name}`", CONFIGURATIONS[name].title, str(CONFIGURATIONS[name].epochs)) for name in names]
    return markdown_table([("name", "model", "epochs"), *rows])


def mean_and_deviation(results, name):
    """The test accuracy over the seeds of an experiment."""
    values = accuracies(results, name)
    return f"{values.mean():.2%} ± {values.std(ddof=1):.2%}"


def read_notebook(name):
    """A committed notebook."""
    return nbformat.read(ROOT / "notebooks" / name, 4)


def outputs(name):
    """The outputs of a committed notebook's cells."""
    cells = [cell for cell in read_notebook(name).cells if cell.cell_type == "code"]
    return [output for cell in cells for output in cell.outputs]


def shown(name):
    """The texts in Markdown, such as tables, that a committed notebook shows."""
    return [output.data["text/markdown"] for output in outputs(name) if "text/markdown" in output.get("data", {})]


def printed(name, pattern):
    """The group of a pattern, where it is first found in what a committed notebook printed."""
    text = "".join(output.text for output in outputs(name) if output.output_type == "stream")
    if match := re.search(pattern, text):
        return match[1]
    raise SystemExit(f"{name} printed nothing like {pattern!r}; run make notebooks")


def shown_table(name, beginning):
    """The table that a committed notebook shows, by how its heading begins."""
    for table in shown(name):
        if table.startswith(beginning):
            return table
    raise SystemExit(f"{name} shows no table that begins with {beginning!r}; run make notebooks")


def single_run(name, title):
    """What a committed notebook's table of results says about the run of this title."""
    for heading, *rows in [cells(table) for table in shown(name) if "| epochs |" in table]:
        for row in rows:
            if row[0] == title:
                return dict(zip(heading, row, strict=True))
    raise SystemExit(f"{name} shows no result of {title!r}; run make notebooks")


def cells(table):
    """The cells of a table in Markdown, without the line below its heading."""
    lines = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines()]
    return [lines[0], *lines[2:]]


def with_table(text, table, document="the document"):
    """Put a table in the place of the one with the same heading; `document` is what an error calls the text."""
    heading = r"\|" + r"\|".join(rf" *{re.escape(cell)} *" for cell in cells(table)[0]) + r"\|\n"
    text, places = re.subn(rf"^{heading}(\|.*\n)+", lambda _: table + "\n", text, flags=re.MULTILINE)
    if places != 1:
        raise SystemExit(f"There are {places} tables with this heading, expected one in {document}: {table[:40]!r}")
    return text


def times(name):
    """How long a notebook takes to read and to run, as its opening cell says."""
    opening = read_notebook(name).cells[0].source
    return re.search(r"\*\*Time:\*\* about (.+) to read, (.+) to run on two cores\.", opening).groups()


def with_times(text):
    """Put the times of the notebooks into the rows that link to them."""
    for name in NOTEBOOKS:
        reading, running = times(name)
        row = rf"(\(notebooks/{re.escape(name)}\) \|) [^|]+ \| [^|]+ \|"
        text = re.sub(row, rf"\1 {reading} | {running} |", text)
    return text


def write_tables():
    """Write every table into its document, or none if one has no place."""
    texts = {}
    for name, made in tables().items():
        texts[name] = with_times((ROOT / name).read_text("utf-8"))
        for table in made:
            texts[name] = with_table(texts[name], table, name)
    for name, text in texts.items():
        with whole_file(ROOT / name) as part:
            part.write_text(text, "utf-8")


if __name__ == "__main__":
    write_tables()
