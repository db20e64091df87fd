"""The lab's pictures: functions that take data and return a matplotlib figure, and one that saves and shows it."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from lenet_lab.classifier import Classifier
from lenet_lab.compat import tf
from lenet_lab.events import Curve
from lenet_lab.models import count_parameters, layer_outputs, layer_parameters

# Okabe and Ito's colours, distinct to the colour-blind; with the dashes, distinct in grey too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
DASHES = ("-", "--", "-.", ":")
OPERATION_NAMES = {"Reshape": "reshape", "Relu": "ReLU", "MaxPool": "max pooling"}
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


def plot_graph(graph: tf.GraphDef, title: str) -> Figure:
    """A graph at TensorBoard's first level: one box per top scope, an arrow where tensors pass.

    Parameters
    ----------
    graph : tf.GraphDef
        As `read_graph` returns it.
    title : str
    """
    shown = ("inputs", "labels", "keep_prob", "weights", "bias", "model", "loss", "optim", "accuracy")
    top = {node.name: node.name.partition("/")[0] for node in graph.node}
    edges = set()
    for node in graph.node:
        for name in node.input:
            source = top[name.lstrip("^").partition(":")[0]]
            edges.add((_merged(source), _merged(top[node.name])))
    present = [name for name in shown if name in top.values()]
    edges = {(a, b) for a, b in edges if a in present and b in present and present.index(a) < present.index(b)}
    level = {name: 0 for name in present}
    for name in present:  # in the order of the flow, so one pass finds the longest way
        level[name] = max([level[a] + 1 for a, b in edges if b == name], default=0)

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axis = figure.subplots()
    axis.set(title=title, xlim=(-0.6, 4), ylim=(-0.5, max(level.values()) + 0.5))
    axis.axis("off")
    place = {}
    for name in present:
        row = [other for other in present if level[other] == level[name]]
        place[name] = ((row.index(name) + 0.5) * 4 / len(row) - 0.3, level[name])
    for a, b in sorted(edges):
        axis.annotate(
            "", xy=place[b], xytext=place[a],
            arrowprops={"arrowstyle": "-|>", "color": "0.5", "shrinkA": 14, "shrinkB": 16},
        )
    for name, (x, y) in place.items():
        box = FancyBboxPatch((x - 0.35, y - 0.13), 0.7, 0.26, boxstyle="round,pad=0.03", fc="#E8F1FA", ec=COLOURS[0])
        axis.add_patch(box)
        axis.text(x, y, name, ha="center", va="center")
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


def save_figure(figure: Figure, path: str | Path):
    """Write a figure to a .svg or .png file and return what a notebook shows: that very file."""
    from IPython.display import SVG, Image  # late: only notebooks need it

    path = write_figure(figure, path)
    return SVG(filename=str(path)) if path.suffix == ".svg" else Image(filename=str(path))


def write_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure to a .svg or .png file; the same figure gives the same file."""
    path = Path(path)
    with matplotlib.rc_context(SVG_SETTINGS):
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
    return path


def _merged(name: str) -> str:
    """The true class, an `ArgMax` outside every scope, is drawn as part of `labels`."""
    return "labels" if name == "ArgMax" else name


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
