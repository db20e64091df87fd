"""The student edition: what it leaves out and keeps, what is refused, and that nbgrader grades it."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lenet_lab.__main__ import main
from lenet_lab.course import check
from lenet_lab.course.student import make_student, student_edition
from lenet_lab.notebooks import ALL_NOTEBOOKS, NOTEBOOKS
from lenet_lab.paths import LabError

ROOT = Path(__file__).parent.parent
TEACHING = (ROOT / "docs" / "teaching.md").read_text("utf-8")


def marks(grade_id, **marks):
    """A cell's nbgrader metadata, by default those of an answer in code."""
    marks = {"grade": False, "solution": True, "locked": False, "task": False} | marks
    return {"nbgrader": {"schema_version": 3, "grade_id": grade_id} | marks}


def code(source, metadata=None, printed="42\n"):
    return new_code_cell(
        source, execution_count=7, outputs=[new_output("stream", text=printed)], metadata=metadata or {}
    )


def check_cell(name, points):
    return code(
        f"check.{name}(globals())", marks(f"{name}_check", grade=True, solution=False, locked=True, points=points)
    )


PLACEHOLDERS = """\
### BEGIN SOLUTION
with graph.as_default():
    x = tf.placeholder(tf.float32, [None, 784], name="inputs")
    y_true = tf.placeholder(tf.float32, [None, 10], name="labels")
    y_true_cls = tf.argmax(y_true, 1)
### END SOLUTION
print(x)"""
NEXT_PATH = """\
def next_path(path_pattern):
    ### BEGIN SOLUTION
    number = 1
    while os.path.exists(path_pattern % number):
        number += 1
    os.makedirs(path_pattern % number)
    return path_pattern % number
    ### END SOLUTION"""


def small():
    """A notebook in the form of the lab's that trains nothing."""
    cells = [
        new_markdown_cell("# Small"),
        code("import os\nfrom lenet_lab import tf\nfrom lenet_lab.course import check\n\ngraph = tf.Graph()"),
        code(PLACEHOLDERS, marks("placeholders")),
        check_cell("placeholders", 1),
        code(NEXT_PATH, marks("next_path")),
        check_cell("next_path", 2),
        code("check.placeholders(globals())  # without nbgrader's marks"),
        new_markdown_cell("Why?"),
        new_markdown_cell("Because.", metadata=marks("why", grade=True, points=3)),
    ]
    for number, cell in enumerate(cells):
        cell["id"] = f"small-{number}"
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return new_notebook(cells=cells, metadata=kernel | {"lenet_lab": {"made_from": "0" * 64}})


