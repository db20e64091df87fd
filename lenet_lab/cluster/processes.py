"""A cluster on this machine, with each of its tasks in a process of its own."""

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any

BEGINNING = 60  # seconds that a task may take to begin, on a busy machine
ENDING = 5  # seconds that all processes may take to end


class Cluster:
    """The tasks of a cluster, in processes that end with this one; see `start_cluster`.

    Use it in a `with` block, or call `close`.

    Parameters
    ----------
    workers : int
        How many tasks the job `worker` has.
    parameter_servers : int, default 0
        How many tasks the job `ps` has.

    Attributes
    ----------
    spec : dict of str to list of str
        The addresses of all tasks, by job, on the loopback.
    target : str
        For `start_run`: the address of the first worker.
    processes : dict of str to int
        The number of each task's process. A task has the name that TensorFlow
        gives it, such as ``"/job:worker/task:0"``.
    """

    def __init__(self, workers: int, parameter_servers: int = 0):
        jobs = {job: count for job, count in (("ps", parameter_servers), ("worker", workers)) if count}
        self.spec = free_addresses(jobs)
        self.target = f"grpc://{self.spec['worker'][0]}"
        self.processes: dict[str, int] = {}
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._launcher = subprocess.Popen(
            [sys.executable, "-m", "lenet_lab.cluster"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C here is not meant for the tasks
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def names(self, job: str) -> list[str]:
        """The names of a job's tasks."""
        return [f"/job:{job}/task:{task}" for task in range(len(self.spec.get(job, ())))]

    def start(self, *names: str, training: dict[str, Any] | None = None) -> None:
        """Start tasks and wait until they are ready: servers or, with settings, training replicas (see `replicas`).

        Raises
        ------
        OSError
            If a task can't begin.
        """
        assert self._launcher.stdin
        for name in names:
            request = {"name": name, "spec": self.spec, "training": training}
            with suppress(BrokenPipeError):  # what is wrong is told below
                self._launcher.stdin.write(json.dumps(request) + "\n")
                self._launcher.stdin.flush()
        waiting = set(names)
        while waiting:
            message = self._next_message(waiting)
            if message["event"] == "ready":
                waiting.discard(message["name"])

    def kill(self, name: str) -> None:
        """End a task's process by SIGKILL, as when its machine loses power."""
        os.kill(self.processes[name], signal.SIGKILL)

    def records(self, names: Sequence[str]) -> Iterator[dict[str, Any]]:
        """What training replicas report of each of their steps, until each of them has finished."""
        training = set(names)
        while training:
            message = self._next_message(training)
            if message["event"] == "record":
                yield message
            elif message["event"] == "finished":
                training.discard(message["name"])

    def close(self) -> None:
        """End all processes. A second call does nothing."""
        with suppress(OSError):
            self._launcher.stdin.close()  # type: ignore[union-attr]
        try:
            self._launcher.wait(ENDING)
        except subprocess.TimeoutExpired:
            self._launcher.kill()  # the tasks notice it
            self._launcher.wait()

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _listen(self) -> None:
        """Take in what the processes write, until they have all ended."""
        assert self._launcher.stdout
        for line in self._launcher.stdout:
            message = json.loads(line)
            if message["event"] == "process":
                self.processes[message["name"]] = message["process"]
            self._messages.put(message)
        self._messages.put(None)

    def _next_message(self, waiting: set[str]) -> dict[str, Any]:
        try:
            message = self._messages.get(timeout=BEGINNING)
        except queue.Empty:
            raise OSError(f"{', '.join(sorted(waiting))} did not answer for {BEGINNING} s") from None
        if message is None:
            raise OSError(f"the process that starts {', '.join(sorted(waiting))} has ended; its error is above")
        if message["event"] == "failed" and message["name"] in waiting:
            raise OSError(f"{message['name']}: {message['error']}")
        return message


def start_cluster(workers: int = 2) -> Cluster:
    """Start a TensorFlow server for each worker, on this machine.

    Parameters
    ----------
    workers : int, default 2

    Returns
    -------
    Cluster
        Use it in a `with` block, or call its `close`.

    Raises
    ------
    OSError
        If a server can't begin.

    Examples
    --------
    >>> with start_cluster(workers=1) as cluster:
    ...     with start_run(classifier, f"{folder}/run_%02d", target=cluster.target) as run:
    ...         run.workers
    ['/job:worker/task:0']
    """
    cluster = Cluster(workers)
    try:
        cluster.start(*cluster.names("worker"))
    except BaseException:
        cluster.close()
        raise
    return cluster


def free_addresses(jobs: dict[str, int]) -> dict[str, list[str]]:
    """For each job, an address on the loopback for each of its tasks, at a port that was free just now."""
    with ExitStack() as held:  # until all are found, so that none is found twice
        probes = {job: [held.enter_context(socket.socket()) for _ in range(count)] for job, count in jobs.items()}
        for probe in (probe for probes_of_job in probes.values() for probe in probes_of_job):
            probe.bind(("127.0.0.1", 0))
        return {job: [f"localhost:{probe.getsockname()[1]}" for probe in found] for job, found in probes.items()}
