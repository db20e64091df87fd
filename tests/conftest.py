"""What the tests share: data, and the table of the long tests of reliability."""

import os
import re
from pathlib import Path

import browser
import pytest
import setuptools  # noqa: F401 - nbgrader imports it, which fails late in a run, after other tests' imports

from lenet_lab import input_data
from lenet_lab.analysis.tables import markdown_table
from lenet_lab.data import standin

ROOT = Path(__file__).parent.parent
# Remember the machine's data, then hide it from the tests. pytest-xdist's workers inherit the second name.
if named := os.environ.pop("LENET_LAB_DATA", None):
    os.environ["LENET_LAB_TESTS_MNIST"] = str(Path(named).absolute())
REAL_FOLDERS = [os.environ.get("LENET_LAB_TESTS_MNIST"), ROOT / "MNIST_data"]

REPORT = "row of the table"
HEADING = ("what was done", "how often", "outcome")


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="the long form of the tests of reliability, about 25 minutes")


def pytest_terminal_summary(terminalreporter, config):
    """Print the rows that the long form reported, and update the table in docs/reliability.md with them."""
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    rows = [tuple(value) for report in reports for name, value in report.user_properties if name == REPORT]
    if config.getoption("--long") and rows:
        print("\n" + markdown_table([HEADING, *rows]))
        document = ROOT / "docs" / "reliability.md"
        document.write_text(with_rows(document.read_text("utf-8"), rows), "utf-8")


def with_rows(document, rows):
    """Put rows into the document's table; a row replaces the one with the same first cell, the others stay."""
    table = re.search(rf"^\| {HEADING[0]} .*\n(\|.*\n?)*", document, re.MULTILINE)
    before, after = (document[: table.start()], document[table.end() :]) if table else (document, "")
    lines = table[0].splitlines()[2:] if table else []
    cells = [re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in lines]
    old = [tuple(cell.strip().replace(r"\|", "|") for cell in row) for row in cells]
    merged = {row[0]: row for row in old} | {row[0]: row for row in rows}
    return before + markdown_table([HEADING, *merged.values()]) + "\n" + after


@pytest.fixture(scope="session")
def long(request):
    """Whether the long form was asked for."""
    return request.config.getoption("--long")


@pytest.fixture
def only_long(long):
    """Skip the test unless the long form was asked for."""
    if not long:
        pytest.skip("takes minutes: make reliability")


@pytest.fixture
def report(request):
    """Report a row of the long form's table: what was done, how often, and the outcome."""
    return lambda *row: request.node.user_properties.append((REPORT, row))


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory):
    """Stand-in files of 6,000 training images, 5,000 of them for validation, and 500 test images."""
    return standin.make(tmp_path_factory.mktemp("data") / "small", {"validation": 5000, "train": 1000, "test": 500})


@pytest.fixture
def small(small_folder, monkeypatch):
    """The small stand-in with one-hot labels."""
    monkeypatch.setenv("LENET_LAB_DATA", str(small_folder))
    return input_data.read_data_sets("unused", one_hot=True)


@pytest.fixture(scope="session")
def real_folder():
    """The folder of the real MNIST, if the machine has it."""
    for folder in REAL_FOLDERS:
        if folder and Path(folder, "train-images-idx3-ubyte.gz").exists():
            return str(Path(folder).absolute())
    return pytest.skip("the real MNIST is not here: set LENET_LAB_DATA to its folder")


@pytest.fixture(scope="session")
def needs_browser():
    """Skip the test where there is no browser."""
    if not browser.find_browser():
        pytest.skip("no browser was found: install Debian's chromium, or set LENET_LAB_BROWSER to a Chromium's path")


@pytest.fixture
def offline(monkeypatch):
    """Mirrors that refuse the connection at once."""
    monkeypatch.setattr(input_data, "MIRRORS", ("http://127.0.0.1:9/",))