@pytest.fixture
def source(tmp_path, monkeypatch):
    """The folder `notebooks` with the small notebook, in the working directory."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "notebooks"
    folder.mkdir()
    nbformat.write(small(), folder / "small.ipynb")
    return folder


def made(folder="student", name="small.ipynb"):
    return nbformat.read(Path(folder, name), 4)


def fill(notebook, **answers):
    """Put answers in place of the blanks of a notebook of the student edition."""
    for cell in notebook.cells:
        answer = answers.get(cell.metadata.get("nbgrader", {}).get("grade_id"))
        if answer is not None:
            blank = r" *# YOUR CODE HERE\n *raise NotImplementedError|YOUR ANSWER HERE"
            cell.source, count = re.subn(blank, lambda match, answer=answer: answer, cell.source)
            assert count == 1
    return notebook


def solutions(notebook):
    """The answers in a notebook of the lab, by their grade_id."""
    blanks = [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("solution")]
    region = re.compile(r"### BEGIN SOLUTION\n(.*?)\n *### END SOLUTION", re.DOTALL)
    return {
        cell.metadata.nbgrader.grade_id: region.search(cell.source)[1] if cell.cell_type == "code" else cell.source
        for cell in blanks
    }


# What it is


def test_answers_become_blanks_and_all_else_stays(source):
    assert main(["student"]) == 0
    old, new = small().cells, made().cells
    assert new[2].source == "# YOUR CODE HERE\nraise NotImplementedError\nprint(x)"
    assert new[4].source == "def next_path(path_pattern):\n    # YOUR CODE HERE\n    raise NotImplementedError"
    assert new[8].source == "YOUR ANSWER HERE"
    for number in (0, 1, 7):
        assert new[number] == old[number]
    assert [cell.source for cell in new[3:7:2]] == ["check.placeholders(globals())", "check.next_path(globals())"]


def test_a_check_shows_no_output_while_its_blank_is_empty(source):
    make_student()
    cells = made().cells
    for number in (2, 3, 4, 5, 6):
        assert cells[number].outputs == [] and cells[number].execution_count is None
    assert cells[1].outputs[0].text == "42\n"


def test_jupyter_keeps_blanks_from_being_deleted_and_checks_from_being_edited(source):
    make_student()
    answer, check = made().cells[2:4]
    assert answer.metadata["deletable"] is False and "editable" not in answer.metadata
    assert check.metadata["deletable"] is False and check.metadata["editable"] is False


def test_a_student_edition_does_not_claim_the_sources_outputs(source):
    make_student()
    assert set(made().metadata) == {"kernelspec", "lenet_lab_student"}


def test_a_second_call_changes_nothing(source, capsys):
    main(["student"])
    before = {path: path.stat().st_mtime_ns for path in Path("student").iterdir()}
    assert {path.name for path in before} == {"small.ipynb", "README.md"}
    capsys.readouterr()
    main(["student"])
    assert {path: path.stat().st_mtime_ns for path in Path("student").iterdir()} == before
    assert "nothing to change" in capsys.readouterr().out


def test_the_committed_folder_is_made_from_todays_notebooks():
    edition = student_edition(str(ROOT / "notebooks"))
    committed = {path.name: path.read_text("utf-8") for path in (ROOT / "student").glob("*.*") if path.is_file()}
    assert set(edition) == {*ALL_NOTEBOOKS, "README.md"}
    assert committed == edition, "stale: run make student"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_check_that_exists_follows_each_blank_of_the_lab(name):
    waiting = None
    for cell in nbformat.read(ROOT / "notebooks" / name, 4).cells:
        of_nbgrader = cell.metadata.get("nbgrader")
        if of_nbgrader and cell.cell_type == "code":
            if of_nbgrader.solution:
                assert waiting is None, f"no check after {waiting}"
                waiting = of_nbgrader.grade_id
            else:
                called = re.fullmatch(r"check\.(\w+)\(globals\(\)\)", cell.source)
                assert called and hasattr(check, called[1]), cell.source
                waiting = None
    assert waiting is None


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_labs_blanks_filled_with_its_solutions_give_its_notebook_again(name, tmp_path):
    """So the checks pass in the student edition as they do in the lab's notebooks, which test_notebooks.py runs."""
    source = nbformat.read(ROOT / "notebooks" / name, 4)
    make_student(str(ROOT / "notebooks"), str(tmp_path))
    filled = fill(made(tmp_path, name), **solutions(source))

    def code_of(notebook):  # without the markers, which are comments
        return [ast.dump(ast.parse(cell.source)) for cell in notebook.cells if cell.cell_type == "code"]

    assert code_of(filled) == code_of(source)


# What is refused


def break_region(old, new):
    def change(notebook):
        notebook.cells[2].source = notebook.cells[2].source.replace(old, new)

    return change


def change_marks(number, **marks):
    return lambda notebook: notebook.cells[number].metadata.nbgrader.update(marks)


def without_marks(number):
    return lambda notebook: notebook.cells[number].metadata.pop("nbgrader")


def append(source):
    return lambda notebook: notebook.cells.append(new_code_cell(source, id="appended"))


def without_id(notebook):
    del notebook.cells[0]["id"]


