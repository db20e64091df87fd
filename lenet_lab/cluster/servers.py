"""A TensorFlow server in this process, which by default only this machine reaches."""

import os
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain

from lenet_lab.compat import describe_error, tf
from lenet_lab.paths import LabError
from lenet_lab.sessions import thread_settings

LOOPBACK = b"lo\0"  # the device's name on Linux
HERE = ("localhost", "::1")  # and 127.x.x.x: addresses that only this machine reaches

Spec = Mapping[str, Sequence[str]]  # the addresses of a cluster's tasks, by job: {"worker": ["localhost:2222"]}


def start_server(spec: Spec, job: str = "worker", task: int = 0, everywhere: bool = False) -> tf.train.Server:
    """Start a TensorFlow server in this process. It ends with the process.

    TensorFlow's servers listen on every network of a machine, whatever address
    they are given, and they ask nobody for a password. So this one is bound to the
    loopback, which other machines do not reach, before it answers anybody.
    Whoever connected in the milliseconds before is cut off.

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
    if not everywhere:
        _check_can_bind(port)
    try:
        server = tf.train.Server(dict(spec), job_name=job, task_index=task, config=thread_settings(), start=False)
    except tf.errors.OpError as error:
        raise OSError(f"no server could be started at port {port} ({describe_error(error)})") from error
    if not everywhere:
        _bind_to_loopback(port)
    server.start()
    return server


def _address_of(spec: Spec, job: str, task: int) -> tuple[str, int]:
    tasks = spec.get(job, ())
    if not 0 <= task < len(tasks):
        raise LabError(f"there is no task {task} of the job {job!r}, which has {len(tasks)} addresses")
    addresses = {text: re.fullmatch(r"\[?([^\s/\[\]]+)\]?:([0-9]{1,5})", text) for text in chain(*spec.values())}
    for text, address in addresses.items():
        if not address or not 0 < int(address[2]) < 2**16:
            raise LabError(f"the address {text!r} is not of the form host:port, such as localhost:2222")
    host, _, port = tasks[task].rpartition(":")
    return host.strip("[]"), int(port)


def _check_free(port: int) -> None:
    """Raise an OSError if the port can't be used, and say so more clearly than TensorFlow does."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that ended just now is no obstacle
        try:
            probe.bind(("", port))
        except OSError as error:
            raise OSError(f"port {port} can't be used ({error.strerror}); choose another one") from error


def _check_can_bind(port: int) -> None:
    """Raise an OSError if this system can't bind a server to the loopback; a server that has begun can't be ended."""
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, LOOPBACK)
        list(_sockets_at(port))
    except (OSError, AttributeError) as error:  # not on macOS, nor for ordinary users on Linux before 5.7
        raise OSError(
            f"this system can't bind a TensorFlow server to the loopback ({error}); protect port {port} by a "
            "firewall, then add --everywhere"
        ) from error


def _bind_to_loopback(port: int) -> None:
    """Bind this process's server at a port to the loopback, and cut off who has connected already."""
    for listening in _sockets_at(port):
        if listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, LOOPBACK)
    time.sleep(0.1)  # until connections that were being made are there, too
    for found in _sockets_at(port):
        if not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            with suppress(OSError):  # it has been closed
                found.shutdown(socket.SHUT_RDWR)


def _sockets_at(port: int) -> Iterator[socket.socket]:
    """The sockets of this process at one of its own ports."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # closed meanwhile
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                with socket.socket(fileno=os.dup(int(name))) as found:
                    if found.family in (socket.AF_INET, socket.AF_INET6) and found.getsockname()[1] == port:
                        yield found
