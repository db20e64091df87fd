"""Networks of a student's own: both loops train them alike, or the fast loop is not used and a message says why."""

from concurrent.futures import ThreadPoolExecutor

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
from lenet_lab.beyond.augmentation import augmented, loss_on_augmented_images
from lenet_lab.beyond.optimizers import SharpnessAware
from lenet_lab.compat import learning_rate
from lenet_lab.input_data import DataSet, Datasets
from lenet_lab.models import step_seed, weight_variable
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


def with_a_relu_in_a_cond(x):
    hidden = dense(x, 20)
    return dense(tf.cond(tf.reduce_mean(x) > 0.1, lambda: tf.nn.relu(hidden), lambda: hidden))


def with_its_own_summary(x):
    logits = dense(x)
    tf.summary.scalar("largest", tf.reduce_max(logits))
    return logits


def with_centred_units(x):
    hidden = dense(x, 30)
    centred = hidden - tf.reduce_mean(hidden, axis=0, keepdims=True)
    return dense(tf.nn.relu(hidden + centred - tf.stop_gradient(centred)))


def with_a_shortcut(x):
    image = tf.reshape(x, [-1, 28, 28, 1])
    maps = tf.nn.relu(tf.nn.conv2d(image, weight_variable([5, 5, 1, 6], "filters"), 1, "SAME") + image)
    return dense(tf.reshape(tf.nn.max_pool(maps, 2, 2, "VALID"), [-1, 14 * 14 * 6]))


def with_noise_of(draw):
    """A network with noise, which is off where keep_prob is 1."""

    def build(x, keep_prob):
        hidden = tf.nn.relu(dense(x, 30))
        return dense(hidden + (1 - keep_prob) * draw(hidden))

    return build


with_cut_normal_noise = with_noise_of(lambda h: tf.random.stateless_truncated_normal(tf.shape(h), step_seed()))
with_transposed_noise = with_noise_of(
    lambda h: tf.transpose(tf.random.stateless_uniform([30, tf.shape(h)[0]], step_seed()))
)


class ClippedDescent(tf.train.GradientDescentOptimizer):
    """Gradient descent that overrides `minimize`, which the loop in the graph does not call."""

    def minimize(self, loss, global_step=None, **options):
        gradients, variables = zip(*self.compute_gradients(loss))
        clipped, _ = tf.clip_by_global_norm(gradients, 0.1)
        return self.apply_gradients(zip(clipped, variables), global_step)


@pytest.fixture
def losses(small, tmp_path):
    """A function that trains a network for two epochs and returns the loss of every batch."""

    def losses(build, fast, optimizer=tf.train.GradientDescentOptimizer, train_loss=None, batch_size=100):
        classifier = build_classifier(build, optimizer(0.05), train_loss)
        with start_run(classifier, str(tmp_path / "run_%02d"), seed=3) as run:
            return optimize(run, small, 2, batch_size, fast=fast).step_loss

    return losses


@pytest.mark.parametrize(
    "build",
    [with_tf_layers, lstm, with_get_variable, with_an_embedding, with_a_shortcut],
    ids=lambda build: build.__name__,
)
def test_both_loops_train_the_network_alike(losses, build, capsys):
    np.testing.assert_allclose(losses(build, True), losses(build, False), rtol=1e-4)
    assert "plain loop" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "build, reason",
    [
        (with_cond, "belongs to a tf.cond or a tf.while_loop"),
        (with_a_loop, "belongs to a tf.cond or a tf.while_loop"),
        (with_batch_statistics, "cutting a batch into parts changes what the network learns"),
        (with_batch_normalization, "has update operations"),
        (with_a_resource_variable, "the variable weights is a resource variable"),
        (with_a_custom_gradient, "has a gradient of its own"),
        (with_an_assertion, "belongs to a tf.cond"),
        (with_a_relu_in_a_cond, "belongs to a tf.cond"),
        (with_its_own_summary, "has summaries of its own"),
        (with_centred_units, "cutting a batch into parts changes"),
        (with_cut_normal_noise, "cutting a batch into parts changes"),
        (with_transposed_noise, "cutting a batch into parts changes"),
        (always_dropping, "loss is random even where keep_prob is 1"),
    ],
)
def test_the_plain_loop_trains_what_the_fast_loop_cannot_and_says_why_once(losses, build, reason, capsys):
    fast = losses(build, True)
    (message,) = [line for line in capsys.readouterr().err.splitlines() if "plain loop" in line]
    assert message.startswith("Training with the plain loop, which is slower: ") and reason in message
    assert fast == losses(build, False)