WRONG = {
    "not closed": (
        break_region("### END SOLUTION", ""),
        "small.ipynb, cell 3 (placeholders): ### BEGIN SOLUTION without ### END SOLUTION after it",
    ),
    "not opened": (
        break_region("### BEGIN SOLUTION", ""),
        "small.ipynb, cell 3 (placeholders): ### END SOLUTION without ### BEGIN SOLUTION before it",
    ),
    "opened twice": (
        break_region("with graph", "### BEGIN SOLUTION\nwith graph"),
        "small.ipynb, cell 3 (placeholders): ### BEGIN SOLUTION twice without ### END SOLUTION between them",
    ),
    "in lower case": (
        break_region("### BEGIN SOLUTION", "### begin solution"),
        "small.ipynb, cell 3 (placeholders): ### begin solution, expected ### BEGIN SOLUTION",
    ),
    "closed in lower case": (
        break_region("### END SOLUTION", "### End Solution"),
        "small.ipynb, cell 3 (placeholders): ### End Solution, expected ### END SOLUTION",
    ),
    "in lower case without metadata": (
        append("### begin solution\nsecret = 1\n### end solution"),
        "small.ipynb, cell 10: ### begin solution, expected ### BEGIN SOLUTION",
    ),
    "no region": (
        lambda notebook: notebook.cells[2].update(source="x = 1"),
        "small.ipynb, cell 3 (placeholders): an answer without ### BEGIN SOLUTION",
    ),
    "no metadata": (without_marks(2), "small.ipynb, cell 3: a solution in a cell without nbgrader's metadata"),
    "not an answer": (
        change_marks(2, solution=False, locked=True),
        "small.ipynb, cell 3 (placeholders): a solution in a cell without nbgrader's metadata",
    ),
    "same grade_id": (
        change_marks(4, grade_id="placeholders"),
        "small.ipynb, cell 5 (placeholders): another cell has this grade_id too",
    ),
    "no points": (
        lambda notebook: notebook.cells[3].metadata.nbgrader.pop("points"),
        "small.ipynb, cell 4 (placeholders_check): its nbgrader metadata is wrong (",
    ),
    "old metadata": (
        change_marks(3, schema_version=1),
        "small.ipynb, cell 4 (placeholders_check): its nbgrader metadata is wrong (Outdated schema version: 1",
    ),
    "check before answer": (
        lambda notebook: notebook.cells.insert(2, notebook.cells.pop(3)),
        "small.ipynb, cell 3 (placeholders_check): a check with no answer since the last check",
    ),
    "magic": (append("%matplotlib inline"), "small.ipynb, cell 10, line 1, is not plain Python (invalid syntax)"),
    "broken without the answer": (
        break_region(
            "with graph", "if True:\n    pass\n### END SOLUTION\nelse:\n### BEGIN SOLUTION\n    pass\nwith graph"
        ),
        "small.ipynb, cell 3 (placeholders), line 3, is not plain Python (",
    ),
    "no id": (without_id, "small.ipynb is not a notebook of version 4 (Cell is missing an id field"),
}


@pytest.mark.parametrize("change, message", WRONG.values(), ids=list(WRONG))
def test_a_wrong_notebook_is_named_with_its_cell_and_nothing_is_written(change, message, source, capsys):
    notebook = small()
    change(notebook)
    (source / "small.ipynb").write_text(nbformat.v4.writes(notebook), "utf-8")
    nbformat.write(small(), source / "another.ipynb")
    assert main(["student"]) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith(message) and "\n" not in error
    assert not Path("student").exists()


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b"[1]", b'{"nbformat": 3, "nbformat_minor": 0, "worksheets": [], "metadata": {}}', b'{"a": "\xfc"}'],
)
def test_a_file_that_is_no_notebook_is_refused(text, source):
    (source / "small.ipynb").write_bytes(text)
    with pytest.raises(
        LabError, match=r"^small\.ipynb is not a notebook of version 4 \(.+\); open it in Jupyter and save it$"
    ):
        student_edition()


def test_without_notebooks_it_says_where_to_run_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        LabError, match=r"notebooks/ has no notebooks, expected the lab's; run this in the lab's folder"
    ):
        make_student()


def note(notebook):
    notebook.cells[0].source += "\n\nAsk about this."


def answer_in_a_copied_cell(notebook):
    notebook.cells.insert(3, new_code_cell("x = 1", id="copied"))


