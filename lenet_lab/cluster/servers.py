"""A TensorFlow server in this process, which by default only this machine reaches."""

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from lenet_lab.compat import tf
from lenet_lab.paths import LabError
from lenet_lab.sessions import thread_settings

HERE = ("localhost", "::1")  # and 127.x.x.x: addresses that only this machine reaches

Spec = Mapping[str, Sequence[str]]  # the addresses of a cluster's tasks, by job: {"worker": ["localhost:2222"]}


def start_server(spec: Spec, job: str = "worker", task: int = 0, everywhere: bool = False) -> tf.train.Server:
    """Start a TensorFlow server in this process. It ends with the process.

    TensorFlow's servers listen on every network of a machine, whatever address
    they are given, and they ask nobody for a password. So this one is then bound
    to the loopback, which other machines do not reach, before it answers anybody.

    Parameters
    ----------
    spec : dict of str to list of str
        The addresses of all tasks of the cluster, such as ``{"worker": ["localhost:2222", "localhost:2223"]}``.
        It must be the same for all of them.
    job : str, default "worker"
        The job of this server.
    task : int, default 0
        Its place in the list of that job.
    everywhere : bool, default False
        Whether to listen on every network instead. Whoever reaches the port can
        then read and write files and run code with this user's rights.

    Returns
    -------
    tf.train.Server
        Its `target` is for `start_run`.

    Raises
    ------
    ValueError
        If there is no such task, or its address is not on this machine and `everywhere` is False.
    OSError
        If the port is taken, or this system can't bind a server to the loopback.
    """
    host, port = _address_of(spec, job, task)
    if not everywhere and not (host in HERE or host.startswith("127.")):
        raise LabError(
            f"{host}:{port} is no address on the loopback, and TensorFlow's servers ask for no password; tunnel it "
            "(docs/cluster.md), or add --everywhere if every machine that reaches this port may use it"
        )
    _check_free(port)
    server = tf.train.Server(dict(spec), job_name=job, task_index=task, config=thread_settings(), start=False)
    if not everywhere:
        _bind_to_loopback(port)
    server.start()
    return server


def _address_of(spec: Spec, job: str, task: int) -> tuple[str, int]:
    tasks = spec.get(job, ())
    if not 0 <= task < len(tasks):
        raise LabError(f"there is no task {task} of the job {job!r}, which has {len(tasks)} addresses")
    host, _, port = tasks[task].rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise LabError(f"the address {tasks[task]!r} is not of the form host:port, such as localhost:2222")
    return host.strip("[]"), int(port)


def _check_free(port: int) -> None:
    """Raise an OSError if another server listens there; TensorFlow would share the port with it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that ended just now is no obstacle
        try:
            probe.bind(("", port))
        except OSError as error:
            raise OSError(f"port {port} can't be used ({error.strerror}); choose another one") from error


def _bind_to_loopback(port: int) -> None:
    """Bind the sockets of this process that listen at a port to the loopback."""
    try:
        listening = list(_listening_at(port))
        for listener in listening:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
            listener.close()
    except (OSError, AttributeError) as error:  # not on macOS, nor for ordinary users on Linux before 5.7
        raise OSError(
            f"this system can't bind a TensorFlow server to the loopback ({error}); protect port {port} by a "
            "firewall, then add --everywhere"
        ) from error
    if not listening:
        raise OSError(f"no socket was found that listens at port {port}, so it can't be bound to the loopback")


def _listening_at(port: int) -> Iterator[socket.socket]:
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # no socket, or closed meanwhile
            found = socket.socket(fileno=os.dup(int(name)))
            if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and found.getsockname()[1:2] == (port,):
                yield found
            else:
                found.close()
