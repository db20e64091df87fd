"""What one `session.run` cost: a full trace as tables, by operation and by layer, and as a Chrome trace."""

import time
from pathlib import Path
from typing import Any, NamedTuple

from lenet_lab import compat
from lenet_lab.analysis.evaluation import trace_inference
from lenet_lab.analysis.inference import multiply_adds
from lenet_lab.analysis.tables import markdown_table
from lenet_lab.compat import tf
from lenet_lab.input_data import Datasets
from lenet_lab.runs import Run

TRACE_FILE = "inference_trace.json"
WARM_UPS = 2  # the first runs also choose kernels and lay out memory


class Cost(NamedTuple):
    """The cost of one operation of the graph in a trace."""

    name: str  # of the operation, in the graph
    operation: str  # the kind of kernel that ran
    calls: int
    seconds: float
    output_bytes: int
    peak_bytes: int  # the most memory that it held while it ran


class Profile(NamedTuple):
    """The trace of one `session.run`."""

    costs: list[Cost]  # most expensive first
    wall_seconds: float
    multiply_adds: dict[str, int]  # for all images, by the layer's scope
    trace_file: str  # path, for Perfetto or chrome://tracing; says so if no file could be written

    def table(self, rows: int = 12) -> str:
        """Make a table of the most expensive operations, with the sum of all and the wall time.

        Parameters
        ----------
        rows : int, default 12
            How many operations get a row of their own; another row sums up the rest.

        Returns
        -------
        str
            A Markdown table.
        """
        heading = ("operation", "kernel", "calls", "time", "share", "output", "peak memory")
        total = sum(cost.seconds for cost in self.costs)
        lines = [
            (
                c.name, c.operation, str(c.calls), _milliseconds(c.seconds), f"{c.seconds / total:.1%}",
                _megabytes(c.output_bytes), _megabytes(c.peak_bytes),
            )
            for c in self.costs[:rows]
        ]  # fmt: skip
        others = self.costs[rows:]
        if others:
            rest = sum(c.seconds for c in others)
            calls = str(sum(c.calls for c in others))
            lines.append((f"{len(others)} others", "", calls, _milliseconds(rest), f"{rest / total:.1%}", "", ""))
        lines.append(("sum of the operations", "", "", _milliseconds(total), "100.0%", "", ""))
        lines.append(("wall time of the run", "", "", _milliseconds(self.wall_seconds), "", "", ""))
        return markdown_table([heading, *lines])

    def layer_table(self) -> str:
        """Make a table of each layer's time and multiplications.

        A layer's time is that of the operations in its scope; it is left blank
        where the trace shows no operation of that scope.

        Returns
        -------
        str
            A Markdown table.
        """
        total, products = sum(cost.seconds for cost in self.costs), sum(self.multiply_adds.values())
        rows = [("layer", "time", "share", "multiply-adds", "share", "multiply-adds per second")]
        for layer, count in self.multiply_adds.items():
            seconds = sum(cost.seconds for cost in self.costs if layer in cost.name.split("/"))
            measured = ("", "", "")
            if seconds:
                measured = (_milliseconds(seconds), f"{seconds / total:.1%}", f"{count / seconds / 1e9:.1f} G")
            time_cell, share, rate = measured
            rows.append((layer, time_cell, share, f"{count:,}", f"{count / products:.1%}", rate))
        return markdown_table(rows)


def profile_inference(run: Run, mnist: Datasets) -> Profile:
    """Measure what it costs to classify all test images in one `session.run` (docs/lab.md, "Profiling").

    The run is traced with FULL_TRACE. The trace is also written to
    `inference_trace.json` in the run's directory, for Perfetto
    (ui.perfetto.dev) or chrome://tracing, unless this TensorFlow no longer has
    the module that makes such files.

    Parameters
    ----------
    run : Run
    mnist : Datasets
        With flat images and one-hot labels.

    Returns
    -------
    Profile
        Its `table()` and `layer_table()` are Markdown for a notebook to show.
    """
    for _ in range(WARM_UPS):
        trace_inference(run, mnist.test)
    started = time.perf_counter()
    *_, metadata = trace_inference(run, mnist.test)
    wall_seconds = time.perf_counter() - started
    products = {layer: count * mnist.test.num_examples for layer, count in multiply_adds(run).items()}
    return Profile(read_costs(metadata), wall_seconds, products, _write_trace(run.directory, metadata))


def read_costs(metadata: tf.RunMetadata) -> list[Cost]:
    """Read the operations of a trace, the most expensive first.

    Parameters
    ----------
    metadata : tf.RunMetadata
        Of a `session.run` with FULL_TRACE.

    Returns
    -------
    list of Cost
    """
    nodes: dict[tuple[str, str], list[Any]] = {}
    for device in metadata.step_stats.dev_stats:
        for node in device.node_stats:
            # The label reads "name = Kernel(inputs)".
            kernel = node.timeline_label.partition(" = ")[2].partition("(")[0]
            nodes.setdefault((node.node_name, kernel), []).append(node)
    costs = [
        Cost(
            name, kernel, len(calls),
            sum(call.op_end_rel_nanos - call.op_start_rel_nanos for call in calls) / 1e9,
            sum(_output_bytes(call) for call in calls),
            max(sum(memory.peak_bytes for memory in call.memory) for call in calls),
        )
        for (name, kernel), calls in nodes.items()
    ]  # fmt: skip
    return sorted(costs, key=lambda cost: -cost.seconds)


def _write_trace(directory: str, metadata: tf.RunMetadata) -> str:
    """Write a Chrome trace; returns its path, or why there is none."""
    trace = compat.chrome_trace(metadata.step_stats)
    if trace is None:
        return f"no trace file, since TensorFlow {tf.VERSION} can't make one"
    path = Path(directory, TRACE_FILE)
    path.write_text(trace)
    return str(path)


def _output_bytes(node: Any) -> int:
    return sum(output.tensor_description.allocation_description.requested_bytes for output in node.output)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB"
