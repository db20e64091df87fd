"""Networks of a student's own: both loops train them alike, or the fast loop is not used and a message says why."""

import warnings

import numpy as np
import pytest

from lenet_lab import (
    build_classifier,
    build_softmax_regression,
    evaluate,
    input_data,
    optimize,
    print_accuracy,
    restore_model,
    save_model,
    start_run,
    tf,
)
from lenet_lab.analysis.inference import open_model
from lenet_lab.compat import learning_rate
from lenet_lab.models import weight_variable
from lenet_lab.paths import LabError


def dense(x, size=10):
    return tf.matmul(x, weight_variable([x.shape.as_list()[1], size], "weights"))


def with_tf_layers(x):
    image = tf.reshape(x, [-1, 28, 28, 1])
    maps = tf.layers.max_pooling2d(tf.layers.conv2d(image, 4, 5, activation=tf.nn.relu), 2, 2)
    return tf.layers.dense(tf.layers.flatten(maps), 10)


def lstm(x):
    rows = tf.unstack(tf.reshape(x, [-1, 4, 196]), 4, 1)
    outputs, _ = tf.nn.static_rnn(tf.nn.rnn_cell.BasicLSTMCell(8), rows, dtype=tf.float32)
    return dense(outputs[-1])


def with_get_variable(x):
    return tf.matmul(x, tf.get_variable("weights", [784, 10]))


def with_an_embedding(x):
    rows = tf.nn.embedding_lookup(weight_variable([784, 10], "weights"), tf.range(784))
    return tf.reduce_sum(rows[None] * x[:, :, None], axis=1)


def with_an_assertion(x):
    with tf.control_dependencies([tf.Assert(tf.reduce_all(x >= 0), [x])]):
        x = tf.identity(x)
    return dense(x)


def with_cond(x):
    logits = dense(x)
    return tf.cond(tf.reduce_mean(logits) > 0, lambda: 2 * logits, lambda: logits)


def with_batch_statistics(x):
    mean, variance = tf.nn.moments(x, [0])
    return tf.matmul((x - mean) / tf.sqrt(variance + 1e-3), tf.Variable(tf.zeros([784, 10])))


def with_batch_normalization(x):
    return dense(tf.layers.batch_normalization(dense(x, 20), training=True))


def with_a_resource_variable(x):
    return tf.matmul(x, tf.get_variable("weights", [784, 10], use_resource=True))


def with_a_loop(x):
    weights = weight_variable([784, 10], "weights")
    return tf.map_fn(lambda row: tf.matmul(row[None], weights)[0], x)


def with_a_custom_gradient(x):
    return dense(tf.nn.swish(dense(x, 20)))


def always_dropping(x):
    return dense(tf.nn.dropout(dense(x, 20), rate=0.25))


@pytest.fixture
def losses(small, tmp_path):
    """A function that trains a network for two epochs and returns the loss of every batch."""

    def losses(build, fast):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tf.layers is deprecated
            classifier = build_classifier(build, tf.train.GradientDescentOptimizer(0.05))
        with start_run(classifier, str(tmp_path / "run_%02d"), seed=3) as run:
            return optimize(run, small, 2, 100, fast=fast).step_loss

    return losses


@pytest.mark.parametrize(
    "build", [with_tf_layers, lstm, with_get_variable, with_an_embedding], ids=lambda build: build.__name__
)
def test_both_loops_train_the_network_alike(losses, build, capsys):
    np.testing.assert_allclose(losses(build, True), losses(build, False), rtol=1e-4)
    assert "plain loop" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "build, reason",
    [
        (with_cond, "belongs to a tf.cond or a tf.while_loop"),
        (with_a_loop, "belongs to a tf.cond or a tf.while_loop"),
        (with_batch_statistics, "is not the mean of its losses on parts of the batch"),
        (with_batch_normalization, "has update operations"),
        (with_a_resource_variable, "the variable weights is a resource variable"),
        (with_a_custom_gradient, "has a gradient of its own"),
        (with_an_assertion, "belongs to a tf.cond"),
        (always_dropping, "loss is random even where keep_prob is 1"),
    ],
)
def test_the_plain_loop_trains_what_the_fast_loop_cannot_and_says_why_once(losses, build, reason, capsys):
    fast = losses(build, True)
    (message,) = [line for line in capsys.readouterr().err.splitlines() if "plain loop" in line]
    assert message.startswith("Training with the plain loop, which is slower: the ") and reason in message
    assert fast == losses(build, False)


def test_the_search_for_obstacles_adds_nothing_to_the_graph_and_is_reported_once(small, tmp_path, capsys):
    classifier = build_classifier(with_a_resource_variable, tf.train.GradientDescentOptimizer(0.05))
    before = len(classifier.graph.get_operations())
    with start_run(classifier, str(tmp_path / "run_%02d")) as run:
        for _ in range(3):
            optimize(run, small, 1, 500)
    assert len(classifier.graph.get_operations()) == before
    assert capsys.readouterr().err.count("plain loop") == 1


