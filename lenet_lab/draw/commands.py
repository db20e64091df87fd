"""The command `draw`. `python -m lenet_lab` finds it by the entry point in pyproject.toml."""

import argparse
from collections.abc import Callable

PORT = 1998  # the year of LeNet-5

Command = Callable[[argparse.Namespace], None]


def draw(parser: argparse.ArgumentParser) -> Command:
    """draw a digit in the browser, and see what each layer makes of it"""
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        help="a path that save_model returned, to begin with; may be given again "
        "(default: notebook 6's LeNet-5; the page's menu also has the runs in logs/)",
    )
    parser.add_argument(
        "--port", type=int, default=PORT, help=f"where to listen, or the next free one (default: {PORT})"
    )
    parser.add_argument("--no-browser", action="store_true", help="print the address, and open no browser")
    return _draw


def _draw(chosen: argparse.Namespace) -> None:
    from lenet_lab.draw.server import serve  # every command line loads this file; the server is needed only here

    serve(chosen.model, chosen.port, open_browser=not chosen.no_browser)
