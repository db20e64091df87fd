"""The student edition: copies of the notebooks in which nbgrader has replaced the answers by blanks."""

import ast
import hashlib
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.warnings import DuplicateCellId, MissingIDFieldWarning

from lenet_lab.notebooks import not_plain_python
from lenet_lab.paths import LabError, whole_file

STUB = "# YOUR CODE HERE\nraise NotImplementedError"
README = """\
# Student edition

- **To fill in:** the lab's notebooks, with blanks. Write code in place of `raise NotImplementedError`, and text
  in place of `YOUR ANSWER HERE`. The cell that begins with `check` says whether the code above it is right.
- **To open:** install the lab as its [README](../README.md) says, and start `.venv/bin/jupyter lab` in its folder.
  Begin with `1_tensorflow_101.ipynb` in `student/`.
- **To hand in:** in Jupyter, *Run*, *Restart Kernel and Run All Cells*, save. Keep the notebooks' names and the checks;
  new cells are welcome.
"""


def make_student(source: str = "notebooks", out: str = "student") -> list[str]:
    """Write the student edition of a folder's notebooks, and a README for the student.

    In a notebook of the student edition, each blank stands empty, the checks
    can't be edited, and the outputs of both are gone. All else, outputs too, is
    as in the source. The same source gives the same bytes.

    Parameters
    ----------
    source : str, default "notebooks"
        The folder of the notebooks with answers.
    out : str, default "student"
        The folder to write. It is created if it does not exist.

    Returns
    -------
    list of str
        The names of the files that were written: those that are new or changed.

    Raises
    ------
    lenet_lab.paths.LabError
        If a notebook can't be converted, or if someone has changed a cell of the
        one that would be replaced. Nothing is written then.
    OSError
        If a file can't be read or written.
    """
    edition = student_edition(source)
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise LabError(f"{out} is a file, expected a folder; choose another --out")
    old = {name: (folder / name).read_bytes() for name in edition if (folder / name).exists()}
    changed = {name: text for name, text in edition.items() if old.get(name) != text.encode()}
    for name in changed:
        if name in old and name.endswith(".ipynb"):
            _refuse_work(f"{out}/{name}", old[name])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in changed.items():
        with whole_file(folder / name) as part:
            part.write_text(text, "utf-8", newline="\n")
    return sorted(changed)


def student_edition(source: str = "notebooks") -> dict[str, str]:
    """Return the files of the student edition, from their names to their text.

    Parameters
    ----------
    source : str, default "notebooks"
        The folder of the notebooks with answers.

    Raises
    ------
    lenet_lab.paths.LabError
        If there is no notebook, one can't be converted, or nbgrader is not installed.
    """
    paths = sorted(Path(source).glob("*.ipynb"))
    if not paths:
        raise LabError(f"{source}/ has no notebooks, expected the lab's; run this in the lab's folder")
    return {path.name: _without_answers(path.name, path.read_bytes()) for path in paths} | {"README.md": README}


def _without_answers(name: str, text: bytes) -> str:
    """The text of a notebook's student edition."""
    try:
        from nbgrader.preprocessors import ClearSolutions, ComputeChecksums, LockCells
    except ImportError as error:
        raise LabError(
            f"nbgrader can't be imported ({error}); it takes the answers out. Install it: pip install 'nbgrader>=0.9.5'"
        ) from error
    notebook = _read(name, text)
    _check(name, notebook)
    ClearSolutions(code_stub={"python": STUB}).preprocess(notebook, {})
    LockCells().preprocess(notebook, {})  # Jupyter then keeps blanks from being deleted, and checks from being edited
    ComputeChecksums().preprocess(notebook, {})  # shows nbgrader what a student has changed
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type == "code":
            calls_check = _calls_check(_parse(name, number, cell))
            if calls_check or "nbgrader" in cell.metadata:
                cell.outputs, cell.execution_count = [], None
    notebook.metadata.pop("lenet_lab", None)  # it says what made the outputs of the source
    notebook.metadata["lenet_lab_student"] = _hash(notebook)
    return nbformat.writes(notebook) + "\n"


def _hash(notebook: Mapping[str, Any]) -> str:
    """A hash of what stands in the cells, by which a notebook that someone has changed is recognized."""
    sources = ["".join(cell["source"]) for cell in notebook["cells"]]  # in a file, a list of lines
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


