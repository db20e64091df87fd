"""Numbered run directories, the lab's folder, where figures go, and files written whole."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lenet_lab import enter_lab, next_path
from lenet_lab.paths import LabError, figure_path, numbered_paths, whole_file

pytest_plugins = ["pytester"]

WRONG_PATTERNS = [
    "", "logs/run", "logs/run_%s", "logs/run_%f", "logs/run_%x", "logs/run_%q", "logs/%s/%d", "logs/%d/run_%d",
    "logs/run_%", "logs/run_%d%", "logs/100%", "logs/100%%", "logs/%%d", "logs/run_%*d", "logs/run_%(n)d",
    "logs/run_%999999d",
]  # fmt: skip


def make_folders(parent, *names):
    for name in names:
        (parent / name).mkdir(parents=True)


def names(paths):
    return [Path(path).name for path in paths]


# The next number


def test_numbers_count_up_and_are_claimed(tmp_path):
    pattern = str(tmp_path / "logs" / "run_%02d")
    assert names(next_path(pattern) for _ in range(12)) == [f"run_{n:02d}" for n in range(1, 13)]
    assert (tmp_path / "logs" / "run_12").is_dir()


def test_a_gap_is_skipped_or_filled_but_never_shared(tmp_path):
    for number in (1, 2, 3, 5, 8):
        (tmp_path / f"run_{number:02d}").mkdir()
    assert next_path(str(tmp_path / "run_%02d")) == str(tmp_path / "run_04")


def test_a_file_in_the_way_is_not_taken(tmp_path):
    (tmp_path / "run_01").touch()
    assert next_path(str(tmp_path / "run_%02d")) == str(tmp_path / "run_02")


def test_a_link_to_nowhere_counts_as_taken(tmp_path):
    try:
        (tmp_path / "run_1").symlink_to(tmp_path / "nowhere")
    except OSError:
        pytest.skip("links are not allowed here")
    assert next_path(str(tmp_path / "run_%d")) == str(tmp_path / "run_2")


def test_a_separator_at_the_end_changes_nothing(tmp_path):
    assert names(next_path(str(tmp_path / "run_%02d") + "/") for _ in range(3)) == ["run_01", "run_02", "run_03"]
    assert sorted(names(tmp_path.iterdir())) == ["run_01", "run_02", "run_03"]


@pytest.mark.parametrize("field, name", [("%d", "1"), ("%i", "1"), ("%02d", "01"), ("%04i", "0001"), ("%3d", "  1")])
def test_the_number_may_be_padded(tmp_path, field, name):
    assert next_path(str(tmp_path / field)) == str(tmp_path / name)
    assert names(numbered_paths(str(tmp_path / field))) == [name]


def test_a_doubled_percent_sign_is_one_in_the_name(tmp_path):
    pattern = str(tmp_path / "100%%_of_%d%%d")
    assert [Path(next_path(pattern)).name, Path(next_path(pattern)).name] == ["100%_of_1%d", "100%_of_2%d"]
    assert names(numbered_paths(pattern)) == ["100%_of_1%d", "100%_of_2%d"]


@pytest.mark.parametrize("function", [next_path, numbered_paths])
@pytest.mark.parametrize("pattern", WRONG_PATTERNS)
def test_a_pattern_without_exactly_one_decimal_number_is_refused(tmp_path, monkeypatch, function, pattern):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LabError, match="expected exactly one integer field, as in 'logs/run_%02d'"):
        function(pattern)
    assert list(tmp_path.iterdir()) == []


def test_a_file_as_parent_folder_is_an_error(tmp_path):
    (tmp_path / "logs").touch()
    with pytest.raises(OSError, match="logs"):
        next_path(str(tmp_path / "logs" / "run_%02d"))


def test_fifty_processes_get_fifty_directories(tmp_path):
    # The module is loaded by itself, without TensorFlow, so that the processes start together.
    module = Path(__file__).parent.parent / "lenet_lab" / "paths.py"
    program = (
        "import importlib.util, sys; spec = importlib.util.spec_from_file_location('paths', sys.argv[1]);"
        "paths = importlib.util.module_from_spec(spec); spec.loader.exec_module(paths);"
        "sys.stdin.readline(); print(paths.next_path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", program, str(module), str(tmp_path / "logs" / "run_%02d")]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(50)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    directories = {process.communicate()[0].strip() for process in processes}
    assert len(directories) == 50
    assert all(os.path.isdir(directory) for directory in directories)


# The numbers that exist


def test_directories_come_in_the_order_of_their_numbers_with_gaps(tmp_path):
    make_folders(tmp_path, "run_10", "run_9", "run_100", "run_1", "run_2")
    assert numbered_paths(str(tmp_path / "run_%d")) == [str(tmp_path / f"run_{n}") for n in (1, 2, 9, 10, 100)]


def test_only_names_that_the_pattern_makes_count(tmp_path):
    make_folders(
        tmp_path, "run_07", "run_107", "run_7", "run_007", "run_-1", "run_", "run_x", "old_run_08", "run_09_old"
    )
    assert names(numbered_paths(str(tmp_path / "run_%02d"))) == ["run_07", "run_107"]


def test_text_behind_the_number_belongs_to_the_name(tmp_path):
    make_folders(tmp_path, "run_10", "run_20", "run_30_b", "run_4")
    assert names(numbered_paths(str(tmp_path / "run_%d0"))) == ["run_10", "run_20"]
    assert names(numbered_paths(str(tmp_path / "run_%d_b"))) == ["run_30_b"]


def test_the_number_may_be_in_a_parents_name(tmp_path):
    make_folders(tmp_path, "10/run", "9/run", "2", "x/run")
    assert numbered_paths(str(tmp_path / "%d" / "run")) == [str(tmp_path / "9" / "run"), str(tmp_path / "10" / "run")]
    assert next_path(str(tmp_path / "%d" / "run")) == str(tmp_path / "1" / "run")


def test_a_pattern_without_a_folder_is_about_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert next_path("run_%d") == "run_1"
    assert numbered_paths("run_%d") == ["run_1"]


def test_where_nothing_was_made_the_list_is_empty(tmp_path):
    assert numbered_paths(str(tmp_path / "run_%d")) == []
    assert numbered_paths(str(tmp_path / "nowhere" / "run_%d")) == []


def test_files_are_no_runs(tmp_path):
    (tmp_path / "run_1").touch()
    (tmp_path / "logs").touch()
    make_folders(tmp_path, "run_2")
    assert names(numbered_paths(str(tmp_path / "run_%d"))) == ["run_2"]
    assert numbered_paths(str(tmp_path / "logs" / "run_%d")) == []


def test_characters_of_search_patterns_are_plain_characters(tmp_path):
    folder = tmp_path / "a[b]{c}(d).+^$"
    pattern = str(folder / "run[1]_%d+")
    made = [next_path(pattern) for _ in range(11)]
    assert numbered_paths(pattern) == made
    assert names(made)[-1] == "run[1]_11+"


# The lab's folder


@pytest.fixture
def lab_folder(tmp_path):
    """A lab's folder: one with the first notebook in its `notebooks`."""
    make_folders(tmp_path, "lab/notebooks/deeper/notebooks")
    (tmp_path / "lab" / "notebooks" / "1_tensorflow_101.ipynb").touch()
    return tmp_path / "lab"


