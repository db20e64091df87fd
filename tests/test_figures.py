"""The pictures: what stands in them, and that the same data give the same file."""

import numpy as np
import pytest

from lenet_lab import build_classifier, build_lenet5, build_lenet5_dropout, start_run, tf
from lenet_lab.events import Curve
from lenet_lab.figures import (
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
    plot_seeds,
    write_figure,
)
from lenet_lab.inference import find_mistakes, layer_activations, multiply_adds, predict, trained_weights
from lenet_lab.predict import Prediction
from lenet_lab.watch import tile_filters


@pytest.fixture
def run(tmp_path):
    with start_run(build_classifier(build_lenet5, tf.train.AdamOptimizer(0.001)), str(tmp_path / "run_%02d"), 1) as run:
        yield run


def texts(figure):
    return " ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


@pytest.mark.parametrize("build", [build_lenet5, build_lenet5_dropout])
def test_the_architecture_has_every_shape_and_count(build):
    told = texts(plot_architecture(build_classifier(build, tf.train.AdamOptimizer(0.001))))
    for shape in ("28x28x1", "28x28x6", "14x14x6", "10x10x16", "5x5x16", "400", "120", "84", "10"):
        assert shape in told
    for count in ("156", "2,416", "48,120", "10,164", "850", "61,706 parameters"):
        assert count in told


def test_mistakes_are_those_of_the_probabilities_the_surest_first(run, small):
    mistakes = find_mistakes(run, small.test)
    probabilities = predict(run, small.test.images)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != small.test.labels.argmax(axis=1))
    assert sorted(mistakes.index) == list(wrong)
    assert all(np.diff(mistakes.probability) <= 0)
    told = texts(plot_mistakes(mistakes, small.name))
    assert f"{mistakes.true[0]}, read as {mistakes.predicted[0]}" in told and f"of the {len(wrong)} misread" in told


def test_seeds_are_drawn_with_their_mean_and_their_extremes():
    losses = np.array([[3.0, 2.0], [1.0, 4.0]])
    (axis,) = plot_bands({"Adam": losses}, "validation loss (nats)", "data").axes
    assert list(axis.lines[0].get_ydata()) == [2.0, 3.0] and axis.get_yscale() == "log"
    band = axis.collections[0].get_paths()[0].vertices
    assert {tuple(point) for point in band} == {(1, 1), (1, 3), (2, 2), (2, 4)}
    figure = plot_seeds({"Adam": np.array([0.98, 0.99])}, "data")
    dots, mean = figure.axes[0].lines
    assert list(dots.get_xdata()) == [98, 99] and list(mean.get_xdata()) == [98.5]
    assert "Adam" in texts(figure)


def test_layers_are_told_with_their_shapes(run, small):
    activations = layer_activations(run, small.test.images[:1])
    assert [value.shape[1:] for value in activations.values()][1:5] == [
        (28, 28, 6), (14, 14, 6), (10, 10, 16), (5, 5, 16)
    ]  # fmt: skip
    told = texts(plot_feature_maps(activations, small.name))
    assert "layer1 ReLU\n28x28x6" in told and "layer5 logits\n10" in told and small.name in told
    assert sum(multiply_adds(run).values()) == 117_600 + 240_000 + 48_000 + 10_080 + 840


def test_confusion_and_classes_count_right():
    true, predicted = np.array([0, 1, 1, 9, 9, 9]), np.array([0, 1, 7, 9, 9, 4])
    classes = plot_class_accuracy(true, predicted, "data")
    assert [round(bar.get_height()) for bar in classes.axes[0].patches[:2]] == [100, 50]
    assert "1 wrong" in texts(classes)
    matrix = plot_confusion(true, predicted, "data").axes[0].images[0].get_array()
    assert matrix[1, 7] == 1 and matrix[9, 9] == 2 and matrix.sum() == 6


def test_a_filter_tile_puts_zero_in_the_middle():
    tile = tile_filters(np.stack([np.full((5, 5), -2.0), np.zeros((5, 5)), np.full((5, 5), 1.0)], axis=2))
    assert tile.shape == (5, 17)
    np.testing.assert_allclose(tile[0, [0, 5, 6, 12]], [0, 1, 0.5, 0.75])


def test_the_same_data_give_the_same_bytes(run, small, tmp_path):
    curve = Curve(np.arange(50), np.arange(50) / 10, np.linspace(2, 1, 50))
    figures = {
        "curves.svg": lambda: plot_curves({"a": curve, "b": curve}, "Loss", "data"),
        "digits.png": lambda: plot_digits(small.test.images[:4], small.test.labels[:4], "data"),
        "filters.png": lambda: plot_filters(trained_weights(run)["lenet5/layer2/weights2"], "filters"),
        "read.svg": lambda: plot_prediction(Prediction(small.test.images[0], np.eye(10)[3]), "read"),
    }
    for name, make in figures.items():
        first, second = (write_figure(make(), tmp_path / name) for _ in range(2))
        assert first == second == (tmp_path / name).read_bytes(), name
