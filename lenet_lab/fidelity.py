"""How far from TensorFlow 1.15.5? Its recorded training replayed on the package's own graph, told in a document.

`python -m lenet_lab.fidelity` writes `docs/fidelity.md`.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lenet_lab.classifier import Classifier, build_classifier
from lenet_lab.compat import tf
from lenet_lab.input_data import DataError, DataSet, Datasets, read_data_sets
from lenet_lab.models import build_lenet5, build_softmax_regression, markdown_table

GOLDEN = Path("tests/golden")
DOCUMENT = Path("docs/fidelity.md")
PROGRAMS = Path("docs/tf1_programs.json")  # written by tests/tally_tf1_programs.py
BUILDERS = {"softmax": build_softmax_regression, "lenet5": build_lenet5}
OPTIMIZERS: dict[str, Callable[[float], tf.train.Optimizer]] = {
    "gd": tf.train.GradientDescentOptimizer,
    "adam": tf.train.AdamOptimizer,
}


class Replay(NamedTuple):
    """What a replayed training gave, in the form of the recording."""

    rows: np.ndarray  # [steps, 3]: loss before the update, loss after, accuracy after, of the same batch
    final_norms: list[float]  # of each trainable variable, in layer order
    last_logits: np.ndarray  # [4, 10], of the last batch's first images


def replay(recorded: dict[str, Any], data_seed: int, init_seed: int) -> Replay:
    """Train as a recording says: its model, optimizer, random batches and initial values.

    Parameters
    ----------
    recorded : dict
        A case of `tests/golden/tf115_training.json`; the file's `recipe` says
        how values and batches are drawn.
    data_seed, init_seed : int
        From the same file.
    """
    classifier = _classifier(recorded)
    rng = np.random.RandomState(data_seed)
    rows = []
    with tf.Session(graph=classifier.graph) as session:
        session.run(classifier.init_op)
        # The recipe starts softmax regression from zeros, as the lab does.
        set_initial_values(session, classifier, init_seed, zeros=recorded["model"] == "softmax")
        for _ in range(recorded["steps"]):
            feed = _random_batch(rng, classifier, recorded["batch"])
            before = session.run(classifier.loss, feed)
            session.run(classifier.opt_step, feed)
            rows.append((before, *session.run([classifier.loss, classifier.accuracy], feed)))
        values = session.run(classifier.graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES))
        logits = session.run(classifier.logits, {classifier.x: feed[classifier.x][:4]})
    return Replay(np.array(rows, float), [float(np.linalg.norm(value)) for value in values], logits)


def replay_mnist(recorded: dict[str, Any], mnist: Datasets, init_seed: int, batch: int) -> np.ndarray:
    """The loss of each batch after its update, [steps], on data read with the recording's seed.

    Parameters
    ----------
    recorded : dict
        A case of `tests/golden/tf115_mnist.json`.
    mnist : Datasets
        Just read: its `next_batch` serves the recording's batches.
    init_seed, batch : int
        From the same file.
    """
    classifier = _classifier(recorded)
    losses = []
    with tf.Session(graph=classifier.graph) as session:
        session.run(classifier.init_op)
        set_initial_values(session, classifier, init_seed)
        for _ in recorded["losses"]:
            images, labels = mnist.train.next_batch(batch)
            feed = {classifier.x: images, classifier.y_true: labels}
            session.run(classifier.opt_step, feed)
            losses.append(session.run(classifier.loss, feed))
    return np.array(losses, float)


def set_initial_values(session: tf.Session, classifier: Classifier, seed: int, zeros: bool = False) -> None:
    """Give the trainable variables the recordings' initial values, which NumPy draws from a seed.

    Parameters
    ----------
    session : tf.Session
        Of the classifier's graph.
    classifier : Classifier
    seed : int
    zeros : bool, default False
        Start every variable at zero; biases always do.
    """
    rng = np.random.RandomState(seed)
    for variable in classifier.graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES):
        value = (np.clip(rng.standard_normal(variable.shape.as_list()), -2, 2) * 0.1).astype(np.float32)
        variable.load(np.zeros_like(value) if zeros or value.ndim == 1 else value, session)


def reshuffle_seconds(images: np.ndarray, rounds: int = 7) -> tuple[float, float]:
    """Median seconds of a reshuffle and its first batch: by moving all images as 1.15.5 does, and here.

    Parameters
    ----------
    images : float array [count, 784]
    rounds : int, default 7
        Timed in turn.
    """
    count = len(images)
    data = DataSet(images.reshape(count, 28, 28, 1), np.zeros(count), dtype=tf.uint8, seed=1)
    data.next_batch(count - 100, shuffle=False)
    moving, ours = [], []
    for _ in range(rounds):
        started = time.perf_counter()
        order = np.arange(count)
        np.random.shuffle(order)
        images[order][:200]
        moving.append(time.perf_counter() - started)
        started = time.perf_counter()
        data.next_batch(200)  # the epoch's last 100, a shuffle, the first 100 of the next
        ours.append(time.perf_counter() - started)
        data.next_batch(count - 200, shuffle=False)
    return float(np.median(moving)), float(np.median(ours))


def document() -> str:
    """The text of `docs/fidelity.md`, measured now."""
    parts = [
        "# How faithful to TensorFlow 1.15.5?",
        f"Written by `python -m lenet_lab.fidelity` with TensorFlow {tf.VERSION}. The recordings in `tests/golden` "
        "are by the real TensorFlow 1.15.5; `tests/test_fidelity.py`, `test_records.py` and `test_tf1.py` hold these "
        "claims on every run.",
        "## The same numbers",
        "Training with the same initial values and batches; the largest distance between the losses of any step. "
        "Adam divides by second moments that are nearly zero at first, which magnifies rounding: there the bound "
        "is for the first 20 steps.",
        markdown_table([("training", "steps", "largest distance", "in the first 20", "bound"), *_distances()]),
        "## The same batches",
        _batches(),
        "## The same programs",
        *_programs(),
    ]
    return "\n\n".join(parts) + "\n"


def _classifier(recorded: dict[str, Any]) -> Classifier:
    optimizer = OPTIMIZERS[recorded["optimizer"]](recorded["learning_rate"])
    return build_classifier(BUILDERS[recorded["model"]], optimizer)


def _random_batch(rng: np.random.RandomState, classifier: Classifier, size: int) -> dict[tf.Tensor, np.ndarray]:
    images = rng.random_sample((size, 784)).astype(np.float32)
    labels = np.eye(10, dtype=np.float32)[rng.randint(0, 10, size)]
    return {classifier.x: images, classifier.y_true: labels}


def _distances() -> list[tuple[str, ...]]:
    rows = []
    training = json.loads((GOLDEN / "tf115_training.json").read_text())
    for name, recorded in training["cases"].items():
        ours = replay(recorded, training["data_seed"], training["init_seed"]).rows[:, :2]
        distance = np.abs(ours - np.array(recorded["rows"])[:, :2]).max(axis=1)
        bound = "5e-4 in 20" if recorded["optimizer"] == "adam" else "1e-5"
        rows.append((f"{name}, random data", *_told(distance), bound))
    on_mnist = json.loads((GOLDEN / "tf115_mnist.json").read_text())
    for name, recorded in on_mnist["cases"].items():
        mnist = read_data_sets("MNIST_data/", one_hot=True, seed=on_mnist["seed"], fallback=False)
        ours = replay_mnist(recorded, mnist, on_mnist["init_seed"], on_mnist["batch"])
        bound = "1e-5 in 20" if recorded["optimizer"] == "adam" else "1e-5"
        rows.append((f"{name}, {mnist.name}", *_told(np.abs(ours - recorded["losses"])), bound))
    return rows


def _told(distance: np.ndarray) -> tuple[str, str, str]:
    return str(len(distance)), f"{distance.max():.1e}", f"{distance[:20].max():.1e}"


def _batches() -> str:
    cases = json.loads((GOLDEN / "tf115_next_batch.json").read_text())["cases"]
    calls = sum(len(case["calls"]) for case in cases.values())
    moving, ours = reshuffle_seconds(np.zeros((55000, 784), np.float32))
    return (
        f"`next_batch` serves the recorded examples in all {calls} recorded calls of {len(cases)} mixes of batch sizes "
        f"and shuffle flags. A reshuffle of 55,000 images with its first batch takes {1000 * ours:.1f} ms; moving the "
        f"images, as 1.15.5 does, takes {1000 * moving:.0f} ms here: {moving / ours:.0f} times as long."
    )


def _programs() -> list[str]:
    if not PROGRAMS.exists():
        return []
    programs = json.loads(PROGRAMS.read_text())
    ran = sum(program["ran"] for program in programs["programs"])
    rows = [("program", "from", "result")]
    rows += [(p["program"], p["from"], p["result"]) for p in programs["programs"]]
    return [programs["how"], f"{ran} of {len(programs['programs'])} ran.", markdown_table(rows)]


def main() -> int:
    """Write the document; returns the process's exit status."""
    try:
        text = document()
    except (OSError, DataError) as error:
        print(f"{error}; run this in the project's folder, with MNIST at hand", file=sys.stderr)
        return 1
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
