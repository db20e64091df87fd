"""The notebooks are thin, committed with fresh outputs from MNIST, and run from top to bottom."""

import ast
import inspect
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import nbformat
import pytest
from set_repository import set_repository

from lenet_lab import notebooks
from lenet_lab.__main__ import main
from lenet_lab.analysis import freshness
from lenet_lab.analysis.events import read_curve
from lenet_lab.analysis.freshness import code_hash
from lenet_lab.beyond.experiments import accuracy_table, comparison_table, read_experiments
from lenet_lab.course.student import STUB
from lenet_lab.notebooks import (
    ALL_NOTEBOOKS,
    EXTRA_NOTEBOOKS,
    NOTEBOOKS,
    made_from,
    parameters_of,
    run_notebook,
    with_parameters,
)
from lenet_lab.paths import EXPERIMENTS, LabError

ROOT = Path(__file__).parent.parent
TITLES = dict(
    zip(
        NOTEBOOKS[:4],  # the lab's own; the others show experiments/results.json
        ("softmax, gradient descent", "LeNet-5, gradient descent", "LeNet-5, Adam", "LeNet-5, Adam, dropout"),
        strict=True,
    )
)


@pytest.fixture(params=ALL_NOTEBOOKS)
def committed(request):
    return nbformat.read(ROOT / "notebooks" / request.param, 4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text_of(notebook):
    """Everything that a notebook's cells printed."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def test_no_function_or_class_is_defined_in_a_notebook(committed):
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    for cell in code_cells(committed):
        assert not [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, defined)], cell.source


def test_committed_outputs_are_of_these_sources(committed):
    assert committed.metadata["lenet_lab"]["made_from"] == made_from(committed), "stale: run make notebooks"


def test_committed_outputs_are_complete_and_in_order(committed):
    cells = code_cells(committed)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [o for cell in cells for o in cell.outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert "WARNING" not in text_of(committed)  # TensorFlow's go to standard output in a notebook


def test_committed_outputs_are_of_mnist(committed):
    printed = text_of(committed)
    assert "Data: MNIST\n" in printed and "stand-in" not in printed


@pytest.mark.parametrize("committed", TITLES, indirect=True)
def test_committed_trainings_use_the_labs_settings(committed):
    printed = text_of(committed)
    softmax = "softmax" in committed.cells[0].source
    expected = {"epochs": 50, "batch_size": 100, "learning_rate": 0.01} if softmax else {
        "epochs": 40, "batch_size": 128, "learning_rate": 0.001
    }  # fmt: skip
    assert expected.items() <= parameters_of(committed).items()
    assert f"Epoch:  {expected['epochs']}   =====> Loss = " in printed


def test_committed_outputs_name_no_path_on_the_machine_that_made_them(committed):
    text = nbformat.writes(committed)
    assert str(ROOT.parent) + os.sep not in text
    assert not re.search(r"(/home/|/root/|/tmp/|/Users/|[A-Z]:\\\\)", text)


def test_the_labs_figures_are_committed():
    names = {path.name for path in (ROOT / "MNIST_figures").iterdir()}
    lab = "Accuracy.svg Loss.svg model1.png Accuracy_1.svg Loss_1.svg acc.svg loss.svg time.svg lenet5.svg"
    assert set(lab.split()) <= names


def test_the_code_that_a_notebook_shows_is_todays(committed):
    statements = [statement for cell in code_cells(committed) for statement in ast.parse(cell.source).body]
    imports = [statement for statement in statements if isinstance(statement, ast.Import | ast.ImportFrom)]
    names = {}
    exec(compile(ast.Module(imports, []), "the notebook's imports", "exec"), names)
    for cell in code_cells(committed):
        last = ast.parse(cell.source).body[-1]
        if isinstance(last, ast.Expr) and ast.unparse(last).startswith("show_source("):
            shown = eval(ast.unparse(last), names).data
            assert cell.outputs[-1].data["text/markdown"] == shown, "stale: run make notebooks"


# What every notebook has


def test_a_notebook_opens_with_what_one_can_do_needs_and_how_long_it_takes(committed):
    opening = committed.cells[0].source
    assert re.search(r"^- \*\*At the end, you can\*\* .+\.$", opening, re.MULTILINE)
    assert re.search(r"^- \*\*You need\*\* .+\.$", opening, re.MULTILINE)
    time = re.search(
        r"^- \*\*Time:\*\* about (\d+) minutes to read, (\d+) (second|minute)s? to run", opening, re.MULTILINE
    )
    prose = " ".join(cell.source for cell in committed.cells if cell.cell_type == "markdown")
    code = "\n".join(cell.source for cell in code_cells(committed))
    reading = len(prose.split()) / 120 + len(code.splitlines()) / 20  # minutes, at an unhurried pace
    assert 0.7 < int(time[1]) / reading < 1.5, f"it reads in about {reading:.0f} minutes"
    seconds = int(time[2]) * (60 if time[3] == "minute" else 1)
    measured = committed.metadata["lenet_lab"]["seconds"]
    assert 0.6 < seconds / measured < 1.7, f"it ran in {measured} s"


def test_each_blank_has_a_name_and_a_check_after_it(committed):
    cells = committed.cells
    names = [cell.metadata.nbgrader.grade_id for cell in cells if "nbgrader" in cell.metadata]
    assert len(names) == len(set(names))
    for cell, following in itertools.pairwise(cells):
        grading = cell.metadata.get("nbgrader")
        if cell.cell_type == "code" and "### BEGIN SOLUTION" in cell.source:
            assert grading.solution and not grading.grade
            assert re.fullmatch(r"check\.\w+\(globals\(\)\)", following.source) and following.metadata.nbgrader.grade
        elif cell.cell_type == "markdown" and grading:
            assert grading.solution and grading.grade and grading.points > 0


def test_every_check_accepts_the_committed_solution(committed):
    checks = [cell for cell in code_cells(committed) if cell.source.startswith("check.")]
    assert all(cell.outputs[0].text.startswith("Right: ") for cell in checks)


# The first cell, which installs the package where it is missing


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A Python without lenet_lab, and a repository that it can be installed from, without what it depends on."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    packages = Path(
        subprocess.check_output([python, "-c", "import site; print(site.getsitepackages()[-1])"], text=True).strip()
    )
    ours = Path(distribution("pip").locate_file(""))
    for path in itertools.chain.from_iterable(map(ours.glob, ("pip*", "setuptools*", "_distutils_hack"))):
        (packages / path.name).symlink_to(path)
    source = folder / "source"
    kept = shutil.ignore_patterns("__pycache__")
    for name in ("lenet_lab", "notebooks"):
        shutil.copytree(ROOT / name, source / name, ignore=kept)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "."],
    ):
        subprocess.run(["git", *command], cwd=source, check=True)
    return python, source


FIRST_CELL = code_cells(nbformat.read(ROOT / "notebooks" / NOTEBOOKS[0], 4))[0].source
INSTALLED = "\nprint(importlib.util.find_spec('lenet_lab').origin, os.getcwd(), sep='\\n')"


def run_first_cell(python, folder, source, before="", after=""):
    settings = {"LENET_LAB_SOURCE": source, "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0"}
    command = [python, "-I", "-c", before + FIRST_CELL + after]
    return subprocess.run(command, cwd=folder, env=os.environ | settings, capture_output=True, text=True)


def test_every_notebook_begins_with_the_same_first_cell(committed):
    assert committed.cells[1].source == FIRST_CELL and committed.cells[1].outputs == []


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_first_cell_installs_the_package_in_a_folder_without_the_repository(bare, tmp_path):
    python, source = bare
    missing = run_first_cell(python, tmp_path, "")
    assert missing.stderr.splitlines()[-1].startswith(
        "ModuleNotFoundError: lenet_lab is not installed; LENET_LAB_SOURCE"
    )
    assert list(tmp_path.iterdir()) == []
    # On Colab, other versions of NumPy and TensorFlow are in use already, so the runtime has to restart.
    colab = (
        "import sys, types\nsys.modules['numpy'] = None\n"
        "def get_ipython(): return types.SimpleNamespace(kernel=types.SimpleNamespace(do_shutdown=print))\n"
    )
    first = run_first_cell(python, tmp_path, source.as_uri(), before=colab, after=INSTALLED)
    assert first.stdout.splitlines()[0] == "Installed. The runtime restarts now. Then choose Run all again.", (
        first.stderr
    )
    shutil.rmtree(source)  # what is installed is not fetched again
    second = run_first_cell(python, tmp_path, source.as_uri(), after=INSTALLED)
    installed, folder = second.stdout.splitlines()
    assert "site-packages" in installed
    assert Path(folder) == (tmp_path / "lab/notebooks").resolve()


def test_the_address_of_the_repository_goes_into_badges_and_first_cells(tmp_path, monkeypatch):
    monkeypatch.setattr("set_repository.ALL_NOTEBOOKS", NOTEBOOKS[4:5])  # the others take longer, and are alike
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    shutil.copy(ROOT / "README.md", tmp_path)
    for repository in ("ada/lab", "grace/lenet_lab.git"):  # the second call replaces what the first one wrote
        set_repository(repository, tmp_path)
    readme = (tmp_path / "README.md").read_text()
    assert "github.com/grace/lenet_lab/actions/workflows/tests.yml/badge.svg" in readme and "ada/lab" not in readme
    for name in NOTEBOOKS[4:5]:
        notebook = nbformat.read(tmp_path / "notebooks" / name, 4)
        assert f"/github/grace/lenet_lab/blob/main/notebooks/{name})" in notebook.cells[0].source
        assert f"/v2/gh/grace/lenet_lab/main?urlpath=lab/tree/notebooks/{name})" in notebook.cells[0].source
        assert '"https://github.com/grace/lenet_lab")' in notebook.cells[1].source
        assert notebook.metadata["lenet_lab"]["made_from"] == made_from(notebook)
        assert "ada/lab" not in nbformat.writes(notebook)
    for wrong in ("lenet_lab", "a/b/c", "https://github.com/a/b", "a/b c", "a/..", "a/.git", "a_b/c", "-a/b", "ä/b"):
        with pytest.raises(SystemExit, match="is no repository on GitHub, expected OWNER/NAME"):
            set_repository(wrong, tmp_path)
    assert inspect.signature(set_repository).parameters["folder"].default == ROOT  # wherever it is called


# Freshness: which changes of a small package make a notebook stale.

CELLS = ["from small import train\nfigures = 'figures'", "print(train([1, 2]))"]
SMALL_PACKAGE = {
    "__init__.py": "from small.training import train\n",
    "training.py": '''"""Trains."""

import math
from small.points import Point

RATE = 0.1


def train(images: list, rate: float = 0.5) -> float:
    """Trains on images."""
    total = 0
    weights: list = []
    for image in images:
        total += image * rate  # one step
        weights.append([image + total for other in weights])
    pairs = [image for image in weights if (size := len(weights))], size
    if total < 0:
        raise ValueError(f"total is {total}, expected 0 or more")
    if total > 9:
        raise ValueError("too large: " + str(total))
    if total > 8:
        raise ValueError("large: %s" % total)
    if total > 7:
        raise ValueError("total is {}, expected less".format(total))
    assert weights, "no images"
    try:
        first, last = weights[0], weights[-1]
    except IndexError as error:
        print(error)
    match weights:
        case [single]:
            print(single)

    calls = 0

    def show():
        nonlocal calls
        calls = calls + 1
        return f"{total:.2f}"

    return math.sqrt(total + RATE), show(), first, last, finish(), pairs, Point(1, 2)


def finish():
    from small import late

    return late.end()
''',
    "points.py": "from typing import NamedTuple\n\n\nclass Point(NamedTuple):\n    x: int\n    y: float = 2.0\n",
    "late.py": "from .deep import below\n\n\ndef end():\n    return below.VALUE\n",
    "deep/__init__.py": "DEPTH = 1\n",
    "deep/below.py": "from .. import relative\n\nVALUE = 1\n",
    "relative.py": "VALUE = 2\n",
    "unused.py": "VALUE = 3\n",
}


@pytest.fixture
def small_package(tmp_path):
    for name, source in SMALL_PACKAGE.items():
        (tmp_path / "small" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "small" / name).write_text(source)
    return tmp_path / "small"


def change(package, name, old, new):
    source = (package / name).read_text()
    assert old in source and old != new
    (package / name).write_text(source.replace(old, new))


@pytest.mark.parametrize(
    "old, new",
    [
        pytest.param("total", "summed", id="a local that a nested function uses"),
        pytest.param("image ", "picture ", id="a loop's variable"),
        pytest.param("other", "_", id="a comprehension's variable"),
        pytest.param("[image for image in", "[pair for pair in", id="a comprehension's variable named like another"),
        pytest.param("size", "length", id="a variable assigned in a comprehension"),
        pytest.param("error", "problem", id="a caught exception"),
        pytest.param("single", "only", id="a name in a match"),
        pytest.param("first, last", "front, back", id="two locals"),
        pytest.param("# one step", "# a step", id="a comment"),
        pytest.param('"""Trains on images."""', '"""Trains.\n\n    On images.\n    """', id="a function's docstring"),
        pytest.param('    """Trains on images."""\n', "", id="a docstring left out"),
        pytest.param('"""Trains."""', '"""Trains a model."""', id="a module's docstring"),
        pytest.param("is {total}, expected 0 or more", "is negative: {total}", id="an error's message"),
        pytest.param("total is {}, expected less", "{} is too much", id="an error's message by format"),
        pytest.param('"large: %s"', '"much: %s"', id="an error's message by %"),
        pytest.param("too large: ", "too much: ", id="an error's message by +"),
        pytest.param("no images", "images are missing", id="an assertion's message"),
        pytest.param("images: list,", "images: tuple[int, ...],", id="a parameter's annotation"),
        pytest.param("-> float:", "-> tuple:", id="a result's annotation"),
        pytest.param("weights: list = []", "weights = []", id="a local's annotation"),
        pytest.param("import math\n", "import math\nfrom typing import Any\n", id="an import for annotations"),
        pytest.param(
            "import math\n",
            "import math\nfrom typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from small import unused\n",
            id="an import for type checkers",
        ),
        pytest.param("RATE = 0.1", "RATE   =   (0.1)\n\n", id="layout"),
        pytest.param("RATE = 0.1", "RATE = 0.1\n__version__ = '2.0'", id="the version"),
        pytest.param("    print(error)", "    pass\n        print(error)", id="a pass"),
    ],
)
def test_a_change_that_computes_the_same_keeps_a_notebook_fresh(small_package, old, new):
    before = code_hash(CELLS, small_package)
    change(small_package, "training.py", old, new)
    ast.parse((small_package / "training.py").read_text())
    assert code_hash(CELLS, small_package) == before


@pytest.mark.parametrize(
    "name, old, new",
    [
        pytest.param("training.py", "total = 0", "total = 1", id="a constant"),
        pytest.param("training.py", "total = 0\n", "total = False\n", id="a constant's type"),
        pytest.param("training.py", "image * rate", "image / rate", id="an operator"),
        pytest.param("training.py", "image * rate", "rate * image", id="the order of operands"),
        pytest.param("training.py", "[image + total ", "[image + image ", id="which local is used"),
        pytest.param("training.py", "= weights[0], weights[-1]", "= weights[-1], weights[0]", id="roles of two locals"),
        pytest.param("training.py", "show(), first, last", "show(), last, first", id="two locals swapped"),
        pytest.param("training.py", "math.sqrt", "math.exp", id="a call"),
        pytest.param("training.py", "rate: float = 0.5", "rate: float = 0.6", id="a default"),
        pytest.param("training.py", "images", "pictures", id="a parameter's name"),
        pytest.param("training.py", "RATE", "SPEED", id="a global's name"),
        pytest.param("training.py", "nonlocal calls", "global calls", id="the scope of a variable"),
        pytest.param("training.py", "ValueError(", "TypeError(", id="an error's type"),
        pytest.param("training.py", ":.2f", ":.3f", id="a format"),
        pytest.param("training.py", "case [single]", "case [single, *_]", id="a pattern"),
        pytest.param("points.py", "x: int", "z: int", id="a field's name"),
        pytest.param("points.py", "x: int", "x: float", id="a field's type"),
        pytest.param("points.py", "    x: int\n", "", id="a field left out"),
        pytest.param("late.py", "below.VALUE", "-below.VALUE", id="a module imported in a function"),
        pytest.param("deep/__init__.py", "1", "2", id="the package around a module"),
        pytest.param("deep/below.py", "VALUE = 1", "VALUE = 2", id="a module imported by a relative name"),
        pytest.param("relative.py", "2", "3", id="a module imported from the folder above"),
    ],
)
def test_a_change_of_the_computation_makes_a_notebook_stale(small_package, name, old, new):
    before = code_hash(CELLS, small_package)
    change(small_package, name, old, new)
    ast.parse((small_package / name).read_text())
    assert code_hash(CELLS, small_package) != before


NONLOCALS = "n, m = 1, 2\n    b(lambda: (n, m))\n    def g():\n        nonlocal n, m\n        "
IMPORTS = "import os as n, sys as m\n    "
INNER = "def n(): return 1\n    def m(): return 2\n    "


@pytest.mark.parametrize(
    "one, other",
    [
        pytest.param("return [x for x in x]", "return [y for y in y]", id="a comprehension over a global"),
        pytest.param("[(y := x) for x in a]\n    return y", "[(z := x) for x in a]\n    return y", id="a walrus"),
        pytest.param("n = 1\n    return locals()", "m = 1\n    return locals()", id="locals()"),
        pytest.param("n = 1\n    return f'{n=}'", "m = 1\n    return f'{m=}'", id="a name shown by an f-string"),
        pytest.param("global n, m\n    n = 1", "global n, m\n    m = 1", id="a global that is assigned"),
        pytest.param("g = lambda: n\n    return g", "g = lambda: m\n    return g", id="a global in a lambda"),
        pytest.param("g = lambda: (n := a)\n    return n", "g = lambda: (m := a)\n    return m", id="a global beside"),
        pytest.param("a = 1\n    return a", "b = 1\n    return b", id="a parameter that is assigned"),
        pytest.param("n = 1\n    class C: n = 2", "m = 1\n    class C: m = 2", id="a class field"),
        pytest.param("return [lambda n: n for n in a]", "return [lambda n: m for m in a]", id="a lambda's parameter"),
        pytest.param(NONLOCALS + "n = 3", NONLOCALS + "m = 3", id="a variable of the function around"),
        pytest.param(
            IMPORTS + "for n in a: b()\n    return n",
            IMPORTS + "for m in a: b()\n    return m",
            id="an imported name, assigned",
        ),
        pytest.param(
            INNER + "for n in a: b()\n    return n",
            INNER + "for m in a: b()\n    return m",
            id="a function's name, assigned",
        ),
        pytest.param("return lambda *, k: k", "return lambda *, k=None: k", id="a default of None"),
        pytest.param("return {None: a}", "return {**a}", id="a key of None"),
    ],
)
def test_functions_that_compute_something_else_have_other_hashes(small_package, one, other):
    hashes = {code_hash([f"def f(a, b):\n    {body}"], small_package) for body in (one, other)}
    assert len(hashes) == 2


def test_a_module_that_a_notebook_does_not_import_leaves_it_fresh(small_package):
    before, alone = code_hash(CELLS, small_package), code_hash(["print(1)"], small_package)
    change(small_package, "unused.py", "3", "4")
    assert code_hash(CELLS, small_package) == before
    for name in SMALL_PACKAGE:
        (small_package / name).write_text("other = 1")
    assert code_hash(["print(1)"], small_package) == alone


@pytest.mark.parametrize(
    "cells",
    [
        [CELLS[0], "print(train([1, 3]))"],
        [CELLS[0].replace("'figures'", "'pictures'"), CELLS[1]],
        [CELLS[0].replace("figures =", "folder ="), CELLS[1]],
        CELLS[:1],
        ["\n".join(CELLS)],
        [CELLS[0], "'a text that is shown'\n" + CELLS[1]],
    ],
    ids=["a constant", "a parameter", "a parameter's name", "a cell less", "cells joined", "a text"],
)
def test_a_changed_cell_makes_a_notebook_stale(small_package, cells):
    assert code_hash(cells, small_package) != code_hash(CELLS, small_package)


def test_a_comment_in_a_cell_keeps_a_notebook_fresh(small_package):
    assert code_hash([CELLS[0], "# Train.\n" + CELLS[1]], small_package) == code_hash(CELLS, small_package)


def test_a_syntax_error_names_the_module_or_the_cell(small_package):
    with pytest.raises(SyntaxError) as caught:
        code_hash([CELLS[0], "%matplotlib inline"], small_package)
    assert (caught.value.filename, caught.value.lineno) == ("code cell 2", 1)
    (small_package / "late.py").write_text("\ndef end(:\n")
    with pytest.raises(SyntaxError) as caught:
        code_hash(CELLS, small_package)
    assert (caught.value.filename, caught.value.lineno) == (str(small_package / "late.py"), 2)


def test_a_notebook_is_made_from_its_code_cells_and_the_package(committed, monkeypatch, small_package):
    cells = [cell.source for cell in code_cells(committed)]
    before = made_from(committed)
    assert before == code_hash(cells, Path(notebooks.__file__).parent) != code_hash(cells, small_package)
    committed.cells[0].source += " More prose."
    assert made_from(committed) == before
    code_cells(committed)[-1].source += "\nprint()"
    assert made_from(committed) != before
    code_cells(committed)[0].source = "!pip list"
    with pytest.raises(LabError, match=r"^code cell 1, line 1, is not plain Python .*% and ! commands$"):
        made_from(committed)


def other_python(version):
    """Another installed Python's command, or None."""
    beside = Path(sys.base_prefix).parent.glob(f"*/bin/{version}")  # as pyenv and uv install them
    for command in filter(None, [shutil.which(version), *map(str, sorted(beside))]):
        if subprocess.run([command, "-c", ""], capture_output=True).returncode == 0:
            return command
    return None


ODD_SYNTAX = r"""
def odd(x, width, *rest, **more):
    a = f"{x:{width}}" f'{x!r:>{width}.2f}' u"b" f"{x = :>5}" rf"\d{x:}" f"{{{x}}}" f"{x:%H:%M}" f"{(lambda: 1)()}"
    match x:
        case {"k": value, **others}: return value, others
        case [first, *middle] | (first, *middle) if (size := len(middle)) > 1: return first, size
        case str(text) | bytes() as text: return text
        case None | -1 | 1 + 2j: pass
    with open(x) as one, (open(x)) as two: pass
    try: first, *others = rest
    except (ValueError, TypeError) as error: raise KeyError("no", 1) from error
    finally: del a
    return [*rest, 1], {**more, 1: 1e400}, x[1:2, ::3, ...], {i: j for i, j in more if i}, lambda q, /, r=1, *, s: q
async def wait(x: int, *, y: "str" = "\u0378\U0001FAE8") -> None:
    async with x as one: return [i async for i in one if await i]
"""


@pytest.mark.parametrize("version", [f"python3.{minor}" for minor in range(10, 14) if minor != sys.version_info.minor])
def test_the_hash_is_the_same_on_every_python(tmp_path, version):
    python = other_python(version)
    if python is None:
        pytest.skip(f"no {version} here")
    package = Path(notebooks.__file__).parent
    cells = [ODD_SYNTAX, *(f"import lenet_lab.{path.stem}" for path in package.glob("*.py"))]
    program = (
        "import json, pathlib, runpy, sys\n"
        "code_hash = runpy.run_path(sys.argv[1])['code_hash']\n"
        "print(code_hash(json.load(sys.stdin), pathlib.Path(sys.argv[2])))"
    )
    command = [python, "-I", "-c", program, freshness.__file__, str(package)]
    done = subprocess.run(command, input=json.dumps(cells), capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == code_hash(cells, package), done.stderr


# Running


def test_parameters_need_a_cell_to_stand_in():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("epochs = 1")])
    with pytest.raises(LabError, match="no cell tagged 'parameters'"):
        with_parameters(notebook, {"epochs": 2})


