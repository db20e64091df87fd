"""The one place that imports TensorFlow: `tf` is version 1, with version 2 behaviour off, and what the lab adds."""

import numbers
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

# A value that is already set wins over each of these.
# Without this, TensorFlow switches Intel's oneDNN off on processors that lack AVX-512.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# Hide notes on CUDA and processor flags. TensorFlow's errors reach Python as exceptions anyway.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# `tf.layers` and `tf.nn.rnn_cell` were built on Keras 2, which lives on as tf_keras. Keras 3 has neither.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Hide what the block writes to file descriptor 2, unless the block fails or the process dies.

    Without a CUDA driver, TensorFlow's libraries print a warning as they load,
    before they obey the log level above.
    """
    try:
        stderr = os.dup(2) if os.name == "posix" and sys.stderr else None
    except OSError:  # it is closed
        stderr = None
    if stderr is None:
        yield
        return
    sys.stderr.flush()
    with tempfile.NamedTemporaryFile() as hidden:
        # If this process dies, no Python code can show the message any more. The shell then can.
        script = 'read finished || { cat "$0" >&2; rm -f "$0"; }'
        watcher = None
        with suppress(OSError):  # without a shell, only this is lost
            watcher = subprocess.Popen(["sh", "-c", script, hidden.name], stdin=subprocess.PIPE, stderr=stderr)
        os.dup2(hidden.fileno(), 2)
        try:
            yield
        except BaseException:
            hidden.seek(0)
            os.write(stderr, hidden.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            if watcher:
                watcher.communicate(b"finished\n")


# The lab teaches TensorFlow 1, where `tf.layers` is what one uses.
warnings.filterwarnings("ignore", r"`tf\.(layers|nn\.rnn_cell)\.", UserWarning)

with _quiet_stderr():
    import tensorflow.compat.v1 as tf

    # Switching version 2 off logs that doing so is deprecated, which is no news in a TensorFlow 1 lab.
    tf.logging.set_verbosity(tf.logging.ERROR)
    tf.disable_v2_behavior()
    tf.logging.set_verbosity(tf.logging.WARN)


def cores() -> int:
    """The number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def chrome_trace(step_stats: Any) -> str | None:
    """A traced `session.run` in Chrome's trace format, or None if this TensorFlow can't write it.

    Parameters
    ----------
    step_stats : StepStats
        From ``RunMetadata.step_stats``.
    """
    try:
        from tensorflow.python.client import timeline  # late: it is no public name, so TensorFlow may move it

        return timeline.Timeline(step_stats).generate_chrome_trace_format(show_memory=True)
    except (ImportError, AttributeError):
        return None


def learning_rate(optimizer: tf.train.Optimizer) -> float | None:
    """An optimizer's learning rate, or None if it is not a number but, for example, a schedule."""
    rate = getattr(optimizer, "_learning_rate", getattr(optimizer, "_lr", None))  # depends on the optimizer's class
    return float(rate) if isinstance(rate, (numbers.Real, np.ndarray)) else None


def describe_error(error: Exception) -> str:
    """What went wrong, in one line; TensorFlow puts it among lines that say where."""
    where = ("Graph execution error", "Detected at", "Node:", " ", "\t")
    lines = [line for line in str(error).splitlines() if line and not line.startswith(where)]
    return lines[0] if lines else type(error).__name__


def scalar_summary(tag: str, value: tf.Tensor) -> tf.Tensor:
    """`tf.summary.scalar`, but with exactly the tag that is given.

    `tf.summary.scalar` makes its tag from a name scope, and names of scopes must
    differ in more than case. So beside the scope `loss`, the lab's tag `Loss`
    silently became `Loss_1`.
    """
    summary = tf.raw_ops.ScalarSummary(tags=tag, values=value, name=tag)
    tf.add_to_collection(tf.GraphKeys.SUMMARIES, summary)
    return summary


def number_random_operations(graph: tf.Graph) -> None:
    """Number the random operations of a finished graph, in the order they were made.

    The number is one half of an operation's seed. A copy made later keeps it, so
    copies never change what the other half, the seed of a run, gives.
    """
    for number, op in enumerate(_random_operations(graph), start=1):
        op._set_attr("seed2", tf.AttrValue(i=number))


def set_seed(graph: tf.Graph, seed: int) -> None:
    """Seed every random operation of a finished graph.

    `tf.set_random_seed` affects only operations that are made after it, but here
    a graph is built once and may run with many seeds.
    """
    for op in _random_operations(graph):
        op._set_attr("seed", tf.AttrValue(i=seed))


def _random_operations(graph: tf.Graph) -> list[tf.Operation]:
    return [op for op in graph.get_operations() if "seed2" in op.node_def.attr]


class EventFile:
    """Stands between a `FileWriter` and its event file, and raises the same OSError for every failure.

    TensorFlow's own event file raises an error once, of one class or another, and
    then silently drops what it is given.
    """

    def __init__(self, event_file: Any, directory: str):
        self._event_file = event_file
        self._directory = directory
        self._failure: Exception | None = None

    def add_event(self, event: tf.Event) -> None:
        self._call(self._event_file.add_event, event)

    def flush(self) -> None:
        self._call(self._event_file.flush)

    def close(self) -> None:
        if not self._failure:
            self._call(self._event_file.close)

    def _call(self, method: Callable[..., None], *arguments: tf.Event) -> None:
        try:
            if not self._failure:
                method(*arguments)
        except Exception as error:  # noqa: BLE001 - TensorFlow raises errors of several classes
            self._failure = error
        if self._failure:
            raise OSError(
                f"{self._directory}: events can't be written any more ({describe_error(self._failure)}); make room on "
                "the disk, then continue from the last checkpoint, if there is one, with resume_run"
            )


def open_events(directory: str) -> Any:
    """A `FileWriter` with a new event file in a directory, which reports every failure.

    TensorBoard reads a directory's event files in the order of their names, so a
    later one gets a number at its end.
    """
    earlier = len(list(Path(directory).glob("events.out.tfevents.*")))
    writer = tf.summary.FileWriter(directory, filename_suffix=f".{earlier}" if earlier else None)
    writer.event_writer = EventFile(writer.event_writer, directory)
    return writer


def _runs_without_onednn() -> bool:
    try:
        from tensorflow.python.util import _pywrap_util_port  # late, as above

        return not _pywrap_util_port.IsMklEnabled()
    except (ImportError, AttributeError):
        return False  # it can't be known


if _runs_without_onednn() and sys.stderr is not None:
    print(
        "TensorFlow runs without oneDNN, so training is several times slower. Either TF_ENABLE_ONEDNN_OPTS is 0, or "
        "TensorFlow was imported before lenet_lab (import lenet_lab first), or it does not know this processor.",
        file=sys.stderr,
    )

__all__ = [
    "chrome_trace",
    "cores",
    "describe_error",
    "learning_rate",
    "number_random_operations",
    "open_events",
    "scalar_summary",
    "set_seed",
    "tf",
]
