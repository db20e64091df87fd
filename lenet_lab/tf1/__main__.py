"""Run a TensorFlow 1 program or notebook as it is, and save its plots in the working directory."""

import base64
import itertools
import runpy
import sys
import warnings
from pathlib import Path
from typing import Any

USAGE = """\
usage: python -m lenet_lab.tf1 PROGRAM.py [its arguments]
       python -m lenet_lab.tf1 NOTEBOOK.ipynb"""


def main(arguments: list[str]) -> int:
    """Run a program or a notebook.

    Parameters
    ----------
    arguments : list of str
        The file, then for a program its own arguments.

    Returns
    -------
    int
        The exit status: 0; 1 if a notebook's cell failed; 2 if nothing was run.

    Raises
    ------
    SystemExit
        If the program calls `sys.exit`, or is not Python 3.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"{__doc__}\n\n{USAGE}")
        return 0 if arguments else 2
    path = Path(arguments[0])
    if not path.is_file():
        print(f"{path}: no such file\n{USAGE}", file=sys.stderr)
        return 2
    if path.suffix != ".ipynb":
        run_program(path, arguments[1:])
        return 0
    if arguments[1:]:
        print(f"{path}: a notebook takes no arguments, but there are {arguments[1:]}\n{USAGE}", file=sys.stderr)
        return 2
    return run_notebook_file(path)


def run_program(path: Path, arguments: list[str]) -> None:
    """Run a Python file as `python` would, but with TensorFlow 1 and with its plots saved.

    `plt.show()` saves each open figure in the working directory, as
    `<program>-figure-<n>.png`, and goes on. It does not wait for someone to close
    a window. The program starts with an empty default graph. Modules that an
    earlier program in this process imported are not imported again.

    Parameters
    ----------
    path : Path
    arguments : list of str
        What the program finds in ``sys.argv[1:]``.

    Raises
    ------
    SystemExit
        If the program calls `sys.exit`, or is not Python 3.
    """
    from lenet_lab.compat import tf
    from lenet_lab.tf1 import install

    _check_python_3(path)
    install()
    tf.reset_default_graph()
    _save_figures_on_show(path.stem)
    argv, search_path = sys.argv, sys.path
    sys.argv = [str(path), *arguments]
    sys.path = [str(path.parent.absolute()), *search_path[1:]]
    try:
        runpy.run_path(str(path), run_name="__main__")
    finally:
        sys.argv, sys.path = argv, search_path


def run_notebook_file(path: Path) -> int:
    """Run a notebook's cells in order, in its own folder as Jupyter would.

    Two things are written into the working directory: a copy of the notebook with
    all that it printed and plotted, `<name>.executed.ipynb`, and each plot, as
    `<name>-figure-<n>.png`.

    Parameters
    ----------
    path : Path

    Returns
    -------
    int
        The exit status: 0; 1 if a cell failed; 2 if nothing was run.
    """
    import nbformat
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    from lenet_lab.notebooks import run_notebook

    try:
        notebook = nbformat.read(path, 4)
    except Exception as error:  # noqa: BLE001 - nbformat has no common class for the errors of a broken file
        print(f"{path}: not a readable notebook ({error}); expected Jupyter's JSON", file=sys.stderr)
        return 2
    out = Path(f"{path.stem}.executed.ipynb")
    try:
        out.open("ab").close()  # better now than after hours of training
    except OSError as error:
        reason = error.strerror
        print(f"{out}: cannot be written here ({reason}); run this in a folder of your own", file=sys.stderr)
        return 2
    first = "import lenet_lab.tf1; lenet_lab.tf1.install()\n%matplotlib inline"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(first))
    try:
        run_notebook(notebook, path.parent, out, lambda text: print(text, end="", flush=True))
    except CellExecutionError as error:
        print(error, file=sys.stderr)
        return 1
    except DeadKernelError:
        print(f"{path}: its Python process died; {out} has the cells that were done", file=sys.stderr)
        return 1
    finally:
        _save_plots(notebook, path.stem)
    return 0


def _check_python_3(path: Path) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they will come when the program runs
            compile(path.read_bytes(), str(path), "exec")
    except SyntaxError as error:
        raise SystemExit(
            f"{path}, line {error.lineno}: {error.msg}; expected Python 3, so convert a Python 2 program first"
        ) from error


def _save_figures_on_show(stem: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    numbers = itertools.count(1)

    def show(*arguments: Any, **options: Any) -> None:
        for figure in pyplot.get_fignums():
            file = f"{stem}-figure-{next(numbers)}.png"
            pyplot.figure(figure).savefig(file)
            print(f"figure saved as {file}")
        pyplot.close("all")

    pyplot.show = show


def _save_plots(notebook: Any, stem: str) -> None:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    plots = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    for number, plot in enumerate(plots, start=1):
        Path(f"{stem}-figure-{number}.png").write_bytes(base64.b64decode(plot))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
