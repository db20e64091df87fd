"""The notebooks: thin, committed with fresh outputs from MNIST, and running from top to bottom."""

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from lenet_lab.__main__ import main
from lenet_lab.events import read_curve
from lenet_lab.experiments import accuracies, accuracy_table, comparison_table, read_experiments
from lenet_lab.notebooks import NOTEBOOKS, SOURCES, made_from, parameters_of, run_notebook, with_parameters
from lenet_lab.paths import EXPERIMENTS

ROOT = Path(__file__).parent.parent
TITLES = dict(
    zip(
        NOTEBOOKS[:4],  # the lab's own; the others rest on experiments/results.json
        ("softmax, gradient descent", "LeNet-5, gradient descent", "LeNet-5, Adam", "LeNet-5, Adam, dropout"),
        strict=True,
    )
)


@pytest.fixture(params=NOTEBOOKS)
def committed(request):
    return nbformat.read(ROOT / "notebooks" / request.param, 4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text_of(notebook):
    """All that a notebook's cells printed."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def test_no_function_or_class_is_defined_in_a_notebook(committed):
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    for cell in code_cells(committed):
        assert not [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, defined)], cell.source


def test_committed_outputs_are_of_these_sources(committed):
    assert committed.metadata["lenet_lab"]["made_from"] == made_from(committed), "stale: run make notebooks"


def test_committed_outputs_are_whole_and_in_order(committed):
    cells = code_cells(committed)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [o for cell in cells for o in cell.outputs if o.output_type == "error" or o.get("name") == "stderr"]


def test_committed_outputs_are_of_mnist(committed):
    printed = text_of(committed)
    assert "Data: MNIST\n" in printed and "stand-in" not in printed


@pytest.mark.parametrize("committed", TITLES, indirect=True)
def test_committed_trainings_have_the_labs_settings(committed):
    printed = text_of(committed)
    softmax = "softmax" in committed.cells[0].source
    expected = {"epochs": 50, "batch_size": 100, "learning_rate": 0.01} if softmax else {
        "epochs": 40, "batch_size": 128, "learning_rate": 0.001
    }  # fmt: skip
    assert expected.items() <= parameters_of(committed).items()
    assert f"Epoch:  {expected['epochs']}   =====> Loss = " in printed


def test_committed_outputs_name_no_path_of_the_machine(committed):
    text = nbformat.writes(committed)
    assert str(ROOT.parent) + os.sep not in text
    assert not re.search(r"(/home/|/root/|/tmp/|/Users/|[A-Z]:\\\\)", text)


def test_the_labs_figures_are_committed():
    names = {path.name for path in (ROOT / "MNIST_figures").iterdir()}
    lab = "Accuracy.svg Loss.svg model1.png Accuracy_1.svg Loss_1.svg acc.svg loss.svg time.svg lenet5.svg"
    assert set(lab.split()) <= names


def test_a_change_of_any_source_makes_a_notebook_stale(committed, monkeypatch):
    before = made_from(committed)
    committed.cells[-1].source += " "
    changed_cell = made_from(committed)
    monkeypatch.setattr(Path, "read_text", lambda self: "other" if self.name == SOURCES[-1] else "")
    assert len({before, changed_cell, made_from(committed)}) == 3


@pytest.fixture
def lab(tmp_path, small_folder, monkeypatch):
    """A lab folder of its own, with the notebooks and small data."""
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    monkeypatch.setenv("LENET_LAB_DATA", str(small_folder))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_whole_lab_runs_and_ends_with_its_table(lab):
    before = {path: path.read_bytes() for path in (lab / "notebooks").iterdir()}
    command = [sys.executable, "-m", "lenet_lab", "lab", "--epochs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "tensorboard --logdir logs --host localhost"
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[-6:-2]]
    assert [(row[0], row[1], row[2]) for row in table] == [(title, "stand-in digits", "1") for title in TITLES.values()]
    assert "100%" in done.stderr  # the progress bar
    assert before == {path: path.read_bytes() for path in (lab / "notebooks").iterdir()}
    assert not (lab / "MNIST_figures").exists()
    figures = {path.name for path in (lab / "executed/MNIST_figures/stand-in_digits").iterdir()}
    assert {"Accuracy.svg", "Loss_1.svg", "time.svg", "loss_dropout.svg", "mistakes.png"} <= figures
    assert sorted(path.name for path in (lab / "executed").glob("*.ipynb")) == list(NOTEBOOKS)
    for name in NOTEBOOKS:
        executed = nbformat.read(lab / "executed" / name, 4)
        assert "*** MNIST" not in text_of(executed)  # the data was named, not fallen back to


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_an_interrupted_lab_keeps_what_was_trained(lab):
    command = [sys.executable, "-m", "lenet_lab", "lab", "--epochs", "100000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("Epoch:  05"):
            break
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.rstrip().endswith("Interrupted. What was trained stands in logs/.") and "Traceback" not in error
    assert len(read_curve("logs/softmax/run_01", "Loss").steps) >= 50
    assert "Epoch:  05" in text_of(nbformat.read(lab / "executed" / NOTEBOOKS[0], 4))


def test_a_notebook_runs_alone(lab):
    notebook = with_parameters(nbformat.read(lab / "notebooks/3_adam.ipynb", 4), {"epochs": 1})
    run_notebook(notebook, lab / "notebooks", lab / "alone.ipynb")
    tables = [o.data.get("text/markdown", "") for c in code_cells(notebook) for o in c.outputs if "data" in o]
    assert any("| LeNet-5, gradient descent | stand-in digits | 1 " in table for table in tables)
    assert "widgets" not in notebook.metadata and text_of(notebook).count("=====> Loss") == 2
    assert sorted(os.listdir(lab / "logs")) == ["lenet5", "lenet5_adam"]


def test_a_failing_cell_keeps_what_was_done(lab):
    from nbclient.exceptions import CellExecutionError

    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(text) for text in ("print('before')", "1 / 0", "print('after')")]
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        run_notebook(notebook, lab, lab / "failed.ipynb")
    assert text_of(nbformat.read(lab / "failed.ipynb", 4)) == "before\n"


def test_outside_the_lab_the_command_says_where_it_belongs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["lab"]) == 1
    assert "run this in the lab's folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("epochs", ["0", "-1", "many"])
def test_epochs_that_cannot_be_are_refused(epochs, capsys):
    with pytest.raises(SystemExit):
        main(["lab", "--epochs", epochs])
    assert f"'{epochs}' is not a whole number above 0" in capsys.readouterr().err


def table_rows(notebook):
    """The rows of every table that a notebook's cells show, as lists of cells."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    lines = "\n".join(output.get("data", {}).get("text/markdown", "") for output in outputs).splitlines()
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]


