"""What a trained run makes of images: probabilities, mistakes, and what every layer puts out on the way."""

from typing import NamedTuple

import numpy as np

from lenet_lab.compat import tf
from lenet_lab.input_data import DataSet
from lenet_lab.models import layer_outputs, layer_parameters
from lenet_lab.runs import Run

EVALUATION_BATCH = 2500  # images in one `session.run`, which bounds the memory


class Mistakes(NamedTuple):
    """Wrongly classified images of a data set, the surest first."""

    index: np.ndarray  # int [count], in the data set
    images: np.ndarray  # float32 [count, 784]
    true: np.ndarray  # int [count]
    predicted: np.ndarray  # int [count]
    probability: np.ndarray  # float32 [count], of the predicted class


def predict(run: Run, images: np.ndarray, keep_prob: float = 1.0) -> np.ndarray:
    """The probability of each class for each image.

    Parameters
    ----------
    run : Run
    images : float32 array [count, 784]
        Values in [0, 1], ink is 1.
    keep_prob : float, default 1
        For a classifier with dropout: below 1, dropout is left on.

    Returns
    -------
    float32 array [count, 10]
        Rows sum to 1.
    """
    c = run.classifier
    dropout = c.fed_dropout(keep_prob)
    return np.concatenate([run.session.run(c.y_pred, {c.x: images[part]} | dropout) for part in parts(len(images))])


def parts(count: int) -> list[slice]:
    """A set of images cut into parts of at most `EVALUATION_BATCH`."""
    return [slice(start, min(start + EVALUATION_BATCH, count)) for start in range(0, count, EVALUATION_BATCH)]


def trace_inference(run: Run, dataset: DataSet) -> tuple[float, np.ndarray, tf.RunMetadata]:
    """Classify a whole data set in one `session.run` under FULL_TRACE (lab cell 15).

    Returns
    -------
    accuracy : float
    probabilities : float32 array [count, 10]
    metadata : tf.RunMetadata
        Times and memory of each operation.
    """
    c = run.classifier
    metadata = tf.RunMetadata()
    accuracy, probabilities = run.session.run(
        [c.accuracy, c.y_pred],
        feed_dict={c.x: dataset.images, c.y_true: dataset.labels},
        options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE),
        run_metadata=metadata,
    )
    return float(accuracy), probabilities, metadata


def find_mistakes(run: Run, dataset: DataSet) -> Mistakes:
    """The images of a data set with one-hot labels that the run gets wrong."""
    return mistakes_among(dataset, predict(run, dataset.images))


def mistakes_among(dataset: DataSet, probabilities: np.ndarray) -> Mistakes:
    """The images that were classified wrongly, by the probabilities [count, 10] that they were given."""
    true, predicted = dataset.labels.argmax(axis=1), probabilities.argmax(axis=1)
    wrong = np.flatnonzero(true != predicted)
    wrong = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")]
    return Mistakes(wrong, dataset.images[wrong], true[wrong], predicted[wrong], probabilities[wrong].max(axis=1))


def layer_activations(run: Run, images: np.ndarray) -> dict[str, np.ndarray]:
    """What each layer puts out for some images, in layer order.

    Parameters
    ----------
    run : Run
    images : float32 array [count, 784]

    Returns
    -------
    dict
        From ``"layer1 ReLU"`` and the like to float32 arrays [count, ...].
    """
    outputs = layer_outputs(run.classifier.graph, run.classifier.logits)
    tensors = [run.classifier.graph.get_tensor_by_name(output.tensor) for output in outputs]
    values = run.session.run(tensors, {run.classifier.x: images})
    return {output.title: value for output, value in zip(outputs, values)}


def trained_weights(run: Run) -> dict[str, np.ndarray]:
    """Every trainable variable's value by its name in the graph, without the scope `model`."""
    with run.classifier.graph.as_default():
        variables = tf.trainable_variables()
    values = run.session.run(variables)
    return {variable.op.name.removeprefix("model/"): value for variable, value in zip(variables, values)}


def multiply_adds(run: Run) -> dict[str, int]:
    """The multiplications (each with its addition) that an image needs in each layer, by the layer's scope.

    A weight is used once for each place where its layer puts something out.
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
