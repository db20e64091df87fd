"""Run the notebooks: copies of the lab's six for `make lab`, or the committed ones in place for `make notebooks`."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbclient.util import ensure_async
from nbformat.sign import NotebookNotary
from tqdm import tqdm

from lenet_lab import input_data
from lenet_lab.analysis.freshness import code_hash
from lenet_lab.analysis.results import read_results, results_table
from lenet_lab.paths import LabError

# How long one epoch of each notebook takes, relative to the first notebook's; for the estimate of the time left.
EPOCH_COST = {
    "1_tensorflow_101.ipynb": 1,
    "2_lenet5.ipynb": 5,
    "3_adam.ipynb": 5,
    "4_dropout.ipynb": 5,
    "5_honest_figures.ipynb": 0,
    "6_beyond_99.ipynb": 10,
}
NOTEBOOKS = tuple(EPOCH_COST)
EXTRA_NOTEBOOKS = ("7_many_machines.ipynb",)  # not part of the lab, so `make lab` does not run them
ALL_NOTEBOOKS = (*NOTEBOOKS, *EXTRA_NOTEBOOKS)


def run_lab(epochs: int | None, out: str = "executed") -> None:
    """Run copies of all notebooks in order, then print a table of their results.

    The copies and their figures are kept in `out` and the runs in `logs`; git
    ignores both. What a notebook prints is shown at once, above one progress
    bar for the whole lab.

    Parameters
    ----------
    epochs : int or None
        Epochs to train each model; None leaves every notebook its own number.
    out : str, default "executed"
        The folder for the copies. It is created if it does not exist.

    Raises
    ------
    FileNotFoundError
        If the working directory is not the lab's folder.
    nbclient.exceptions.CellExecutionError
        If a cell fails. The notebook's copy keeps all outputs up to that cell.
    """
    folder, out_folder = _notebook_folder(), Path(out)
    out_folder.mkdir(exist_ok=True)
    parameters: dict[str, Any] = {"figures": str(out_folder / "MNIST_figures")}
    if epochs is not None:
        parameters["epochs"] = epochs
    notebooks = {name: with_parameters(nbformat.read(folder / name, 4), parameters) for name in NOTEBOOKS}
    work = {name: parameters_of(notebook).get("epochs", 0) * EPOCH_COST[name] for name, notebook in notebooks.items()}
    started = time.time()
    with tqdm(total=sum(work.values()), bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}") as bar:
        for done, (name, notebook) in enumerate(notebooks.items(), start=1):
            bar.set_description(f"lab, notebook {done} of {len(notebooks)}")
            tqdm.write(f"\n== {name}")
            run_notebook(notebook, folder, out_folder / name, _live(bar, EPOCH_COST[name]))
            with suppress(OSError):  # a home folder that can't be written
                NotebookNotary().sign(notebook)  # otherwise Jupyter hides the copy's curves
            bar.update(sum(list(work.values())[:done]) - bar.n)
    print(f"\nThe lab took {time.time() - started:.0f} s. Executed notebooks and figures: {out_folder}/\n")
    print(results_table(read_results("logs", since=started)))
    print("\n.venv/bin/tensorboard --logdir logs --host localhost")


def make_notebooks(names: Sequence[str] = ALL_NOTEBOOKS) -> None:
    """Run committed notebooks again in place, on MNIST and with their own parameters.

    A notebook is replaced only after all of its cells have run. Its metadata
    then holds the hash that `made_from` returns, and how many seconds it took.

    Parameters
    ----------
    names : sequence of str
        File names from `ALL_NOTEBOOKS`, in the order in which to run them; by default all.

    Raises
    ------
    lenet_lab.paths.LabError
        If there is no notebook of that name, or its code is not plain Python.
    lenet_lab.data.idx.DataError
        If MNIST can't be read or downloaded. Results on the stand-in digits are never committed.
    FileNotFoundError
        If the working directory is not the lab's folder.
    nbclient.exceptions.CellExecutionError
        If a cell fails. The committed notebook then stays as it was.
    """
    folder = _notebook_folder()
    unknown = sorted(set(names) - set(ALL_NOTEBOOKS))
    if unknown:
        raise LabError(f"there is no notebook {unknown[0]!r}; choose from {', '.join(ALL_NOTEBOOKS)}")
    input_data.read_mnist("MNIST_data/")  # fails now rather than after an hour
    for name in names:
        print(f"\n== {name}", flush=True)
        notebook = nbformat.read(folder / name, 4)
        notebook.metadata["lenet_lab"] = {"made_from": made_from(notebook)}
        aside, started = folder / (name + ".part"), time.time()
        try:
            run_notebook(notebook, folder, aside, lambda text: print(text, end="", flush=True))
            notebook.metadata["lenet_lab"]["seconds"] = round(time.time() - started)
            nbformat.write(notebook, aside)
            os.replace(aside, folder / name)
        finally:
            aside.unlink(missing_ok=True)


def run_notebook(
    notebook: nbformat.NotebookNode, folder: Path, out: Path, show: Callable[[str], None] = lambda text: None
) -> None:
    """Run a notebook's cells in order in a new kernel, and write the notebook with its outputs to a file.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
        The notebook. Its outputs are replaced.
    folder : pathlib.Path
        The kernel's working directory. Jupyter uses the notebook's own folder.
    out : pathlib.Path
        The file to write. It is written even if a cell fails or the run is interrupted.
    show : callable
        Called with each piece of text as soon as a cell prints it. By default, nothing is shown.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell fails.
    """
    client = _Client(
        notebook,
        timeout=None,
        record_timing=False,
        coalesce_streams=True,
        kernel_name="python3",  # the Python that runs this, whatever kernel the file names
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--log-level=ERROR"],  # otherwise each kernel warns that loopback is not encrypted
    )
    client.on_notebook_start = client.take_interrupts
    client.show = show
    try:
        # A progress bar inside a cell would fill the saved notebook with its control characters.
        client.execute(env=os.environ | {"TQDM_DISABLE": "1", "PYTHONUNBUFFERED": "1"})
    except CellExecutionError:
        if client.interrupted:
            raise KeyboardInterrupt from None
        raise
    finally:
        nbformat.write(notebook, out)


def with_parameters(notebook: nbformat.NotebookNode, parameters: dict[str, Any]) -> nbformat.NotebookNode:
    """Give a notebook's parameters new values, in a cell inserted after the one tagged `parameters`.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
        The notebook. It is changed.
    parameters : dict
        New values by name. Names that the notebook does not have are ignored.

    Returns
    -------
    nbformat.NotebookNode
        The same notebook.

    Raises
    ------
    lenet_lab.paths.LabError
        If no cell is tagged `parameters`.
    """
    own = parameters_of(notebook)
    tagged = [place for place, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", [])]
    if not tagged:
        raise LabError("the notebook has no cell tagged 'parameters'; add this tag to the cell that sets them")
    text = "\n".join(f"{name} = {value!r}" for name, value in parameters.items() if name in own)
    notebook.cells.insert(tagged[0] + 1, nbformat.v4.new_code_cell(text, metadata={"tags": ["injected-parameters"]}))
    return notebook


def parameters_of(notebook: nbformat.NotebookNode) -> dict[str, Any]:
    """Return the value of each parameter that a notebook sets, by name.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
        Its cells tagged `parameters` or `injected-parameters` are read.
    """
    values: dict[str, Any] = {}
    for cell in notebook.cells:
        if {"parameters", "injected-parameters"} & set(cell.metadata.get("tags", [])):
            # These cells are the project's own, and notebook 6 computes one parameter from another.
            exec(cell.source, {}, values)
    return values


def made_from(notebook: nbformat.NotebookNode) -> str:
    """Hash the code that makes a notebook's outputs: its cells, and the package's modules that they import.

    `analysis.freshness` says which changes of code change the hash. Data and
    the files in `experiments/` are not part of it.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
        Only its code cells count.

    Returns
    -------
    str
        A SHA-256, as 64 hexadecimal digits.

    Raises
    ------
    lenet_lab.paths.LabError
        If a cell or a module is not plain Python.
    """
    try:
        return code_hash([cell.source for cell in notebook.cells if cell.cell_type == "code"], Path(__file__).parent)
    except SyntaxError as error:
        raise not_plain_python(str(error.filename), error) from error


def not_plain_python(place: str, error: SyntaxError) -> LabError:
    """The error for a cell or a module, named by its place, that can't be parsed."""
    return LabError(
        f"{place}, line {error.lineno}, is not plain Python ({error.msg}); "
        "correct it, and use none of IPython's % and ! commands"
    )