WORK = {
    "an answer": lambda notebook: fill(notebook, why="So."),
    "an answer without metadata": answer_in_a_copied_cell,
    "a new cell": append("# my notes"),
    "a note in a plain cell": note,
    "a cell less": lambda notebook: notebook.cells.pop(7),
    "from elsewhere": lambda notebook: notebook.metadata.pop("lenet_lab_student"),
}


@pytest.mark.parametrize("work", WORK.values(), ids=list(WORK))
def test_a_students_work_is_never_overwritten(work, source):
    make_student()
    notebook = made()
    work(notebook)
    nbformat.write(notebook, "student/small.ipynb")
    before = Path("student/small.ipynb").read_text("utf-8")
    with pytest.raises(LabError, match=r"student/small\.ipynb was changed since it was written; move it away"):
        make_student()
    assert Path("student/small.ipynb").read_text("utf-8") == before
    make_student(out="another")
    assert made("another").cells[8].source == "YOUR ANSWER HERE"


@pytest.mark.parametrize(
    "text", [b"", b'{"cells": [', b"[]", b"{}", b'{"metadata": {}, "cells": [1]}', b'{"a": "\xfc"}']
)
def test_a_broken_notebook_of_the_student_edition_is_to_be_deleted(text, source):
    make_student()
    Path("student/small.ipynb").write_bytes(text)
    with pytest.raises(LabError, match=r"^student/small\.ipynb is not a whole notebook; delete it$"):
        make_student()
    assert Path("student/small.ipynb").read_bytes() == text


def test_a_file_in_the_place_of_the_folder_is_refused(source, capsys):
    Path("taken").write_text("mine")
    assert main(["student", "--out", "taken"]) == 1
    assert capsys.readouterr().err.strip() == "taken is a file, expected a folder; choose another --out"
    assert Path("taken").read_text() == "mine"


def test_the_readme_names_a_notebook_that_is_there():
    readme = student_edition(str(ROOT / "notebooks"))["README.md"]
    assert f"Begin with `{NOTEBOOKS[0]}`" in readme


def test_an_edition_that_was_only_run_is_replaced_when_the_source_changes(source):
    make_student()
    ran = made()
    ran.cells[1].outputs, ran.cells[1].execution_count = [], 8
    nbformat.write(ran, "student/small.ipynb")
    notebook = small()
    notebook.cells[0].source = "# Still small"
    nbformat.write(notebook, source / "small.ipynb")
    assert make_student() == ["small.ipynb"]
    assert made().cells[0].source == "# Still small"


def test_without_nbgrader_one_sentence_says_what_to_install(source, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "nbgrader.preprocessors", None)
    assert main(["student"]) == 1
    error = capsys.readouterr().err.strip()
    assert error.endswith("Install it: pip install 'nbgrader>=0.9.5'") and "\n" not in error
    assert not Path("student").exists()


# Grading


