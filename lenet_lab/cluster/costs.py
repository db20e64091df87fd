"""What it costs to train on several machines: the bytes that move in a step, its time, and when a further one pays."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from lenet_lab.analysis.tables import markdown_table
from lenet_lab.classifier import Classifier, build_classifier
from lenet_lab.cluster.processes import start_cluster
from lenet_lab.compat import tf
from lenet_lab.fast.loop import batches_at_a_time, iterate
from lenet_lab.input_data import DataSet
from lenet_lab.models import build_lenet5
from lenet_lab.runs import Model

SENT = Path("/sys/class/net/lo/statistics/tx_bytes")  # what Linux has counted on the loopback since its start
FLOAT = 4  # bytes
EXAMPLE = FLOAT * (784 + 10)  # an image and its label
BANDWIDTHS = {"100 Mbit/s": 12.5e6, "1 Gbit/s": 125e6, "10 Gbit/s": 1.25e9, "100 Gbit/s": 12.5e9}  # bytes per second
EXCHANGES = 3  # of all parameters: to a worker for the gradient, the gradient back, to the worker for the record


class StepCost(NamedTuple):
    """What a step cost."""

    workers: int  # 0 if the session was in this process
    batch_size: int
    seconds: float
    bytes: float | None  # through the loopback; None where the system does not count them


class CostModel(NamedTuple):
    """The time of a step in terms of constants, all in seconds: those of `fit_model` were measured."""

    parameters: int
    step: float  # for a step in one process, whatever its batch
    example: float  # for each example of a batch, with all cores of a machine
    worker: float  # for each worker beyond the first: waiting for messages, and handling them
    byte: float  # for each byte that is moved: copying it, on one machine

    def seconds(self, workers: int, batch_size: int, machines: int = 1, bandwidth: float = np.inf) -> float:
        """The time of a step.

        Parameters
        ----------
        workers : int
            0 for a session in this process.
        batch_size : int
        machines : int, default 1
            The workers are spread over them. Each of them is like the one that was measured.
        bandwidth : float, default infinite
            Between two machines, in bytes per second.
        """
        computing = self.step + self.example * batch_size / machines
        moving = self.byte * bytes_of_step(self.parameters, workers, batch_size)
        between = bytes_of_step(self.parameters, workers, batch_size) - batch_size * EXAMPLE if machines > 1 else 0
        return computing + self.worker * max(workers - 1, 0) + moving + between / bandwidth

    def scaled(self, factor: float) -> "CostModel":
        """For a network with `factor` times as many multiplications and parameters."""
        return self._replace(parameters=round(self.parameters * factor), example=self.example * factor)

    def batch_size_that_pays(self, bandwidth: float) -> float:
        """From which batch size on two machines are faster than one; infinite if they never are."""
        return _zero(*(self._gain(batch_size, bandwidth) for batch_size in (0, 1)))

    def factor_that_pays(self, batch_size: int, bandwidth: float) -> float:
        """From how many times the network's size on two machines are faster than one; infinite if they never are."""
        return _zero(*(self.scaled(factor)._gain(batch_size, bandwidth) for factor in (0, 1)))

    def _gain(self, batch_size: int, bandwidth: float) -> float:
        """How much faster a step is on two machines than in one process, in seconds."""
        return self.seconds(0, batch_size) - self.seconds(2, batch_size, machines=2, bandwidth=bandwidth)


def _zero(at_0: float, at_1: float) -> float:
    """From where on a straight line is positive, beginning at 0; infinite if it never is."""
    slope = at_1 - at_0
    if at_0 > 0 and slope >= 0:
        return 0.0
    return -at_0 / slope if slope > 0 else np.inf


def bytes_of_step(parameters: int, workers: int, batch_size: int) -> float:
    """The bytes that move in a step of synchronous training.

    The batch goes to the first worker, which holds the variables. Each further
    worker gets its share of the batch. All parameters go to it, their gradient
    comes back, and the parameters go to it once more, since the lab records each
    batch's loss after its update.

    Parameters
    ----------
    parameters : int
    workers : int
        0 for a session in this process, where nothing moves.
    batch_size : int
    """
    if not workers:
        return 0.0
    further = workers - 1
    return EXAMPLE * batch_size * (1 + further / workers) + further * EXCHANGES * FLOAT * parameters


def lenet5_with_adam() -> Classifier:
    """The lab's network and optimizer, in a new graph."""
    return build_classifier(build_lenet5, tf.train.AdamOptimizer(0.001))


def measure_steps(
    dataset: DataSet,
    workers: Sequence[int] = (0, 1, 2, 4),
    batch_sizes: Sequence[int] = (128, 512, 2048),
    repeats: int = 7,
    build: Callable[[], Classifier] = lenet5_with_adam,
) -> list[StepCost]:
    """Measure steps of synchronous training in this process and on clusters of several sizes, all on this machine.

    They take turns, so that whatever else the machine does slows all of them
    down. The batches come from the first images, again and again; what the
    networks learn from them is of no use.

    Parameters
    ----------
    dataset : DataSet
        With flat images and one-hot labels.
    workers : sequence of int, default (0, 1, 2, 4)
        The number of workers of each cluster; 0 for a session in this process.
    batch_sizes : sequence of int, default (128, 512, 2048)
    repeats : int, default 7
        How often each size is measured on each cluster. The median counts.
    build : callable, default `lenet5_with_adam`
        Builds the classifier, for each cluster a new one.

    Returns
    -------
    list of StepCost
        By workers, then by batch size.
    """
    with ExitStack() as opened:
        models = [opened.enter_context(_on_workers(build(), count)) for count in workers]
        costs = [cost for size in batch_sizes for cost in _take_turns(models, dataset, size, repeats)]
    return sorted(costs, key=lambda cost: (cost.workers, cost.batch_size))


