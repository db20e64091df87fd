"""Record the losses of short trainings: `python tools/record_trainings.py FILE`.

tests/test_training.py compares them with tests/golden/trainings.json, which was
recorded at commit 26b9bb8, before the package was divided into folders. Record
that file again only for a change that is meant to change the losses.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

from victim import digits

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
from lenet_lab.beyond.experiments import CONFIGURATIONS

EPOCHS, BATCH_SIZE, SEED = 2, 64, 7
BEYOND = ("scheduled", "affine", "elastic", "decayed", "sharpness_aware")


class Training(NamedTuple):
    """A short training on random images."""

    name: str
    classifier: Classifier
    keep_prob: float


def trainings() -> Iterator[Training]:
    """One training of each kind that the notebooks and the experiments use."""
    descent, adam = tf.train.GradientDescentOptimizer, tf.train.AdamOptimizer
    yield Training("softmax gd", build_classifier(build_softmax_regression, descent(0.01)), 0.75)
    yield Training("lenet5 gd", build_classifier(build_lenet5, descent(0.02)), 0.75)
    yield Training("lenet5 adam", build_classifier(build_lenet5, adam(0.001)), 0.75)
    yield Training("dropout adam", build_classifier(build_lenet5_dropout, adam(0.001)), 0.75)
    short = {"epochs": EPOCHS, "batch_size": BATCH_SIZE}
    for name in BEYOND:
        yield Training(name, CONFIGURATIONS[name]._replace(**short).classifier(640), 0.75)
    everything = CONFIGURATIONS["beyond"]._replace(build=build_lenet5_dropout, **short)
    yield Training("beyond with dropout", everything.classifier(640), 0.6)


def golden_key(training: Training, fast: bool) -> str:
    """The key of a training's losses in the recorded file."""
    return f"{training.name}, {'fast' if fast else 'plain'}"


def step_losses(training: Training, fast: bool, folder: str) -> list[float]:
    """The loss of each batch, measured after its update."""
    with start_run(training.classifier, f"{folder}/run_%02d", SEED) as run:
        return optimize(run, digits(), EPOCHS, BATCH_SIZE, training.keep_prob, fast).step_loss


def main(file: str) -> None:
    losses = {}
    with tempfile.TemporaryDirectory() as folder:
        for training in trainings():
            for fast in (True, False):
                losses[golden_key(training, fast)] = step_losses(training, fast, folder)
    with open(file, "w") as out:
        json.dump(losses, out, indent=1)


if __name__ == "__main__":
    main(sys.argv[1])
