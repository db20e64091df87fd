"""Time every way to run this lab side by side; `make benchmark` writes results.json and results.svg here."""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from lenet_lab import input_data, tf
from lenet_lab.analysis.figures import COLOURS, write_figure
from lenet_lab.analysis.tables import markdown_table
from lenet_lab.compat import cores

HERE = Path(__file__).parent
BATCH_SIZES = (1, 8, 32, 128, 512, 1024, 4096)
TRAINING_SETS = (1000, 5000, 20000, 55000)


class Contender(NamedTuple):
    """A way to train: a script in `contenders/`, run in an environment of its own or in the lab's."""

    title: str
    script: str
    packages: tuple[str, ...] = ()  # installed in its environment; without any, it runs in the lab's
    variables: Mapping[str, str] = MappingProxyType({})  # of the process's environment
    python: str = "python3"  # a version that its packages support


OURS = Contender("lenet_lab", "ours.py")
LAB_LOOP = Contender("lab's loop, oneDNN on", "lab_loop.py", variables={"TF_ENABLE_ONEDNN_OPTS": "1"})
CONTENDERS = (
    OURS,
    LAB_LOOP,
    Contender("lab's loop, TensorFlow as it comes", "lab_loop.py"),
    Contender("Keras fit", "keras_fit.py", (f"tensorflow=={tf.VERSION}",), {"TF_ENABLE_ONEDNN_OPTS": "1"}),
    Contender("PyTorch eager", "pytorch.py", ("torch==2.13.0", "numpy")),
    Contender("PyTorch compiled", "pytorch.py", ("torch==2.13.0", "numpy"), {"PYTORCH_COMPILE": "1"}),
    Contender("JAX jit", "jax_jit.py", ("jax", "optax", "numpy")),
    Contender(
        "lab's loop, TensorFlow 1.15.5", "lab_loop.py", ("tensorflow==1.15.5", "protobuf<3.21"), python="python3.7"
    ),
    Contender("arithmetic alone", "floor.py"),
)  # fmt: skip


