"""The command line: run the lab's notebooks, or read a digit of your own."""

import argparse
import sys
from importlib.metadata import entry_points

from nbclient.exceptions import CellExecutionError, DeadKernelError

from lenet_lab.notebooks import ALL_NOTEBOOKS, make_notebooks, run_lab
from lenet_lab.paths import LabError


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the process's exit status."""
    parser = argparse.ArgumentParser(prog="python -m lenet_lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    lab = commands.add_parser("lab", help="run the notebooks and print their results")
    lab.add_argument("--epochs", type=_positive, help="number of epochs for each network (default: the lab's own)")
    lab.set_defaults(run=lambda chosen: run_lab(chosen.epochs))
    committed = commands.add_parser(
        "notebooks", help="for maintainers: execute the committed notebooks again, on MNIST"
    )
    committed.add_argument("names", nargs="*", help="file names of notebooks (default: all)")
    committed.set_defaults(run=lambda chosen: make_notebooks(chosen.names or ALL_NOTEBOOKS))
    # The commands of the extras. A function named in pyproject.toml adds its arguments and returns what to run.
    for entry in sorted(entry_points(group="lenet_lab.commands"), key=lambda entry: entry.name):
        try:
            add = entry.load()
        except ImportError as error:  # a broken extra must not stop the lab
            print(f"The command {entry.name} is not available: {error}", file=sys.stderr)
            continue
        command = commands.add_parser(entry.name, help=add.__doc__)
        command.set_defaults(run=add(command))
    chosen = parser.parse_args(arguments)
    try:
        return chosen.run(chosen) or 0
    except KeyboardInterrupt:
        print("\nInterrupted. What was trained is in logs/.", file=sys.stderr)
        return 130
    except CellExecutionError as error:
        print(f"\nA cell failed:\n{error}", file=sys.stderr)
    except DeadKernelError:
        print("\nThe process that ran the notebook was killed. Perhaps the memory was full.", file=sys.stderr)
    except (OSError, LabError) as error:
        print(f"\n{error}", file=sys.stderr)
    if chosen.command == "lab":
        print("\n.venv/bin/python -m lenet_lab doctor looks for the cause on this machine.", file=sys.stderr)
    return 1


def _positive(text: str) -> int:
    """A command's argument as a whole number above 0."""
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
