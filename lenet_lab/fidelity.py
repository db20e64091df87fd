"""How far from TensorFlow 1.15.5? Its recorded training replayed on the package's own graph."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lenet_lab.classifier import Classifier, build_classifier
from lenet_lab.compat import tf
from lenet_lab.models import build_lenet5, build_softmax_regression

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
    classifier = build_classifier(
        BUILDERS[recorded["model"]], OPTIMIZERS[recorded["optimizer"]](recorded["learning_rate"])
    )
    rng = np.random.RandomState(data_seed)
    rows = []
    with tf.Session(graph=classifier.graph) as session:
        session.run(classifier.init_op)
        set_initial_values(session, classifier, init_seed, zeros=recorded["model"] == "softmax")
        for _ in range(recorded["steps"]):
            feed = _random_batch(rng, classifier, recorded["batch"])
            before = session.run(classifier.loss, feed)
            session.run(classifier.opt_step, feed)
            rows.append((before, *session.run([classifier.loss, classifier.accuracy], feed)))
        values = session.run(classifier.graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES))
        logits = session.run(classifier.logits, {classifier.x: feed[classifier.x][:4]})
    return Replay(np.array(rows, float), [float(np.linalg.norm(value)) for value in values], logits)


def set_initial_values(session: tf.Session, classifier: Classifier, seed: int, zeros: bool = False) -> None:
    """Give the trainable variables the recordings' initial values, which NumPy draws from a seed.

    Parameters
    ----------
    session : tf.Session
        Of the classifier's graph.
    classifier : Classifier
    seed : int
    zeros : bool, default False
        Start from zeros, as softmax regression does; biases always do.
    """
    rng = np.random.RandomState(seed)
    for variable in classifier.graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES):
        value = (np.clip(rng.standard_normal(variable.shape.as_list()), -2, 2) * 0.1).astype(np.float32)
        variable.load(np.zeros_like(value) if zeros or value.ndim == 1 else value, session)


def _random_batch(rng: np.random.RandomState, classifier: Classifier, size: int) -> dict[tf.Tensor, np.ndarray]:
    images = rng.random_sample((size, 784)).astype(np.float32)
    labels = np.eye(10, dtype=np.float32)[rng.randint(0, 10, size)]
    return {classifier.x: images, classifier.y_true: labels}
