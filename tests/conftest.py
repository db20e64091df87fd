"""Data for the tests: a small stand-in made once, and the real MNIST where it is found."""

import os
from pathlib import Path

import pytest

from lenet_lab import input_data, standin
from lenet_lab.models import markdown_table

ROOT = Path(__file__).parent.parent
# What the machine has, before the tests hide it; pytest-xdist's workers inherit the second name.
if named := os.environ.pop("LENET_LAB_DATA", None):
    os.environ["LENET_LAB_TESTS_MNIST"] = str(Path(named).absolute())
REAL_FOLDERS = [os.environ.get("LENET_LAB_TESTS_MNIST"), ROOT / "MNIST_data"]


REPORT = pytest.StashKey[list[tuple[str, str, str]]]()


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="the long form of the tests of reliability, about 25 minutes")


def pytest_configure(config):
    config.stash[REPORT] = []


def pytest_terminal_summary(config):
    """What the long form measured, as a table; docs/reliability.md ends with it."""
    if config.getoption("--long"):
        table = markdown_table([("what was done", "how often", "outcome"), *config.stash[REPORT]])
        print("\n" + table)
        document = ROOT / "docs" / "reliability.md"
        document.write_text(document.read_text().partition("| what was done")[0] + table + "\n")


@pytest.fixture(scope="session")
def long(request):
    """Whether the long form was asked for."""
    return request.config.getoption("--long")


@pytest.fixture
def only_long(long):
    if not long:
        pytest.skip("takes minutes: make reliability")


@pytest.fixture
def report(request):
    """Puts a row into the long form's table: what was done, how often, and the outcome."""
    return lambda *row: request.config.stash[REPORT].append(row)


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory):
    """Stand-in files of 6,000 training images, 5,000 of them for validation, and 500 test images."""
    return standin.make(
        tmp_path_factory.mktemp("data") / "small", {"validation": 5000, "train": 1000, "test": 500}
    )


@pytest.fixture
def small(small_folder, monkeypatch):
    monkeypatch.setenv("LENET_LAB_DATA", str(small_folder))
    return input_data.read_data_sets("unused", one_hot=True)


@pytest.fixture(scope="session")
def real_folder():
    for folder in REAL_FOLDERS:
        if folder and Path(folder, "train-images-idx3-ubyte.gz").exists():
            return str(Path(folder).absolute())
    pytest.skip("the real MNIST is not here: set LENET_LAB_DATA to its folder")


@pytest.fixture
def offline(monkeypatch):
    """Mirrors that refuse the connection at once."""
    monkeypatch.setattr(input_data, "MIRRORS", ("http://127.0.0.1:9/",))
