"""The lab's networks: their shapes, parameters, gradients, dropout, and how the lab prints them."""

import numpy as np
import pytest

from lenet_lab import (
    build_classifier,
    build_lenet5,
    build_lenet5_dropout,
    build_softmax_regression,
    count_parameters,
    parameter_table,
    tf,
)
from lenet_lab.analysis.layers import layer_outputs, layer_parameters


def sgd():
    return tf.train.GradientDescentOptimizer(0.001)


@pytest.fixture
def images():
    return np.random.RandomState(0).random_sample((3, 784)).astype(np.float32)


def test_every_layer_has_the_shape_that_the_paper_gives(images):
    classifier = build_classifier(build_lenet5, sgd())
    outputs = layer_outputs(classifier.graph, classifier.logits)
    assert [(o.scope, o.shape) for o in outputs] == [
        ("reshape", (28, 28, 1)),
        ("layer1", (28, 28, 6)),
        ("layer1", (14, 14, 6)),
        ("layer2", (10, 10, 16)),
        ("layer2", (5, 5, 16)),
        ("flatten", (400,)),
        ("layer3", (120,)),
        ("layer4", (84,)),
        ("layer5", (10,)),
    ]
    with tf.Session(graph=classifier.graph) as session:
        session.run(classifier.init_op)
        relu = classifier.graph.get_tensor_by_name("model/lenet5/layer2/Relu:0")
        assert session.run(relu, {classifier.x: images}).shape == (3, 10, 10, 16)
        assert session.run(classifier.logits, {classifier.x: images}).shape == (3, 10)


@pytest.mark.parametrize(
    "build, layers",
    [
        (build_softmax_regression, [7850]),
        (build_lenet5, [156, 2416, 48120, 10164, 850]),
        (build_lenet5_dropout, [156, 2416, 48120, 10164, 850]),
    ],
)
def test_each_layer_has_the_expected_number_of_parameters(build, layers):
    graph = build_classifier(build, sgd()).graph
    assert [layer.total for layer in layer_parameters(graph)] == layers
    assert count_parameters(graph) == sum(layers)
    with graph.as_default():
        assert count_parameters() == sum(layers)


def test_variables_of_the_optimizer_are_not_counted_as_parameters():
    assert count_parameters(build_classifier(build_lenet5, tf.train.AdamOptimizer()).graph) == 61706


def test_the_parameter_table_has_the_labs_rows():
    table = parameter_table(build_classifier(build_lenet5, sgd()).graph)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert ["1", "5x5x1x6 = 150", "6", "156"] in rows
    assert ["3", "400x120 = 48000", "120", "48120"] in rows
    assert rows[-1] == ["Total", "", "", "61706"]


def test_tensors_and_variables_print_exactly_as_in_the_lab():
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None, 784], name="inputs")
        build_softmax_regression(x)
        weights, bias = tf.trainable_variables()
    assert str(x) == 'Tensor("inputs:0", shape=(?, 784), dtype=float32)'
    assert str(weights) == "<tf.Variable 'weights:0' shape=(784, 10) dtype=float32_ref>"
    assert str(bias) == "<tf.Variable 'bias:0' shape=(10,) dtype=float32_ref>"
    classifier = build_classifier(build_softmax_regression, sgd())
    assert str(classifier.y_true) == 'Tensor("labels:0", shape=(?, 10), dtype=float32)'
    assert [v.name for v in classifier.graph.get_collection("variables")] == ["weights:0", "bias:0"]


def test_name_scopes_and_the_order_of_variables_are_the_labs():
    graph = build_classifier(build_lenet5_dropout, sgd()).graph
    names = [op.name for op in graph.get_operations()]
    for scope in ("reshape", "lenet5/layer1", "lenet5/flatten", "lenet5/dropout", "lenet5/layer5"):
        assert any(name.startswith(f"model/{scope}/") for name in names), scope
    for scope in ("loss", "optim", "accuracy"):
        assert any(name.startswith(f"{scope}/") for name in names), scope
    assert [v.op.name.rpartition("/")[2] for v in graph.get_collection("trainable_variables")] == [
        f"{kind}{layer}" for layer in range(1, 6) for kind in ("weights", "bias")
    ]


def test_every_variable_gets_a_gradient(images):
    classifier = build_classifier(build_lenet5, sgd())
    labels = np.eye(10, dtype=np.float32)[[3, 1, 4]]
    with classifier.graph.as_default():
        gradients = tf.gradients(classifier.loss, tf.trainable_variables())
    with tf.Session(graph=classifier.graph) as session:
        session.run(classifier.init_op)
        values = session.run(gradients, {classifier.x: images, classifier.y_true: labels})
    assert sum(value.size for value in values) == 61706
    assert all(np.any(value != 0) for value in values)


def test_initial_weights_are_truncated_normal_and_biases_zero():
    classifier = build_classifier(build_lenet5, sgd())
    with tf.Session(graph=classifier.graph) as session:
        session.run(classifier.init_op)
        values = session.run(classifier.graph.get_collection("trainable_variables"))
    weights3, bias3 = values[4], values[5]
    assert np.abs(weights3).max() <= 0.2  # truncated at two standard deviations
    assert weights3.std() == pytest.approx(0.088, abs=0.002)  # the deviation of such a truncated normal(0, 0.1)
    assert not bias3.any()


def test_dropout_is_off_unless_keep_prob_is_fed_and_scales_the_kept_features():
    graph = tf.Graph()
    with graph.as_default(), tf.Session() as session:
        keep_prob = tf.placeholder_with_default(1.0, [])
        x = tf.placeholder(tf.float32, [None, 784])
        build_lenet5_dropout(x, keep_prob)
        session.run(tf.global_variables_initializer())
        flat = graph.get_tensor_by_name("lenet5/flatten/Reshape:0")
        dropped = next(
            op.outputs[0] for op in reversed(graph.get_operations()) if op.name.startswith("lenet5/dropout/")
        )
        images = np.random.RandomState(0).random_sample((200, 784))
        before, off = session.run([flat, dropped], {x: images})
        np.testing.assert_array_equal(before, off)
        before, on = session.run([flat, dropped], {x: images, keep_prob: 0.75})
    active = before > 0
    kept = on[active] != 0
    assert kept.mean() == pytest.approx(0.75, abs=0.02)  # the probability to keep, not to drop
    np.testing.assert_allclose(on[active][kept], before[active][kept] / 0.75, rtol=1e-5)


def test_the_summary_holds_exactly_loss_and_accuracy(images):
    classifier = build_classifier(build_softmax_regression, sgd())
    with tf.Session(graph=classifier.graph) as session:
        session.run(classifier.init_op)
        labels = np.eye(10, dtype=np.float32)[[0, 1, 2]]
        text = session.run(classifier.summary, {classifier.x: images, classifier.y_true: labels})
    values = {value.tag: value.simple_value for value in tf.Summary.FromString(text).value}
    assert values == {"Loss": pytest.approx(np.log(10)), "Accuracy": pytest.approx(1 / 3)}


def test_each_classifier_has_its_own_graph():
    first, second = (build_classifier(build_lenet5, tf.train.AdamOptimizer()) for _ in range(2))
    assert first.graph is not second.graph
    tf.test.assert_equal_graph_def(first.graph.as_graph_def(), second.graph.as_graph_def())
    assert not tf.get_default_graph().get_operations()


def test_a_network_whose_logits_have_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"expected logits of shape \(\?, 10\)"):
        build_classifier(lambda x: x[:, :7], sgd())
