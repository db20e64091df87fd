"""Sessions: on this machine, or in a TensorFlow server elsewhere."""

import re
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any

from lenet_lab.compat import cores, describe_error, tf
from lenet_lab.paths import LabError

PATIENCE = 15  # seconds that all servers of a cluster may take to answer when a session begins
CLOSING = 2  # seconds that they may take to end it
REACHING = 5  # seconds until a machine counts as gone
UNLIMITED = 2**31 - 1  # milliseconds, which is 24 days
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError)


def open_session(graph: tf.Graph, target: str = "") -> tf.Session:
    """Open a session here or, with a target such as ``"grpc://localhost:2222"``, in the server that listens there.

    Raises
    ------
    ValueError, ServerLostError
        If the target is no such address; if no server listens there.
    """
    if target:
        return RemoteSession(target, graph)
    config = thread_settings()
    # A cluster's session may have left operations in the graph that have no place here. TensorFlow then places only
    # what a call needs, which takes a little longer.
    config.graph_options.place_pruned_graph = any("/job:" in op.device for op in graph.get_operations())
    return tf.Session(graph=graph, config=config)


def thread_settings() -> tf.ConfigProto:
    """One thread for each operation, an operation for each core. A process keeps its first session's setting."""
    return tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=cores())


def check_target(target: str) -> None:
    """Raise what `open_session` would raise for a target, without a session."""
    if target:
        _connect(target)


class ServerLostError(ConnectionError):
    """A TensorFlow server is gone, or was never there."""


class RemoteSession(tf.Session):
    """A session in a server elsewhere, with variables that no other session shares.

    Where a server is gone, a call raises a `ServerLostError` within seconds.
    TensorFlow's own session would try to reach its server for 17 minutes.
    """

    _session, _closed = None, True  # for `__del__`, if no server answers

    def __init__(self, target: str, graph: tf.Graph):
        _connect(target)
        self.target = target
        config = tf.ConfigProto(isolate_session_state=True, operation_timeout_in_ms=1000 * PATIENCE)
        super().__init__(target, graph, config)

    def run(
        self,
        fetches: Any,
        feed_dict: dict | None = None,
        options: tf.RunOptions | None = None,
        run_metadata: tf.RunMetadata | None = None,
    ) -> Any:
        """`tf.Session.run`, which may take as long as its servers are there."""
        unlimited = tf.RunOptions(timeout_in_ms=UNLIMITED)
        unlimited.MergeFrom(options or tf.RunOptions())
        return self._while_alive(lambda: super(RemoteSession, self).run(fetches, feed_dict, unlimited, run_metadata))

    def list_devices(self) -> list:
        """`tf.Session.list_devices`, which waits for all servers of the cluster."""
        return self._while_alive(super().list_devices)

    def close(self) -> None:
        """End the session. It is no error if there is no server any more. A second call does nothing."""
        if self._closed:
            return
        with suppress(OSError):
            _connect(self.target)
            wait([_in_background(super().close)], timeout=CLOSING)
        self._closed = True

    def __del__(self) -> None:
        if not sys.is_finalizing():  # then no thread can begin any more, and `close` would wait for it forever
            super().__del__()

    def _while_alive(self, call: Callable[[], Any]) -> Any:
        outcome = _in_background(call)
        while not wait([outcome], timeout=1).done:
            _connect(self.target)
        try:
            return outcome.result()
        except LOST as error:
            raise ServerLostError(_what_was_lost(self.target, error)) from error


def _in_background(call: Callable[[], Any]) -> Future:
    """Call in a thread that does not keep the process from ending. TensorFlow's calls can't be interrupted."""
    outcome: Future = Future()

    def work() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is raised where the outcome is read
            outcome.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return outcome


def _connect(target: str) -> None:
    """Raise an error unless a server listens at a target."""
    address = re.fullmatch(r"grpc://\[?([^\s/\[\]]+)\]?:(\d{1,5})", str(target))
    if not address:
        raise LabError(f"target is {target!r}, expected a server's address, such as 'grpc://localhost:2222'")
    try:
        socket.create_connection((address[1], int(address[2])), timeout=REACHING).close()
    except (OSError, OverflowError, UnicodeError) as error:  # the others if no port or machine can be called so
        raise ServerLostError(
            f"no TensorFlow server answers at {target} ({error}); start it with python -m lenet_lab serve, or check "
            "the address"
        ) from error


def _what_was_lost(target: str, error: tf.errors.OpError) -> str:
    if isinstance(error, tf.errors.DeadlineExceededError):
        return f"the cluster at {target} did not begin within {PATIENCE} s; check that each of its servers runs"
    lost = re.search(r"remote target (/job:\w+)/replica:0(/task:\d+)", error.message)
    server = "".join(lost.groups()) if lost else "a server"
    reason = re.search(r'grpc_message:"([^";]+)', error.message)
    return f"{server} of the cluster at {target} is gone ({reason[1] if reason else describe_error(error)})"


def workers(session: tf.Session) -> list[str]:
    """The devices of a cluster that compute, one for each worker, such as ``"/job:worker/task:1"``; none here.

    All tasks work, unless some of them are of the job `worker`.

    Raises
    ------
    ValueError
        If the graph has operations on another cluster's tasks, which this one lacks.
    """
    if not isinstance(session, RemoteSession):
        return []
    tasks = [re.sub("/replica:0|/device:CPU:0", "", d.name) for d in session.list_devices() if "device:CPU:0" in d.name]
    tasks.sort(key=lambda task: (len(task), task))  # TensorFlow has no order of them; task 10 comes after task 9
    devices = {re.sub("/replica:0|/device:CPU:0", "", op.device) for op in session.graph.get_operations()}
    placed = {device for device in devices if re.fullmatch(r"/job:\w+/task:\d+", device)}
    if missing := sorted(placed - set(tasks)):
        raise LabError(
            f"this graph has operations on {missing[0]}, from a session on another cluster, and the one at "
            f"{session.target} has no such task; build the classifier again"
        )
    return [task for task in tasks if task.startswith("/job:worker/")] or tasks


def copy_variables(values: dict[tf.Variable, Any], session: tf.Session) -> None:
    """Give variables new values in a session."""
    for variable, value in values.items():
        session.run(variable.initializer, {variable.initializer.inputs[1]: value})
