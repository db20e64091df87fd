"""What one `session.run` cost: a full trace as a table, by operation and by layer, and as a Chrome trace."""

import time
from pathlib import Path
from typing import NamedTuple

from lenet_lab.compat import tf, timeline
from lenet_lab.inference import multiply_adds, trace_inference
from lenet_lab.input_data import Datasets
from lenet_lab.models import markdown_table
from lenet_lab.runs import Run

TRACE_FILE = "inference_trace.json"
WARM_UPS = 2  # the first runs also choose kernels and lay out memory


class Cost(NamedTuple):
    """What an operation of a graph cost in a trace."""

    name: str  # of the operation, in the graph
    operation: str  # what kind of kernel ran
    calls: int
    seconds: float
    output_bytes: int
    peak_bytes: int  # the most that it held while it ran


class Profile(NamedTuple):
    """The trace of one `session.run`."""

    costs: list[Cost]  # the dearest first
    wall_seconds: float
    multiply_adds: dict[str, int]  # for all images, by the layer's scope
    trace_file: str  # for Perfetto or chrome://tracing

    def table(self, rows: int = 12) -> str:
        """The dearest operations as Markdown; the sum of all against the wall time."""
        heading = ("operation", "kernel", "calls", "time", "share", "output", "peak memory")
        total = sum(cost.seconds for cost in self.costs)
        lines = [
            (
                c.name, c.operation, str(c.calls), f"{c.seconds * 1e3:.2f} ms", f"{c.seconds / total:.1%}",
                _megabytes(c.output_bytes), _megabytes(c.peak_bytes),
            )
            for c in self.costs[:rows]
        ]  # fmt: skip
        others = self.costs[rows:]
        if others:
            rest = sum(c.seconds for c in others)
            calls = sum(c.calls for c in others)
            lines.append(
                (f"{len(others)} others", "", str(calls), f"{rest * 1e3:.2f} ms", f"{rest / total:.1%}", "", "")
            )
        lines.append(("sum of the operations", "", "", f"{total * 1e3:.2f} ms", "100.0%", "", ""))
        lines.append(("wall time of the run", "", "", f"{self.wall_seconds * 1e3:.2f} ms", "", "", ""))
        return markdown_table([heading, *lines])

    def layer_table(self) -> str:
        """Each layer's time beside its multiplications, as Markdown."""
        total, products = sum(cost.seconds for cost in self.costs), sum(self.multiply_adds.values())
        rows = [("layer", "time", "share", "multiply-adds", "share", "multiply-adds per second")]
        for layer, count in self.multiply_adds.items():
            seconds = sum(cost.seconds for cost in self.costs if layer in cost.name.split("/"))
            rate = f"{count / seconds / 1e9:.1f} G" if seconds else ""
            share = f"{seconds / total:.1%}"
            rows.append((layer, f"{seconds * 1e3:.2f} ms", share, f"{count:,}", f"{count / products:.1%}", rate))
        return markdown_table(rows)


def profile_inference(run: Run, mnist: Datasets) -> Profile:
    """Classify all test images in one traced `session.run`, and tell what that cost (lab cell 15's FULL_TRACE).

    The trace is also written to `inference_trace.json` in the run's directory,
    which Perfetto (ui.perfetto.dev) and chrome://tracing open.

    Parameters
    ----------
    run : Run
    mnist : Datasets

    Returns
    -------
    Profile
        Whose `table()` and `layer_table()` a notebook shows.
    """
    for _ in range(WARM_UPS):
        trace_inference(run, mnist.test)
    started = time.perf_counter()
    *_, metadata = trace_inference(run, mnist.test)
    wall_seconds = time.perf_counter() - started
    path = Path(run.directory, TRACE_FILE)
    path.write_text(timeline.Timeline(metadata.step_stats).generate_chrome_trace_format(show_memory=True))
    products = {layer: count * mnist.test.num_examples for layer, count in multiply_adds(run).items()}
    return Profile(read_costs(metadata), wall_seconds, products, str(path))


def read_costs(metadata: tf.RunMetadata) -> list[Cost]:
    """The operations of a trace, the dearest first."""
    nodes: dict[tuple[str, str], list] = {}
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


def _output_bytes(node) -> int:
    return sum(output.tensor_description.allocation_description.requested_bytes for output in node.output)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB"