@pytest.fixture
def nbgrader(tmp_path, monkeypatch):
    """Call nbgrader in the working directory, with the settings that docs/teaching.md gives and no others."""
    # nbgrader looks for `alembic`, which it needs, on the path.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path / "jupyter"))
    (tmp_path / "nbgrader_config.py").write_text(re.search(r"```python\n(.*?)```", TEACHING, re.DOTALL)[1])

    def call(*arguments):
        done = subprocess.run([sys.executable, "-m", "nbgrader", *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call


def test_nbgrader_marks_right_and_wrong_answers(source, nbgrader):
    from nbgrader.api import Gradebook

    make_student()
    for folder in ("source/lab", "submitted/right/lab", "submitted/wrong/lab"):
        Path(folder).mkdir(parents=True)
    nbformat.write(small(), "source/lab/small.ipynb")
    nbgrader("generate_assignment", "lab")
    # nbgrader's own release has the same cells, only without outputs.
    released, ours = made("release/lab"), made()
    for cell in ours.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    assert released.cells == ours.cells

    nbformat.write(fill(made(), **solutions(small())), "submitted/right/lab/small.ipynb")
    placeholders = solutions(small())["placeholders"]
    wrong = fill(made(), placeholders=placeholders, next_path="    return path_pattern")
    wrong.cells[5].source = "print('Right: trust me.')"
    nbformat.write(wrong, "submitted/wrong/lab/small.ipynb")
    nbgrader("autograde", "lab")
    with Gradebook("sqlite:///gradebook.db") as gradebook:
        graded = {
            student: {
                grade.name: (grade.auto_score, grade.needs_manual_grade)
                for grade in gradebook.find_submission_notebook("small", "lab", student).grades
            }
            for student in ("right", "wrong")
        }
    assert graded == {
        "right": {"placeholders_check": (1, False), "next_path_check": (2, False), "why": (None, True)},
        "wrong": {"placeholders_check": (1, False), "next_path_check": (0, False), "why": (0, False)},
    }


def test_nbgrader_validate_says_what_is_missing_and_only_that(source, nbgrader):
    make_student()
    nbformat.write(fill(made(), placeholders=solutions(small())["placeholders"]), "half.ipynb")
    said = nbgrader("validate", "half.ipynb")
    assert said.startswith("VALIDATION FAILED ON 2 CELL(S)!")
    assert re.findall(r"Not yet: \w+|You did not \w+", said) == ["Not yet: next_path", "You did not provide"]
    assert "Traceback" not in said


# The teacher's page


def test_the_teachers_page_has_the_points_of_the_notebooks():
    for name in NOTEBOOKS:
        cells = nbformat.read(ROOT / "notebooks" / name, 4).cells
        of_nbgrader = [cell.metadata.nbgrader for cell in cells if "nbgrader" in cell.metadata]
        blanks = sum(cell.solution for cell in of_nbgrader)
        by_checks = sum(cell.points for cell in of_nbgrader if cell.grade and not cell.solution)
        by_hand = sum(cell.points for cell in of_nbgrader if cell.grade and cell.solution)
        assert f"(../student/{name}) | {blanks} | {by_checks} | {by_hand} |" in TEACHING


def test_the_teachers_page_quotes_todays_checks():
    texts = [
        node.value
        for path in (ROOT / "lenet_lab" / "course").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    rows = TEACHING.partition("| the check says |")[2].partition("\n\n")[0].splitlines()[2:]
    quoted = [part.strip() for row in rows for part in row.split(" | ")[0].strip("| ").split("…") if part.strip(" ,")]
    assert len(quoted) > 20
    assert not [part for part in quoted if not any(part in text for text in texts)]


# The doctor


def stop(error):
    def run(epochs):
        raise error

    return run


def test_a_lab_that_fails_names_the_doctor(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("notebooks").mkdir()
    for name in NOTEBOOKS:
        cells = [
            new_code_cell("epochs = 1", metadata={"tags": ["parameters"]}),
            new_code_cell("import os\nos._exit(1)"),
        ]
        nbformat.write(new_notebook(cells=cells), Path("notebooks", name))
    assert main(["lab"]) == 1
    error = capsys.readouterr().err
    assert "The process that ran the notebook was killed" in error
    assert error.rstrip().endswith("python -m lenet_lab doctor looks for the cause on this machine.")


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_names_the_doctor_where_not_even_the_package_can_be_imported(tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    command = ["make", "-C", ROOT, "-o", ".venv/installed", "lab", f"IN={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0 and "make doctor looks for the cause on this machine." in done.stderr


@pytest.mark.parametrize(
    "error, named", [(CellExecutionError("1 / 0", "ZeroDivisionError", ""), True), (KeyboardInterrupt(), False)]
)
def test_the_doctor_is_named_after_a_failure_but_not_after_ctrl_c(error, named, monkeypatch, capsys):
    monkeypatch.setattr("lenet_lab.__main__.run_lab", stop(error))
    assert main(["lab"]) != 0
    assert ("lenet_lab doctor" in capsys.readouterr().err) is named


def test_a_commands_own_exit_status_is_the_processs(monkeypatch):
    monkeypatch.setattr("lenet_lab.course.doctor.examine", lambda: 1)
    assert main(["doctor"]) == 1