def test_the_readmes_figures_are_those_of_the_committed_notebooks():
    readme = (ROOT / "README.md").read_text()
    ours = [line.strip("| ").split("|")[-1].strip() for line in readme.splitlines() if line.startswith("| ")]
    expected = []
    for name in TITLES:
        notebook = nbformat.read(ROOT / "notebooks" / name, 4)
        results = {row[0]: row for row in table_rows(notebook) if len(row) == 8}
        loss, test, seconds = (results[TITLES[name]][column] for column in (3, 6, 7))
        if name == NOTEBOOKS[0]:
            first_loss = re.search(r"Epoch:  01   =====> Loss = (\S+)", text_of(notebook))[1]
            expected += ["9.8%", first_loss, loss, test]
            assert "Accuracy on test-set: 9.8%\n" in text_of(notebook)
        else:
            expected += [test, seconds]
    assert [figure for figure in expected if figure not in ours] == []


@pytest.mark.parametrize("name", NOTEBOOKS[2:])
def test_tables_of_the_experiments_are_those_of_the_committed_results(name):
    notebook = nbformat.read(ROOT / "notebooks" / name, 4)
    names = {"results": read_experiments(ROOT / EXPERIMENTS), "Markdown": str}
    names |= {"accuracy_table": accuracy_table, "comparison_table": comparison_table} | parameters_of(notebook)
    compared = 0
    for cell in code_cells(notebook):
        last = cell.source.splitlines()[-1]
        if last.startswith(("Markdown(accuracy_table(results", "Markdown(comparison_table(results")):
            assert cell.outputs[-1].data["text/markdown"] == eval(last, names), "stale: run make notebooks"
            compared += 1
    assert compared >= 2


def test_the_readmes_means_are_those_of_the_committed_experiments():
    """Each row ends with the name that `make experiments NAMES=` takes, before it the mean and the deviation."""
    results = read_experiments(ROOT / EXPERIMENTS)
    rows = [[cell.strip() for cell in line.split("|")] for line in (ROOT / "README.md").read_text().splitlines()]
    told = {row[-2].strip("`"): row for row in rows if len(row) > 5 and row[-2].strip("`") in results["runs"]}
    lab = parameters_of(nbformat.read(ROOT / "notebooks/5_honest_figures.ipynb", 4))["lab"]
    assert set(told) == {*lab, "beyond"}
    for name, row in told.items():
        values = accuracies(results, name)
        assert len(values) == 5, "the table says five seeds"
        assert row[-3] == f"{values.mean():.2%} ± {values.std(ddof=1):.2%}", name
