"""The command `serve`."""

import argparse
import threading
from collections.abc import Callable

from lenet_lab.cluster.servers import start_server


def serve(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], None]:
    """lend this machine to trainings on others, as a TensorFlow server"""
    parser.description = (
        "Lend this machine to trainings elsewhere until Ctrl-C: start_run(..., target='grpc://localhost:2222') puts a "
        "session here. docs/cluster.md has the commands for two machines."
    )
    parser.add_argument(
        "workers",
        nargs="*",
        default=["localhost:2222"],
        metavar="HOST:PORT",
        help="the addresses of the cluster's workers, the same for each of its servers (default: localhost:2222)",
    )
    parser.add_argument("--ps", nargs="+", metavar="HOST:PORT", help="the addresses of its parameter servers, if any")
    parser.add_argument("--job", choices=("worker", "ps"), default="worker", help="this server's job (default: worker)")
    parser.add_argument(
        "--task", type=int, default=0, help="its place among the addresses of its job, from 0 (default: 0)"
    )
    parser.add_argument(
        "--everywhere",
        action="store_true",
        help="listen on every network, not only on the loopback; whoever reaches the port can do what you can",
    )
    return _serve


def _serve(chosen: argparse.Namespace) -> None:
    spec = {"worker": chosen.workers} | ({"ps": chosen.ps} if chosen.ps else {})
    server = start_server(spec, chosen.job, chosen.task, chosen.everywhere)
    reach = "every network" if chosen.everywhere else "this machine only"
    print(f"/job:{chosen.job}/task:{chosen.task} answers at {server.target}, to {reach}. Ctrl-C ends it.", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print("\nEnded.")
