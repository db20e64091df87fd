"""A sweep of trainings on Dask: in several processes of this machine, or on the machines of a cluster."""

import asyncio
import io
import logging
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from functools import partial
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

from filelock import Timeout
from tqdm import tqdm

from lenet_lab import __version__
from lenet_lab.beyond.experiments import Engine, Training
from lenet_lab.compat import tf
from lenet_lab.input_data import Datasets, read_data_sets
from lenet_lab.paths import LabError, whole_number

if TYPE_CHECKING:  # Dask is imported late, since the lab can do without it
    from distributed import Client, Future

ANSWER = 10  # seconds in which a scheduler must answer
PATIENCE = 600  # seconds that a training waits until another process has closed its run
POLL = 0.1  # seconds between two looks at the tasks
SILENT = logging.CRITICAL + 1  # above each level of Dask's messages
TOPIC = "lenet_lab"  # of the events with which workers send lines to clients


def dask_engine(workers: int | None = None, scheduler: str | None = None) -> Engine:
    """How `run_experiments` trains with Dask: each training is a task of one of its workers.

    A worker is a process. If it is killed, another one resumes its training at
    the last checkpoint. On several machines, the folder of the runs must be shared
    for this, and the scheduler, the workers and this process need the same lab.

    Parameters
    ----------
    workers : int, optional
        How many processes to start on this machine. They end with the sweep. A
        script must call this below ``if __name__ == "__main__":``, since each
        process imports the script.
    scheduler : str, optional
        In place of `workers`, the address of a Dask scheduler, such as
        ``"tcp://host:8786"``. Its workers have one thread each, and the training
        data in LENET_LAB_DATA or in the folder `MNIST_data`.

    Returns
    -------
    callable
        The argument `engine` of `run_experiments`. Its errors, besides those of a
        training: a LabError if a worker has another lab, TensorFlow or other
        data; an OSError if no scheduler answers or a training's worker died again
        and again.

    Raises
    ------
    ValueError
        If not exactly one of the two is given, `workers` is not 1 or more, or Dask
        is not installed.
    """
    if (workers is None) == (scheduler is None):
        raise LabError(f"workers is {workers} and scheduler is {scheduler!r}, expected one of them and not the other")
    if workers is not None:
        whole_number("workers", workers, 1)
    elif not re.fullmatch(r"tcp://[^\s/]+:\d{1,5}", str(scheduler)):
        raise LabError(f"scheduler is {scheduler!r}, expected an address such as 'tcp://host:8786'")
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise LabError(
            "workers and schedulers need Dask, which is not installed; in the lab's folder, "
            "python -m pip install -e '.[cluster]' installs it"
        ) from error
    return partial(_train_all, workers=workers, scheduler=scheduler)


def _train_all(
    trainings: Sequence[Training], mnist: Datasets, workers: int | None, scheduler: str | None
) -> Iterator[tuple[Training, dict[str, Any]]]:
    if not trainings:
        return
    from dask.base import tokenize

    data = _describe(mnist)
    # The same training always has the same key. If it still runs for an earlier client, it goes on.
    by_key = {f"train-{tokenize(training, data)}": training for training in trainings}
    with ExitStack() as stack:
        if scheduler is None:
            assert workers
            scheduler = stack.enter_context(_workers_here(min(workers, len(trainings))))
        client = stack.enter_context(_client(scheduler))
        _check_workers(client, scheduler)
        bar = stack.enter_context(tqdm(total=len(trainings), desc="trainings", unit="training"))
        client.subscribe_topic(TOPIC, partial(_show, {key: training.label for key, training in by_key.items()}))
        tasks = [
            partial(client.submit, _train, training, data, _versions(), key, key=key)
            for key, training in by_key.items()
        ]
        for future in _finished(client, tasks):
            training = by_key[str(future.key)]
            result = _result(future, training, client)
            bar.update()
            yield training, result


def _finished(client: "Client", tasks: Sequence[Callable[[], "Future"]]) -> Iterator["Future"]:
    """Give each worker one task at a time, and yield the tasks that are done.

    Given all of them, Dask would queue some at a worker that is busy for an hour, while another has nothing to do.
    """
    running: list[Future] = []
    while tasks or running:
        free = _workers_of(client) - len(running) if tasks else 0
        running += [task() for task in tasks[: max(0, free)]]
        tasks = tasks[max(0, free) :]
        done = [future for future in running if future.done()]
        # Failures come last, so that what is finished is kept.
        for future in sorted(done, key=lambda future: future.status != "finished"):
            running.remove(future)
            yield future
        time.sleep(POLL)


def _workers_of(client: "Client") -> int:
    """How many workers the scheduler has."""
    try:
        return len(client.nthreads())
    except OSError as error:
        raise _gone(client) from error


def _train(training: Training, data: str, versions: str, key: str) -> dict[str, Any]:
    """Train in a worker. What is printed goes to the client."""
    _compare_versions("a worker", _versions(), versions)  # this one may have come later than the others
    with redirect_stdout(io.StringIO()):
        mnist = read_data_sets("MNIST_data/", one_hot=True, fallback=False)
    if _describe(mnist) != data:
        raise LabError(
            f"{training.label}: a worker found {_describe(mnist)}, expected {data} as where the sweep was called; "
            "set LENET_LAB_DATA to the same data for all workers"
        )
    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which would stay if this process were killed
    until = time.monotonic() + PATIENCE
    with redirect_stdout(_Lines(key)):
        print(training.configuration.title)
        while True:
            try:
                return training.run(mnist)
            except OSError as error:
                if not _is_open_elsewhere(error) or time.monotonic() > until:
                    raise
                print("its run is still open in another process; waiting for it to be closed")
                time.sleep(1)


