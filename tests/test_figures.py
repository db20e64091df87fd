"""Figures, tables and saved results: what they show, and what they say when there is nothing to show."""

import json
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from lenet_lab import build_classifier, build_lenet5, build_lenet5_dropout, build_softmax_regression, start_run, tf
from lenet_lab.analysis.events import Curve
from lenet_lab.analysis.figures import (
    GROUPS,
    plot_architecture,
    plot_bands,
    plot_class_accuracy,
    plot_confusion,
    plot_curves,
    plot_digits,
    plot_feature_maps,
    plot_filters,
    plot_mistakes,
    plot_prediction,
    plot_rate,
    plot_seeds,
    save_figure,
    write_figure,
)
from lenet_lab.analysis.inference import (
    Mistakes,
    find_mistakes,
    layer_activations,
    multiply_adds,
    predict,
    trained_weights,
)
from lenet_lab.analysis.layers import parameter_table
from lenet_lab.analysis.pictures import Prediction
from lenet_lab.analysis.results import describe_model, find_result, optimizer_table, read_results, results_table
from lenet_lab.analysis.summaries import tile_filters
from lenet_lab.analysis.tables import markdown_table
from lenet_lab.paths import LabError

RESULT = {
    "title": "LeNet-5, Adam", "data": "MNIST", "parameters": 61706, "epochs": 40, "batch_size": 128, "seed": 1,
    "loss": 0.001, "train_accuracy": 0.9987, "validation_accuracy": 0.9888, "test_accuracy": 0.99, "seconds": 166.0,
    "directory": "logs/lenet5_adam/run_01", "tensorflow": "2.21.0", "python": "3.12.3",
}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    with start_run(build_classifier(build_lenet5, tf.train.AdamOptimizer(0.001)), str(tmp_path / "run_%02d"), 1) as run:
        yield run


def texts(figure):
    """All texts in a figure."""
    return " ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def curve(*values):
    return Curve(np.arange(len(values)), np.arange(len(values)) / 10, np.array(values, float))


def mistakes_of(count):
    """That many mistakes, all of them 7s read as 1s."""
    return Mistakes(
        index=np.arange(count), images=np.zeros((count, 784), np.float32), true=np.full(count, 7),
        predicted=np.full(count, 1), probability=np.full(count, 0.9),
    )  # fmt: skip


@pytest.mark.parametrize("build", [build_lenet5, build_lenet5_dropout])
def test_the_architecture_has_every_shape_and_count(build):
    text = texts(plot_architecture(build_classifier(build, tf.train.AdamOptimizer(0.001))))
    for shape in ("28x28x1", "28x28x6", "14x14x6", "10x10x16", "5x5x16", "400", "120", "84", "10"):
        assert shape in text
    for count in ("156", "2,416", "48,120", "10,164", "850", "61,706 parameters"):
        assert count in text


def test_mistakes_are_those_of_the_probabilities_most_confident_first(run, small):
    mistakes = find_mistakes(run, small.test)
    probabilities = predict(run, small.test.images)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != small.test.labels.argmax(axis=1))
    assert sorted(mistakes.index) == list(wrong)
    assert all(np.diff(mistakes.probability) <= 0)
    text = texts(plot_mistakes(mistakes, small.name))
    assert f"{mistakes.true[0]}, read as {mistakes.predicted[0]}" in text
    assert f"32 of the {len(wrong)} misread test digits, most confident first" in text


@pytest.mark.parametrize(
    "count, title, grid", [(0, "data: no test digit is misread", 8), (9, "data: 9 of the 9 misread", 16)]
)
def test_few_mistakes_or_none_take_no_more_rows_than_they_need(count, title, grid):
    figure = plot_mistakes(mistakes_of(count), "data")
    assert title in texts(figure)
    assert len(figure.axes) == grid
    assert sum(bool(axis.images) for axis in figure.axes) == count


@pytest.mark.parametrize("labels", [np.eye(10)[[3, 8]], np.array([3, 8])])
def test_digits_are_labelled_by_one_hot_rows_or_by_classes(labels):
    figure = plot_digits(np.zeros((2, 784)), labels, "data")
    assert [axis.get_title() for axis in figure.axes[:2]] == ["3", "8"]


