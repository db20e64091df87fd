"""Trains in processes that tests may kill, and prints digests that tests can compare (tests/test_reliability.py).

The arguments choose what it does:

- None: each line of the standard input is a folder. A process is forked that
  trains there. Its number is printed at once, and its exit code when it ends.
  So TensorFlow is imported only once.
- FOLDER: train every kind of network there, and print a digest of each.
- FOLDER few: the same for only some of them.
- FOLDER NUMBER: train this many runs there, all at the same time.
- clients: each line of the standard input is a call of one of `CLIENTS`, for a
  process of its own that ends as a program does (tests/test_cluster.py).
"""

import ctypes
import dataclasses
import hashlib
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lenet_lab import (
    Classifier,
    __main__,
    build_classifier,
    build_lenet5,
    build_lenet5_dropout,
    build_softmax_regression,
    optimize,
    start_run,
    tf,
)
from lenet_lab.checkpoints import resume_or_start
from lenet_lab.cluster.processes import start_cluster
from lenet_lab.input_data import DataSet, Datasets
from lenet_lab.runs import Run

EPOCHS, BATCHES, CHECKPOINT_EVERY = 20, 10, 2


class Kind(NamedTuple):
    """A network with its optimizer, and the loop to train it in."""

    classifier: Callable[[], Classifier]
    fast: bool = True


def softmax_classifier(rate: float = 0.01) -> Classifier:
    """Softmax regression, trained by gradient descent."""
    return build_classifier(build_softmax_regression, tf.train.GradientDescentOptimizer(rate))


def dropout_classifier() -> Classifier:
    """LeNet-5 with dropout, trained by Adam."""
    return build_classifier(build_lenet5_dropout, tf.train.AdamOptimizer(0.001))


# Every network and optimizer of the lab, and both loops.
KINDS = {
    "softmax, gradient descent": Kind(softmax_classifier),
    "LeNet-5, gradient descent": Kind(lambda: build_classifier(build_lenet5, tf.train.GradientDescentOptimizer(0.02))),
    "LeNet-5, Adam": Kind(lambda: build_classifier(build_lenet5, tf.train.AdamOptimizer(0.001))),
    "LeNet-5, Adam, dropout": Kind(dropout_classifier),
    "LeNet-5, Adam, dropout, plain loop": Kind(dropout_classifier, fast=False),
}
FEW = ("softmax, gradient descent", "LeNet-5, Adam, dropout", "LeNet-5, Adam, dropout, plain loop")


def digits() -> Datasets:
    """Random images with random labels: enough to train on, with nothing to learn."""
    rng = np.random.RandomState(0)

    def noise(count: int) -> DataSet:
        images = rng.randint(0, 256, (count, 28, 28, 1)).astype(np.uint8)
        return DataSet(images, np.eye(10)[rng.randint(0, 10, count)], name="noise")

    return Datasets(train=noise(64 * BATCHES), validation=noise(100), test=noise(100))


def digest(run: Run) -> str:
    """The SHA-256 of all variables and all measurements, except the times."""
    with run.classifier.graph.as_default():
        variables = run.session.run(tf.global_variables())
    measured = dataclasses.asdict(run.history) | {"seconds": None}
    return hashlib.sha256(b"".join(v.tobytes() for v in variables) + json.dumps(measured).encode()).hexdigest()


def train(folder: str) -> None:
    """Train in `folder/run_%02d` to the last epoch, from the last checkpoint if there is one.

    The file `began_at` gets the number of epochs that were done before; the file
    `digest` gets the digest of the trained run.
    """
    run = resume_or_start(dropout_classifier(), f"{folder}/run_%02d", seed=3)
    with run, open(f"{folder}/began_at", "a") as began_at, redirect_stdout(sys.stderr):
        print(run.epoch, file=began_at, flush=True)
        optimize(run, digits(), EPOCHS - run.epoch, 64, checkpoint_every=CHECKPOINT_EVERY)
        Path(folder, "digest").write_text(digest(run))