@pytest.mark.parametrize(
    "options",
    [
        {"train_loss": tf.square},
        {"optimizer": ClippedDescent},
        {"build": with_batch_statistics, "batch_size": 10},  # one shard: only measuring cuts the data
    ],
    ids=["a loss of its own", "an optimizer of its own", "small batches"],
)
def test_the_training_as_a_whole_is_compared(losses, options, capsys):
    options = {"build": dense, **options}
    fast = losses(fast=True, **options)
    assert "cutting a batch into parts changes" in capsys.readouterr().err
    assert fast == losses(fast=False, **options)


def test_the_reason_is_given_once_for_all_batch_sizes(small, tmp_path, capsys):
    classifier = build_classifier(with_batch_statistics, tf.train.GradientDescentOptimizer(0.05))
    with start_run(classifier, str(tmp_path / "run_%02d")) as run:
        for batch_size in (10, 100, 500):
            optimize(run, small, 1, batch_size)
    assert capsys.readouterr().err.count("plain loop") == 1


@pytest.mark.parametrize("wrap", ["SharpnessAware", "augmented"])
@pytest.mark.parametrize("build", [with_a_custom_gradient, with_cond], ids=["custom gradient", "cond"])
def test_a_network_that_can_not_be_copied_is_refused_where_a_copy_is_needed(build, wrap):
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    with pytest.raises(LabError, match="so the network can't be copied"):
        if wrap == "augmented":
            build_classifier(augmented(build), optimizer, loss_on_augmented_images)
        else:
            build_classifier(build, SharpnessAware(optimizer, 0.05))


def test_augmentation_and_sharpness_say_what_they_lack():
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    with pytest.raises(LabError, match="no augmented images"):
        build_classifier(dense, optimizer, loss_on_augmented_images)
    with pytest.raises(LabError, match="made without use_resource=True"):
        build_classifier(with_a_resource_variable, SharpnessAware(optimizer, 0.05))


@pytest.mark.parametrize("count", [1, 15, 2500, 2501, 5001])
def test_a_set_of_any_size_is_measured_alike_by_both_loops(tmp_path, count):
    rng = np.random.RandomState(0)
    data = DataSet(rng.randint(0, 256, (count, 28, 28, 1)).astype(np.uint8), np.eye(10)[rng.randint(0, 10, count)])
    mnist = Datasets(data, data, data)

    def measured(fast):
        classifier = build_classifier(build_softmax_regression, tf.train.GradientDescentOptimizer(0.01))
        with start_run(classifier, str(tmp_path / "run_%02d"), seed=1) as run:
            history = optimize(run, mnist, 1, min(count, 64), fast=fast)
        return history.validation_loss + history.validation_accuracy + history.train_accuracy

    np.testing.assert_allclose(measured(True), measured(False), rtol=1e-5)


def test_two_open_runs_of_one_classifier_keep_their_own_seeds(small, tmp_path):
    def build():
        noisy = with_noise_of(lambda h: tf.random_uniform(tf.shape(h)))
        return build_classifier(noisy, tf.train.AdamOptimizer(0.01))

    def start(classifier, seed):
        return start_run(classifier, str(tmp_path / "run_%02d"), seed=seed)

    with start(build(), 1) as run:
        alone = optimize(run, small, 1, 100).step_loss
    shared = build()
    with start(shared, 1) as first, start(shared, 2):
        assert optimize(first, small, 1, 100).step_loss == alone


def test_two_threads_can_train_one_classifier(small, tmp_path):
    classifier = build_classifier(build_softmax_regression, tf.train.GradientDescentOptimizer(0.01))

    def losses(seed):
        with start_run(classifier, str(tmp_path / "run_%02d"), seed=seed) as run:
            return optimize(run, small, 1, 100).step_loss

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(losses, [1, 1]))
    assert results[0] == results[1]


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


def test_a_keep_prob_that_could_not_be_switched_off_is_refused():
    def build(x, keep_prob=0.5):
        return tf.nn.dropout(dense(x), rate=1 - keep_prob)

    with pytest.raises(
        LabError, match=r"keep_prob has the default 0.5, so dropout stays on; expected build\(x, keep_prob\)"
    ):
        build_classifier(build, tf.train.AdamOptimizer(0.01))


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
