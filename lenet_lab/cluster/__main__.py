"""The process that starts the tasks of a `processes.Cluster`: it imports TensorFlow once, then forks for each task.

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
from contextlib import suppress
from typing import Any

from lenet_lab.cluster.replicas import train_replica
from lenet_lab.cluster.servers import start_server


def main() -> None:
    """Start the tasks that the standard input asks for."""
    started = []
    for line in sys.stdin:
        request = json.loads(line)
        launcher, process = os.getpid(), os.fork()
        if not process:
            run_task(request, launcher)
        started.append(process)
        report(request["name"], "process", process=process)
    for process in started:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def run_task(request: dict[str, Any], launcher: int) -> None:
    """Be a task of the cluster, until it is finished or the launcher has gone. Does not return."""
    name, spec = request["name"], request["spec"]
    threading.Thread(target=_end_with, args=[launcher], daemon=True).start()
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        place = re.fullmatch(r"/job:(\w+)/task:(\d+)", name)
        job, task = (place[1], int(place[2])) if place else (name, -1)
        server = start_server(spec, job, task)
        if request["training"]:
            steps = train_replica(server, spec, task, ready=lambda: report(name, "ready"), **request["training"])
            for record in steps:
                report(name, "record", **record)
            report(name, "finished")
        else:
            report(name, "ready")
        threading.Event().wait()  # the variables of a server live as long as its process
    except Exception as error:  # noqa: BLE001 - whatever it is, the process that waits for this task must know
        report(name, "failed", error=str(error) or type(error).__name__)
    os._exit(1)


def report(name: str, event: str, **values: Any) -> None:
    """Write a line of output in one piece, so that those of several processes do not mix."""
    os.write(1, (json.dumps({"name": name, "event": event} | values) + "\n").encode())


def _end_with(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(0.2)
    os._exit(1)


if __name__ == "__main__":
    main()
