"""Which part of an iteration's time TensorFlow's kernels take; the rest is Python's."""

import statistics
import time


def request():
    """Return the `options` and `run_metadata` with which a `session.run` is traced."""
    import tensorflow.compat.v1 as tf  # here, since lenet_lab must be the first to import it

    return tf.RunOptions(trace_level=tf.RunOptions.SOFTWARE_TRACE), tf.RunMetadata()


def kernel_share(iterate, times=9):
    """Measure the share of the time in which at least one operation was running.

    Parameters
    ----------
    iterate : callable
        Does some work in traced calls and returns their requests.
    times : int, default 9
        How often to measure.

    Returns
    -------
    float
        The median, in [0, 1].
    """
    shares = []
    for _ in range(times):
        started = time.perf_counter()
        requests = iterate()
        shares.append(sum(_busy(metadata) for _, metadata in requests) / (time.perf_counter() - started))
    return statistics.median(shares)


def _busy(metadata):
    """Return the seconds in which at least one operation ran on some thread."""
    spans = sorted(
        (node.all_start_micros + node.op_start_rel_micros, node.all_start_micros + node.op_end_rel_micros)
        for device in metadata.step_stats.dev_stats
        for node in device.node_stats
    )
    busy, until = 0, 0
    for start, end in spans:
        busy += max(0, end - max(start, until))
        until = max(until, end)
    return busy / 1e6