@contextmanager
def _on_workers(classifier: Classifier, count: int) -> Iterator[Model]:
    with ExitStack() as opened:
        target = opened.enter_context(start_cluster(count)).target if count else ""
        model = opened.enter_context(Model(classifier, target))
        model.session.run(classifier.init_op)
        yield model


def _take_turns(models: Sequence[Model], dataset: DataSet, batch_size: int, repeats: int) -> list[StepCost]:
    steps = batches_at_a_time(batch_size)
    batches = _batches(dataset, steps, batch_size)
    seconds: list[list[float]] = [[] for _ in models]
    sent: list[list[int | None]] = [[] for _ in models]
    for turn in range(repeats + 1):
        for model, times, counts in zip(models, seconds, sent):
            before, started = _sent(), time.perf_counter()
            iterate(model, *batches, 1.0)
            if turn:  # the first one also prepares the graph
                times.append(time.perf_counter() - started)
                counts.append(None if before is None else (_sent() or 0) - before)
    return [
        StepCost(
            len(model.workers),
            batch_size,
            float(np.median(times)) / steps,
            None if None in counts else float(np.median(counts)) / steps,  # type: ignore[arg-type]
        )
        for model, times, counts in zip(models, seconds, sent)
    ]


def _sent() -> int | None:
    return int(SENT.read_text()) if SENT.exists() else None


def fit_model(costs: Sequence[StepCost], parameters: int) -> CostModel:
    """Fit the constants of a `CostModel` by least squares to the steps in this process and on two workers.

    Parameters
    ----------
    costs : sequence of StepCost
        From `measure_steps`, for at least two sizes of batches. Others than those
        of this process and of two workers are left out.
    parameters : int
        Of the network that was measured.
    """
    alone = [cost for cost in costs if cost.workers == 0]
    two = [cost for cost in costs if cost.workers == 2]
    step, example = _fit([1.0 for _ in alone], [cost.batch_size for cost in alone], [cost.seconds for cost in alone])
    moved = [bytes_of_step(parameters, 2, cost.batch_size) for cost in two]
    longer = [cost.seconds - here.seconds for cost, here in zip(two, alone)]
    worker, byte = _fit([1.0 for _ in two], moved, longer)
    return CostModel(parameters, step, example, worker, byte)


def _fit(first: Sequence[float], second: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """The constants, none of them negative, with which the times are sums of the two quantities."""
    values = np.array(seconds)
    weights = 1 / np.maximum(np.abs(values), 1e-4)  # errors count in proportion to the times
    factors = np.stack([first, second], axis=1) * weights[:, None]
    scale = np.abs(factors).max(axis=0)
    constants = nnls(factors / scale, values * weights)[0] / scale
    return float(constants[0]), float(constants[1])


def trace_steps(run: Model, dataset: DataSet, batch_size: int, steps: int = 2) -> tf.RunMetadata:
    """Train a few steps with FULL_TRACE, after one call that prepares the graph.

    Parameters
    ----------
    run : Run
    dataset : DataSet
        With flat images and one-hot labels.
    batch_size : int
    steps : int, default 2

    Returns
    -------
    tf.RunMetadata
        The time and the device of each operation.
    """
    batches = _batches(dataset, steps, batch_size)
    metadata = tf.RunMetadata()
    iterate(run, *batches, 1.0)
    iterate(run, *batches, 1.0, tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), metadata)
    return metadata


def _batches(dataset: DataSet, count: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Batches of the first images, again and again if there are too few."""
    x = np.resize(dataset.images, (count, batch_size, 784)).astype(np.float32)
    return x, np.resize(dataset.labels, (count, batch_size, 10))


def cost_table(costs: Sequence[StepCost], model: CostModel, examples: int) -> str:
    """Make a table of measured steps, beside what the model predicts.

    Parameters
    ----------
    costs : sequence of StepCost
    model : CostModel
    examples : int
        In an epoch.

    Returns
    -------
    str
        A Markdown table.
    """
    heading = ("workers", "batch", "a step", "predicted", "an epoch", "bytes a step", "predicted bytes")
    rows = [
        (
            str(cost.workers) if cost.workers else "one process",
            f"{cost.batch_size:,}",
            f"{cost.seconds * 1e3:.1f} ms",
            f"{model.seconds(cost.workers, cost.batch_size) * 1e3:.1f} ms",
            f"{cost.seconds * (examples // cost.batch_size):.1f} s",
            "not counted" if cost.bytes is None else f"{cost.bytes:,.0f}",
            f"{bytes_of_step(model.parameters, cost.workers, cost.batch_size):,.0f}",
        )
        for cost in costs
    ]
    return markdown_table([heading, *rows])


def limits_table(model: CostModel, batch_size: int) -> str:
    """Make a table of when two machines are faster than one, by the bandwidth between them.

    Parameters
    ----------
    model : CostModel
    batch_size : int
        For which the size of the network is worked out.

    Returns
    -------
    str
        A Markdown table.
    """
    heading = ("bandwidth", "this network: from a batch of", f"batches of {batch_size}: from a network with")
    rows = [(name, *_limits(model, batch_size, bandwidth)) for name, bandwidth in BANDWIDTHS.items()]
    return markdown_table([heading, *rows])


def _limits(model: CostModel, batch_size: int, bandwidth: float) -> tuple[str, str]:
    size, factor = model.batch_size_that_pays(bandwidth), model.factor_that_pays(batch_size, bandwidth)
    return (
        f"{np.ceil(size):,.0f}" if np.isfinite(size) else "never",
        f"{factor:,.1f} times as many parameters" if np.isfinite(factor) else "never",
    )
