"""Measure how far this package is from TensorFlow 1.15.5, by repeating trainings that were recorded there.

`python -m lenet_lab.tf1.fidelity`, run in the project's folder, writes `docs/fidelity.md`.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lenet_lab.analysis.tables import markdown_table
from lenet_lab.classifier import Classifier, build_classifier
from lenet_lab.compat import tf
from lenet_lab.data.idx import DataError
from lenet_lab.input_data import DataSet, Datasets, read_data_sets
from lenet_lab.models import build_lenet5, build_softmax_regression

GOLDEN = Path("tests/golden")
DOCUMENT = Path("docs/fidelity.md")
PROGRAMS = Path("docs/tf1_programs.json")  # written by tools/tally_tf1_programs.py
BUILDERS = {"softmax": build_softmax_regression, "lenet5": build_lenet5}
OPTIMIZERS: dict[str, Callable[[float], tf.train.Optimizer]] = {
    "gd": tf.train.GradientDescentOptimizer,
    "adam": tf.train.AdamOptimizer,
}


class Replay(NamedTuple):
    """The results of a repeated training, in the form of the recording."""

    rows: np.ndarray  # [steps, 3]: loss before the update, loss after, accuracy after, of the same batch
    final_norms: list[float]  # of each trainable variable, in layer order
    last_logits: np.ndarray  # [4, 10], of the last batch's first images


def replay(recorded: dict[str, Any], data_seed: int, init_seed: int) -> Replay:
    """Repeat a recorded training on random data: same model, optimizer, batches and initial values.

    Parameters
    ----------
    recorded : dict
        A case of `tests/golden/tf115_training.json`; the file's `recipe` says how
        batches and initial values are drawn.
    data_seed, init_seed : int
        From the same file.

    Returns
    -------
    Replay
    """
    classifier = _classifier(recorded)
    rng = np.random.RandomState(data_seed)
    batches = [_random_batch(rng, classifier, recorded["batch"]) for _ in range(recorded["steps"])]
    rows = []
    with tf.Session(graph=classifier.graph) as session:
        session.run(classifier.init_op)
        # The recorded softmax regression starts at zero, as the lab's does.
        set_initial_values(session, classifier, init_seed, zeros=recorded["model"] == "softmax")
        for batch in batches:
            before = session.run(classifier.loss, batch)
            session.run(classifier.opt_step, batch)
            rows.append((before, *session.run([classifier.loss, classifier.accuracy], batch)))
        values = session.run(classifier.graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES))
        logits = session.run(classifier.logits, {classifier.x: batches[-1][classifier.x][:4]})
    return Replay(np.array(rows, float), [float(np.linalg.norm(value)) for value in values], logits)


def replay_mnist(recorded: dict[str, Any], mnist: Datasets, init_seed: int, batch: int) -> np.ndarray:
    """Repeat a recorded training on MNIST.

    Parameters
    ----------
    recorded : dict
        A case of `tests/golden/tf115_mnist.json`.
    mnist : Datasets
        Read with the seed of that file and not used since, so that `next_batch`
        serves the recorded batches.
    init_seed, batch : int
        From the same file.

    Returns
    -------
    float array [steps]
        The loss of each batch after its update.
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
    """Set the trainable variables to the initial values of the recordings, which NumPy draws from a seed.

    Parameters
    ----------
    session : tf.Session
        A session of the classifier's graph.
    classifier : Classifier
    seed : int
    zeros : bool, default False
        Set every variable to zero. Biases always are.
    """
    rng = np.random.RandomState(seed)
    for variable in classifier.graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES):
        value = (np.clip(rng.standard_normal(variable.shape.as_list()), -2, 2) * 0.1).astype(np.float32)
        variable.load(np.zeros_like(value) if zeros or value.ndim == 1 else value, session)


