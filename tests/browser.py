"""TensorBoard in a headless browser; `python tests/browser.py` photographs the graphs of the runs in `logs/`.

The pictures are MNIST_figures/model1.png, the graph of softmax regression, and
MNIST_figures/compute_time.png, that of LeNet-5 coloured by compute time.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


def find_browser() -> str | None:
    """The path of a Chromium, or None."""
    return os.environ.get("LENET_LAB_BROWSER") or shutil.which("chromium")


@contextmanager
def tensorboard(logdir: Path, run: str) -> Iterator[str]:
    """A real TensorBoard on a free loopback port; yields its address once it knows the run."""
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
            assert process.poll() is None and time.time() < deadline, "TensorBoard did not start"
            time.sleep(0.3)
        yield address
    finally:
        process.terminate()
        process.wait()


@contextmanager
def page() -> Iterator:
    """A page of the browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=FLAGS)
        yield browser.new_page(viewport={"width": 1400, "height": 900})
        browser.close()


def _runs(address: str) -> str:
    try:
        return urllib.request.urlopen(address + "/data/runs", timeout=5).read().decode()
    except OSError:
        return ""