def test_each_curve_is_drawn_by_step_or_by_seconds_with_its_running_mean():
    (axis,) = plot_curves({"Adam": curve(*range(200))}, "Accuracy", "data", by="seconds").axes
    faint, mean = axis.lines
    assert len(faint.get_xdata()) == 200
    assert (mean.get_xdata()[0], mean.get_ydata()[0], mean.get_label()) == (0.1, 0.5, "Adam")
    assert axis.get_title() == "Accuracy during training on data"
    assert axis.get_xlabel() == "wall time since the first iteration (s)"


def noise(count, seed=0):
    """A noisy loss, as long as asked."""
    return np.exp(np.random.RandomState(seed).randn(count)) / np.linspace(1, 100, count)


def one_spike(count, place, height):
    return np.where(np.arange(count) == place, height, 1.0)


LONG = {
    "noise": noise(60_000),
    "a spike": one_spike(60_000, 31_234, 40.0),
    "a spike at the start": one_spike(60_000, 0, 40.0),
    "a spike at the end": one_spike(60_000, 59_999, 40.0),
    "a dip to zero": one_spike(60_000, 31_234, 0.0),
    "rising": np.arange(1, 60_001) / 60_000,
    "falling": np.arange(60_000, 0, -1) / 60_000,
    "constant": np.ones(60_000),
    "just long enough": noise(2 * GROUPS + 1),
}


