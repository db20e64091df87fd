"""The process that starts the tasks of a `processes.Cluster`: it imports TensorFlow once, then forks for each task.

It must not use TensorFlow before it forks, not even read data. TensorFlow would
then draw its first random number, and all tasks would go on with the same ones.
They serve as names for steps, so tasks would take each other's tensors.

Each line of its input asks for a task, each line of its output reports of one.
When the input ends, so do all tasks; when this process is killed, they notice it.
"""

import json
import os
import re
import signal
import sys
import threading
import time
from contextlib import redirect_stdout, suppress
from typing import Any

from lenet_lab.cluster.replicas import train_replica
from lenet_lab.cluster.servers import start_server
from lenet_lab.input_data import read_data_sets


def main() -> None:
    """Start the tasks that the standard input asks for."""
    started = {}
    for line in sys.stdin:
        request = json.loads(line)
        launcher, process = os.getpid(), os.fork()
        if not process:
            run_task(request, launcher)
        started[process] = threading.Thread(target=_wait_for, args=[request["name"], process], daemon=True)
        started[process].start()
    for process, waiting in started.items():
        if waiting.is_alive():  # otherwise the number may be another process's by now
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
    for waiting in started.values():
        waiting.join()


def run_task(request: dict[str, Any], launcher: int) -> None:
    """Be a task of the cluster, until it is finished or the launcher has gone. Does not return."""
    name, spec = request["name"], request["spec"]
    threading.Thread(target=_end_with, args=[launcher], daemon=True).start()
    report(name, "process")
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        place = re.fullmatch(r"/job:(\w+)/task:(\d+)", name)
        job, task = (place[1], int(place[2])) if place else (name, -1)
        server = start_server(spec, job, task)
        if request["training"]:
            with redirect_stdout(None):  # the standard output is for reports
                mnist = read_data_sets("MNIST_data/", one_hot=True)
            steps = train_replica(server, spec, task, mnist, ready=lambda: report(name, "ready"), **request["training"])
            for record in steps:
                report(name, "record", **record)
            report(name, "finished")
        else:
            report(name, "ready")
        threading.Event().wait()  # the variables of a server live as long as its process
    except Exception as error:  # noqa: BLE001 - whatever it is, the process that waits for this task must know
        report(name, "failed", error=str(error) or type(error).__name__)
    finally:
        os._exit(1)


def report(name: str, event: str, **values: Any) -> None:
    """Write a line of output in one piece, so that those of several processes do not mix."""
    os.write(1, (json.dumps({"name": name, "event": event, "process": os.getpid()} | values) + "\n").encode())


def _wait_for(name: str, process: int) -> None:
    """Report the end of a task's process, of which nothing is left then."""
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    with suppress(BrokenPipeError):  # nobody wants to know any more
        report(name, "ended", process=process, status=status)


def _end_with(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(0.2)
    os._exit(1)


if __name__ == "__main__":
    main()
