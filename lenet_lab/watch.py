"""What TensorBoard shows of a run besides its two curves: settings, validation curves, histograms, images."""

import platform

import numpy as np

from lenet_lab.classifier import learning_rate
from lenet_lab.compat import tf
from lenet_lab.inference import Mistakes, layer_activations, trained_weights
from lenet_lab.input_data import Datasets
from lenet_lab.runs import Run

LOOKED_AT = 50  # validation images whose activations the histograms show
BUCKETS = 30
MISTAKES_SHOWN = 20


def write_data(run: Run, mnist: Datasets) -> None:
    """Say once for each data set that a run meets which one it is."""
    from tensorboard.summary.v1 import text_pb  # late: it takes a while to import

    if run.data_name == mnist.name:
        return
    run.data_name = mnist.name
    text = f"data: **{mnist.name}**, seed: {run.seed}, TensorFlow {tf.VERSION}, Python {platform.python_version()}"
    run.writer.add_summary(text_pb("data", text), run.step)


def write_settings(run: Run, settings: dict[str, float]) -> None:
    """A training's settings as a text page, and as hyperparameters by which TensorBoard sorts and filters runs."""
    from tensorboard.plugins.hparams import summary as hparams  # late, as above
    from tensorboard.summary.v1 import text_pb

    optimizer = run.classifier.optimizer
    settings = {"data": run.data_name, "optimizer": optimizer.get_name(), **settings, "seed": run.seed}
    rate = learning_rate(optimizer)
    if rate is not None:
        settings["learning rate"] = rate
    rows = "\n".join(f"| {name} | {value} |" for name, value in settings.items())
    run.writer.add_summary(text_pb("settings", f"| setting | value |\n|---|---|\n{rows}"), run.step)
    run.writer.add_summary(hparams.session_start_pb(settings))


def write_epoch(run: Run, mnist: Datasets) -> None:
    """After an epoch: the validation set's loss and accuracy, and histograms of weights and activations.

    The two scalars have the training's tags and go to a run of their own,
    `validation` in the run's directory, so that TensorBoard draws both curves
    into one chart.
    """
    from tensorboard.summary.v1 import histogram_pb

    step = run.step - 1  # the epoch's last iteration
    run.validation_writer.add_summary(
        summary(run.history.validation_loss[-1], run.history.validation_accuracy[-1]), step
    )
    tensors = trained_weights(run) | layer_activations(run, mnist.validation.images[:LOOKED_AT])
    for name, values in tensors.items():
        run.writer.add_summary(histogram_pb(name.replace(" ", "/"), values, BUCKETS), step)


def summary(loss: float, accuracy: float) -> tf.Summary:
    """What one event says of a batch or a set."""
    values = {"Loss": loss, "Accuracy": accuracy}
    return tf.Summary(value=[tf.Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])


def write_images(run: Run, mistakes: Mistakes) -> None:
    """At the end: the first layer's filters, and the digits that were misread with most certainty."""
    from tensorboard.summary.v1 import image_pb

    shown = mistakes.images[:MISTAKES_SHOWN].reshape(-1, 28, 28)
    images = {}
    if len(shown):
        images["misclassified test digits"] = np.hstack(shown)
    for name, weights in trained_weights(run).items():
        if weights.ndim == 4 and weights.shape[2] == 1:
            images[f"{name}/filters"] = tile_filters(weights[:, :, 0])
    for name, image in images.items():
        pixels = np.repeat(np.uint8(255 * image)[None, :, :, None], 3, axis=3)
        run.writer.add_summary(image_pb(name.replace(" ", "_"), pixels), run.step)


def tile_filters(filters: np.ndarray, gap: int = 1) -> np.ndarray:
    """Filters side by side, on one scale with zero in the middle grey.

    Parameters
    ----------
    filters : float array [rows, columns, count]
    gap : int, default 1
        White columns between two filters.

    Returns
    -------
    float array [rows, count * (columns + gap) - gap], values in [0, 1]
    """
    scaled = 0.5 + 0.5 * filters / max(np.abs(filters).max(), 1e-12)
    padded = np.pad(scaled, [(0, 0), (0, gap), (0, 0)], constant_values=1)
    return np.hstack(list(np.moveaxis(padded, 2, 0)))[:, : -gap or None]
