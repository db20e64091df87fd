"""Sessions: on this machine, or in a TensorFlow server elsewhere."""

import re
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any

from lenet_lab.compat import cores, describe_error, tf
from lenet_lab.paths import LabError

PATIENCE = 30  # seconds that all servers of a cluster may take to answer when a session begins
CLOSING = 2  # seconds that they may take to end it
REACHING = 5  # seconds until a machine counts as gone
UNLIMITED = 2**31 - 1  # milliseconds, which is 24 days
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError)


def open_session(graph: tf.Graph, target: str = "") -> tf.Session:
    """Open a session here or, with a target such as ``"grpc://localhost:2222"``, in the server that listens there.

    Raises
    ------
    ValueError, ConnectionError
        If the target is no such address; if no server listens there.
    """
    if target:
        return RemoteSession(target, graph)
    config = thread_settings()
    # What a cluster's session added to the graph has no place here. TensorFlow then places only what a call needs.
    config.graph_options.place_pruned_graph = any("/job:" in op.device for op in graph.get_operations())
    return tf.Session(graph=graph, config=config)


def thread_settings() -> tf.ConfigProto:
    """One thread for each operation, an operation for each core. A process keeps its first session's setting."""
    return tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=cores())


def check_target(target: str) -> None:
    """Raise what `open_session` would raise for a target, without a session."""
    if target:
        _connect(target)


class RemoteSession(tf.Session):
    """A session in a server elsewhere, with variables that no other session shares.

    Where a server is gone, a call raises a ConnectionError within seconds.
    TensorFlow's own session would try to reach its server for 17 minutes.
    """

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
        """End the session. It is no error if there is no server any more."""
        with suppress(OSError):
            _connect(self.target)
            wait([_in_background(super().close)], timeout=CLOSING)

    def _while_alive(self, call: Callable[[], Any]) -> Any:
        outcome = _in_background(call)
        while not wait([outcome], timeout=1).done:
            _connect(self.target)
        try:
            return outcome.result()
        except LOST as error:
            raise ConnectionError(_what_was_lost(self.target, error)) from error


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
    except (OSError, OverflowError) as error:  # the latter if there is no port of this number
        raise ConnectionError(
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
    """
    if not isinstance(session, RemoteSession):
        return []
    tasks = [re.sub("/replica:0|/device:CPU:0", "", d.name) for d in session.list_devices() if "device:CPU:0" in d.name]
    return [task for task in tasks if task.startswith("/job:worker/")] or tasks


def copy_variables(values: dict[tf.Variable, Any], session: tf.Session) -> None:
    """Give variables new values in a session."""
    for variable, value in values.items():
        session.run(variable.initializer, {variable.initializer.inputs[1]: value})
