"""Running the notebooks: all six for `make lab`, in place for `make notebooks`; are the committed ones fresh?"""

import asyncio
import hashlib
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
from tqdm import tqdm

# How long an epoch of each takes beside one of the first, for the estimate of the time left.
EPOCH_COST = {
    "1_tensorflow_101.ipynb": 1,
    "2_lenet5.ipynb": 5,
    "3_adam.ipynb": 5,
    "4_dropout.ipynb": 5,
    "5_honest_figures.ipynb": 0,
    "6_beyond_99.ipynb": 10,
}
NOTEBOOKS = tuple(EPOCH_COST)
# The modules whose text, with the notebook's own, makes its outputs.
SOURCES = (
    "blocks.py", "checkpoints.py", "classifier.py", "compat.py", "deform.py", "events.py", "figures.py",
    "inference.py", "input_data.py", "loop.py", "models.py", "optimizers.py", "paths.py", "predict.py",
    "profiling.py", "results.py", "runs.py", "training.py", "watch.py",
)  # fmt: skip


def run_lab(epochs: int | None, out: str = "executed") -> None:
    """Run copies of the notebooks in order, and print the table of their results.

    The copies and their figures are kept in `out`, the runs in `logs`; both are
    ignored by git. What a notebook prints is shown as it comes, above one
    progress bar for the whole lab.

    Parameters
    ----------
    epochs : int or None
        How many for each model; None takes each notebook's own.
    out : str
        A folder, made if need be.

    Raises
    ------
    FileNotFoundError
        If the working directory is not the lab's folder.
    nbclient.exceptions.CellExecutionError
        If a cell fails; the copy holds what was done.
    """
    from lenet_lab.results import read_results, results_table  # late: imports TensorFlow

    folder, out_folder = _notebook_folder(), Path(out)
    out_folder.mkdir(exist_ok=True)
    parameters = {"figures": str(out_folder / "MNIST_figures")}
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
            bar.update(sum(list(work.values())[:done]) - bar.n)
    print(f"\nThe lab took {time.time() - started:.0f} s. Executed notebooks and figures: {out_folder}/\n")
    print(results_table(read_results("logs", since=started)))
    print("\ntensorboard --logdir logs --host localhost")


def make_notebooks(names: Sequence[str] = NOTEBOOKS) -> None:
    """Re-execute committed notebooks in place, on MNIST, at their own settings.

    Parameters
    ----------
    names : sequence of str
        Of `NOTEBOOKS`, in the order to run them.

    Raises
    ------
    ValueError
        If there is no such notebook.
    lenet_lab.idx.DataError
        If the real MNIST can't be had: what is committed is never the stand-in's.
    """
    from lenet_lab import input_data  # late: imports TensorFlow

    folder = _notebook_folder()
    unknown = sorted(set(names) - set(NOTEBOOKS))
    if unknown:
        raise ValueError(f"no notebook {unknown[0]!r}; there are {', '.join(NOTEBOOKS)}")
    input_data.read_mnist("MNIST_data/")  # before an hour's work
    for name in names:
        print(f"\n== {name}", flush=True)
        notebook = nbformat.read(folder / name, 4)
        notebook.metadata["lenet_lab"] = {"made_from": made_from(notebook)}
        aside = folder / (name + ".part")
        try:
            run_notebook(notebook, folder, aside, lambda text: print(text, end="", flush=True))
            os.replace(aside, folder / name)  # only whole runs take the old one's place
        finally:
            aside.unlink(missing_ok=True)


def run_notebook(
    notebook: nbformat.NotebookNode, folder: Path, out: Path, show: Callable[[str], None] = lambda text: None
) -> None:
    """Run a notebook's cells in order in a fresh kernel and write it, outputs and all, to a file.

    Parameters
    ----------
    notebook : NotebookNode
        Its outputs are replaced.
    folder : path
        The kernel's working directory, as Jupyter would have it.
    out : path
        Written even if a cell fails or the run is interrupted.
    show : callable
        Gets each piece of text as it is printed.
    """
    client = _Client(
        notebook,
        timeout=None,
        record_timing=False,
        coalesce_streams=True,
        kernel_name="python3",  # this Python's own, whatever kernel the file asks for
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--log-level=ERROR"],  # else each kernel warns that loopback is not encrypted
    )
    client.on_notebook_start = client.take_interrupts
    client.show = show
    try:
        # Without progress bars inside the cells: they would be kept in the file as garbage.
        client.execute(env=os.environ | {"TQDM_DISABLE": "1", "PYTHONUNBUFFERED": "1"})
    except CellExecutionError:
        if client.interrupted:
            raise KeyboardInterrupt from None
        raise
    finally:
        nbformat.write(notebook, out)


def with_parameters(notebook: nbformat.NotebookNode, parameters: dict[str, Any]) -> nbformat.NotebookNode:
    """The notebook with a cell after the one tagged `parameters` that sets some of them anew, those that it has."""
    own = parameters_of(notebook)
    place = next(i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    text = "\n".join(f"{name} = {value!r}" for name, value in parameters.items() if name in own)
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(text, metadata={"tags": ["injected-parameters"]}))
    return notebook


def parameters_of(notebook: nbformat.NotebookNode) -> dict[str, Any]:
    """The values that a notebook's parameter cells give to names."""
    values: dict[str, Any] = {}
    for cell in notebook.cells:
        if {"parameters", "injected-parameters"} & set(cell.metadata.get("tags", [])):
            exec(cell.source, {}, values)  # the project's own cell, assignments only
    return values


def made_from(notebook: nbformat.NotebookNode) -> str:
    """SHA-256 of what makes a notebook's outputs: its own cells and the package's modules.

    The results of `experiments` that some show are not in it: new ones need not
    be others for the configurations that a notebook shows.
    """
    package = Path(__file__).parent
    texts = [cell.source for cell in notebook.cells] + [(package / name).read_text() for name in SOURCES]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


class _Client(NotebookClient):
    """A client that hands on text while a cell still runs, and interrupts."""

    show: Callable[[str], None]
    interrupted = False

    def take_interrupts(self, notebook: nbformat.NotebookNode) -> None:
        """Let Ctrl-C interrupt the running cell, which then closes its files, instead of killing the kernel."""
        with suppress(NotImplementedError):  # Windows has no such handlers
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self.interrupt)

    def interrupt(self) -> None:
        self.interrupted = True
        self.stopping = asyncio.ensure_future(self.km.interrupt_kernel())

    def output(self, outs, msg, display_id, cell_index):
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
