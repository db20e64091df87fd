"""What a trained network makes of images: probabilities, mistakes, the outputs of its layers."""

import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lenet_lab.analysis.layers import layer_outputs, layer_parameters
from lenet_lab.checkpoints import restore_model, saved_shapes
from lenet_lab.classifier import build_classifier
from lenet_lab.compat import tf
from lenet_lab.input_data import DataSet
from lenet_lab.models import build_lenet5, build_softmax_regression
from lenet_lab.paths import LabError
from lenet_lab.runs import Model

EVALUATION_BATCH = 2500  # images in one `session.run`, which bounds the memory


class Mistakes(NamedTuple):
    """Misclassified images of a data set, the most confident mistakes first."""

    index: np.ndarray  # type: ignore[assignment]  # int [count], in the data set
    images: np.ndarray  # float32 [count, 784]
    true: np.ndarray  # int [count]
    predicted: np.ndarray  # int [count]
    probability: np.ndarray  # float32 [count], of the predicted class


def open_model(path: str | Path) -> Model:
    """Open a saved model of one of the lab's networks.

    Parameters
    ----------
    path : str or path
        What `save_model` returned.

    Returns
    -------
    Model
        Use it in a `with` block, or call its `close`.

    Raises
    ------
    ValueError
        If there is no saved model of the lab at this path.
    """
    saved = saved_shapes(str(path))
    builders = {"model/lenet5/layer1/weights1": build_lenet5, "weights": build_softmax_regression}
    build = next((builders[name] for name in builders if name in saved), None)
    if build is None:
        raise LabError(f"the model saved at {path} is neither LeNet-5 nor softmax regression; use restore_model for it")
    # Gradient descent has no variables of its own, so a model fits whatever optimizer trained it.
    model = Model(build_classifier(build, tf.train.GradientDescentOptimizer(0.0)))
    try:
        restore_model(model, str(path))
    except BaseException:
        model.close()
        raise
    return model


def predict(run: Model, images: np.ndarray, keep_prob: float = 1.0) -> np.ndarray:
    """The probability of each class for each image.

    Parameters
    ----------
    run : Model
        An opened model or a run.
    images : float32 array [count, 784]
        Values in [0, 1]; 1 is ink.
    keep_prob : float, default 1
        Below 1, a classifier with dropout leaves it on.

    Returns
    -------
    float32 array [count, 10]
        Rows sum to 1.
    """
    c = run.classifier
    dropout = c.feed_dropout(keep_prob)
    probabilities = [run.session.run(c.y_pred, {c.x: images[part]} | dropout) for part in parts(len(images))]
    return np.concatenate(probabilities or [np.zeros((0, 10), np.float32)])


def parts(count: int) -> list[slice]:
    """Parts of a set of images, all about as large and each of at most `EVALUATION_BATCH`."""
    number = -(-count // EVALUATION_BATCH)
    ends = [count * part // number for part in range(number + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(ends)]


def find_mistakes(run: Model, dataset: DataSet) -> Mistakes:
    """The images of a data set with one-hot labels that the network misclassifies."""
    return mistakes_among(dataset, predict(run, dataset.images))


def mistakes_among(dataset: DataSet, probabilities: np.ndarray) -> Mistakes:
    """The misclassified images, given the probabilities [count, 10] that the network computed."""
    true, predicted = dataset.labels.argmax(axis=1), probabilities.argmax(axis=1)
    wrong = np.flatnonzero(true != predicted)
    wrong = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")]
    return Mistakes(wrong, dataset.images[wrong], true[wrong], predicted[wrong], probabilities[wrong].max(axis=1))


def layer_activations(run: Model, images: np.ndarray) -> dict[str, np.ndarray]:
    """The output of each layer for some images, in layer order.

    Parameters
    ----------
    run : Model
        An opened model or a run.
    images : float32 array [count, 784]

    Returns
    -------
    dict
        From a title, such as ``"layer1 ReLU"``, to a float32 array [count, ...].
    """
    outputs = layer_outputs(run.classifier.graph, run.classifier.logits)
    tensors = [run.classifier.graph.get_tensor_by_name(output.tensor) for output in outputs]
    values = run.session.run(tensors, {run.classifier.x: images})
    return {output.title: value for output, value in zip(outputs, values)}


def trained_weights(run: Model) -> dict[str, np.ndarray]:
    """The value of every trainable variable, by its name in the graph without the scope `model`."""
    variables = run.classifier.graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES)
    values = run.session.run(variables)
    return {variable.op.name.removeprefix("model/"): value for variable, value in zip(variables, values)}


def multiply_adds(run: Model) -> dict[str, int]:
    """The number of multiplications, each with an addition, that an image needs in each layer, by scope.

    A weight is used once for each place at which its layer computes an output.
    """
    graph = run.classifier.graph
    places: dict[str, int] = {}
    for output in layer_outputs(graph, run.classifier.logits):
        places.setdefault(output.scope, int(np.prod(output.shape[:-1])))
    counts = {}
    for layer in layer_parameters(graph):
        scope = layer.scope.rpartition("/")[2]
        counts[scope] = layer.weights * places.get(scope, 1)
    return counts
