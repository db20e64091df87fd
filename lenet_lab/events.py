"""A run's event file read back with TensorBoard's own reader."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lenet_lab.compat import tf

# Keep every event; TensorBoard's default is a sample.
ALL = {"scalars": 0, "tensors": 0, "graph": 1, "run_metadata": 0}


class Curve(NamedTuple):
    """The events of one tag, in order."""

    steps: np.ndarray  # int [events]
    seconds: np.ndarray  # float [events], since the first
    values: np.ndarray  # float [events]


def read_events(directory: str | Path) -> EventAccumulator:
    """All events of a run directory, in TensorBoard's own reader."""
    reader = EventAccumulator(str(directory), size_guidance=ALL)
    reader.Reload()
    return reader


def read_curve(directory: str, tag: str) -> Curve:
    """Every event of a scalar tag (`Loss` or `Accuracy`) of one run directory.

    Raises
    ------
    ValueError
        If the directory has no events of that tag.
    """
    reader = read_events(directory)
    tags = reader.Tags()["scalars"]
    if tag not in tags:
        raise ValueError(f"{directory}: no events tagged {tag!r}, expected one of {sorted(tags)}")
    events = reader.Scalars(tag)
    wall = np.array([event.wall_time for event in events])
    return Curve(
        np.array([event.step for event in events]), wall - wall[0], np.array([event.value for event in events])
    )


def read_graph(directory: str) -> tf.GraphDef:
    """The graph in a run directory's event file."""
    return tf.GraphDef.FromString(read_events(directory).Graph().SerializeToString())