def test_enter_lab_finds_the_folder_above_and_can_be_called_twice(lab_folder, monkeypatch):
    monkeypatch.chdir(lab_folder / "notebooks" / "deeper")
    assert enter_lab() == enter_lab() == Path.cwd() == lab_folder


def test_enter_lab_stays_where_no_lab_is_above(tmp_path, monkeypatch):
    make_folders(tmp_path, "home/notebooks", "home/work")
    (tmp_path / "home" / "notebooks" / "mine.ipynb").touch()
    monkeypatch.chdir(tmp_path / "home" / "work")
    assert enter_lab() == Path.cwd() == tmp_path / "home" / "work"


def test_the_labs_own_folder_is_one():
    assert (Path(__file__).parent.parent / "notebooks" / "1_tensorflow_101.ipynb").is_file()


# Figures and whole files


def test_figures_of_other_data_never_land_among_mnists(tmp_path):
    assert figure_path(str(tmp_path), "Loss.svg", "MNIST") == tmp_path / "Loss.svg"
    assert figure_path(str(tmp_path), "Loss.svg", "stand-in digits") == tmp_path / "stand-in_digits" / "Loss.svg"
    for name in ("", ".", "..", "../..", "C:\\digits", "Ziffern für alle"):
        folder = figure_path(str(tmp_path), "Loss.svg", name).parent
        assert folder.parent == tmp_path and folder.is_dir(), name


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), whole_file(path) as part:
        part.write_text("ha")
        raise RuntimeError
    assert path.read_text() == "old"
    with whole_file(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and names(tmp_path.iterdir()) == ["results.json"]


def test_threads_that_write_one_file_at_once_do_not_mix(tmp_path):
    path, together = tmp_path / "results.json", threading.Barrier(2)
    failures = []

    def write(text):
        try:
            with whole_file(path) as part:
                part.write_text(text)
                together.wait(10)
                assert part.read_text() == text
        except (OSError, AssertionError, threading.BrokenBarrierError) as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(text,)) for text in ("first", "second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [] and path.read_text() in ("first", "second")
    assert names(tmp_path.iterdir()) == ["results.json"]


# The table of the long tests

LONG_TESTS = """
def test_kills(report):
    report("kills", "60", "nothing | lost")


def test_threads(report):
    report("threads", "9", "fine")
"""
DOCUMENT = r"""# Nothing lost

| what was done | how often | outcome |
|---------------|-----------|---------|
| crowds | 50 | a \| b |
| kills | 2 | fine |

The end.
"""
CROWDS, KILLS, NEW_KILLS = r"| crowds | 50 | a \| b |", "| kills | 2 | fine |", r"| kills | 60 | nothing \| lost |"


@pytest.mark.parametrize(
    "options, rows",
    [
        ((), [CROWDS, KILLS]),
        (("--long", "-k", "nothing"), [CROWDS, KILLS]),
        (("--long", "-k", "kills"), [CROWDS, NEW_KILLS]),
        (("--long",), [CROWDS, NEW_KILLS, "| threads | 9 | fine |"]),
    ],
    ids=["short form", "no test", "one test", "all tests"],
)
def test_the_table_of_the_long_tests_keeps_the_rows_of_tests_that_did_not_run(pytester, options, rows):
    document, tests = pytester.mkdir("docs") / "reliability.md", pytester.mkdir("tests")
    document.write_text(DOCUMENT)
    (tests / "conftest.py").write_text((Path(__file__).parent / "conftest.py").read_text("utf-8"), "utf-8")
    (tests / "test_long.py").write_text(LONG_TESTS)
    pytester.runpytest_inprocess("-p", "no:xdist", "-p", "no:cacheprovider", *options, tests)
    lines = [" ".join(line.split()) for line in document.read_text().splitlines()]
    assert lines[:3] == ["# Nothing lost", "", "| what was done | how often | outcome |"]
    assert lines[4:] == [*rows, "", "The end."]
