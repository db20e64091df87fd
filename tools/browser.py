"""TensorBoard in a headless browser, for the tests and for screenshots.

`python tools/browser.py` takes two screenshots of the newest runs in `logs/`:
MNIST_figures/model1.png shows the graph of softmax regression, and
MNIST_figures/compute_time.png that of LeNet-5, coloured by compute time.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_lab.paths import numbered_paths

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


def find_browser() -> str | None:
    """Return the path of a Chromium, or None if there is none."""
    return os.environ.get("LENET_LAB_BROWSER") or shutil.which("chromium")


@contextmanager
def tensorboard(logdir: Path, run: str) -> Iterator[str]:
    """Start TensorBoard on a free port of this machine; yields its address once it shows the run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    address, deadline = f"http://127.0.0.1:{port}", time.time() + 60
    try:
        while run not in _runs(address):
            assert process.poll() is None, "TensorBoard ended instead of starting"
            assert time.time() < deadline, f"TensorBoard did not show the run {run} within a minute"
            time.sleep(0.3)
        yield address
    finally:
        process.terminate()
        process.wait()


@contextmanager
def browser() -> Iterator["Browser"]:
    """Start a browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=find_browser(), args=FLAGS)
        yield started
        started.close()


@contextmanager
def page() -> Iterator["Page"]:
    """Open a page in a new browser."""
    with browser() as started:
        yield started.new_page(viewport={"width": 1400, "height": 900})


def open_graph(page: "Page", address: str, run: str) -> None:
    """Show the graph of a run."""
    page.goto("about:blank")  # if TensorBoard is open already, another hash alone loads nothing
    page.goto(f"{address}/#graphs")
    choose(page, "runs-row", run)
    page.locator('g.node[data-name="model"]').wait_for(timeout=30000)
    page.wait_for_timeout(1500)  # until the boxes have moved to their places


def choose(page: "Page", row: str, item: str) -> None:
    """Choose an item from the drop-down menu in one row of the controls beside the graph."""
    from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

    entry = page.locator(f".{row} paper-item").get_by_text(item, exact=True)
    for attempt in range(10):
        page.locator(f".{row} paper-dropdown-menu").click()
        try:
            entry.click(timeout=3000)
            return
        except PlaywrightTimeoutError:  # the menu closes again if the page was still loading
            if attempt == 9:
                raise


def nodes(page: "Page") -> set[str]:
    """Return the names of the boxes that the graph shows now."""
    return set(page.locator("g.node").evaluate_all("nodes => nodes.map(node => node.getAttribute('data-name'))"))


def open_node(page: "Page", name: str) -> None:
    """Open a box of the graph, so that it shows the boxes inside."""
    page.locator(f'g.node[data-name="{name}"]').dblclick()
    page.locator(f'g.node[data-name^="{name}/"]').first.wait_for(timeout=10000)
    page.wait_for_timeout(800)


def colour_by(page: "Page", tag: str, quantity: str) -> None:
    """Colour the boxes by the `compute-time` or the `memory` of a traced session run."""
    choose(page, "tags-row", tag)
    button = page.locator(f"#{quantity}-radio-button:not([disabled])")
    button.wait_for(timeout=30000)
    button.click()
    page.wait_for_timeout(1500)


def colour(page: "Page", name: str) -> str:
    """Return the fill colour of a box of the graph."""
    shape = page.locator(f'g.node[data-name="{name}"] > g.nodeshape > *').first
    return shape.evaluate("shape => getComputedStyle(shape).fill")


def _runs(address: str) -> str:
    """Return TensorBoard's list of runs as JSON; empty while it is not up yet."""
    try:
        return urllib.request.urlopen(address + "/data/runs", timeout=5).read().decode()
    except OSError:
        return ""


def main() -> None:
    """Take screenshots of the graphs of the newest runs of softmax regression and of LeNet-5."""
    pictures = Path("MNIST_figures")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("softmax", "lenet5"):  # alone, so that the menus are short
            shutil.copytree(numbered_paths(f"logs/{name}/run_%02d")[-1], Path(folder, name))
        with tensorboard(Path(folder), "lenet5") as address, page() as open_page:
            open_graph(open_page, address, "softmax")
            open_page.screenshot(path=pictures / "model1.png", clip={"x": 350, "y": 65, "width": 760, "height": 560})
            open_graph(open_page, address, "lenet5")
            colour_by(open_page, "inference", "compute-time")
            open_node(open_page, "model")
            open_node(open_page, "model/lenet5")
            open_page.mouse.click(500, 500)  # beside all boxes: with none chosen, no card covers the graph
            open_page.wait_for_timeout(500)
            open_page.screenshot(path=pictures / "compute_time.png")


if __name__ == "__main__":
    main()