class _Client(NotebookClient):
    """A client that passes text on while the cell still runs, and that Ctrl-C can interrupt."""

    show: Callable[[str], None]
    interrupted = False

    def take_interrupts(self, notebook: nbformat.NotebookNode) -> None:
        """On Ctrl-C, interrupt the running cell, so that it can close its files, instead of killing the kernel."""
        with suppress(NotImplementedError):  # on Windows, asyncio has no signal handlers
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self.interrupt)

    def interrupt(self) -> None:
        self.interrupted = True
        if self.km is not None:
            self.stopping = asyncio.ensure_future(ensure_async(self.km.interrupt_kernel()))

    def output(
        self, outs: list[nbformat.NotebookNode], msg: dict[str, Any], display_id: str | None, cell_index: int
    ) -> nbformat.NotebookNode | None:
        if msg["msg_type"] == "stream":
            self.show(msg["content"]["text"])
        return super().output(outs, msg, display_id, cell_index)


def _live(bar: tqdm, cost: int) -> Callable[[str], None]:
    def show(text: str) -> None:
        tqdm.write(text, end="")
        bar.update(cost * text.count("=====> Loss"))

    return show


def _notebook_folder() -> Path:
    folder = Path("notebooks")
    missing = [name for name in NOTEBOOKS if not (folder / name).exists()]
    if missing:
        raise FileNotFoundError(f"{Path.cwd()} has no notebooks/{missing[0]}; run this in the lab's folder")
    return folder
