"""Numbered run directories, the lab's folder, and where figures go."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lenet_lab import enter_lab, next_path
from lenet_lab.paths import figure_path


def test_numbers_count_up_and_are_claimed(tmp_path):
    pattern = str(tmp_path / "logs" / "run_%02d")
    assert [Path(next_path(pattern)).name for _ in range(12)] == [f"run_{n:02d}" for n in range(1, 13)]
    assert (tmp_path / "logs" / "run_12").is_dir()


def test_a_gap_is_skipped_or_filled_but_never_shared(tmp_path):
    for number in (1, 2, 3, 5, 8):
        (tmp_path / f"run_{number:02d}").mkdir()
    assert next_path(str(tmp_path / "run_%02d")) == str(tmp_path / "run_04")


def test_a_file_in_the_way_is_not_taken(tmp_path):
    (tmp_path / "run_01").touch()
    assert next_path(str(tmp_path / "run_%02d")) == str(tmp_path / "run_02")


@pytest.mark.parametrize("pattern", ["logs/run", "logs/%s/%d", "logs/run_%q", "logs/100%"])
def test_a_pattern_without_one_number_is_refused(pattern):
    with pytest.raises(ValueError, match="integer field"):
        next_path(pattern)


def test_a_file_as_parent_folder_is_an_error(tmp_path):
    (tmp_path / "logs").touch()
    with pytest.raises(OSError):
        next_path(str(tmp_path / "logs" / "run_%02d"))


def test_fifty_processes_get_fifty_directories(tmp_path):
    # The module is loaded by itself, without TensorFlow, so that the processes start together.
    module = Path(__file__).parent.parent / "lenet_lab" / "paths.py"
    program = (
        "import importlib.util, sys; spec = importlib.util.spec_from_file_location('paths', sys.argv[1]);"
        "paths = importlib.util.module_from_spec(spec); spec.loader.exec_module(paths);"
        "sys.stdin.readline(); print(paths.next_path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", program, str(module), str(tmp_path / "run_%02d")]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(50)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    directories = {process.communicate()[0].strip() for process in processes}
    assert len(directories) == 50
    assert all(os.path.isdir(directory) for directory in directories)


def test_enter_lab_finds_the_folder_above_and_can_be_called_twice(tmp_path, monkeypatch):
    (tmp_path / "notebooks" / "deeper").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "notebooks" / "deeper")
    assert enter_lab() == enter_lab() == Path.cwd() == tmp_path


def test_figures_of_other_data_never_land_among_mnists(tmp_path):
    assert figure_path(str(tmp_path), "Loss.svg", "MNIST") == tmp_path / "Loss.svg"
    assert figure_path(str(tmp_path), "Loss.svg", "stand-in digits") == tmp_path / "stand-in_digits" / "Loss.svg"
