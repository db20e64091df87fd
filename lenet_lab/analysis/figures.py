"""The lab's figures: each `plot_` function takes data and returns a matplotlib figure; `save_figure` writes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lenet_lab.analysis.events import Curve
from lenet_lab.analysis.inference import Mistakes
from lenet_lab.analysis.layers import OPERATION_NAMES, count_parameters, layer_outputs, layer_parameters
from lenet_lab.analysis.pictures import Prediction
from lenet_lab.classifier import Classifier
from lenet_lab.paths import LabError, whole_file

if TYPE_CHECKING:
    from IPython.display import SVG, Image

# Okabe and Ito's colours, which colour-blind readers can tell apart; the dashes do the same in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
DASHES = ("-", "--", "-.", ":")
# Without a date and random ids, the same figure always gives the same SVG file.
SVG_SETTINGS: Any = {"svg.hashsalt": "lenet_lab", "svg.fonttype": "path"}
# Tens of thousands of events are drawn as so many groups of neighbours, each about three pixels wide.
GROUPS = 200

Line = TypeVar("Line")


def plot_digits(images: np.ndarray, labels: np.ndarray, data_name: str, columns: int = 10) -> Figure:
    """Draw digits in a grid, each with its label above it.

    Parameters
    ----------
    images : float array [count, 784]
        Values in [0, 1], ink is 1; at least one image.
    labels : array [count, 10] or int array [count]
        One-hot, or the classes themselves.
    data_name : str
        The data set's name, used as the title.
    columns : int, default 10

    Returns
    -------
    Figure

    Raises
    ------
    LabError
        If there are no images, or not as many labels as images.
    """
    if not len(images) or len(images) != len(labels):
        raise LabError(f"there are {len(images)} images and {len(labels)} labels, expected one label for each image")
    classes = labels.argmax(axis=1) if labels.ndim == 2 else labels
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(columns * 0.8, rows * 1.0 + 0.4), layout="constrained")
    figure.suptitle(data_name)
    for axis, image, label in zip(_grid(figure, rows, columns), images, classes):
        _draw_digit(axis, image)
        axis.set_title(str(label), fontsize=9)
    return figure


def plot_curves(curves: Mapping[str, Curve], quantity: str, data_name: str, by: str = "step") -> Figure:
    """Draw the loss or accuracy of every training step: the single steps faint, their running mean on top.

    Many steps are drawn as a band from the lowest to the highest of some
    neighbours, so no spike is lost. A loss gets a logarithmic axis. Answers the
    lab's question about the curves (docs/lab.md, "Question: curves").

    Parameters
    ----------
    curves : mapping
        From a label, such as ``"Adam"``, to its `Curve`; one to four of them.
    quantity : {"Loss", "Accuracy"}
    data_name : str
        The data set's name, for the title.
    by : {"step", "seconds"}, default "step"
        What the horizontal axis shows.

    Returns
    -------
    Figure

    Raises
    ------
    LabError
        If there are no curves or more than four, if a curve has no events or
        one that is not finite, or if `quantity` or `by` is none of the values above.
    """
    if quantity not in ("Loss", "Accuracy") or by not in ("step", "seconds"):
        raise LabError(f"can't draw {quantity!r} by {by!r}, expected 'Loss' or 'Accuracy' by 'step' or 'seconds'")
    figure = Figure(figsize=(8, 5), layout="constrained")
    axis = figure.subplots()
    lowest = []
    for label, curve, colour, dash in _styled(curves):
        _require_finite(label, curve)
        x = curve.steps if by == "step" else curve.seconds
        lowest.append(_draw_curve(axis, x, curve.values, label, colour, dash))
    if quantity == "Loss":
        axis.set_yscale("log")
        axis.set_ylim(bottom=max(min(lowest), 1e-9) / 5)  # the loss of a single batch can be 0, which has no logarithm
    axis.set_xlabel("iteration" if by == "step" else "wall time since the first iteration (s)")
    axis.set_ylabel("batch loss: cross-entropy (nats)" if quantity == "Loss" else "batch accuracy")
    if quantity == "Accuracy" and min(lowest) > 0.5:  # from 0 on, two good networks would be one line
        axis.set_ylim(min(lowest) - 0.02, 1.005)
        axis.set_ylabel("batch accuracy\n(the axis does not start at 0)")
    axis.set_title(f"{quantity} during training on {data_name}")
    axis.grid(alpha=0.3)
    title = "line: running mean over 1% of the iterations; faint: the range of single iterations"
    figure.legend(title=title, loc="outside lower center", ncols=2 if len(curves) == 4 else 3)
    return figure


def plot_bands(curves: Mapping[str, np.ndarray], quantity: str, data_name: str) -> Figure:
    """Draw several seeds of each training, epoch by epoch: their mean as a line, lowest to highest as a band.

    Parameters
    ----------
    curves : mapping
        From a label to a float array [seeds, epochs]; one to four of them.
    quantity : str
        What the vertical axis shows, such as ``"validation loss (nats)"``. A
        loss gets a logarithmic axis.
    data_name : str
        The data set's name, for the title.

    Returns
    -------
    Figure

    Raises
    ------
    LabError
        If there are no curves or more than four, or if one has no seeds or no epochs.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axis = figure.subplots()
    for label, values, colour, dash in _styled(curves):
        if values.ndim != 2 or not values.size:
            raise LabError(f"{label!r} has shape {values.shape}, expected [seeds, epochs] with at least one of each")
        seeds, count = values.shape
        epochs = np.arange(1, count + 1)
        outline = 0 if count > 1 else 8  # the band of a single epoch has no width of its own
        axis.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.25, linewidth=outline)
        name = f"{label}, {seeds} seed{'s' if seeds > 1 else ''}"
        axis.plot(epochs, values.mean(axis=0), color=colour, linestyle=dash, label=name, marker=_marker(count))
    if "loss" in quantity.lower():
        axis.set_yscale("log")
    axis.set(xlabel="epoch", ylabel=quantity, title=f"Mean and range over the seeds, on {data_name}")
    axis.grid(alpha=0.3)
    axis.legend()
    return figure