@pytest.mark.parametrize("by", ["step", "seconds"])
@pytest.mark.parametrize("quantity", ["Loss", "Accuracy"])
@pytest.mark.parametrize("name", LONG)
def test_a_long_curve_is_a_band_that_loses_no_spike(name, quantity, by):
    values = LONG[name]
    (axis,) = plot_curves({name: curve(*values)}, quantity, "data", by=by).axes
    (band,) = axis.collections
    x, y = band.get_paths()[0].vertices.T
    events = x if by == "step" else 10 * x
    assert len(x) < 3 * GROUPS  # two for each group, and the corners
    assert (y.min(), y.max()) == (values.min(), values.max())
    width = len(values) / GROUPS
    assert abs(events[y.argmax()] - values.argmax()) <= width or name == "constant"
    assert events.min() <= width and events.max() >= len(values) - width
    for place in range(0, len(values), len(values) // 97):  # at every event, the band is around it
        near = np.abs(events - place) <= 1.5 * width
        assert y[near].min() <= values[place] <= y[near].max()


@pytest.mark.parametrize("name", LONG)
def test_a_long_running_mean_keeps_its_ends_and_its_extremes(name):
    values = LONG[name]
    (axis,) = plot_curves({name: curve(*values)}, "Accuracy", "data").axes
    (line,) = axis.lines
    width = len(values) // 100
    means = np.convolve(values, np.ones(width) / width, mode="valid")
    x, y = line.get_data()
    assert len(x) <= 2 * GROUPS + 2 and all(np.diff(x) > 0)
    assert (x[0], x[-1]) == (width - 1, len(values) - 1)
    np.testing.assert_array_equal(y, means[x - width + 1])
    assert (y.min(), y.max()) == (means.min(), means.max())


@pytest.mark.parametrize("count", [1, 2, 3, 12, 2 * GROUPS])
def test_a_short_curve_is_drawn_point_by_point(count):
    values = noise(count)
    (axis,) = plot_curves({"short": curve(*values)}, "Loss", "data").axes
    assert not axis.collections
    np.testing.assert_array_equal(axis.lines[0].get_ydata(), values)


@pytest.mark.parametrize("by", ["step", "seconds"])
@pytest.mark.parametrize("quantity", ["Loss", "Accuracy"])
def test_long_curves_make_a_small_file(quantity, by, tmp_path):
    curves = {f"LeNet-5, training {seed}": curve(*noise(60_000, seed)) for seed in range(3)}
    content = write_figure(plot_curves(curves, quantity, "data", by=by), tmp_path / "curves.svg")
    assert len(content) < 150_000
    assert ElementTree.fromstring(content).tag.endswith("svg")


def test_a_picture_is_shown_as_wide_as_a_drawing_of_the_same_size(tmp_path):
    image = save_figure(plot_digits(np.zeros((10, 784)), np.zeros(10, int), "data"), tmp_path / "digits.png")
    _, metadata = image._repr_mimebundle_()
    drawing = save_figure(plot_rate(np.ones(2)), tmp_path / "rate.svg")
    assert metadata["image/png"]["width"] == 768  # both are 8 inches wide, of 96 pixels or 72 points
    assert 'width="576pt"' in drawing.data


def test_four_curves_differ_in_colour_and_in_dashes():
    for (axis,) in (
        plot_curves({name: curve(3, 2) for name in "abcd"}, "Loss", "data").axes,
        plot_bands({name: np.ones((2, 3)) for name in "abcd"}, "loss", "data").axes,
    ):
        lines = [line for line in axis.lines if line.get_label() in "abcd" or "seeds" in line.get_label()]
        assert len({line.get_color() for line in lines}) == len({line.get_linestyle() for line in lines}) == 4


def test_five_curves_are_refused_by_name_instead_of_dropping_one():
    with pytest.raises(LabError, match=r"5 curves \(a, b, c, d, e\), expected 1 to 4"):
        plot_curves({name: curve(3, 2) for name in "abcde"}, "Loss", "data")
    with pytest.raises(LabError, match=r"5 curves \(a, b, c, d, e\), expected 1 to 4"):
        plot_bands({name: np.ones((2, 3)) for name in "abcde"}, "loss", "data")


def test_seeds_are_drawn_with_their_mean_and_their_extremes():
    losses = np.array([[3.0, 2.0], [1.0, 4.0]])
    figure = plot_bands({"Adam": losses}, "validation loss (nats)", "data")
    (axis,) = figure.axes
    assert list(axis.lines[0].get_ydata()) == [2.0, 3.0]
    assert axis.get_yscale() == "log"
    band = axis.collections[0].get_paths()[0].vertices
    assert {tuple(point) for point in band} == {(1, 1), (1, 3), (2, 2), (2, 4)}
    assert "Adam, 2 seeds" in texts(figure)
    figure = plot_seeds({"Adam": np.array([0.98, 0.99])}, "data")
    dots, mean = figure.axes[0].lines
    assert list(dots.get_xdata()) == [98, 99]
    assert list(mean.get_xdata()) == [98.5]
    assert "Adam" in texts(figure)


def test_long_names_leave_room_for_the_title_and_the_dots():
    name = "schedule, affine, elastic, decay, sharpness-aware, 60 epochs"
    figure = plot_seeds({f"{name} {row}": np.array([0.98, 0.99]) for row in range(3)}, "stand-in digits (not MNIST)")
    figure.draw_without_rendering()
    title = figure.findobj(lambda artist: "Each seed" in getattr(artist, "get_text", str)())[0].get_window_extent()
    assert figure.bbox.x0 <= title.x0 and title.x1 <= figure.bbox.x1
    assert figure.axes[0].get_ylim() == (2.5, -0.5)


def test_a_single_point_is_drawn_as_a_dot():
    epoch = plot_bands({"Adam": np.array([[3.0]])}, "loss", "data")
    assert "Adam, 1 seed" in texts(epoch)
    assert "1 seeds" not in texts(epoch)
    for figure in (epoch, plot_curves({"Adam": curve(2)}, "Loss", "data"), plot_rate(np.array([0.001]))):
        assert figure.axes[0].lines[-1].get_marker() == "o"
    assert epoch.axes[0].collections[0].get_linewidth() > 0  # the band, which has no width of its own
    dot, mean = plot_seeds({"Adam": np.array([0.98])}, "data").axes[0].lines
    assert list(dot.get_xdata()) == list(mean.get_xdata()) == [98]


def test_the_title_of_a_rate_gives_its_highest_and_last_value():
    assert "0.003 at its highest, 0.0015 at the end" in texts(plot_rate(np.array([0.001, 0.003, 0.0015])))


@pytest.mark.parametrize(
    "draw, message",
    [
        (lambda: plot_digits(np.zeros((0, 784)), np.zeros((0, 10)), "data"), "0 images and 0 labels"),
        (lambda: plot_digits(np.zeros((2, 784)), np.zeros((3, 10)), "data"), "2 images and 3 labels"),
        (lambda: plot_curves({}, "Loss", "data"), "0 curves"),
        (lambda: plot_curves({"Adam": curve()}, "Loss", "data"), "'Adam' has no events"),
        (lambda: plot_curves({"Adam": curve(2, np.nan)}, "Loss", "data"), "'Adam' is nan at step 1, expected finite"),
        (lambda: plot_curves({"Adam": curve(*[np.inf] * 999)}, "Loss", "data"), "'Adam' is inf at step 0"),
        (lambda: plot_curves({"Adam": curve(1)}, "loss", "data"), "can't draw 'loss'"),
        (lambda: plot_curves({"Adam": curve(1)}, "Loss", "data", by="epoch"), "by 'epoch'"),
        (lambda: plot_bands({}, "loss", "data"), "0 curves"),
        (lambda: plot_bands({"Adam": np.zeros((0, 3))}, "loss", "data"), r"'Adam' has shape \(0, 3\)"),
        (lambda: plot_bands({"Adam": np.zeros(3)}, "loss", "data"), r"'Adam' has shape \(3,\)"),
        (lambda: plot_seeds({}, "data"), "at least one training"),
        (lambda: plot_seeds({"Adam": np.zeros(0)}, "data"), "'Adam': 0"),
        (lambda: plot_rate(np.zeros(0)), "no learning rates"),
        (lambda: plot_confusion(np.zeros(0, int), np.zeros(0, int), "data"), "no images"),
        (lambda: plot_class_accuracy(np.zeros(0, int), np.zeros(0, int), "data"), "no images"),
        (lambda: plot_filters(np.zeros((400, 120)), "title"), r"shape \(400, 120\), expected \[rows, columns"),
        (lambda: write_figure(plot_rate(np.ones(2)), "rate.jpg"), r"rate.jpg, expected .*\.svg or \.png"),
        (lambda: write_figure(plot_rate(np.ones(2)), "rate"), r"rate, expected .*\.svg or \.png"),
    ],
)
def test_what_can_not_be_drawn_is_refused_in_one_clear_sentence(draw, message):
    with pytest.raises(LabError, match=message):
        draw()


def test_layers_are_shown_with_their_shapes(run, small):
    activations = layer_activations(run, small.test.images[:1])
    assert [value.shape[1:] for value in activations.values()][1:5] == [
        (28, 28, 6), (14, 14, 6), (10, 10, 16), (5, 5, 16)
    ]  # fmt: skip
    text = texts(plot_feature_maps(activations, small.name))
    assert "layer1 ReLU\n28x28x6" in text
    assert "layer5 logits\n10" in text
    assert small.name in text
    assert sum(multiply_adds(run).values()) == 117_600 + 240_000 + 48_000 + 10_080 + 840


def test_a_network_of_one_layer_is_drawn_like_any_other():
    classifier = build_classifier(build_softmax_regression, tf.train.GradientDescentOptimizer(0.01))
    assert "7,850" in texts(plot_architecture(classifier))
    assert "logits\n10" in texts(plot_feature_maps({"logits": np.ones((1, 10))}, "data"))


def test_confusion_and_classes_count_correctly():
    true, predicted = np.array([0, 1, 1, 9, 9, 9]), np.array([0, 1, 7, 9, 9, 4])
    classes = plot_class_accuracy(true, predicted, "data")
    assert [round(bar.get_height()) for bar in classes.axes[0].patches[:2]] == [100, 50]
    assert "1 wrong" in texts(classes)
    assert "does not start at 0" in texts(classes)
    matrix = plot_confusion(true, predicted, "data").axes[0].images[0].get_array()
    assert matrix[1, 7] == 1
    assert matrix[9, 9] == 2
    assert matrix.sum() == 6


def test_a_class_without_images_has_no_accuracy():
    classes = plot_class_accuracy(np.array([0, 1]), np.array([0, 0]), "data")
    heights = [bar.get_height() for bar in classes.axes[0].patches]
    assert heights[:2] == [100, 0]
    assert all(np.isnan(heights[2:]))
    assert classes.axes[0].get_ylim()[0] == 0
    assert "does not start at 0" not in texts(classes)


def test_classes_without_mistakes_leave_room_for_their_labels():
    true = np.arange(10)
    bottom, top = plot_class_accuracy(true, true, "data").axes[0].get_ylim()
    assert bottom < 100 < top


def test_a_filter_tile_puts_zero_in_the_middle():
    tile = tile_filters(np.stack([np.full((5, 5), -2.0), np.zeros((5, 5)), np.full((5, 5), 1.0)], axis=2))
    assert tile.shape == (5, 17)
    np.testing.assert_allclose(tile[0, [0, 5, 6, 12]], [0, 1, 0.5, 0.75])


def test_the_same_data_give_the_same_bytes(run, small, tmp_path):
    falling = curve(*np.linspace(2, 1, 50))
    figures = {
        "curves.svg": lambda: plot_curves({"a": falling, "b": falling}, "Loss", "data"),
        "digits.png": lambda: plot_digits(small.test.images[:4], small.test.labels[:4], "data"),
        "filters.png": lambda: plot_filters(trained_weights(run)["lenet5/layer2/weights2"], "filters"),
        "read.svg": lambda: plot_prediction(Prediction(small.test.images[0], np.eye(10)[3]), "read"),
    }
    for name, make in figures.items():
        first, second = (write_figure(make(), tmp_path / name) for _ in range(2))
        assert first == second == (tmp_path / name).read_bytes(), name


def test_the_slow_libraries_are_imported_only_when_they_are_used():
    slow = {"tensorboard.backend.event_processing.event_accumulator", "sklearn", "IPython"}
    program = f"import sys; from lenet_lab.analysis import figures, profiling; print(sorted({slow} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"


def test_results_are_found_by_their_values_newest_first(tmp_path):
    for number, seed in enumerate([1, 2], start=1):
        folder = tmp_path / f"run_{number:02d}"
        folder.mkdir()
        (folder / "result.json").write_text(json.dumps(RESULT | {"seed": seed}))
    assert find_result(tmp_path, title="LeNet-5, Adam", epochs=40)["seed"] == 2
    assert find_result(tmp_path, seed=1) == RESULT
    assert find_result(tmp_path, data="stand-in digits") is None
    with pytest.raises(LabError, match="no field 'epoch', expected one of title, data"):
        find_result(tmp_path, epoch=40)


def test_a_folder_that_does_not_exist_has_no_results(tmp_path):
    assert read_results(tmp_path / "nowhere") == []
    assert find_result(tmp_path / "nowhere", title="LeNet-5, Adam") is None


@pytest.mark.parametrize("content", ['{"title": "LeNet-5, A', "", "[1, 2]", '{"score": 3}', "\xff\xfe"])
def test_a_damaged_or_foreign_result_is_left_out_with_a_warning(content, tmp_path):
    for name, text in (("damaged", content), ("whole", json.dumps(RESULT))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_bytes(text.encode("latin-1"))
    with pytest.warns(UserWarning, match=r"damaged.result\.json is left out"):
        assert read_results(tmp_path) == [RESULT]
    model = describe_model(tmp_path / "damaged" / "model.ckpt")
    assert (model["title"], model["data"]) == ("a model", "unknown data")


def test_tables_name_their_data_and_say_when_there_are_no_results():
    assert "| LeNet-5, Adam | MNIST | 40     | 0.001000 | 99.9%    | 98.9%" in results_table([RESULT])
    assert optimizer_table({"Adam": RESULT}).splitlines()[0] == "| Optimizer (MNIST) | Adam  |"
    assert results_table([]) == optimizer_table({}) == "No results yet."


def test_a_table_keeps_its_columns_whatever_a_cell_holds():
    assert markdown_table([("a", "b"), ("|x|", "y")]).splitlines()[2] == r"| \|x\| | y |"
    for rows in ([], [("a", "b"), ("c",)]):
        with pytest.raises(ValueError, match="expected a heading"):
            markdown_table(rows)


def test_the_parameter_table_names_every_matrix_of_a_layer():
    with tf.Graph().as_default() as graph:
        with tf.name_scope("recurrent"):
            tf.Variable(tf.zeros([28, 64]))
            tf.Variable(tf.zeros([64, 64]))
        with tf.name_scope("scale"):
            tf.Variable(tf.zeros([64]))
    first, second = parameter_table(graph).splitlines()[2:4]
    assert first.split(" | ")[1].strip() == "28x64 + 64x64 = 5888"
    assert second.split(" | ")[1:3] == ["0".ljust(20), "64".ljust(6)]
