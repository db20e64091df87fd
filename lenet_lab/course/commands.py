"""The commands `student`, `exercises` and `doctor`, found by the entry points in pyproject.toml."""

import argparse
from collections.abc import Callable

from lenet_lab.course.student import make_student

Command = Callable[[argparse.Namespace], int | None]


def student(parser: argparse.ArgumentParser) -> Command:
    """for teachers: write the notebooks again with blanks in place of the answers"""
    parser.add_argument("--out", default="student", help="the folder to write (default: student)")
    return _student


def exercises(parser: argparse.ArgumentParser) -> Command:
    """for maintainers: run the solutions of the exercises again, on MNIST"""
    parser.add_argument("names", nargs="*", help="the exercises to run (default: all)")
    return _exercises


def doctor(parser: argparse.ArgumentParser) -> Command:
    """look for what keeps the lab from running on this machine"""
    return _doctor


def _student(chosen: argparse.Namespace) -> None:
    written = make_student(out=chosen.out)
    print(f"{chosen.out}/: {'wrote ' + ', '.join(written) if written else 'nothing to change'}")


# The modules behind these two are imported only when needed, since every command line loads this file.


def _exercises(chosen: argparse.Namespace) -> None:
    from lenet_lab.course.exercises import run_exercises

    run_exercises(chosen.names)


def _doctor(chosen: argparse.Namespace) -> int | None:
    from lenet_lab.course.doctor import examine

    return examine()
