"""A cluster on this machine, with each of its tasks in a process of its own."""

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any

from lenet_lab.paths import LabError, whole_number

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
        The number of each started task's process, as long as nothing is known of
        its end. A task has the name that TensorFlow gives it, such as
        ``"/job:worker/task:0"``.
    """

    def __init__(self, workers: int, parameter_servers: int = 0):
        workers = whole_number("workers", workers, 1)
        parameter_servers = whole_number("parameter_servers", parameter_servers, 0)
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
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def names(self, job: str) -> list[str]:
        """The names of a job's tasks."""
        return [f"/job:{job}/task:{task}" for task in range(len(self.spec.get(job, ())))]

    def start(self, *names: str, training: dict[str, Any] | None = None) -> None:
        """Start tasks and wait until they are ready: servers or, with settings, training replicas (see `replicas`).

        Raises
        ------
        LabError
            If a task runs already.
        OSError
            If a task can't begin.
        """
        assert self._launcher.stdin
        if running := self.processes.keys() & set(names):
            raise LabError(f"{min(running)} runs already; end it first, by kill")
        for name in names:
            request = {"name": name, "spec": self.spec, "training": training}
            with suppress(BrokenPipeError, ValueError):  # what is wrong is told below; the latter after `close`
                self._launcher.stdin.write(json.dumps(request) + "\n")
                self._launcher.stdin.flush()
        waiting = set(names)
        needed = {*self.processes, *names} if training else set(names)  # a replica waits for the others
        while waiting:
            message = self._next_message(waiting, needed)
            if message["event"] == "ready":
                waiting.discard(message["name"])

    def kill(self, name: str) -> None:
        """End a task's process by SIGKILL, as when its machine loses power, and wait until its port is free."""
        process, latest = self.processes[name], time.monotonic() + ENDING
        with suppress(ProcessLookupError):  # then nothing is left of it
            os.kill(process, signal.SIGKILL)
            while time.monotonic() < latest:
                time.sleep(0.01)
                os.kill(process, 0)
        del self.processes[name]

    def records(self, names: Sequence[str]) -> Iterator[dict[str, Any]]:
        """What training replicas report of each of their steps, until each of them has finished.

        Raises
        ------
        OSError
            If the process of any task has ended, also that of a parameter server.
        """
        training, needed = set(names), {*self.processes, *names}
        while training:
            if gone := needed - self.processes.keys():
                raise OSError(f"{', '.join(sorted(gone))} has ended before the training did")
            message = self._next_message(training, needed)
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
        self._listener.join(ENDING)  # until the tasks have ended, too

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _listen(self) -> None:
        """Take in what the processes write, until they have all ended."""
        assert self._launcher.stdout
        with self._launcher.stdout as lines:
            for line in lines:
                self._messages.put(json.loads(line))
        self._messages.put(None)

    def _next_message(self, waiting: set[str], needed: set[str]) -> dict[str, Any]:
        """The next message of a process that still counts, not of an earlier one of the same task.

        It is an error if there is none for long, or if a task that is needed can't go on.
        """
        while True:
            try:
                message = self._messages.get(timeout=BEGINNING)
            except queue.Empty:
                raise OSError(f"{', '.join(sorted(waiting))} did not answer for {BEGINNING} s") from None
            if message is None:
                self._messages.put(None)  # for the next call
                raise OSError(f"the process that starts {', '.join(sorted(waiting))} has ended")
            if message["event"] == "process":
                self.processes[message["name"]] = message["process"]
            if message["process"] == self.processes.get(message["name"]):
                self._check(message, needed)
                return message

    def _check(self, message: dict[str, Any], needed: set[str]) -> None:
        name = message["name"]
        if message["event"] == "ended":
            del self.processes[name]
            if name in needed:
                raise OSError(f"{name}: its process has ended (exit code {message['status']})")
        if message["event"] == "failed" and name in needed:
            raise OSError(f"{name}: {message['error']}")


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
