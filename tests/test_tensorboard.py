"""What TensorBoard shows of a run: read with its own reader, and seen in a real browser; and the profile."""

import json
from pathlib import Path

import browser
import numpy as np
import pytest

from lenet_lab import (
    build_classifier,
    build_lenet5,
    build_softmax_regression,
    compat,
    input_data,
    optimize,
    print_accuracy,
    start_run,
    tf,
)
from lenet_lab.analysis.events import read_curve, read_events, read_graph
from lenet_lab.analysis.profiling import profile_inference
from lenet_lab.paths import LabError

ROOT = Path(__file__).parent.parent
EPOCHS, BATCHES = 3, 10


@pytest.fixture(scope="module")
def trained(small_folder, tmp_path_factory):
    """LeNet-5 after three epochs: its run directory, its history, its profile and the data."""
    mnist = input_data.read_data_sets(str(small_folder), one_hot=True)
    pattern = str(tmp_path_factory.mktemp("logs") / "lenet5" / "run_%02d")
    with start_run(build_classifier(build_lenet5, tf.train.AdamOptimizer(0.001)), pattern, seed=1) as run:
        history = optimize(run, mnist, EPOCHS, 100)
        print_accuracy(run, mnist)
        return Path(run.directory), history, profile_inference(run, mnist), mnist


def test_the_validation_curves_are_a_run_of_their_own_with_a_point_per_epoch(trained):
    directory, history, *_ = trained
    reader = read_events(directory / "validation")
    for tag, values in (("Loss", history.validation_loss), ("Accuracy", history.validation_accuracy)):
        events = reader.Scalars(tag)
        assert [event.step for event in events] == [BATCHES * epoch - 1 for epoch in range(1, EPOCHS + 1)]
        np.testing.assert_allclose([event.value for event in events], values, rtol=1e-6)


def test_a_run_shows_histograms_settings_and_images(trained):
    directory, *_ = trained
    reader = read_events(directory)
    tags = reader.Tags()["tensors"]
    for tag in ("lenet5/layer1/weights1", "lenet5/layer5/bias5", "layer2/ReLU", "layer4/ReLU"):
        assert [event.step for event in reader.Tensors(f"{tag}/histogram_summary")] == [9, 19, 29]
    assert any("filters" in tag for tag in tags)
    assert any("misclassified" in tag for tag in tags)
    settings = reader.Tensors("settings/text_summary")[0].tensor_proto.string_val[0].decode()
    for row in ("data | stand-in digits", "optimizer | Adam", "batch size | 100", "learning rate | 0.001", "seed | 1"):
        assert f"| {row} |" in settings
    hyperparameters = reader.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"learning rate" in hyperparameters
    assert b"stand-in digits" in hyperparameters


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
    # TensorFlow fuses operations, so the one that computes layer 1's convolution may have another name.
    convolution = next(c for c in profile.costs if "layer1" in c.name and c.output_bytes == images * 28 * 28 * 6 * 4)
    assert convolution.calls == 1
    assert convolution.peak_bytes >= convolution.output_bytes
    assert "sum of the operations" in profile.table()
    assert "layer5" in profile.layer_table()
    events = json.loads(Path(profile.trace_file).read_text())["traceEvents"]
    assert {"layer1" in str(event.get("args")) for event in events if event["ph"] == "X"} == {True, False}


def test_the_most_expensive_operations_come_first_and_the_rest_is_summed_up(trained):
    _, _, profile, _ = trained
    seconds = [cost.seconds for cost in profile.costs]
    assert seconds == sorted(seconds, reverse=True)
    _, _, first, others, *_ = profile.table(rows=1).splitlines()
    assert profile.costs[0].name in first
    assert f"{len(seconds) - 1} others" in others


def test_the_profile_says_so_where_tensorflow_can_not_write_a_trace(small, tmp_path, monkeypatch):
    monkeypatch.setattr(compat, "chrome_trace", lambda step_stats: None)
    classifier = build_classifier(build_softmax_regression, tf.train.GradientDescentOptimizer(0.01))
    with start_run(classifier, str(tmp_path / "run_%02d"), seed=1) as run:
        profile = profile_inference(run, small)
    assert profile.trace_file == f"no trace file, since TensorFlow {tf.VERSION} can't make one"
    assert not list(tmp_path.rglob("*.json"))
    assert "sum of the operations" in profile.table()
    # The operations of softmax regression are in no layer's scope, so their time is nobody's.
    assert [cell.strip() for cell in profile.layer_table().splitlines()[2].split("|")][2:5] == ["", "", "3,920,000"]


def test_reading_a_run_that_is_not_there_or_not_trained_says_what_is_missing(tmp_path):
    for read in (read_graph, lambda directory: read_curve(directory, "Loss")):
        with pytest.raises(LabError, match="nowhere does not exist; expected the directory of a run"):
            read(tmp_path / "nowhere")
    with pytest.raises(LabError, match="has no event file with a graph"):
        read_graph(tmp_path)
    with pytest.raises(LabError, match="no events tagged 'Loss'; nothing has been trained there yet"):
        read_curve(tmp_path, "Loss")


def test_a_curve_of_another_tag_is_refused_with_the_tags_that_there_are(trained):
    directory, *_ = trained
    with pytest.raises(LabError, match="no events tagged 'loss'; expected one of Accuracy, Loss"):
        read_curve(directory, "loss")


@pytest.fixture(scope="module")
def address(trained):
    with browser.tensorboard(trained[0].parent.parent, "lenet5/run_01") as address:
        yield address


@pytest.fixture(scope="module")
def page(needs_browser):
    with browser.page() as page:
        yield page


@pytest.fixture
def screenshot(page, request):
    """Keeps a picture of the page as the test left it."""
    folder = ROOT / "executed" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    yield
    page.screenshot(path=folder / f"{request.node.name}.png")


@pytest.mark.browser
@pytest.mark.usefixtures("screenshot")
def test_one_chart_has_training_and_validation_with_their_values(page, address, trained):
    _, history, *_ = trained
    page.goto(address + "/#timeseries")
    for tag, last, validation in (
        ("Accuracy", history.step_accuracy[-1], history.validation_accuracy[-1]),
        ("Loss", history.step_loss[-1], history.validation_loss[-1]),
    ):
        card = page.locator("scalar-card", has_text=tag)
        for run, value in (("lenet5/run_01", last), ("lenet5/run_01/validation", validation)):
            row = card.locator("tb-data-table-content-row", has=page.get_by_text(run, exact=True))
            row.wait_for(timeout=30000)
            assert f"{value:.4g}" in row.inner_text().split()


@pytest.mark.browser
@pytest.mark.usefixtures("screenshot")
def test_the_graph_opens_down_to_the_layers(page, address):
    browser.open_graph(page, address, "lenet5/run_01")
    assert {"model", "loss", "optim", "accuracy", "inputs", "labels"} <= browser.nodes(page)
    browser.open_node(page, "model")
    assert {"model/reshape", "model/lenet5"} <= browser.nodes(page)
    browser.open_node(page, "model/lenet5")
    layers = {f"model/lenet5/layer{number}" for number in range(1, 6)}
    assert layers <= browser.nodes(page)


@pytest.mark.browser
@pytest.mark.usefixtures("screenshot")
@pytest.mark.parametrize("quantity", ["compute-time", "memory"])
def test_the_traced_run_colours_the_nodes(page, address, quantity):
    browser.open_graph(page, address, "lenet5/run_01")
    plain = browser.colour(page, "model")
    browser.colour_by(page, "inference", quantity)
    assert browser.colour(page, "model") != plain
