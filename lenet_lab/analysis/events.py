"""A run's event file, read back with TensorBoard's own reader."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lenet_lab.compat import tf
from lenet_lab.paths import LabError

if TYPE_CHECKING:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

# How many events to keep of each kind, 0 for all. By default, TensorBoard keeps a sample.
KEPT_EVENTS = {"scalars": 0, "tensors": 0, "graph": 1, "run_metadata": 0}


class Curve(NamedTuple):
    """The events of one tag, in order."""

    steps: np.ndarray  # int [events]
    seconds: np.ndarray  # float [events], since the first event
    values: np.ndarray  # float [events]


def read_events(directory: str | Path) -> EventAccumulator:
    """Read all events of a run, those of `validation` not included.

    Parameters
    ----------
    directory : str or Path
        The run's directory, such as ``"logs/lenet5/run_01"``.

    Returns
    -------
    EventAccumulator
        TensorBoard's reader, with the events loaded; it is empty where there are none.

    Raises
    ------
    LabError
        If the directory does not exist.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # slow to import

    if not Path(directory).exists():
        raise LabError(f"{directory} does not exist; expected the directory of a run, such as logs/lenet5/run_01")
    reader = EventAccumulator(str(directory), size_guidance=KEPT_EVENTS)
    reader.Reload()
    return reader


def read_curve(directory: str | Path, tag: str) -> Curve:
    """Read every event of one scalar (docs/lab.md, "Question: curves").

    Parameters
    ----------
    directory : str or Path
        The run's directory, such as ``"logs/lenet5/run_01"``.
    tag : str
        ``"Loss"`` or ``"Accuracy"``.

    Returns
    -------
    Curve

    Raises
    ------
    LabError
        If the directory does not exist or has no events of that tag.
    """
    reader = read_events(directory)
    tags = reader.Tags()["scalars"]
    if tag not in tags:
        expected = f"expected one of {', '.join(sorted(tags))}" if tags else "nothing has been trained there yet"
        raise LabError(f"{directory} has no events tagged {tag!r}; {expected}")
    events = reader.Scalars(tag)
    wall_times = np.array([event.wall_time for event in events])
    return Curve(
        steps=np.array([event.step for event in events]),
        seconds=wall_times - wall_times[0],
        values=np.array([event.value for event in events]),
    )


def read_graph(directory: str | Path) -> tf.GraphDef:
    """Read the graph that a run's event file holds.

    Parameters
    ----------
    directory : str or Path
        The run's directory, such as ``"logs/lenet5/run_01"``.

    Returns
    -------
    tf.GraphDef

    Raises
    ------
    LabError
        If the directory does not exist or its event file holds no graph.
    """
    reader = read_events(directory)
    if not reader.Tags()["graph"]:
        raise LabError(f"{directory} has no event file with a graph; expected a directory made by start_run")
    return tf.GraphDef.FromString(reader.Graph().SerializeToString())
