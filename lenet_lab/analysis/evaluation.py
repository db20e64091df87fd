"""Measuring a network: loss and accuracy on a data set, and the test accuracy with a trace of its computation."""

from typing import Any

import numpy as np

from lenet_lab.analysis import summaries
from lenet_lab.analysis.inference import mistakes_among, parts
from lenet_lab.compat import tf
from lenet_lab.input_data import DataSet, Datasets
from lenet_lab.runs import Model, Run


def measure(run: Model, dataset: DataSet, tensors: Any = None) -> tuple[float, float]:
    """Loss (nats) and accuracy on a whole data set, with dropout off.

    `tensors` has the fields `x`, `y_true`, `loss` and `accuracy`; by default it
    is the classifier.
    """
    dataset.check_form()
    t = tensors or run.classifier
    images, labels = dataset.images, dataset.labels
    sums = np.zeros(2)
    for part in parts(len(images)):
        means = run.session.run([t.loss, t.accuracy], {t.x: images[part], t.y_true: labels[part]})
        sums += (part.stop - part.start) * np.array(means, np.float64)
    loss, accuracy = sums / len(images)
    return float(loss), float(accuracy)


def evaluate(run: Model, dataset: DataSet) -> float:
    """Measure the accuracy on a data set, with dropout off.

    Parameters
    ----------
    run : Run
        An open run.
    dataset : DataSet
        With flat images and one-hot labels, such as ``mnist.test``.

    Returns
    -------
    float
        The fraction of images that are classified correctly.

    Raises
    ------
    ValueError
        If the data set is empty.

    Examples
    --------
    >>> print(f"{evaluate(run, mnist.test):.0%}")  # untrained, softmax regression always answers 0
    10%
    """
    return measure(run, dataset)[1]


def print_accuracy(run: Run, mnist: Datasets) -> None:
    """Print the accuracy on the test set, and trace its computation.

    All test images pass in one `session.run` with FULL_TRACE (docs/lab.md,
    "Profiling"). TensorBoard shows the trace as `inference`, later ones as
    `inference_2` and so on, and after training also filters and misread digits.

    Parameters
    ----------
    run : Run
        An open run.
    mnist : Datasets
        With flat images and one-hot labels.

    Examples
    --------
    >>> print_accuracy(run, mnist)
    Accuracy on test-set: ...%
    """
    summaries.write_data(run, mnist)
    run.test_accuracy, probabilities, metadata = trace_inference(run, mnist.test)
    summaries.write_trace(run, metadata)
    if run.epoch:
        summaries.write_images(run, mistakes_among(mnist.test, probabilities))
    run.flush()
    print(f"Accuracy on test-set: {run.test_accuracy:.1%}")


def trace_inference(run: Model, dataset: DataSet) -> tuple[float, np.ndarray, tf.RunMetadata]:
    """Classify a whole data set in one `session.run` with FULL_TRACE (docs/lab.md, "Profiling").

    Returns
    -------
    accuracy : float
    probabilities : float32 array [count, 10]
    metadata : tf.RunMetadata
        The time and the memory of each operation.
    """
    dataset.check_form()
    c = run.classifier
    metadata = tf.RunMetadata()
    accuracy, probabilities = run.session.run(
        [c.accuracy, c.y_pred],
        feed_dict={c.x: dataset.images, c.y_true: dataset.labels},
        options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE),
        run_metadata=metadata,
    )
    return float(accuracy), probabilities, metadata
