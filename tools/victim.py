"""Trains in processes that tests may kill, and prints digests that tests can compare (tests/test_reliability.py).

The arguments choose what it does:

- None: each line of the standard input is a folder. A process is forked that
  trains there. Its number is printed at once, and its exit code when it ends.
  So TensorFlow is imported only once.
- FOLDER: train every kind of network there, and print a digest of each.
- FOLDER few: the same for only some of them.
- FOLDER NUMBER: train this many runs there, all at the same time.
"""

import dataclasses
import hashlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lenet_lab import (
    Classifier,
    build_classifier,
    build_lenet5,
    build_lenet5_dropout,
    build_softmax_regression,
    optimize,
    start_run,
    tf,
)
from lenet_lab.checkpoints import resume_or_start
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


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            serve()
        case [folder]:
            print_digests(folder)
        case [folder, "few"]:
            print_digests(folder, FEW)
        case [folder, count]:
            start_many(folder, int(count))
