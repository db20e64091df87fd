"""The figures of notebook 7."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lenet_lab.analysis.events import Curve
from lenet_lab.analysis.figures import COLOURS, DASHES
from lenet_lab.cluster.costs import BANDWIDTHS, EXAMPLE, FLOAT, CostModel
from lenet_lab.compat import tf

KINDS = ("forward", "backward", "update", "waiting for tensors")


def plot_clusters(parameters: int, batch_size: int) -> Figure:
    """Draw two clusters of two workers: who holds the variables, who computes, and what moves in a step.

    Parameters
    ----------
    parameters : int
        Of the network.
    batch_size : int
    """
    weights, half, batch = (
        f"{size / 1e3:.0f} kB" for size in (FLOAT * parameters, EXAMPLE * batch_size / 2, EXAMPLE * batch_size)
    )
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.set_title("synchronous: one graph on two workers")
    _box(left, 0.15, 0.9, "this notebook\nhas the images", COLOURS[3])
    _box(left, 0.15, 0.2, "/job:worker/task:0\nhas the variables\ncomputes shard 0", COLOURS[0])
    _box(left, 0.95, 0.2, "/job:worker/task:1\ncomputes shard 1", COLOURS[2])
    _arrow(left, (0.15, 0.78), (0.15, 0.37), f"the batch: {batch}")
    _arrow(
        left, (0.36, 0.27), (0.74, 0.27), f"half the batch: {half}\nthe parameters: $2\\times$ {weights}", above=0.09
    )
    _arrow(left, (0.74, 0.13), (0.36, 0.13), f"the gradient: {weights}", above=-0.06)
    right.set_title("asynchronous: a graph for each worker")
    _box(right, 0.5, 0.9, "/job:ps/task:0\nhas the variables", COLOURS[0])
    for worker, (place, above, out) in enumerate(((0.1, 0.36, -0.06), (0.9, 0.64, 0.06))):
        _box(right, place, 0.2, f"/job:worker/task:{worker}\nhas the images\ncomputes its batch", COLOURS[2])
        _arrow(right, (above + out, 0.78), (place + out, 0.37), f"the parameters:\n$2\\times$ {weights}", above=0.09)
        _arrow(right, (place - out, 0.37), (above - out, 0.78), f"the gradient:\n{weights}", above=-0.09)
    return figure


def _box(axis: Axes, x: float, y: float, text: str, colour: str) -> None:
    axis.set_axis_off()
    axis.set(xlim=(-0.15, 1.25), ylim=(0, 1.05))
    frame = {"boxstyle": "round,pad=0.6", "facecolor": "white", "edgecolor": colour, "linewidth": 2}
    axis.text(x, y, text, ha="center", va="center", fontsize=9, bbox=frame)


def _arrow(axis: Axes, start: tuple[float, float], end: tuple[float, float], text: str, above: float = 0.0) -> None:
    """An arrow with a text at its middle, or some way above it."""
    axis.annotate("", xy=end, xytext=start, arrowprops={"arrowstyle": "->", "linewidth": 1.5, "color": "#555555"})
    frame = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none"}
    x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + above
    axis.text(x, y, text, ha="center", va="center", fontsize=8.5, bbox=frame)


def plot_placement(metadata: tf.RunMetadata) -> Figure:
    """Draw what each worker of a cluster did, and when: the trace of some steps.

    Parameters
    ----------
    metadata : tf.RunMetadata
        Of a `session.run` with FULL_TRACE.
    """
    spans: dict[tuple[str, str], list[tuple[float, float]]] = {}
    ends = []
    for device in metadata.step_stats.dev_stats:
        task = device.device.partition("/device")[0].replace("/replica:0", "")
        for node in device.node_stats:
            spans.setdefault((task, _kind(node)), []).append((node.all_start_micros, node.all_end_rel_micros))
            if "Timestamp" in node.timeline_label:  # the last operation of a step of the loop
                ends.append(node.all_start_micros)
    began = min(start for found in spans.values() for start, _ in found)
    lanes = sorted(spans, key=lambda lane: (lane[0], KINDS.index(lane[1])))
    figure = Figure(figsize=(10, 1.5 + 0.3 * len(lanes)), layout="constrained")
    axis = figure.subplots()
    for place, lane in enumerate(lanes):
        bars = [((start - began) / 1e3, length / 1e3) for start, length in spans[lane]]
        axis.broken_barh(bars, (place - 0.4, 0.8), facecolor=COLOURS[KINDS.index(lane[1])])
    for end in ends:
        axis.axvline((end - began) / 1e3, color="black", linestyle=":")
    axis.set_yticks(range(len(lanes)), [f"{task}  {kind}" for task, kind in lanes], fontsize=8)
    axis.invert_yaxis()
    axis.set_title("synchronous training; a dotted line ends each step", fontsize=10)
    axis.set_xlabel("time (ms)")
    axis.grid(alpha=0.3, axis="x")
    return figure


def _kind(node: object) -> str:
    """Which of `KINDS` an operation in a trace belongs to."""
    name = node.node_name  # type: ignore[attr-defined]
    if name == "RecvTensor":
        return KINDS[3]
    if "Adam" in name or "GradientDescent" in name:
        return KINDS[2]
    return KINDS[1] if "/gradients/" in name else KINDS[0]


def curve(records: Sequence[Mapping[str, float]]) -> Curve:
    """The loss of what workers report of their steps, in the order of their updates.

    Parameters
    ----------
    records : sequence of dict
        From `train_asynchronously`.
    """
    ordered = sorted(records, key=lambda record: record["step"])
    times = np.maximum.accumulate([record["time"] for record in ordered])  # reports may overtake each other
    return Curve(
        np.array([record["step"] for record in ordered], int),
        times - times.min(),
        np.array([record["loss"] for record in ordered]),
    )


def plot_staleness(staleness: Mapping[str, Sequence[int]]) -> Figure:
    """Draw how often a gradient was how stale.

    Parameters
    ----------
    staleness : mapping
        From a label, such as ``"2 workers"``, to the staleness of each update; one to four of them.
    """
    figure = Figure(figsize=(8, 4), layout="constrained")
    axis = figure.subplots()
    width = 0.8 / len(staleness)
    for number, (label, values) in enumerate(staleness.items()):
        counts = np.bincount(np.asarray(values, int))
        places = np.arange(len(counts)) + (number - (len(staleness) - 1) / 2) * width
        axis.bar(places, counts / counts.sum(), width, color=COLOURS[number], label=label)
    axis.set_xlabel("staleness: updates by others between reading the variables and updating them")
    axis.set_ylabel("share of the updates")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3, axis="y")
    axis.legend()
    return figure


def plot_second_machine(model: CostModel, factors: Sequence[int] = (1, 4, 16, 64)) -> Figure:
    """Draw from which batch size on a second machine pays, by bandwidth, for networks of several sizes.

    Parameters
    ----------
    model : CostModel
        With measured constants.
    factors : sequence of int, default (1, 4, 16, 64)
        How many times as many multiplications and parameters the networks have; up to four.
    """
    bandwidths = np.geomspace(min(BANDWIDTHS.values()), max(BANDWIDTHS.values()), 400)
    figure = Figure(figsize=(8, 5), layout="constrained")
    axis = figure.subplots()
    for factor, colour, dash in zip(factors, COLOURS, DASHES):
        sizes = [model.scaled(factor).batch_size_that_pays(bandwidth) for bandwidth in bandwidths]
        label = f"{factor * model.parameters:,} parameters" + (" (LeNet-5)" if factor == 1 else "")
        axis.plot(bandwidths, sizes, dash, color=colour, label=label)
    axis.set(xscale="log", yscale="log", ylim=(1, 1e5))
    axis.set_xticks(list(BANDWIDTHS.values()), list(BANDWIDTHS))
    axis.minorticks_off()
    axis.set_xlabel("bandwidth between the two machines")
    axis.set_ylabel("batch size from which two machines are faster")
    axis.grid(alpha=0.3)
    axis.legend(title="above its line, a second machine pays")
    return figure