def test_a_notebook_that_does_not_exist_is_refused_in_one_line(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert main(["notebooks", "7_none.ipynb"]) == 1
    error = capsys.readouterr().err
    known = ", ".join(ALL_NOTEBOOKS)
    assert error.strip() == f"there is no notebook '7_none.ipynb'; choose from {known}"


@pytest.fixture
def lab(tmp_path, small_folder, monkeypatch):
    """A copy of the lab's folder, with the notebooks and small data."""
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    monkeypatch.setenv("LENET_LAB_DATA", str(small_folder))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_whole_lab_runs_and_ends_with_a_table_of_results(lab):
    before = {path: path.read_bytes() for path in (lab / "notebooks").iterdir()}
    command = [sys.executable, "-m", "lenet_lab", "lab", "--epochs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == ".venv/bin/tensorboard --logdir logs --host localhost"
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[-6:-2]]
    assert [(row[0], row[1], row[2]) for row in table] == [(title, "stand-in digits", "1") for title in TITLES.values()]
    assert "100%" in done.stderr  # the progress bar
    assert "WARNING" not in done.stdout
    assert before == {path: path.read_bytes() for path in (lab / "notebooks").iterdir()}
    assert not (lab / "MNIST_figures").exists()
    figures = {path.name for path in (lab / "executed/MNIST_figures/stand-in_digits").iterdir()}
    assert {"Accuracy.svg", "Loss_1.svg", "time.svg", "loss_dropout.svg", "mistakes.png"} <= figures
    assert sorted(path.name for path in (lab / "executed").glob("*.ipynb")) == list(NOTEBOOKS)
    for name in NOTEBOOKS:
        executed = nbformat.read(lab / "executed" / name, 4)
        assert "*** MNIST" not in text_of(executed)  # the data was chosen, so nothing warns about a fallback


@pytest.mark.slow
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
    assert error.rstrip().endswith("Interrupted. What was trained is in logs/.") and "Traceback" not in error
    assert len(read_curve("logs/softmax/run_01", "Loss").steps) >= 50
    assert "Epoch:  05" in text_of(nbformat.read(lab / "executed" / NOTEBOOKS[0], 4))


def test_a_notebook_runs_alone(lab):
    notebook = with_parameters(nbformat.read(lab / "notebooks/3_adam.ipynb", 4), {"epochs": 1})
    run_notebook(notebook, lab / "notebooks", lab / "alone.ipynb")
    tables = [o.data.get("text/markdown", "") for c in code_cells(notebook) for o in c.outputs if "data" in o]
    assert any("| LeNet-5, gradient descent | stand-in digits | 1 " in table for table in tables)
    assert "widgets" not in notebook.metadata and text_of(notebook).count("=====> Loss") == 2
    assert sorted(os.listdir(lab / "logs")) == ["lenet5", "lenet5_adam"]


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.skipif(sys.platform != "linux", reason="TensorFlow's servers can be bound to the loopback on Linux only")
def test_the_notebook_on_many_machines_loses_nothing_to_a_dead_worker(lab):
    notebook = nbformat.read(lab / "notebooks" / EXTRA_NOTEBOOKS[0], 4)
    with_parameters(
        notebook, {"steps": 20, "asynchronous": [2], "batch_sizes": [64, 128], "repeats": 1, "workers": [0, 2]}
    )
    run_notebook(notebook, lab / "notebooks", lab / "many.ipynb")
    printed = text_of(notebook)
    assert "Data: stand-in digits\n" in printed
    assert "Largest difference between the losses of a step: 0.0\n" in printed
    assert "ConnectionError: /job:worker/task:1 of the cluster at grpc://localhost:" in printed
    assert "Same losses as without the failure: True\n" in printed
    tables = [o.data.get("text/markdown", "") for c in code_cells(notebook) for o in c.outputs if "data" in o]
    (table,) = [table.splitlines() for table in tables if "| bytes a step |" in table]
    assert [row.split("|")[1].strip() for row in table[2:]] == ["one process"] * 2 + ["2"] * 2


ANSWERS = json.loads((ROOT / "tests/golden/student_answers.json").read_text())  # written from the blanks' text alone


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ANSWERS if name != "3_adam.ipynb"])  # it only uses the package
def test_a_student_who_fills_in_the_blanks_passes_every_check(name, lab):
    notebook = nbformat.read(ROOT / "student" / name, 4)
    blanks = {cell.metadata.get("nbgrader", {}).get("grade_id"): cell for cell in code_cells(notebook)}
    for grade_id, answer in ANSWERS[name].items():
        blanks[grade_id].source = blanks[grade_id].source.replace(STUB, answer)
    assert not [cell for cell in code_cells(notebook) if STUB in cell.source]
    run_notebook(with_parameters(notebook, {"epochs": 1}), lab / "notebooks", lab / "filled.ipynb")
    checks = [cell for cell in code_cells(notebook) if cell.source.startswith("check.")]
    assert len(checks) >= len(ANSWERS[name])
    assert all(cell.outputs[0].text.startswith("Right: ") for cell in checks)


def test_when_a_cell_fails_the_earlier_outputs_are_kept(lab):
    from nbclient.exceptions import CellExecutionError

    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(text) for text in ("print('before')", "1 / 0", "print('after')")]
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        run_notebook(notebook, lab, lab / "failed.ipynb")
    assert text_of(nbformat.read(lab / "failed.ipynb", 4)) == "before\n"


def test_outside_the_labs_folder_the_command_says_where_to_run_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["lab"]) == 1
    assert "run this in the lab's folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("epochs", ["0", "-1", "many"])
def test_a_number_of_epochs_that_is_not_positive_is_refused(epochs, capsys):
    with pytest.raises(SystemExit):
        main(["lab", "--epochs", epochs])
    assert f"'{epochs}' is not a whole number above 0" in capsys.readouterr().err


@pytest.mark.parametrize("name", NOTEBOOKS[2:])
def test_the_notebooks_tables_show_the_committed_results_of_the_experiments(name):
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