def test_a_seed_gives_one_classifier_the_same_bits_with_tensorflows_dropout_too(small, tmp_path):
    def build(x, keep_prob):
        return dense(tf.nn.dropout(tf.nn.relu(dense(x, 50)), rate=1 - keep_prob))

    classifier = build_classifier(build, tf.train.AdamOptimizer(0.001))

    def losses(seed):
        with start_run(classifier, str(tmp_path / "run_%02d"), seed=seed) as run:
            return optimize(run, small, 1, 100).step_loss

    assert losses(1) == losses(1) != losses(2)


@pytest.mark.parametrize("rate", [1, 0.5, np.float32(0.5), np.float64(0.5), np.array(0.5), np.int64(1)])
def test_a_learning_rate_can_be_any_kind_of_number(rate):
    optimizer = tf.train.GradientDescentOptimizer(rate)
    assert learning_rate(optimizer) == float(rate)
    graph = build_classifier(build_softmax_regression, optimizer).graph
    assert not graph.get_collection(tf.GraphKeys.GLOBAL_STEP)  # steps are counted only for a schedule


def test_a_learning_rate_schedule_has_no_single_value():
    assert learning_rate(tf.train.GradientDescentOptimizer(lambda: 0.5)) is None


@pytest.fixture
def closed(tmp_path):
    with start_run(build_classifier(build_softmax_regression, tf.train.AdamOptimizer()), str(tmp_path / "a_%d")) as run:
        return run


def test_dropout_is_off_in_evaluation_even_if_keep_prob_has_a_default(small, tmp_path):
    def build(x, keep_prob=0.5):
        return tf.nn.dropout(dense(x), rate=1 - keep_prob)

    with start_run(build_classifier(build, tf.train.AdamOptimizer(0.01)), str(tmp_path / "run_%d")) as run:
        optimize(run, small, 1, 100)
        assert evaluate(run, small.test) == evaluate(run, small.test)


@pytest.mark.parametrize(
    "build, optimizer, message",
    [
        (dense, tf.train.AdamOptimizer, r"optimizer is <class .*AdamOptimizer'>, expected one of tf.train"),
        (dense, "adam", "optimizer is 'adam', expected one of tf.train"),
        (lambda x: None, tf.train.AdamOptimizer(), "the network returned None, expected logits of shape"),
        (lambda x: dense(x, 11), tf.train.AdamOptimizer(), r"shape=\(\?, 11\).*, expected logits of shape \(\?, 10\)"),
    ],
)
def test_what_is_no_network_or_no_optimizer_is_named(build, optimizer, message):
    with pytest.raises(LabError, match=message):
        build_classifier(build, optimizer)


@pytest.mark.parametrize(
    "use",
    [
        lambda run, mnist: optimize(run, mnist, 1, 100),
        lambda run, mnist: evaluate(run, mnist.test),
        lambda run, mnist: save_model(run),
    ],
    ids=["optimize", "evaluate", "save_model"],
)
def test_a_closed_run_says_that_it_is_closed(closed, small, use):
    with pytest.raises(LabError, match="this run is closed; open one with start_run"):
        use(closed, small)
    closed.close()  # once more


def test_labels_that_are_not_one_hot_are_named_wherever_they_are_used(small_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("LENET_LAB_DATA", str(small_folder))
    mnist = input_data.read_data_sets("unused")
    classifier = build_classifier(build_softmax_regression, tf.train.AdamOptimizer())
    with start_run(classifier, str(tmp_path / "run_%d")) as run:
        for use in (
            lambda: evaluate(run, mnist.test),
            lambda: print_accuracy(run, mnist),
            lambda: optimize(run, mnist, 1, 9),
        ):
            with pytest.raises(LabError, match="reshape=True and one_hot=True"):
                use()


def test_saved_models_are_named_if_they_can_not_be_opened(tmp_path):
    with start_run(build_classifier(lstm, tf.train.AdamOptimizer()), str(tmp_path / "run_%d")) as run:
        path = save_model(run, tmp_path / "new" / "folder")
        with pytest.raises(
            LabError, match=r"is a folder; expected the path that save_model returned, such as .*model.ckpt"
        ):
            restore_model(run, run.directory)
    with pytest.raises(LabError, match="neither LeNet-5 nor softmax regression"):
        open_model(path)


def test_a_classifier_is_shown_in_one_line():
    shown = repr(build_classifier(build_softmax_regression, tf.train.AdamOptimizer()))
    assert shown.startswith("<Classifier with Adam") and len(shown) < 100
