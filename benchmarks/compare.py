"""Every way to run this lab, timed side by side: `make benchmark` writes results.json and figures beside this file."""

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
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from lenet_lab import input_data, tf
from lenet_lab.figures import COLOURS, write_figure
from lenet_lab.loop import cores
from lenet_lab.models import markdown_table

HERE = Path(__file__).parent
BATCH_SIZES = (1, 8, 32, 128, 512, 1024, 4096)
TRAINING_SETS = (1000, 5000, 20000, 55000)


class Contender(NamedTuple):
    """A way to train: a script of `contenders`, in an environment of its own or in the lab's."""

    title: str
    script: str
    packages: tuple[str, ...] = ()  # what its environment has; none: it runs in the lab's
    variables: dict[str, str] = {}
    python: str = "python3"  # one that its packages install on


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
    """A contender's process, which waits for what to do."""

    def __init__(self, contender: Contender, data: Path, *options: str):
        python = environment(contender)
        started = time.time()
        # What it runs on is told in CONTENDERS, not inherited; the lab switches oneDNN on for itself.
        variables = {k: v for k, v in os.environ.items() if k != "TF_ENABLE_ONEDNN_OPTS"}
        variables |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TQDM_DISABLE": "1", **contender.variables}
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [python, str(HERE / "contenders" / contender.script), str(data), *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=variables,
        )  # fmt: skip
        self.seconds_to_first_step = self._answer()["ready"] - started

    def ask(self, what: str) -> dict:
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise RuntimeError(f"{self.process.args[1]} failed:\n{self.errors.read()[-3000:]}")
        return json.loads(line)


def environment(contender: Contender) -> str:
    """The Python of a contender's virtual environment, made if need be."""
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
    """A Python of this name on the path or among pyenv's versions; `python3` is the one that runs this."""
    if name == "python3":
        return sys.executable
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    found = sorted(versions.glob(f"{name.removeprefix('python')}.*/bin/python"))
    return str(found[-1]) if found else shutil.which(name)


def write_data(path: Path) -> str:
    """The training images and labels as the contenders read them; returns the data's name."""
    mnist = input_data.read_data_sets("MNIST_data/", one_hot=True)
    np.savez(path, images=mnist.train.images, labels=mnist.train.labels.argmax(axis=1).astype(np.uint8))
    return mnist.name


def race(contenders: Sequence[Contender], data: Path, rounds: int, *options: str) -> dict[str, dict]:
    """Each contender trains an epoch per round, one after the other, and another one is first each time."""
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
    """Seconds per 1,000 images, ours and the lab's loop, by batch size and by the training set's size."""
    curves = {"batch size": {}, "training set": {}}
    settings = [("batch size", size, size, max(1000, min(20000, 40 * size))) for size in BATCH_SIZES]
    settings += [("training set", size, 128, size) for size in TRAINING_SETS]
    for kind, value, batch_size, examples in tqdm(settings, desc="growth", leave=False):
        options = ("--batch-size", str(batch_size), "--examples", str(examples))
        raced = race([OURS, LAB_LOOP], data, 3, *options)
        whole = examples // batch_size * batch_size
        curves[kind][value] = {t: statistics.median(r["seconds"]) * 1000 / whole for t, r in raced.items()}
    return curves


def ratios(results: dict[str, dict], title: str) -> list[float]:
    """How many times as long as ours it took, round by round."""
    return [other / ours for other, ours in zip(results[title]["seconds"], results[OURS.title]["seconds"])]


def table(results: dict[str, dict], examples: int) -> str:
    """The results as Markdown."""
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
    """How long each took beside ours, and how the cost grows."""
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="epochs of each contender (default: 7)")
    parser.add_argument("--examples", type=int, default=55000, help="training images (default: all)")
    arguments = parser.parse_args()
    contenders = [c for c in CONTENDERS if find_python(c.python)]
    for missing in [c for c in CONTENDERS if c not in contenders]:
        print(f"{missing.title} is left out: no {missing.python} here", file=sys.stderr)
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
    """The processor's name, and whether it has the AVX-512 that TensorFlow asks of it to use oneDNN unasked."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.machine()
    model = next(line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name"))
    return f"{model} {'with' if 'avx512f' in text else 'without'} AVX-512"


if __name__ == "__main__":
    main()
