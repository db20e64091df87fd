"""TensorBoard, in a real browser, on runs of the lab; and what it shows, read with its own reader."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lenet_lab import build_classifier, build_lenet5, input_data, optimize, print_accuracy, start_run, tf
from lenet_lab.profiling import profile_inference

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
EPOCHS, BATCHES = 3, 10


@pytest.fixture(scope="module")
def trained(small_folder, tmp_path_factory):
    """A run directory of LeNet-5 trained for three epochs, its history and its profile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LENET_LAB_DATA", str(small_folder))
        mnist = input_data.read_data_sets("unused", one_hot=True)
    pattern = str(tmp_path_factory.mktemp("logs") / "lenet5" / "run_%02d")
    with start_run(build_classifier(build_lenet5, tf.train.AdamOptimizer(0.001)), pattern, seed=1) as run:
        history = optimize(run, mnist, EPOCHS, 100)
        print_accuracy(run, mnist)
        return Path(run.directory), history, profile_inference(run, mnist), mnist


def read(directory):
    reader = EventAccumulator(str(directory), size_guidance={"scalars": 0, "tensors": 0, "images": 0})
    reader.Reload()
    return reader


def test_validation_is_a_run_beside_with_a_point_per_epoch(trained):
    directory, history, *_ = trained
    reader = read(directory / "validation")
    for tag, values in (("Loss", history.validation_loss), ("Accuracy", history.validation_accuracy)):
        events = reader.Scalars(tag)
        assert [event.step for event in events] == [BATCHES * epoch - 1 for epoch in range(1, EPOCHS + 1)]
        np.testing.assert_allclose([event.value for event in events], values, rtol=1e-6)


def test_histograms_settings_and_images_are_there(trained):
    directory, *_ = trained
    reader = read(directory)
    tags = reader.Tags()["tensors"]
    for tag in ("lenet5/layer1/weights1", "lenet5/layer5/bias5", "layer2/ReLU", "layer4/ReLU"):
        assert [event.step for event in reader.Tensors(f"{tag}/histogram_summary")] == [9, 19, 29]
    assert any("filters" in tag for tag in tags) and any("misclassified" in tag for tag in tags)
    settings = reader.Tensors("settings/text_summary")[0].tensor_proto.string_val[0].decode()
    for row in ("data | stand-in digits", "optimizer | Adam", "batch size | 100", "learning rate | 0.001", "seed | 1"):
        assert f"| {row} |" in settings
    hyperparameters = reader.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"learning rate" in hyperparameters and b"stand-in digits" in hyperparameters


def test_a_long_training_stays_small_on_disk(trained):
    directory, *_ = trained
    size = sum(path.stat().st_size for path in directory.rglob("events*"))
    graph_and_trace = 1_500_000
    per_epoch = max(size - graph_and_trace, 0) / EPOCHS
    assert 40 * per_epoch + size < 20_000_000


def test_the_profile_adds_up(trained):
    _, _, profile, mnist = trained
    total = sum(cost.seconds for cost in profile.costs)
    assert 0.2 * profile.wall_seconds < total < 4 * profile.wall_seconds
    images = mnist.test.num_examples
    assert profile.multiply_adds == {
        "layer1": 117_600 * images, "layer2": 240_000 * images, "layer3": 48_000 * images,
        "layer4": 10_080 * images, "layer5": 840 * images,
    }  # fmt: skip
    relu = next(cost for cost in profile.costs if cost.name.endswith("layer1/Relu"))
    assert relu.calls == 1 and relu.output_bytes == images * 28 * 28 * 6 * 4
    assert max(cost.peak_bytes for cost in profile.costs) >= relu.output_bytes  # it may itself work in place
    assert "sum of the operations" in profile.table() and "layer5" in profile.layer_table()
    events = json.loads(Path(profile.trace_file).read_text())["traceEvents"]
    assert {"layer1" in str(event.get("args")) for event in events if event["ph"] == "X"} == {True, False}


@pytest.fixture(scope="module")
def tensorboard(trained):
    """The address of a real TensorBoard on these runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", "--logdir", str(trained[0].parent.parent), "--host", "127.0.0.1",
         "--port", str(port), "--reload_interval", "1", "--load_fast", "false"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    deadline = time.time() + 60
    while True:
        try:
            if b"lenet5" in urllib.request.urlopen(address + "/data/runs", timeout=5).read():
                break
        except OSError:
            pass
        assert process.poll() is None and time.time() < deadline, "TensorBoard did not start"
        time.sleep(0.3)
    yield address
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def page(tensorboard):
    executable = os.environ.get("LENET_LAB_BROWSER") or shutil.which("chromium")
    if not executable:
        pytest.skip("no browser here: install Debian's chromium, or set LENET_LAB_BROWSER to one's path")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser.new_page(viewport={"width": 1400, "height": 900})
        browser.close()


@pytest.fixture
def screenshot(page):
    folder = Path(os.environ.get("LENET_LAB_SCREENSHOTS", "executed/screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return lambda name: page.screenshot(path=folder / f"{name}.png")


def test_the_charts_draw_training_and_validation_together(page, tensorboard, screenshot):
    page.goto(tensorboard + "/#timeseries")
    page.wait_for_selector("scalar-card", timeout=30000)
    assert page.locator("card-view", has_text="Loss").count() >= 1
    page.wait_for_function(
        "() => [...document.querySelectorAll('line-chart')].some(chart => chart.querySelector('canvas, svg path'))",
        timeout=30000,
    )
    runs = page.locator("runs-table-component, runs-table, tb-data-table").inner_text()
    assert "lenet5/run_01" in runs and "validation" in runs
    page.wait_for_timeout(1500)
    screenshot("scalars")


def test_the_graph_has_the_labs_scopes_and_the_traced_run(page, tensorboard, screenshot):
    page.goto(tensorboard + "/#graphs&run=lenet5%2Frun_01")
    page.wait_for_selector("g.node", timeout=30000)
    names = page.eval_on_selector_all("g.node", "nodes => nodes.map(node => node.getAttribute('data-name'))")
    assert {"model", "loss", "optim", "accuracy", "inputs", "labels"} <= set(names)
    screenshot("graph")