class Worker:
    """The process of a contender, which waits for commands."""

    def __init__(self, contender: Contender, data: Path, *options: str):
        python = environment(contender)
        started = time.time()
        # CONTENDERS says who runs with oneDNN, so the setting is not inherited. The lab switches it on itself.
        variables = {k: v for k, v in os.environ.items() if k != "TF_ENABLE_ONEDNN_OPTS"}
        variables |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TQDM_DISABLE": "1", **contender.variables}
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as the process runs
        self.process = subprocess.Popen(
            [python, str(HERE / "contenders" / contender.script), str(data), *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=variables,
        )  # fmt: skip
        self.seconds_to_first_step = self._answer()["ready"] - started

    def ask(self, command: str) -> dict:
        """Send a command, `epoch` or `report`, and wait for the answer."""
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()
        self.errors.close()

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise RuntimeError(f"{self.process.args[1]} failed:\n{self.errors.read()[-3000:]}")
        return json.loads(line)


def environment(contender: Contender) -> str:
    """Return the Python of a contender's environment, which is installed first if necessary."""
    if not contender.packages:
        return sys.executable
    base = find_python(contender.python)
    folder = HERE / ".environments" / contender.packages[0].replace("==", "-")
    if not (folder / "installed").exists():
        print(f"Installing {', '.join(contender.packages)} for {contender.title}", file=sys.stderr, flush=True)
        subprocess.run([base, "-m", "venv", "--clear", folder], check=True)
        install = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", *contender.packages]
        subprocess.run(install, check=True, stderr=subprocess.DEVNULL)
        (folder / "installed").touch()
    return str(folder / "bin" / "python")


def find_python(name: str) -> str | None:
    """Find a Python of this name on the path or among pyenv's versions; `python3` is the one that runs this script."""
    if name == "python3":
        return sys.executable
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    found = sorted(versions.glob(f"{name.removeprefix('python')}.*/bin/python"))
    return str(found[-1]) if found else shutil.which(name)


def write_data(path: Path) -> str:
    """Write the training images and labels to a file for the contenders; returns the data's name."""
    mnist = input_data.read_data_sets("MNIST_data/", one_hot=True)
    np.savez(path, images=mnist.train.images, labels=mnist.train.labels.argmax(axis=1).astype(np.uint8))
    return mnist.name


def race(contenders: Sequence[Contender], data: Path, rounds: int, *options: str) -> dict[str, dict]:
    """Let each contender train one epoch per round, one after the other; each round starts with the next one."""
    workers = {}
    for contender in tqdm(contenders, desc="starting", leave=False):
        workers[contender.title] = Worker(contender, data, *options)
    seconds = {title: [] for title in workers}
    titles = list(workers)
    for number in tqdm(range(rounds), desc="rounds", leave=False):
        for title in titles[number % len(titles) :] + titles[: number % len(titles)]:
            seconds[title].append(workers[title].ask("epoch")["seconds"])
    results = {}
    for title, worker in workers.items():
        results[title] = {"seconds": seconds[title], "seconds_to_first_step": worker.seconds_to_first_step}
        results[title] |= worker.ask("report")
        worker.close()
    return results


def growth(data: Path) -> dict[str, dict]:
    """Time 1,000 images, by lenet_lab and by the lab's loop, for many batch sizes and sizes of the training set."""
    curves = {"batch size": {}, "training set": {}}
    settings = [("batch size", size, size, max(1000, min(20000, 40 * size))) for size in BATCH_SIZES]
    settings += [("training set", size, 128, size) for size in TRAINING_SETS]
    for kind, value, batch_size, examples in tqdm(settings, desc="growth", leave=False):
        options = ("--batch-size", str(batch_size), "--examples", str(examples))
        raced = race([OURS, LAB_LOOP], data, 3, *options)
        trained = examples // batch_size * batch_size  # only whole batches count
        curves[kind][value] = {t: statistics.median(r["seconds"]) * 1000 / trained for t, r in raced.items()}
    return curves


def ratios(results: dict[str, dict], title: str) -> list[float]:
    """Return, round by round, how many times as long as lenet_lab a contender took."""
    return [other / ours for other, ours in zip(results[title]["seconds"], results[OURS.title]["seconds"])]


def table(results: dict[str, dict], examples: int) -> str:
    """Make a Markdown table of the results."""
    heading = ("", "s/epoch", "times ours", "lowest to highest", "images/s", "first step", "memory", "in kernels")
    rows = [heading]
    for title, result in results.items():
        times = ratios(results, title)
        seconds = statistics.median(result["seconds"])
        share = result.get("kernel_share")
        rows.append((
            title, f"{seconds:.2f}", f"{statistics.median(times):.2f}", f"{min(times):.2f} to {max(times):.2f}",
            f"{examples / seconds:,.0f}", f"{result['seconds_to_first_step']:.1f} s",
            f"{result['peak_bytes'] / 1e9:.2f} GB", "" if share is None else f"{share:.0%}",
        ))  # fmt: skip
    return markdown_table(rows)


def plot(outcome: dict) -> Figure:
    """Draw how long each contender took compared with lenet_lab, and how the cost grows."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    bars, by_batch, by_set = figure.subplots(1, 3, width_ratios=(1.6, 1, 1))
    titles = list(reversed(outcome["lenet5"]))
    times = [ratios(outcome["lenet5"], title) for title in titles]
    middle = [statistics.median(t) for t in times]
    spread = [[m - min(t) for m, t in zip(middle, times)], [max(t) - m for m, t in zip(middle, times)]]
    colours = [COLOURS[1] if title == OURS.title else COLOURS[0] for title in titles]
    bars.barh(titles, middle, xerr=spread, color=colours, ecolor="0.3")
    bars.set(title=f"An epoch of LeNet-5 on {outcome['data']}", xlabel="times as long as lenet_lab")
    for axis, (kind, points) in zip((by_batch, by_set), outcome["growth"].items()):
        for title, style in ((OURS.title, "o-"), (LAB_LOOP.title, "s--")):
            axis.plot([int(x) for x in points], [p[title] for p in points.values()], style, label=title)
        axis.set(xscale="log", yscale="log", xlabel=kind, ylabel="s for 1,000 images")
        axis.grid(alpha=0.3)
    by_batch.legend(fontsize=7)
    return figure


def main() -> None:
    """Run the benchmark, write its results and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="epochs that each contender trains (default: 7)")
    parser.add_argument("--examples", type=int, default=55000, help="number of training images (default: 55000, all)")
    arguments = parser.parse_args()
    contenders = [c for c in CONTENDERS if find_python(c.python)]
    for missing in [c for c in CONTENDERS if c not in contenders]:
        print(f"{missing.title} is left out: it needs {missing.python}, which was not found", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data.npz")
        name = write_data(data)
        for contender in contenders:
            environment(contender)
        examples = ("--examples", str(arguments.examples))
        outcome = {
            "data": name, "examples": arguments.examples, "tensorflow": tf.VERSION,
            "python": platform.python_version(), "cores": cores(), "processor": processor(),
            "lenet5": race(contenders, data, arguments.rounds, *examples),
            "softmax": race(contenders[:3], data, arguments.rounds, "--model", "softmax", "--batch-size", "100"),
            "growth": growth(data),
        }  # fmt: skip
    (HERE / "results.json").write_text(json.dumps(outcome, indent=1) + "\n")
    write_figure(plot(outcome), HERE / "results.svg")
    print(f"LeNet-5, Adam, batches of 128, {name}, {processor()}, {cores()} cores, {arguments.rounds} rounds\n")
    print(table(outcome["lenet5"], arguments.examples))
    print("\nSoftmax regression, batches of 100\n")
    print(table(outcome["softmax"], 55000))


def processor() -> str:
    """Return the processor's name, and whether it has AVX-512, without which TensorFlow leaves oneDNN off."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.machine()
    model = next(line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name"))
    return f"{model} {'with' if 'avx512f' in text else 'without'} AVX-512"


if __name__ == "__main__":
    main()