def reshuffle_seconds(images: np.ndarray, rounds: int = 7) -> tuple[float, float]:
    """Time a reshuffle with the first batch after it, in two ways.

    Parameters
    ----------
    images : float array [count, 784]
    rounds : int, default 7
        How often each way is timed; they take turns.

    Returns
    -------
    moving, ours : float
        Median seconds when all images are moved, as 1.15.5 does, and with `DataSet`.
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
        data.next_batch(200)  # the last 100 of an epoch, a shuffle, the first 100 of the next epoch
        ours.append(time.perf_counter() - started)
        data.next_batch(count - 200, shuffle=False)
    return float(np.median(moving)), float(np.median(ours))


def document() -> str:
    """Measure everything now and return the text of `docs/fidelity.md`.

    Returns
    -------
    str

    Raises
    ------
    OSError
        If a recording is missing: the working directory must be the project's folder.
    DataError
        If MNIST is missing.
    """
    introduction = (
        f"`python -m lenet_lab.tf1.fidelity` wrote this with TensorFlow {tf.VERSION}. The recordings in `tests/golden` "
        "were made with the real TensorFlow 1.15.5. `tests/test_fidelity.py`, `test_records.py` and `test_tf1.py` "
        "check these claims on every run."
    )
    numbers = (
        "Each training starts with the recorded initial values and sees the recorded batches. The table shows how far "
        "its losses are from the recorded ones, at the step where they differ most. At first, Adam divides by second "
        "moments that are nearly zero, which magnifies rounding errors. Its bound therefore covers only the first 20 "
        "steps."
    )
    distances = [("training", "steps", "largest distance", "in the first 20 steps", "bound"), *_distances()]
    parts = [
        "# How faithful to TensorFlow 1.15.5?",
        introduction,
        "## The same numbers",
        numbers,
        markdown_table(distances),
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
    """The rows of the table: each recorded training, and how far ours is from it."""
    rows: list[tuple[str, ...]] = []
    training = json.loads((GOLDEN / "tf115_training.json").read_text())
    for name, recorded in training["cases"].items():
        ours = replay(recorded, training["data_seed"], training["init_seed"]).rows[:, :2]
        distance = np.abs(ours - np.array(recorded["rows"])[:, :2]).max(axis=1)
        bound = "5e-4 in 20" if recorded["optimizer"] == "adam" else "1e-5"
        rows.append((f"{name}, random data", *_count_and_maxima(distance), bound))
    on_mnist = json.loads((GOLDEN / "tf115_mnist.json").read_text())
    for name, recorded in on_mnist["cases"].items():
        mnist = read_data_sets("MNIST_data/", one_hot=True, seed=on_mnist["seed"], fallback=False)
        losses = replay_mnist(recorded, mnist, on_mnist["init_seed"], on_mnist["batch"])
        bound = "5e-4 in 20" if recorded["optimizer"] == "adam" else "1e-5"
        rows.append((f"{name}, {mnist.name}", *_count_and_maxima(np.abs(losses - recorded["losses"])), bound))
    return rows


def _count_and_maxima(distance: np.ndarray) -> tuple[str, str, str]:
    """How many steps there are, the largest distance of all, and of the first 20."""
    return str(len(distance)), f"{distance.max():.1e}", f"{distance[:20].max():.1e}"


def _batches() -> str:
    cases = json.loads((GOLDEN / "tf115_next_batch.json").read_text())["cases"]
    calls = sum(len(case["calls"]) for case in cases.values())
    moving, ours = reshuffle_seconds(np.zeros((55000, 784), np.float32))
    return (
        f"The recordings have {calls} calls of `next_batch`, in {len(cases)} mixes of batch sizes and shuffle flags; "
        "here each call serves the same examples. 1.15.5 moves the images to shuffle them. That takes "
        f"{1000 * moving:.0f} ms for 55,000 images and the first batch, {moving / ours:.0f} times as long as the "
        f"{1000 * ours:.1f} ms here."
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
    """Write the document.

    Returns
    -------
    int
        The process's exit status: 0, or 1 if something is missing.
    """
    try:
        text = document()
    except (OSError, DataError) as error:
        print(f"{error}; run this in the project's folder, with LENET_LAB_DATA set to MNIST's folder", file=sys.stderr)
        return 1
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