def _refuse_work(name: str, text: bytes) -> None:
    """Refuse to replace a notebook whose cells are not as they were written."""
    try:
        notebook = json.loads(text)
        is_as_written = notebook["metadata"].get("lenet_lab_student") == _hash(notebook)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise LabError(f"{name} is not a whole notebook; delete it") from error
    if not is_as_written:
        raise LabError(f"{name} was changed since it was written; move it away, or choose another --out")


def _read(name: str, text: bytes) -> NotebookNode:
    try:
        with warnings.catch_warnings():
            for missing_or_double in (MissingIDFieldWarning, DuplicateCellId):  # they would be replaced at random
                warnings.simplefilter("error", missing_or_double)
            nbformat.validate(json.loads(text), version=4)
            return nbformat.reads(text.decode(), as_version=4)
    except (ValueError, AttributeError, nbformat.ValidationError, Warning) as error:
        why = str(error).splitlines()[0]
        raise LabError(f"{name} is not a notebook of version 4 ({why}); open it in Jupyter and save it") from error


def _check(name: str, notebook: NotebookNode) -> None:
    """Refuse a notebook that has no student edition, with one sentence that names the cell."""
    names: set[str] = set()
    answered = False  # whether there was an answer since the last check
    for number, cell in enumerate(notebook.cells, start=1):
        place = _place(name, number, cell)
        if cell.cell_type == "code":
            _parse(name, number, cell)
        _check_metadata(place, cell)
        _check_region(place, cell)
        marks = cell.metadata.get("nbgrader")
        if marks is None:
            continue
        if marks.grade_id in names:
            raise LabError(f"{place}: another cell has this grade_id too; give each cell its own")
        names.add(marks.grade_id)
        if marks.grade and not marks.solution and not answered:
            raise LabError(f"{place}: a check with no answer since the last check; put the answer's cell before it")
        answered = marks.solution or (answered and not marks.grade)


def _check_metadata(place: str, cell: NotebookNode) -> None:
    from nbgrader.nbgraderformat import MetadataValidator, SchemaTooNewError, SchemaTooOldError, ValidationError

    try:
        MetadataValidator().validate_cell(cell)
    except (ValidationError, SchemaTooNewError, SchemaTooOldError) as error:
        why = str(error).splitlines()[0]
        raise LabError(f"{place}: its nbgrader metadata is wrong ({why}); see nbgrader's schema, version 3") from error


def _check_region(place: str, cell: NotebookNode) -> None:
    """Refuse solution regions that are not closed, not opened, not in an answer, or missing in an answer."""
    is_answer = cell.metadata.get("nbgrader", {}).get("solution", False)
    inside = found = False
    for line in cell.source.splitlines():
        marker = re.search(r"(begin|end)\s+solution", line, re.IGNORECASE)
        if marker and marker[0] not in ("BEGIN SOLUTION", "END SOLUTION"):  # nbgrader would overlook it
            raise LabError(f"{place}: {line.strip()}, expected ### {' '.join(marker[0].upper().split())}")
        if "BEGIN SOLUTION" in line:
            if inside:
                raise LabError(f"{place}: ### BEGIN SOLUTION twice without ### END SOLUTION between them")
            inside = found = True
        elif "END SOLUTION" in line:
            if not inside:
                raise LabError(f"{place}: ### END SOLUTION without ### BEGIN SOLUTION before it")
            inside = False
    if inside:
        raise LabError(f"{place}: ### BEGIN SOLUTION without ### END SOLUTION after it")
    if found and not is_answer:
        raise LabError(f"{place}: a solution in a cell without nbgrader's metadata for an answer (solution: true)")
    if is_answer and not found and cell.cell_type == "code":
        raise LabError(f"{place}: an answer without ### BEGIN SOLUTION and ### END SOLUTION around it")


def _parse(name: str, number: int, cell: NotebookNode) -> ast.Module:
    try:
        return ast.parse(cell.source)
    except SyntaxError as error:
        raise not_plain_python(_place(name, number, cell), error) from error


def _calls_check(code: ast.Module) -> bool:
    """Whether a cell calls a check outside nbgrader's marks; without answers, what it printed would be wrong."""
    return any(
        isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "check"
        for node in ast.walk(code)
    )


def _place(name: str, number: int, cell: NotebookNode) -> str:
    """A cell's place, as in `2_lenet5.ipynb, cell 9 (lenet5)`."""
    grade_id = cell.metadata.get("nbgrader", {}).get("grade_id")
    return f"{name}, cell {number}" + (f" ({grade_id})" if grade_id else "")
