"""Asynchronous training: every worker has the graph, and all of them train the variables of a parameter server."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lenet_lab.classifier import Classifier, build_classifier
from lenet_lab.cluster.processes import Cluster
from lenet_lab.cluster.servers import Spec
from lenet_lab.compat import set_seed, tf
from lenet_lab.input_data import DataSet, Datasets
from lenet_lab.models import build_lenet5
from lenet_lab.paths import LabError, whole_number

Device = str | Callable[[tf.Operation], str]


def placed(build: Callable[..., tf.Tensor], device: Device) -> Callable[..., tf.Tensor]:
    """A network's builder, with its operations and a counter of steps on a device.

    Parameters
    ----------
    build : callable
        As for `build_classifier`, without `keep_prob`.
    device : str or callable
        As for `tf.device`. `tf.train.replica_device_setter` returns one that puts
        variables on the parameter servers and everything else on a worker.

    Returns
    -------
    callable
        ``build(x)``.
    """

    def build_there(x: tf.Tensor) -> tf.Tensor:
        with tf.device(device):
            tf.train.get_or_create_global_step()  # it counts the steps of all workers together
            return build(x)

    return build_there


def build_replica(spec: Spec, task: int, rate: float = 0.001) -> Classifier:
    """Build a worker's LeNet-5 with Adam, whose variables are on the parameter servers.

    Parameters
    ----------
    spec : dict of str to list of str
        The addresses of the jobs `worker` and `ps`.
    task : int
        The worker.
    rate : float, default 0.001
        The learning rate.
    """
    worker = f"/job:worker/task:{task}"
    device = tf.train.replica_device_setter(cluster=dict(spec), worker_device=worker)
    return build_classifier(placed(build_lenet5, device), tf.train.AdamOptimizer(rate))


def train_replica(
    server: tf.train.Server,
    spec: Spec,
    task: int,
    mnist: Datasets,
    steps: int,
    batch_size: int,
    seed: int,
    ready: Callable[[], None] = lambda: None,
) -> Iterator[dict[str, Any]]:
    """Train as one worker among others, until all of them together have done a number of steps.

    Each step updates the variables on a batch and then measures the loss of that
    batch, as the lab's loop does. Nobody waits for anybody. So between the moment
    a worker reads the variables and the moment it updates them, others may have
    updated them; how many did is the staleness of its gradient.

    Parameters
    ----------
    server : tf.train.Server
        This worker's own.
    spec : dict of str to list of str
    task : int
        The worker. Task 0, the chief, initializes the variables; the others must start after it has.
    mnist : Datasets
        With flat images and one-hot labels.
    steps : int
        Of all workers together. Those under way are finished, so there may be some more.
    batch_size : int
    seed : int
        Of the initial weights and of the order of the images.
    ready : callable
        Called when the variables are initialized.

    Yields
    ------
    dict
        ``step``, from 1; ``loss`` in nats; ``accuracy`` in [0, 1]; ``staleness`` in updates; ``time`` in seconds
        since 1970.
    """
    c = build_replica(spec, task)
    set_seed(c.graph, seed)
    rng = np.random.RandomState([seed, task])  # each worker has an order of its own
    batches = _endless(mnist.train, batch_size, rng)
    workers = len(spec["worker"])
    with c.graph.as_default():
        with tf.device("/job:ps/task:0"):
            updates = tf.Variable(0, trainable=False, dtype=tf.int64, name="updates")
            before = updates.read_value()
            with tf.control_dependencies([c.opt_step]):
                # The number of this update. Others never get the same one.
                number = tf.raw_ops.CountUpTo(ref=updates, limit=2**62) + 1
            arrived = tf.FIFOQueue(workers, tf.int32, shared_name="arrived")
        arrive, number_arrived = arrived.enqueue(task), arrived.size()
    # A worker would otherwise wait for all others, also for those that are gone.
    config = tf.ConfigProto(device_filters=["/job:ps", f"/job:worker/task:{task}"])
    hooks = [tf.train.StopAtStepHook(last_step=steps)]
    with (
        c.graph.as_default(),
        tf.train.MonitoredTrainingSession(
            server.target, is_chief=task == 0, hooks=hooks, config=config, log_step_count_steps=None
        ) as session,
    ):
        if session.run(number_arrived) == workers:
            raise LabError("the parameter server has had a training before; start it again")
        ready()
        session.run(arrive)
        # Others may be so far ahead that all steps are done.
        while not session.should_stop() and session.run(number_arrived) < workers:
            time.sleep(0.01)
        while not session.should_stop():
            x_batch, y_batch = next(batches)
            batch = {c.x: x_batch, c.y_true: y_batch}
            others, step = session.run([before, number], batch)
            if session.should_stop():
                break
            loss, accuracy = session.run([c.loss, c.accuracy], batch)
            yield {
                "step": int(step),
                "loss": float(loss),
                "accuracy": float(accuracy),
                "staleness": int(step - others - 1),
                "time": time.time(),
            }


def _endless(dataset: DataSet, batch_size: int, rng: np.random.RandomState) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of one epoch after another."""
    while True:
        for (x_batch,), (y_batch,) in dataset.epoch(batch_size, rng):
            yield x_batch, y_batch


def train_asynchronously(
    cluster: Cluster, steps: int, batch_size: int = 128, seed: int = 1
) -> dict[str, list[dict[str, Any]]]:
    """Train LeNet-5 with Adam on a cluster's workers, with its parameter server between them.

    The workers read MNIST as `read_data_sets("MNIST_data/")` does.

    Parameters
    ----------
    cluster : Cluster
        With at least one parameter server. None of its tasks has started.
    steps : int
        Of all workers together.
    batch_size : int, default 128
    seed : int, default 1

    Returns
    -------
    dict of str to list of dict
        For each worker by name, what `train_replica` says of each of its steps.

    Raises
    ------
    OSError
        If a task fails.
    """
    steps, batch_size = whole_number("steps", steps, 1), whole_number("batch_size", batch_size, 1)
    training = {"steps": steps, "batch_size": batch_size, "seed": seed}
    servers, workers = cluster.names("ps"), cluster.names("worker")
    if not servers:
        raise LabError("the cluster has no parameter server; expected Cluster(workers=..., parameter_servers=1)")
    cluster.start(*servers)
    cluster.start(workers[0], training=training)  # the others would look for its variables only every 30 seconds
    cluster.start(*workers[1:], training=training)
    records: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
    for record in cluster.records(workers):
        records[record["name"]].append({key: record[key] for key in ("step", "loss", "accuracy", "staleness", "time")})
    return records