class _Lines(io.TextIOBase):
    """The standard output of a task: each line goes to the clients. It ends the task once no client wants it."""

    def __init__(self, key: str):
        from distributed import get_worker

        self._worker = get_worker()
        self._key = key
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._worker.log_event(TOPIC, {"key": self._key, "line": line})
        # Dask can't stop a task that runs. Another worker may soon have this one.
        task = self._worker.state.tasks.get(self._key)
        if task is None or task.state == "cancelled":
            raise Unwanted("the sweep has ended")
        return len(text)


class Unwanted(Exception):
    """The end of a task that no client wants any more."""


def _show(labels: dict[str, str], event: tuple[float, dict[str, str]]) -> None:
    """Print a line of a task, unless it is another client's."""
    message = event[1]
    if message["key"] in labels:
        tqdm.write(f"{labels[message['key']]}: {message['line']}")


def _is_open_elsewhere(error: BaseException | None) -> bool:
    """Whether an error comes from the lock of a run."""
    return error is not None and (isinstance(error, Timeout) or _is_open_elsewhere(error.__cause__))


def _describe(mnist: Datasets) -> str:
    train, validation, test = (dataset.num_examples for dataset in mnist)
    return f"{mnist.name} ({train} training, {validation} validation and {test} test images)"


@contextmanager
def _workers_here(count: int) -> Iterator[str]:
    """Worker processes on this machine, with one thread each; the address of their scheduler."""
    from distributed import LocalCluster

    with _environment(TQDM_DISABLE="1"):  # the bars of several processes would overwrite each other
        with _interrupts_for_this_process_only():
            cluster = LocalCluster(
                n_workers=0,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
                memory_limit=None,  # else a worker is killed at its share of the memory
                silence_logs=SILENT,
            )
        try:
            cluster.scale(count)
            while not cluster.scheduler.workers:  # type: ignore[union-attr]
                if any(nanny.status.name in ("failed", "closed") for nanny in cluster.workers.values()):
                    raise OSError(
                        "no worker process could be started, and what it wrote is above; in a script, call "
                        'run_experiments below if __name__ == "__main__":'
                    )
                time.sleep(POLL)
            yield cluster.scheduler_address
        finally:
            cluster.sync(_kill, list(cluster.workers.values()))
            cluster.close()


async def _kill(nannies: list[Any]) -> None:
    """End worker processes at once. Dask's own way waits for their tasks."""
    await asyncio.gather(*(nanny.close(timeout=0.5) for nanny in nannies), return_exceptions=True)


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set environment variables in the block. What Dask sets in it goes too."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _interrupts_for_this_process_only() -> Iterator[None]:
    """Block Ctrl-C in the threads that begin in the block, and in the processes that these start."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # it would end the block, if it began in one of these threads
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _client(scheduler: str) -> Iterator["Client"]:
    """A client of a scheduler that has at least one worker."""
    from distributed import Client

    try:
        client = Client(scheduler, timeout=ANSWER, set_as_default=False)
    except OSError as error:
        raise ConnectionError(
            f"no Dask scheduler answered at {scheduler} within {ANSWER} s; start one with dask scheduler, or check "
            "the address"
        ) from error
    with client:
        if not _workers_of(client):
            print(
                f"The scheduler at {scheduler} has no worker yet; waiting for one: dask worker {scheduler} --nthreads 1"
            )
        while not _workers_of(client):
            time.sleep(POLL)
        yield client


def _check_workers(client: "Client", scheduler: str) -> None:
    """Raise an error unless the scheduler and all workers have the lab of this process, and one thread each."""
    for address, threads in client.nthreads().items():
        if threads != 1:
            raise LabError(
                f"the worker at {address} has {threads} threads, expected 1; start it with --nthreads 1, and with "
                "--nworkers for several processes"
            )
    try:
        found = {f"the scheduler at {scheduler}": client.run_on_scheduler(_versions)}
    except ImportError as error:
        found = {f"the scheduler at {scheduler}": error}
    for address, versions in client.run(_versions, on_error="return").items():
        found[f"the worker at {address}"] = versions
    for where, versions in found.items():
        _compare_versions(where, versions, _versions())


def _versions() -> str:
    return f"lenet_lab {__version__} with TensorFlow {tf.VERSION}"


def _compare_versions(where: str, found: str | Exception, expected: str) -> None:
    if found != expected:
        what = f"can't import lenet_lab ({found})" if isinstance(found, Exception) else f"has {found}"
        raise LabError(f"{where} {what}, expected {expected} as where the sweep was called; install that there")


def _result(future: "Future", training: Training, client: "Client") -> dict[str, Any]:
    """A task's result; its error, if it failed."""
    from distributed import KilledWorker
    from distributed.client import FutureCancelledError

    try:
        return future.result()
    except KilledWorker as error:
        raise OSError(
            f"{training.label}: {error.allowed_failures + 1} workers died in this training, the last one at "
            f"{error.last_worker.address}; look for the cause there, such as a full memory, and call the sweep again"
        ) from error
    except FutureCancelledError as error:
        raise _gone(client) from error


def _gone(client: "Client") -> ConnectionError:
    address = client.scheduler.address if client.scheduler else "its address"
    return ConnectionError(f"the Dask scheduler at {address} is gone; start it and its workers, and call this again")
