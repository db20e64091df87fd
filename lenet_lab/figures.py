"""The lab's pictures: functions that take data and return a matplotlib figure, and one that saves and shows it."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lenet_lab.classifier import Classifier
from lenet_lab.events import Curve
from lenet_lab.inference import Mistakes
from lenet_lab.models import OPERATION_NAMES, count_parameters, layer_outputs, layer_parameters
from lenet_lab.paths import whole_file
from lenet_lab.predict import Prediction

# Okabe and Ito's colours, distinct to the colour-blind; with the dashes, distinct in grey too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
DASHES = ("-", "--", "-.", ":")
# The same figure gives the same SVG bytes: no date, no random ids.
SVG_SETTINGS = {"svg.hashsalt": "lenet_lab", "svg.fonttype": "path"}


def plot_digits(images: np.ndarray, labels: np.ndarray, data_name: str, columns: int = 10) -> Figure:
    """Digits in a grid, each under its label.

    Parameters
    ----------
    images : float array [count, 784]
        Values in [0, 1].
    labels : array [count, 10]
        One-hot.
    data_name : str
        For the title.
    columns : int, default 10
    """
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(columns * 0.8, rows * 1.0 + 0.4), layout="constrained")
    figure.suptitle(data_name)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, image, label in zip(axes, images, labels):
        axis.imshow(image.reshape(28, 28), cmap="gray_r", vmin=0, vmax=1)
        axis.set_title(str(label.argmax()), fontsize=9)
    return figure


def plot_curves(curves: Mapping[str, Curve], quantity: str, data_name: str, by: str = "step") -> Figure:
    """Curves from event files: every event faint, their running mean on top; losses on a logarithmic axis.

    Parameters
    ----------
    curves : mapping
        From a label, such as ``"Adam"``, to its `Curve`.
    quantity : str
        ``"Loss"`` or ``"Accuracy"``.
    data_name : str
        For the title.
    by : {"step", "seconds"}, default "step"
        The horizontal axis.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axis = figure.subplots()
    lowest = []
    for (label, curve), colour, dash in zip(curves.items(), COLOURS, DASHES):
        x = curve.steps if by == "step" else curve.seconds
        # Tens of thousands of points are an image inside the SVG, which stays small.
        axis.plot(x, curve.values, color=colour, alpha=0.35, linewidth=0.5, zorder=1, rasterized=True)
        width = max(1, len(x) // 100)
        smooth = np.convolve(curve.values, np.ones(width) / width, mode="valid")
        axis.plot(x[width - 1 :], smooth, color=colour, linestyle=dash, linewidth=1.8, zorder=3, label=label)
        lowest.append(smooth.min())
    if quantity == "Loss":
        axis.set_yscale("log")
        axis.set_ylim(bottom=max(min(lowest), 1e-9) / 5)  # single batches get to zero, which has no logarithm
    axis.set_xlabel("iteration" if by == "step" else "wall time since the first iteration (s)")
    axis.set_ylabel("cross-entropy of the batch (nats)" if quantity == "Loss" else "accuracy on the batch")
    axis.set_title(f"{quantity} during training on {data_name}")
    axis.grid(alpha=0.3)
    axis.legend(title="running mean over 1% of the iterations", loc="best")
    return figure


def plot_bands(curves: Mapping[str, np.ndarray], quantity: str, data_name: str) -> Figure:
    """Epoch by epoch, the mean over several seeds in a band from the lowest of them to the highest.

    Parameters
    ----------
    curves : mapping
        From a label to a float array [seeds, epochs]; at most four.
    quantity : str
        For the vertical axis, such as ``"validation loss (nats)"``; a loss's is logarithmic.
    data_name : str
        For the title.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axis = figure.subplots()
    for (label, values), colour, dash in zip(curves.items(), COLOURS, DASHES):
        epochs = np.arange(1, values.shape[1] + 1)
        axis.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.25, linewidth=0)
        axis.plot(epochs, values.mean(axis=0), color=colour, linestyle=dash, label=f"{label}, {len(values)} seeds")
    if "loss" in quantity:
        axis.set_yscale("log")
    axis.set(xlabel="epoch", ylabel=quantity, title=f"Mean, lowest and highest seed, on {data_name}")
    axis.grid(alpha=0.3)
    axis.legend()
    return figure


def plot_seeds(accuracies: Mapping[str, np.ndarray], data_name: str) -> Figure:
    """Each seed's test accuracy as a dot, their mean as a bar, one row for each training.

    Parameters
    ----------
    accuracies : mapping
        From a label to a float array [seeds].
    data_name : str
        For the title.
    """
    figure = Figure(figsize=(8, 0.45 * len(accuracies) + 1.2), layout="constrained")
    axis = figure.subplots()
    for row, values in enumerate(accuracies.values()):
        axis.plot(100 * values, np.full(len(values), row), "o", color=COLOURS[0], alpha=0.6)
        axis.plot(100 * values.mean(), row, "|", color=COLOURS[1], markersize=18, markeredgewidth=2)
    axis.set_yticks(range(len(accuracies)), list(accuracies))
    axis.invert_yaxis()
    axis.set(xlabel="test accuracy (%)", title=f"Each seed and their mean, on {data_name}")
    axis.grid(axis="x", alpha=0.3)
    return figure


def plot_rate(rates: np.ndarray) -> Figure:
    """A learning rate over the training steps, float array [steps]."""
    figure = Figure(figsize=(8, 2.6), layout="constrained")
    axis = figure.subplots()
    axis.plot(rates, color=COLOURS[0])
    axis.set(xlabel="iteration", ylabel="learning rate", title=f"Up to {rates.max():.3g} and down to {rates[-1]:.1g}")
    axis.grid(alpha=0.3)
    return figure


def plot_architecture(classifier: Classifier) -> Figure:
    """The network with every shape and every layer's parameter count, read from its graph."""
    graph = classifier.graph
    outputs = layer_outputs(graph, classifier.logits)
    counts = {layer.scope.rpartition("/")[2]: layer.total for layer in layer_parameters(graph)}
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    axis = figure.subplots()
    axis.set(xlim=(-0.5, len(outputs) - 0.4), ylim=(-2.15, 1.75))
    axis.axis("off")
    axis.set_title(f"{count_parameters(graph):,} parameters")
    for place, output in enumerate(outputs):
        _draw_output(axis, place, output.shape)
        shape = "x".join(map(str, output.shape))
        operation = OPERATION_NAMES.get(output.operation, "logits")
        axis.text(place, -1.35, f"{operation}\n{shape}", ha="center", va="top", fontsize=8)
        new_layer = place == 0 or outputs[place - 1].scope != output.scope
        if new_layer:
            count = counts.get(output.scope)
            label = output.scope if count is None else f"{output.scope}\n{count:,}\nparameters"
            axis.text(place, 1.65, label, ha="center", va="top", fontsize=8, color=COLOURS[0])
        if place:
            axis.annotate(
                "", xy=(place - 0.42, 0), xytext=(place - 0.62, 0), arrowprops={"arrowstyle": "->", "color": "0.4"}
            )
    return figure


def plot_mistakes(mistakes: Mistakes, data_name: str, columns: int = 8, rows: int = 4) -> Figure:
    """Misread digits, the surest first, each under its true class, the predicted one and that one's probability."""
    figure = Figure(figsize=(columns * 1.15, rows * 1.35 + 0.4), layout="constrained")
    count = len(mistakes.true)
    shown = min(count, columns * rows)
    figure.suptitle(f"{data_name}: {shown} of the {count} misread test digits, the surest first")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    told = zip(axes, mistakes.images, mistakes.true, mistakes.predicted, mistakes.probability)
    for axis, image, true, predicted, probability in told:
        axis.imshow(image.reshape(28, 28), cmap="gray_r", vmin=0, vmax=1)
        axis.set_title(f"{true}, read as {predicted}\n{probability:.1%}", fontsize=8)
    return figure


def plot_confusion(true: np.ndarray, predicted: np.ndarray, data_name: str) -> Figure:
    """How often each class (row) is read as each class (column), shaded on a logarithmic scale.

    Parameters
    ----------
    true, predicted : int array [count]
    data_name : str
        For the title.
    """
    from sklearn.metrics import ConfusionMatrixDisplay  # late: it takes a while to import

    figure = Figure(figsize=(6, 5.4), layout="constrained")
    axis = figure.subplots()
    ConfusionMatrixDisplay.from_predictions(
        true, predicted, labels=range(10), ax=axis, cmap="Blues", colorbar=False,
        im_kw={"norm": SymLogNorm(1, vmin=0)}, text_kw={"fontsize": 8},
    )
    axis.set(title=f"Test digits of {data_name}", xlabel="read as", ylabel="true class")
    return figure


def plot_class_accuracy(true: np.ndarray, predicted: np.ndarray, data_name: str) -> Figure:
    """The share of each class that is read rightly, with how many are not."""
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axis = figure.subplots()
    count = np.bincount(true, minlength=10)
    wrong = np.bincount(true[true != predicted], minlength=10)
    right = 1 - wrong / np.maximum(count, 1)
    bars = axis.bar(range(10), 100 * right, color=COLOURS[0])
    axis.bar_label(bars, [f"{number} wrong" for number in wrong], fontsize=8, padding=2)
    low = 100 * right.min()
    axis.set_ylim(low - 0.6 * (100 - low) - 0.05, 100 + 0.15 * (100 - low))
    axis.set(
        title=f"Accuracy per class on the test set of {data_name}", xlabel="class",
        ylabel="read rightly (%)\n(the axis does not start at 0)",
        xticks=range(10),
    )
    return figure


def plot_filters(weights: np.ndarray, title: str) -> Figure:
    """A convolution's filters, a row for each input map and a column for each output map, on one scale.

    Parameters
    ----------
    weights : float array [rows, columns, input maps, output maps]
    title : str
    """
    _, _, inputs, outputs = weights.shape
    figure = Figure(figsize=(0.55 * outputs + 1.6, 0.55 * inputs + 0.9), layout="constrained")
    figure.suptitle(title)
    limit = np.abs(weights).max()
    axes = figure.subplots(inputs, outputs, squeeze=False)
    for row in range(inputs):
        for column in range(outputs):
            axis = axes[row, column]
            drawn = axis.imshow(weights[:, :, row, column], cmap="RdBu_r", vmin=-limit, vmax=limit)
            axis.set(xticks=[], yticks=[])
    figure.colorbar(drawn, ax=axes, label="weight")
    return figure


def plot_feature_maps(activations: Mapping[str, np.ndarray], data_name: str) -> Figure:
    """What each layer puts out for one image, with the shapes: maps as pictures, vectors as strips.

    Parameters
    ----------
    activations : mapping
        From a title, such as ``"layer1 ReLU"``, to a float array [1, rows, columns, maps] or [1, values].
    data_name : str
        For the title.
    """
    figure = Figure(figsize=(9, 0.9 * len(activations) + 0.5), layout="constrained")
    figure.suptitle(f"One digit of {data_name} on its way through the network")
    for strip, (title, values) in zip(figure.subplots(len(activations), 1), activations.items()):
        values = values[0]
        if values.ndim == 3:
            pad = [(1, 1), (1, 1)]
            maps = [np.pad(values[:, :, k], pad, constant_values=values.max()) for k in range(values.shape[2])]
            picture = np.hstack(maps)
        else:
            picture = values[None]
        strip.imshow(picture, cmap="gray_r", aspect="equal" if values.ndim == 3 else "auto")
        strip.set(xticks=[], yticks=[])
        shape = "x".join(map(str, values.shape))
        strip.set_ylabel(f"{title}\n{shape}", rotation=0, ha="right", va="center", fontsize=8)
    return figure


def plot_prediction(prediction: Prediction, title: str) -> Figure:
    """What the network saw of a picture, and the probabilities of the ten classes."""
    figure = Figure(figsize=(6.5, 2.6), layout="constrained")
    figure.suptitle(title)
    seen, bars = figure.subplots(1, 2, width_ratios=(1, 1.8))
    seen.imshow(prediction.image.reshape(28, 28), cmap="gray_r", vmin=0, vmax=1)
    seen.set(title="what the network saw", xticks=[], yticks=[])
    colours = [COLOURS[1] if digit == prediction.digit else COLOURS[0] for digit in range(10)]
    drawn = bars.bar(range(10), prediction.probabilities, color=colours)
    labels = [f"{p:.1%}" if digit == prediction.digit else "" for digit, p in enumerate(prediction.probabilities)]
    bars.bar_label(drawn, labels, fontsize=8)
    bars.set(xlabel="class", ylabel="probability", xticks=range(10), ylim=(0, 1.12))
    return figure


def save_figure(figure: Figure, path: str | Path):
    """Write a figure to a .svg or .png file and return what a notebook shows: that file's very content."""
    from IPython.display import SVG, Image  # late: only notebooks need it

    content = write_figure(figure, path)
    return SVG(data=content.decode()) if Path(path).suffix == ".svg" else Image(data=content)


def write_figure(figure: Figure, path: str | Path) -> bytes:
    """Write a figure to a .svg or .png file, and return its content; the same figure gives the same."""
    with matplotlib.rc_context(SVG_SETTINGS), whole_file(path) as part:
        figure.savefig(part, dpi=150, metadata={"Date": None} if part.suffix == ".svg" else None)
        return part.read_bytes()


def _draw_output(axis, place: int, shape: tuple[int, ...]) -> None:
    """A stack of maps whose size and number follow the shape, or a bar whose height does."""
    if len(shape) == 3:
        side, maps = 0.55 * shape[0] / 28, shape[2]
        for number in reversed(range(maps)):
            shift = number * 0.018
            # A unit of width is drawn about one and a half times as long as a unit of height.
            corner = (place - side / 2 + shift - maps * 0.009, -0.75 * side + 1.5 * shift - maps * 0.0135)
            axis.add_patch(Rectangle(corner, side, 1.5 * side, fc="#E8F1FA", ec=COLOURS[0], linewidth=0.7))
    else:
        height = 2.0 * (shape[0] / 400) ** 0.5
        axis.add_patch(Rectangle((place - 0.05, -height / 2), 0.1, height, fc="#FBEADB", ec=COLOURS[1], linewidth=0.7))