def print_digests(folder: str, kinds: Iterable[str] = KINDS) -> None:
    """Train each kind for two epochs, and print its digest."""
    mnist = digits()
    for name in kinds:
        kind = KINDS[name]
        with start_run(kind.classifier(), f"{folder}/run_%02d", seed=7) as run:
            with redirect_stdout(sys.stderr):
                optimize(run, mnist, 2, 64, fast=kind.fast)
            print(f"{name}: {digest(run)}")


def start_many(folder: str, count: int) -> None:
    """Train many runs at the same time, each in a process of its own, and print their directories."""
    processes = []
    for _ in range(count):
        process = os.fork()
        if not process:
            with start_run(softmax_classifier(), f"{folder}/run_%02d") as run:
                with redirect_stdout(sys.stderr):
                    optimize(run, digits(), 1, 64)
                os.write(1, f"{run.directory}\n".encode())  # in one piece, so that lines do not mix
            os._exit(0)
        processes.append(process)
    for process in processes:
        os.waitpid(process, 0)


def serve() -> None:
    """Train in each folder that is read, in a new process, and print the process's number and its exit code."""
    for line in sys.stdin:
        process = os.fork()
        if not process:
            try:
                train(line.strip())
            except BaseException:  # noqa: BLE001 - the child must never return into this loop
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(process, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


def train_on(target: str, folder: str, epochs: int) -> None:
    """Train on a cluster, with a checkpoint after each epoch."""
    with start_run(softmax_classifier(), f"{folder}/run_%02d", seed=3, target=target, shards=2) as run:
        optimize(run, digits(), epochs, 64, checkpoint_every=1)


def leave(target: str, folder: str) -> None:
    """End with an open session on a server."""
    global left_open
    left_open = start_run(softmax_classifier(), f"{folder}/run_%02d", target=target)
    print("leaving")


def hold_cluster() -> None:
    """Print the processes of a cluster, and keep it."""
    cluster = start_cluster(2)
    print(json.dumps([cluster._launcher.pid, *cluster.processes.values()]), flush=True)
    time.sleep(600)


def print_digest_on(cores: list[int], folder: str, shards: int | None, large: bool) -> None:
    """Train on some of the machine's cores, and print how many shards there were, and the digest."""
    os.sched_setaffinity(0, cores)
    classifier = dropout_classifier() if large else softmax_classifier()
    with start_run(classifier, f"{folder}/run_%02d", seed=3, shards=shards) as run:
        with redirect_stdout(sys.stderr):
            optimize(run, digits(), 1, 64)
        print(run.shards, digest(run))


def command(network: str | None, *arguments: str) -> int:
    """Be a command of the lab, in another network if one is named."""
    if network:
        clone_newnet = 0x40000000
        assert not ctypes.CDLL(None).setns(os.open(f"/run/netns/{network}", os.O_RDONLY), clone_newnet)
    return __main__.main(list(arguments))


CLIENTS = {
    "command": command,
    "train_on": train_on,
    "leave": leave,
    "hold_cluster": hold_cluster,
    "print_digest_on": print_digest_on,
}


def start_clients() -> None:
    """Start a process for each line: a client's name, its arguments, and the file for its output and exit code."""
    import_module("tensorboard.plugins.hparams.summary")  # once for all of them, since it takes seconds
    # The other commands would cost seconds in each process, too.
    __main__.entry_points = lambda group: [entry for entry in entry_points(group=group) if entry.name == "serve"]
    for line in sys.stdin:
        name, arguments, output = json.loads(line)
        process = os.fork()
        if not process:
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for descriptor in (1, 2):
                os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
            sys.exit(CLIENTS[name](*arguments))
        print(process, flush=True)
        threading.Thread(target=write_exit_code, args=[process, output], daemon=True).start()


def write_exit_code(process: int, output: str) -> None:
    """Write a process's exit code, negative after a signal, when it has ended."""
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    Path(f"{output}.part").write_text(str(code))
    os.rename(f"{output}.part", f"{output}.code")


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            serve()
        case ["clients"]:
            start_clients()
        case [folder]:
            print_digests(folder)
        case [folder, "few"]:
            print_digests(folder, FEW)
        case [folder, count]:
            start_many(folder, int(count))