def plot_seeds(accuracies: Mapping[str, np.ndarray], data_name: str) -> Figure:
    """Draw the test accuracy of each seed as a dot and their mean as a bar, one row for each training.

    Parameters
    ----------
    accuracies : mapping
        From a label to a float array [seeds] of values in [0, 1].
    data_name : str
        The data set's name, for the title.

    Returns
    -------
    Figure

    Raises
    ------
    LabError
        If there is no training, or one without a seed.
    """
    if not accuracies or not all(len(values) for values in accuracies.values()):
        counts = {label: len(values) for label, values in accuracies.items()}
        raise LabError(f"the numbers of seeds are {counts}, expected at least one training, each with a seed or more")
    figure = Figure(figsize=(8, 0.45 * len(accuracies) + 1.2), layout="constrained")
    axis = figure.subplots()
    for row, values in enumerate(accuracies.values()):
        axis.plot(100 * values, np.full(len(values), row), "o", color=COLOURS[0], alpha=0.6)
        axis.plot(100 * values.mean(), row, "|", color=COLOURS[1], markersize=18, markeredgewidth=2)
    axis.set_yticks(range(len(accuracies)), list(accuracies))
    axis.set(xlabel="test accuracy (%)", ylim=(len(accuracies) - 0.5, -0.5))
    figure.suptitle(f"Each seed (dot) and the mean (bar), on {data_name}")  # long labels leave the axes little width
    axis.grid(axis="x", alpha=0.3)
    return figure


def plot_rate(rates: np.ndarray) -> Figure:
    """Draw a learning rate over the training steps.

    Parameters
    ----------
    rates : float array [steps]

    Returns
    -------
    Figure

    Raises
    ------
    LabError
        If there are no steps.
    """
    if not len(rates):
        raise LabError("there are no learning rates to draw, expected one for each of one or more steps")
    figure = Figure(figsize=(8, 2.6), layout="constrained")
    axis = figure.subplots()
    axis.plot(rates, color=COLOURS[0], marker=_marker(len(rates)))
    title = f"Learning rate: {rates.max():.3g} at its highest, {round(float(rates[-1]), 6):g} at the end"
    axis.set(xlabel="iteration", ylabel="learning rate", title=title)
    axis.grid(alpha=0.3)
    return figure


