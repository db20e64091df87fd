"""What a run writes for TensorBoard: its curves, settings, traces, histograms and images."""

import platform
from collections.abc import Sequence

import numpy as np

from lenet_lab.analysis.inference import Mistakes, layer_activations, trained_weights
from lenet_lab.checkpoints import what_stays
from lenet_lab.compat import learning_rate, tf
from lenet_lab.input_data import Datasets
from lenet_lab.runs import Run

HISTOGRAM_IMAGES = 50  # validation images whose activations the histograms show
BUCKETS = 30
MISTAKES_SHOWN = 20

Record = tuple[float, float, tf.Event]  # of an iteration: loss, accuracy, and an event with both


def write_records(run: Run, records: Sequence[Record]) -> None:
    """Write each iteration's loss and accuracy to the event file, and keep them in the history.

    Raises
    ------
    FloatingPointError
        At the first loss that is infinite or not a number; earlier ones are kept.
    """
    for loss, accuracy, event in records:
        if not np.isfinite(loss):
            number = learning_rate(run.classifier.optimizer)
            rate = "set by a schedule" if number is None else number
            raise FloatingPointError(
                f"the loss became {loss} at step {run.step} (learning rate {rate}); "
                f"try a smaller rate; {what_stays(run)}"
            )
        event.step = run.step
        run.writer.add_event(event)
        run.history.step_loss.append(loss)
        run.history.step_accuracy.append(accuracy)
        run.step += 1


def scalars(loss: float, accuracy: float) -> tf.Summary:
    """The summary of a batch or a data set: the scalars `Loss` and `Accuracy`."""
    values = {"Loss": loss, "Accuracy": accuracy}
    return tf.Summary(value=[tf.Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])


def write_data(run: Run, mnist: Datasets) -> None:
    """Write which data set a run uses, once for each."""
    from tensorboard.summary.v1 import text_pb  # late: slow to import

    if run.data_name == mnist.name:
        return
    run.data_name = mnist.name
    text = f"data: **{mnist.name}**, seed: {run.seed}, TensorFlow {tf.VERSION}, Python {platform.python_version()}"
    run.writer.add_summary(text_pb("data", text), run.step)


def write_settings(run: Run, epochs: int, keep_prob: float) -> None:
    """Write a training's settings as text, and as hyperparameters by which TensorBoard sorts and filters runs."""
    from tensorboard.plugins.hparams import summary as hparams  # late, as above
    from tensorboard.summary.v1 import text_pb

    optimizer, rate = run.classifier.optimizer, learning_rate(run.classifier.optimizer)
    settings = {"data": run.data_name, "optimizer": optimizer.get_name()}
    settings |= {"batch size": run.batch_size, "epochs": int(epochs)}
    if run.classifier.keep_prob is not None:
        settings["keep_prob"] = float(keep_prob)
    settings |= {"seed": run.seed, "shards": run.shards}
    if rate is not None:
        settings["learning rate"] = rate
    rows = "\n".join(f"| {name} | {value} |" for name, value in settings.items())
    run.writer.add_summary(text_pb("settings", f"| setting | value |\n|---|---|\n{rows}"), run.step)
    run.writer.add_summary(hparams.session_start_pb(settings))


def write_epoch(run: Run, mnist: Datasets) -> None:
    """Write, after an epoch, the validation loss and accuracy, and histograms of weights and activations.

    The validation scalars have the same tags as the training's and go to a run
    of their own, `validation` in the run's directory. So TensorBoard draws both
    curves in one chart.
    """
    from tensorboard.summary.v1 import histogram_pb

    step = run.step - 1  # the epoch's last iteration
    run.validation_writer.add_summary(
        scalars(run.history.validation_loss[-1], run.history.validation_accuracy[-1]), step
    )
    tensors = trained_weights(run) | layer_activations(run, mnist.validation.images[:HISTOGRAM_IMAGES])
    for name, values in tensors.items():
        run.writer.add_summary(histogram_pb(name.replace(" ", "/"), values, BUCKETS), step)


def write_trace(run: Run, metadata: tf.RunMetadata) -> None:
    """Write the trace of a `session.run`, which TensorBoard's graph page shows as `inference`, `inference_2`, ..."""
    run.inference_traces += 1
    tag = "inference" if run.inference_traces == 1 else f"inference_{run.inference_traces}"
    run.writer.add_run_metadata(metadata, tag, run.step)


def write_images(run: Run, mistakes: Mistakes) -> None:
    """Write the first layer's filters and the most confident mistakes as images."""
    from tensorboard.summary.v1 import image_pb

    shown = mistakes.images[:MISTAKES_SHOWN].reshape(-1, 28, 28)
    images = {}
    if len(shown):
        images["misclassified test digits"] = np.hstack(list(shown))
    for name, weights in trained_weights(run).items():
        if weights.ndim == 4 and weights.shape[2] == 1:
            images[f"{name}/filters"] = tile_filters(weights[:, :, 0])
    for name, image in images.items():
        pixels = np.repeat((255 * image).astype(np.uint8)[None, :, :, None], 3, axis=3)
        run.writer.add_summary(image_pb(name.replace(" ", "_"), pixels), run.step)


def tile_filters(filters: np.ndarray, gap: int = 1) -> np.ndarray:
    """Filters side by side, on one scale on which zero is middle grey.

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
