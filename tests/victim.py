"""A program for tests to kill: it trains to the end, goes on where it was killed, and tells what came out.

Without arguments, each line it reads is a folder. It forks a process that trains
there, prints its number, and when it ends its exit code. TensorFlow is thus
imported once. With a folder, it trains every kind of network there, with a
folder and the word `few` only some; with a folder and a number, it starts so
many runs there at once.
"""

import dataclasses
import hashlib
import json
import os
import sys
import traceback
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np

from lenet_lab import (
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
# Every network and optimizer of the lab, dropout included, by both loops.
KINDS = {
    "softmax, gradient descent": (build_softmax_regression, lambda: tf.train.GradientDescentOptimizer(0.01), True),
    "LeNet-5, gradient descent": (build_lenet5, lambda: tf.train.GradientDescentOptimizer(0.02), True),
    "LeNet-5, Adam": (build_lenet5, lambda: tf.train.AdamOptimizer(0.001), True),
    "LeNet-5, Adam, dropout": (build_lenet5_dropout, lambda: tf.train.AdamOptimizer(0.001), True),
    "LeNet-5, Adam, dropout, plain loop": (build_lenet5_dropout, lambda: tf.train.AdamOptimizer(0.001), False),
}
FEW = ("softmax, gradient descent", "LeNet-5, Adam, dropout", "LeNet-5, Adam, dropout, plain loop")


def digits() -> Datasets:
    """Noise with labels: to be trained on, not to be learnt."""
    rng = np.random.RandomState(0)

    def noise(count: int) -> DataSet:
        images = rng.randint(0, 256, (count, 28, 28, 1)).astype(np.uint8)
        return DataSet(images, np.eye(10)[rng.randint(0, 10, count)], name="noise")

    return Datasets(train=noise(64 * BATCHES), validation=noise(100), test=noise(100))


def digest(run: Run) -> str:
    """SHA-256 of every variable and every number measured, bit by bit."""
    with run.classifier.graph.as_default():
        variables = run.session.run(tf.global_variables())
    measured = dataclasses.asdict(run.history) | {"seconds": None}
    return hashlib.sha256(b"".join(v.tobytes() for v in variables) + json.dumps(measured).encode()).hexdigest()


def train(folder: str) -> None:
    """Train in `folder/run_%02d` to the last epoch, from the last checkpoint if there is one."""
    build, optimizer, _ = KINDS["LeNet-5, Adam, dropout"]
    classifier = build_classifier(build, optimizer())
    run = resume_or_start(classifier, f"{folder}/run_%02d", seed=3)
    with run, open(f"{folder}/began_at", "a") as began_at, redirect_stdout(sys.stderr):
        print(run.epoch, file=began_at, flush=True)
        optimize(run, digits(), EPOCHS - run.epoch, 64, checkpoint_every=CHECKPOINT_EVERY)
        Path(folder, "digest").write_text(digest(run))


def print_digests(folder: str, kinds: Iterable[str] = KINDS) -> None:
    """Train each kind for two epochs; print what came of it."""
    mnist = digits()
    for name in kinds:
        build, optimizer, fast = KINDS[name]
        with start_run(build_classifier(build, optimizer()), f"{folder}/run_%02d", seed=7) as run:
            with redirect_stdout(sys.stderr):
                optimize(run, mnist, 2, 64, fast=fast)
            print(f"{name}: {digest(run)}")


def start_many(folder: str, count: int) -> None:
    """Start a run in each of many processes, one beside the other; print their directories."""
    processes = []
    for _ in range(count):
        process = os.fork()
        if not process:
            build, optimizer, _ = KINDS["softmax, gradient descent"]
            with start_run(build_classifier(build, optimizer()), f"{folder}/run_%02d") as run:
                with redirect_stdout(sys.stderr):
                    optimize(run, digits(), 1, 64)
                os.write(1, f"{run.directory}\n".encode())  # at once: lines don't mix
            os._exit(0)
        processes.append(process)
    for process in processes:
        os.waitpid(process, 0)


def serve() -> None:
    for line in sys.stdin:
        process = os.fork()
        if not process:
            try:
                train(line.strip())
            except BaseException:
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
