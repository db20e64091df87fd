"""The server behind the page: it listens on this machine alone, until Ctrl-C."""

import asyncio
import errno
import socket
import threading
import webbrowser
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from lenet_lab.draw.answers import ADDRESS, ANSWERS, Nothing
from lenet_lab.draw.digits import Digits
from lenet_lab.draw.networks import Networks
from lenet_lab.paths import LabError

MAX_BODY = 1_000_000  # bytes of a picture
PORTS = 20  # how many are tried, beginning with the one asked for


def serve(named: Sequence[str] = (), port: int = 0, open_browser: bool = True) -> None:
    """Serve the page until Ctrl-C.

    Parameters
    ----------
    named : sequence of str
        Paths that `save_model` returned. The page begins with the first of
        them, or else with notebook 6's network.
    port : int, default 0
        Where to listen; the next free port where it is in use. 0 is any port.
    open_browser : bool, default True
        Whether to open the page in the browser.

    Raises
    ------
    LabError
        If a named network can't be opened, or there is no port to listen on.
    """
    networks = Networks(named)
    found = networks.find()
    for network in found[: max(1, len(named))]:
        networks.open(network["path"])
    sockets = listen(port)
    print(f"{found[0]['place']}: {found[0]['title']}, trained on {found[0]['data']}", flush=True)
    try:
        asyncio.run(_serve(sockets, networks, open_browser))
    except KeyboardInterrupt:
        print("\nStopped.")


def listen(port: int) -> list[socket.socket]:
    """Listen on a port of this machine, or on the next one that is free."""
    if not 0 <= port <= 65535:
        raise LabError(f"--port is {port}, expected 0 to 65535")
    candidates = range(port, min(port + PORTS, 65536))
    for candidate in candidates:
        try:
            return bind_sockets(candidate, ADDRESS)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                reason = error.strerror or error
                raise LabError(f"can't listen on port {candidate} ({reason}); choose another with --port") from error
    raise LabError(f"the ports {candidates[0]} to {candidates[-1]} are in use; choose another with --port")


async def _serve(sockets: list[socket.socket], networks: Networks, open_browser: bool) -> None:
    # One thread, as Pillow's warnings are silenced for a whole process. What takes seconds has a thread of its own.
    with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as choosing:
        application = Application(
            ANSWERS,
            default_handler_class=Nothing,
            log_function=lambda handler: None,
            networks=networks,
            digits=Digits(),
            reading=reading,
            choosing=choosing,
        )
        limits = {"max_body_size": MAX_BODY, "max_buffer_size": 2 * MAX_BODY}  # bytes
        times = {"body_timeout": 30.0, "idle_connection_timeout": 600.0}  # seconds
        HTTPServer(application, **limits, **times).add_sockets(sockets)
        address = f"http://{ADDRESS}:{sockets[0].getsockname()[1]}/"
        print(f"Draw a digit at {address} (Ctrl-C stops the server.)", flush=True)
        if open_browser:
            # In a thread of its own, since a browser without windows would keep this one until it is closed.
            threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()
        await asyncio.Event().wait()
