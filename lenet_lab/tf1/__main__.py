"""Run a TensorFlow 1 program: `python -m lenet_lab.tf1 old_program.py [its arguments]`, or a notebook."""

import runpy
import sys
from pathlib import Path

USAGE = "usage: python -m lenet_lab.tf1 PROGRAM.py|NOTEBOOK.ipynb [its arguments]"


def main(arguments: list[str]) -> int:
    """Run a program or a notebook; returns the process's exit status."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"{__doc__}\n\n{USAGE}")
        return 0 if arguments else 2
    path = Path(arguments[0])
    if not path.is_file():
        print(f"{path}: no such file; {USAGE}", file=sys.stderr)
        return 2
    if path.suffix == ".ipynb":
        return run_notebook_file(path)
    run_program(path, arguments[1:])
    return 0


def run_program(path: Path, arguments: list[str]) -> None:
    """Run a Python file as `python` would, with TensorFlow 1 and its plots saved beside the working files.

    `plt.show()` saves each open figure as `<program>-figure-<n>.png` in the
    working directory and goes on, instead of waiting for a window to be closed.
    """
    from lenet_lab.tf1 import install

    try:
        compile(path.read_bytes(), str(path), "exec")
    except SyntaxError as error:
        raise SystemExit(
            f"{path}, line {error.lineno}: {error.msg}; expected Python 3, so convert a Python 2 program first"
        ) from error
    install()
    _save_figures_on_show(path.stem)
    sys.argv = [str(path), *arguments]
    sys.path[0] = str(path.parent.absolute())
    runpy.run_path(str(path), run_name="__main__")


def run_notebook_file(path: Path) -> int:
    """Run a notebook's cells in order, in its own folder as Jupyter would.

    The copy `<name>.executed.ipynb` keeps what they print and plot; it and each
    plot, as `<name>-figure-<n>.png`, land in the working directory.
    """
    import nbformat
    from nbclient.exceptions import CellExecutionError

    from lenet_lab.notebooks import run_notebook

    try:
        notebook = nbformat.read(path, 4)
    except Exception as error:  # nbformat has no one class for what is not a notebook
        print(f"{path}: not a notebook that can be read ({error}); expected Jupyter's JSON", file=sys.stderr)
        return 2
    start = "import lenet_lab.tf1; lenet_lab.tf1.install()\n%matplotlib inline"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(start))
    out = Path(f"{path.stem}.executed.ipynb")
    try:
        run_notebook(notebook, path.parent, out, lambda text: print(text, end="", flush=True))
    except CellExecutionError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        _save_plots(notebook, path.stem)
    return 0


def _save_figures_on_show(stem: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    saved = iter(range(1, sys.maxsize))

    def show(*arguments, **options):
        for number in pyplot.get_fignums():
            file = f"{stem}-figure-{next(saved)}.png"
            pyplot.figure(number).savefig(file)
            print(f"figure saved as {file}")
        pyplot.close("all")

    pyplot.show = show


def _save_plots(notebook, stem: str) -> None:
    import base64

    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    plots = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    for number, plot in enumerate(plots, start=1):
        Path(f"{stem}-figure-{number}.png").write_bytes(base64.b64decode(plot))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
