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

from victim import KINDS, digits

from lenet_lab import Classifier, build_lenet5_dropout, optimize, start_run
from lenet_lab.beyond.experiments import CONFIGURATIONS

EPOCHS, BATCH_SIZE, SEED = 2, 64, 7
LAB = {  # from the name in the recorded file to the kind of training
    "softmax gd": "softmax, gradient descent",
    "lenet5 gd": "LeNet-5, gradient descent",
    "lenet5 adam": "LeNet-5, Adam",
    "dropout adam": "LeNet-5, Adam, dropout",
}
BEYOND = ("scheduled", "affine", "elastic", "decayed", "sharpness_aware")


class Training(NamedTuple):
    """A short training on random images."""

    name: str
    classifier: Classifier
    keep_prob: float


def trainings() -> Iterator[Training]:
    """One training of each kind that the notebooks and the experiments use."""
    for name, kind in LAB.items():
        yield Training(name, KINDS[kind].classifier(), 0.75)
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