def plot_architecture(classifier: Classifier) -> Figure:
    """Draw a network with the shape of every output and every layer's parameter count, read from its graph.

    Parameters
    ----------
    classifier : Classifier

    Returns
    -------
    Figure
    """
    graph = classifier.graph
    outputs = layer_outputs(graph, classifier.logits)
    counts = {layer.scope.rpartition("/")[2]: layer.total for layer in layer_parameters(graph)}
    figure = Figure(figsize=(8, 3), layout="constrained")
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
            arrow = {"arrowstyle": "->", "color": "0.4"}
            axis.annotate("", xy=(place - 0.42, 0), xytext=(place - 0.62, 0), arrowprops=arrow)
    return figure


def plot_mistakes(mistakes: Mistakes, data_name: str, columns: int = 8, rows: int = 4) -> Figure:
    """Draw misread test digits, the most confident mistakes first.

    Above each digit stand its true class, the predicted class and the
    probability that the network gave to that one. Without mistakes, the title
    says so and the figure is empty.

    Parameters
    ----------
    mistakes : Mistakes
        Those on a test set, as `find_mistakes` returns them.
    data_name : str
        The data set's name, for the title.
    columns : int, default 8
    rows : int, default 4
        At most this many rows are drawn.

    Returns
    -------
    Figure
    """
    count = len(mistakes.true)
    rows = min(rows, max(1, -(-count // columns)))
    figure = Figure(figsize=(columns * 1.15, rows * 1.35 + 0.4), layout="constrained")
    if count:
        shown = min(count, columns * rows)
        figure.suptitle(f"{data_name}: {shown} of the {count} misread test digits, most confident first")
    else:
        figure.suptitle(f"{data_name}: no test digit is misread")
    columns_of_mistakes = (mistakes.images, mistakes.true, mistakes.predicted, mistakes.probability)
    for axis, image, true, predicted, probability in zip(_grid(figure, rows, columns), *columns_of_mistakes):
        _draw_digit(axis, image)
        axis.set_title(f"{true}, read as {predicted}\n{probability:.1%}", fontsize=8)
    return figure


def plot_confusion(true: np.ndarray, predicted: np.ndarray, data_name: str) -> Figure:
    """Draw how often each class (row) is read as each class (column), shaded on a logarithmic scale.

    Parameters
    ----------
    true, predicted : int array [count]
        The classes of the test images, and what the network takes them for.
    data_name : str
        The data set's name, for the title.

    Returns
    -------
    Figure

    Raises
    ------
    LabError
        If there are no images.
    """
    from sklearn.metrics import ConfusionMatrixDisplay  # slow to import

    _require_images(true)
    figure = Figure(figsize=(6, 5.4), layout="constrained")
    axis = figure.subplots()
    ConfusionMatrixDisplay.from_predictions(
        true,
        predicted,
        labels=range(10),
        ax=axis,
        cmap="Blues",
        colorbar=False,
        im_kw={"norm": SymLogNorm(1, vmin=0)},
        text_kw={"fontsize": 8},
    )
    axis.set(title=f"Confusion matrix on the test set of {data_name}", xlabel="predicted class", ylabel="true class")
    return figure


def plot_class_accuracy(true: np.ndarray, predicted: np.ndarray, data_name: str) -> Figure:
    """Draw which share of each class is classified correctly, with the number of mistakes.

    A class without images gets no bar.

    Parameters
    ----------
    true, predicted : int array [count]
        The classes of the test images, and what the network takes them for.
    data_name : str
        The data set's name, for the title.

    Returns
    -------
    Figure

    Raises
    ------
    LabError
        If there are no images.
    """
    _require_images(true)
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axis = figure.subplots()
    count = np.bincount(true, minlength=10)
    wrong = np.bincount(true[true != predicted], minlength=10)
    correct = np.where(count, 100 * (1 - wrong / np.maximum(count, 1)), np.nan)
    bars = axis.bar(range(10), correct, color=COLOURS[0])
    axis.bar_label(bars, [f"{number} wrong" for number in wrong], fontsize=8, padding=2)
    lowest = np.nanmin(correct)
    gap = max(100 - lowest, 0.1)
    bottom = max(0, lowest - 0.6 * gap - 0.05)
    axis.set(xlim=(-0.89, 9.89), ylim=(bottom, 100 + 0.15 * gap))
    axis.set(
        title=f"Accuracy per class on the test set of {data_name}",
        xlabel="class",
        ylabel="accuracy (%)" + ("\n(the axis does not start at 0)" if bottom else ""),
        xticks=range(10),
    )
    return figure


def plot_filters(weights: np.ndarray, title: str) -> Figure:
    """Draw a convolution's filters: a row for each input map, a column for each output map, all on one scale.

    Parameters
    ----------
    weights : float array [rows, columns, input maps, output maps]
    title : str

    Returns
    -------
    Figure

    Raises
    ------
    LabError
        If the weights are not a convolution's.
    """
    if weights.ndim != 4:
        raise LabError(f"the weights have shape {weights.shape}, expected [rows, columns, input maps, output maps]")
    _, _, inputs, outputs = weights.shape
    figure = Figure(figsize=(0.55 * outputs + 1.6, 0.55 * inputs + 0.9), layout="constrained")
    figure.suptitle(title)
    limit = np.abs(weights).max()
    axes = figure.subplots(inputs, outputs, squeeze=False)
    for (row, column), axis in np.ndenumerate(axes):
        axis.imshow(weights[:, :, row, column], cmap="RdBu_r", vmin=-limit, vmax=limit)
        axis.set(xticks=[], yticks=[])
    figure.colorbar(axes[0, 0].images[0], ax=axes, label="weight")
    return figure


def plot_feature_maps(activations: Mapping[str, np.ndarray], data_name: str) -> Figure:
    """Draw the output of each layer for one image, with its shape: maps as pictures, vectors as strips.

    Parameters
    ----------
    activations : mapping
        What `layer_activations` returned: from a title, such as
        ``"layer1 ReLU"``, to a float array [images, rows, columns, maps] or
        [images, values]. The first image is drawn.
    data_name : str
        The data set's name, for the title.

    Returns
    -------
    Figure
    """
    figure = Figure(figsize=(9, 0.9 * len(activations) + 0.5), layout="constrained")
    figure.suptitle(f"One digit of {data_name} on its way through the network")
    axes = figure.subplots(len(activations), squeeze=False).ravel()
    for axis, (title, batch) in zip(axes, activations.items()):
        values = batch[0]
        if values.ndim == 3:
            # Small maps are enlarged, so that the border is as thin as that of a large one.
            block, dark = np.ones((max(1, 28 // len(values)),) * 2), values.max()
            maps = [np.pad(np.kron(values[:, :, k], block), 1, constant_values=dark) for k in range(values.shape[2])]
            axis.imshow(np.hstack(maps), cmap="gray_r", aspect="equal")
        else:
            axis.imshow(values[None], cmap="gray_r", aspect="auto")
        axis.set(xticks=range(10) if values.shape == (10,) else [], yticks=[])
        shape = "x".join(map(str, values.shape))
        axis.set_ylabel(f"{title}\n{shape}", rotation=0, ha="right", va="center", fontsize=8)
    return figure


def plot_prediction(prediction: Prediction, title: str) -> Figure:
    """Draw the image that the network saw, and the probabilities of the ten classes.

    Parameters
    ----------
    prediction : Prediction
        What `predict_image` returned.
    title : str

    Returns
    -------
    Figure
    """
    figure = Figure(figsize=(6.5, 2.6), layout="constrained")
    figure.suptitle(title)
    seen, bars = figure.subplots(1, 2, width_ratios=(1, 1.8))
    _draw_digit(seen, prediction.image)
    seen.set(title="what the network saw", xticks=[], yticks=[])
    colours = [COLOURS[1] if digit == prediction.digit else COLOURS[0] for digit in range(10)]
    labels = [f"{p:.1%}" if digit == prediction.digit else "" for digit, p in enumerate(prediction.probabilities)]
    bars.bar_label(bars.bar(range(10), prediction.probabilities, color=colours), labels, fontsize=8)
    bars.set(xlabel="class", ylabel="probability", xticks=range(10), ylim=(0, 1.12))
    return figure


def save_figure(figure: Figure, path: str | Path) -> SVG | Image:
    """Write a figure to a file and return the file's content in the form that a notebook shows.

    Parameters
    ----------
    figure : Figure
    path : str or Path
        Ends in ``.svg`` or ``.png``.

    Returns
    -------
    IPython.display.SVG or IPython.display.Image

    Raises
    ------
    LabError
        If the path ends in anything else.
    """
    from IPython.display import SVG, Image  # only notebooks need it

    content = write_figure(figure, path)
    if Path(path).suffix == ".svg":
        return SVG(data=content.decode())
    return Image(data=content, width=round(96 * figure.get_figwidth()))  # as wide as an SVG of that many inches


def write_figure(figure: Figure, path: str | Path) -> bytes:
    """Write a figure to a file and return the file's content; the same figure gives the same bytes.

    Parameters
    ----------
    figure : Figure
    path : str or Path
        Ends in ``.svg`` or ``.png``.

    Returns
    -------
    bytes

    Raises
    ------
    LabError
        If the path ends in anything else.
    """
    if Path(path).suffix not in (".svg", ".png"):
        raise LabError(f"can't write a figure to {path}, expected a name that ends in .svg or .png")
    with matplotlib.rc_context(SVG_SETTINGS), whole_file(path) as part:
        figure.savefig(part, dpi=150, metadata={"Date": None} if part.suffix == ".svg" else None)
        if part.suffix == ".svg":
            # One line in all, instead of one for each point: a notebook's file has 13 bytes more for every line.
            part.write_bytes(b" ".join(part.read_bytes().split()))
        return part.read_bytes()


def _styled(curves: Mapping[str, Line]) -> Iterator[tuple[str, Line, str, str]]:
    """Each curve with its label, its colour and its dashes."""
    if not 1 <= len(curves) <= len(COLOURS):
        raise LabError(
            f"there are {len(curves)} curves ({', '.join(curves)}), expected 1 to {len(COLOURS)}: "
            "more can't be told apart in one figure"
        )
    for (label, curve), colour, dash in zip(curves.items(), COLOURS, DASHES):
        yield label, curve, colour, dash


def _require_finite(label: str, curve: Curve) -> None:
    if not len(curve.values):
        raise LabError(f"the curve {label!r} has no events, expected at least one: train for an epoch first")
    finite = np.isfinite(curve.values)
    if not finite.all():
        first = np.argmin(finite)
        raise LabError(
            f"the curve {label!r} is {curve.values[first]} at step {curve.steps[first]}, expected finite values only: "
            "the training failed there, and a lower learning rate may help"
        )


def _draw_curve(axis: Axes, x: np.ndarray, values: np.ndarray, label: str, colour: str, dash: str) -> float:
    """Draw the range of the single events faintly, and their running mean over 1% of them; returns the lowest mean."""
    if len(values) > 2 * GROUPS:
        lowest, highest = _extremes(values)
        band = x[(lowest + highest) // 2], values[lowest], values[highest]
        axis.fill_between(*band, color=colour, alpha=0.3, linewidth=0, zorder=1)
    else:  # a band would have as many numbers
        axis.plot(x, values, color=colour, alpha=0.35, linewidth=0.5, zorder=1)
    width = max(1, len(x) // 100)
    means, x = np.convolve(values, np.ones(width) / width, mode="valid"), x[width - 1 :]
    shown = np.arange(len(means))
    if len(means) > 2 * GROUPS:
        shown = np.unique([0, *np.concatenate(_extremes(means)), len(means) - 1])
    style: dict[str, Any] = {"color": colour, "linestyle": dash, "linewidth": 1.8, "marker": _marker(len(means))}
    axis.plot(x[shown], means[shown], zorder=3, label=label, **style)
    return float(means.min())


def _extremes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places of the lowest and of the highest value of each group."""
    groups = np.array_split(np.arange(len(values)), GROUPS)
    lowest = [group[values[group].argmin()] for group in groups]
    highest = [group[values[group].argmax()] for group in groups]
    return np.array(lowest), np.array(highest)


def _marker(points: int) -> str:
    """A dot for a line of one point, which would not be seen; otherwise no marker."""
    return "o" if points == 1 else ""


def _require_images(classes: np.ndarray) -> None:
    if not len(classes):
        raise LabError("there are no images to count, expected the classes of at least one")


def _grid(figure: Figure, rows: int, columns: int) -> np.ndarray:
    """The axes of a grid, row by row, none of them shown yet."""
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    return axes


def _draw_digit(axis: Axes, image: np.ndarray) -> None:
    axis.imshow(image.reshape(28, 28), cmap="gray_r", vmin=0, vmax=1)


def _draw_output(axis: Axes, place: int, shape: tuple[int, ...]) -> None:
    """Draw maps as a stack, sized by the shape, and a vector as a bar, the longer the higher."""
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
