"""A run from outside: what it prints, what stands in its event file, what it saves."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from lenet_lab import (
    blocks,
    build_classifier,
    build_lenet5,
    build_lenet5_dropout,
    build_softmax_regression,
    evaluate,
    optimize,
    print_accuracy,
    restore_model,
    save_model,
    start_run,
    tf,
)
from lenet_lab.deform import deform
from lenet_lab.events import read_curve, read_events, read_graph
from lenet_lab.input_data import DataSet, Datasets
from lenet_lab.optimizers import AdamWithDecay, warm_up_and_cosine
from lenet_lab.results import find_result, results_table, save_result
from lenet_lab.training import train_epoch


def softmax():
    return build_classifier(build_softmax_regression, tf.train.GradientDescentOptimizer(0.01))


@pytest.fixture
def pattern(tmp_path):
    return str(tmp_path / "run_%02d")


def test_every_iteration_has_its_loss_and_accuracy_event(small, pattern):
    with start_run(softmax(), pattern, seed=1) as run:
        history = optimize(run, small, epochs=3, batch_size=300)  # 3 batches, 100 images left over
    reader = read_events(run.directory)
    assert reader.Tags()["scalars"] == ["Loss", "Accuracy"]
    for tag, values in (("Loss", history.step_loss), ("Accuracy", history.step_accuracy)):
        events = reader.Scalars(tag)
        assert [event.step for event in events] == list(range(9))
        np.testing.assert_allclose([event.value for event in events], values, rtol=1e-6)
    assert history.loss == pytest.approx(np.reshape(history.step_loss, (3, 3)).mean(axis=1))
    assert history.loss[2] < history.loss[0]


def test_an_event_is_measured_on_the_batch_after_its_update(small, pattern):
    with start_run(softmax(), pattern, seed=1) as run:
        history = optimize(run, small, epochs=1, batch_size=1000)
        after = run.session.run(
            run.classifier.loss,
            {run.classifier.x: small.train.images, run.classifier.y_true: small.train.labels},
        )
    assert history.step_loss == [pytest.approx(float(after), rel=1e-5)]


def test_printed_lines_are_the_labs(small, pattern, capsys):
    with start_run(softmax(), pattern, seed=1) as run:
        print_accuracy(run, small)
        history = optimize(run, small, epochs=1, batch_size=100)
    lines = capsys.readouterr().out.splitlines()
    zeros = small.test.labels[:, 0].mean()  # untrained, it always says zero
    assert lines[-3] == f"Accuracy on test-set: {zeros:.1%}"
    assert lines[-2] == f"Epoch:  01   =====> Loss = {history.loss[0]:.6f}"
    assert re.fullmatch(r"Epoch:  01   =====> Training Acc: \d+\.\d%   Validation Acc: \d+\.\d%", lines[-1])


def test_printed_accuracies_are_those_of_the_whole_sets(small, pattern):
    with start_run(softmax(), pattern, seed=1) as run:
        history = optimize(run, small, epochs=1, batch_size=100)
        c = run.classifier
        for dataset, told in ((small.train, history.train_accuracy), (small.validation, history.validation_accuracy)):
            predicted = run.session.run(c.y_pred_cls, {c.x: dataset.images})
            assert told == [pytest.approx((predicted == dataset.labels.argmax(axis=1)).mean())]


def test_graph_and_traces_are_in_the_event_file(small, pattern):
    with start_run(softmax(), pattern) as run:
        print_accuracy(run, small)
        print_accuracy(run, small)
    reader = read_events(run.directory)
    assert sorted(reader.Tags()["run_metadata"]) == ["inference", "inference_2"]
    assert reader.RunMetadata("inference").step_stats.dev_stats  # FULL_TRACE has times and memory
    assert {"inputs", "labels", "weights", "bias"} <= {node.name for node in read_graph(run.directory).node}


def test_tensorboard_is_told_the_data(small, pattern):
    with start_run(softmax(), pattern, seed=7) as run:
        print_accuracy(run, small)
    (text,) = read_events(run.directory).Tensors("data/text_summary")
    assert b"stand-in digits" in text.tensor_proto.string_val[0]


def test_a_second_call_goes_on(small, pattern, capsys):
    with start_run(softmax(), pattern, seed=1) as run:
        optimize(run, small, 1, 100)
        optimize(run, small, 1, 100)
    assert "Epoch:  02" in capsys.readouterr().out
    assert list(read_curve(run.directory, "Loss").steps) == list(range(20))


def test_a_seed_repeats_the_run_and_none_does_not(small, tmp_path):
    def losses(seed):
        classifier = build_classifier(build_lenet5_dropout, tf.train.AdamOptimizer(0.001))
        with start_run(classifier, str(tmp_path / "run_%02d"), seed=seed) as run:
            return optimize(run, small, 1, 250).step_loss

    seeded = losses(3)
    assert losses(3) == seeded
    assert losses(None)[0] != losses(None)[0] != seeded[0]


def test_dropout_is_on_in_training_and_off_in_evaluation(small, pattern):
    def trained(keep_prob):
        classifier = build_classifier(build_lenet5_dropout, tf.train.GradientDescentOptimizer(0.1))
        with start_run(classifier, pattern, seed=1) as run:
            optimize(run, small, 1, 500, keep_prob)
            assert evaluate(run, small.test) == evaluate(run, small.test)
            feed = {classifier.x: small.test.images[:5]}
            first, second = (run.session.run(classifier.logits, feed) for _ in range(2))
            np.testing.assert_array_equal(first, second)
            return first

    assert not np.allclose(trained(0.5), trained(1.0))


def test_saved_and_restored_model_gives_the_same_logits(small, pattern):
    feed = small.test.images[:20]
    with start_run(build_classifier(build_lenet5, tf.train.AdamOptimizer(0.001)), pattern) as run:
        optimize(run, small, 1, 100)
        expected = run.session.run(run.classifier.logits, {run.classifier.x: feed})
        saved = save_model(run)
    with start_run(build_classifier(build_lenet5, tf.train.AdamOptimizer(0.001)), pattern) as run:
        fresh = run.session.run(run.classifier.logits, {run.classifier.x: feed})
        restore_model(run, saved)
        restored = run.session.run(run.classifier.logits, {run.classifier.x: feed})
    assert not np.allclose(fresh, expected)
    np.testing.assert_array_equal(restored, expected)


def test_restoring_what_does_not_fit_is_one_clear_error(pattern, tmp_path):
    with start_run(softmax(), pattern) as run:
        saved = save_model(run)
    with start_run(build_classifier(build_lenet5, tf.train.GradientDescentOptimizer(0.1)), pattern) as run:
        with pytest.raises(ValueError, match="another network"):
            restore_model(run, saved)
        with pytest.raises(ValueError, match="no saved model at .*nowhere"):
            restore_model(run, str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"batch_size": 0}, "batch size is 0, expected 1 to 1000"),
        ({"batch_size": 1001}, "batch size is 1001"),
        ({"epochs": -1}, "epochs is -1"),
        ({"keep_prob": 0}, "keep_prob is 0"),
        ({"checkpoint_every": 0}, "checkpoint_every is 0"),
    ],
)
def test_bad_settings_change_nothing(small, pattern, settings, message):
    with start_run(softmax(), pattern) as run:
        with pytest.raises(ValueError, match=message):
            optimize(run, small, **({"epochs": 1, "batch_size": 100} | settings))
        assert run.step == 0 and run.history.step_loss == []


def test_data_of_the_wrong_form_is_refused(small_folder, pattern, monkeypatch):
    from lenet_lab import input_data

    monkeypatch.setenv("LENET_LAB_DATA", str(small_folder))
    with start_run(softmax(), pattern) as run:
        with pytest.raises(ValueError, match="one_hot=True"):
            optimize(run, input_data.read_data_sets("unused"), 1, 100)


def test_an_empty_validation_set_is_refused_before_training(small, pattern):
    nothing = DataSet(np.zeros((0, 28, 28, 1), np.uint8), np.zeros((0, 10)))
    with start_run(softmax(), pattern) as run:
        with pytest.raises(ValueError, match="validation set is empty"):
            optimize(run, Datasets(small.train, nothing, small.test), 1, 100)
        assert run.step == 0


def test_results_are_found_again_by_their_settings(small, tmp_path):
    with start_run(softmax(), str(tmp_path / "run_%02d")) as run:
        with pytest.raises(ValueError, match="nothing to keep yet"):
            save_result(run, "softmax")
        optimize(run, small, 1, 100)
        print_accuracy(run, small)
        kept = save_result(run, "softmax")
    assert find_result(str(tmp_path), title="softmax", data="stand-in digits", epochs=1) == kept
    assert find_result(str(tmp_path), title="softmax", data="MNIST") is None
    assert "stand-in digits" in results_table([kept])


INTERRUPTED = """
import sys
from lenet_lab import *
mnist = input_data.read_data_sets("unused", one_hot=True)
classifier = build_classifier(build_softmax_regression, tf.train.GradientDescentOptimizer(0.01))
with start_run(classifier, sys.argv[1]) as run:
    try:
        optimize(run, mnist, 100000, 100)
    except KeyboardInterrupt:
        steps = run.step
        optimize(run, mnist, 1, 100)
        print("steps", steps, "then", run.step, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_an_interrupt_loses_nothing_and_the_session_goes_on(small_folder, pattern):
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, pattern],
        stdout=subprocess.PIPE, text=True, env=os.environ | {"LENET_LAB_DATA": str(small_folder)},
    )
    for line in process.stdout:
        if line.startswith("Epoch:  03"):
            break
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    steps, after = map(int, re.search(r"steps (\d+) then (\d+)", out).groups())
    assert steps >= 30 and after == steps + 10
    recorded = read_curve(pattern % 1, "Loss").steps
    assert list(recorded) == list(range(after))


@pytest.mark.parametrize(
    "build, optimizer, batch_size, more",
    [
        (build_softmax_regression, lambda: tf.train.GradientDescentOptimizer(0.01), 100, {}),
        (build_lenet5, lambda: tf.train.GradientDescentOptimizer(0.02), 101, {}),  # shares of unlike size
        (build_lenet5, lambda: tf.train.AdamOptimizer(0.001), 128, {}),
        # With all that `experiments` adds.
        (
            build_lenet5_dropout,
            lambda: AdamWithDecay(warm_up_and_cosine(0.001, 7), decay=0.1),
            128,
            {"deform": deform, "radius": 0.05},
        ),
        (build_lenet5, lambda: tf.train.MomentumOptimizer(0.01, 0.9), 7, {}),  # one share
    ],
)
def test_the_fast_loop_has_the_plain_loops_values(small, tmp_path, build, optimizer, batch_size, more):
    def trained(fast):
        classifier = build_classifier(build, optimizer(), **more)
        with start_run(classifier, str(tmp_path / "run_%02d"), seed=5) as run:
            train_epoch(run, small.train, batch_size, keep_prob=0.6, fast=fast)
            assert bool(classifier.loops) == fast
            logits = run.session.run(classifier.logits, {classifier.x: small.test.images})
            return run.history.step_loss, run.history.step_accuracy, logits

    plain, fast = trained(False), trained(True)
    # Adam divides by the root of a mean square, which enlarges the rounding of small gradients.
    np.testing.assert_allclose(fast[0], plain[0], rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(fast[1], plain[1], atol=1.01 / batch_size)
    np.testing.assert_allclose(fast[2], plain[2], atol=2e-2)


def test_events_have_the_wall_time_of_their_iteration(small, pattern):
    began = time.time()
    with start_run(softmax(), pattern) as run:
        train_epoch(run, small.train, batch_size=10)
    times = [event.wall_time for event in read_events(run.directory).Scalars("Loss")]
    assert len(times) == 100
    assert began < times[0] and times[-1] < time.time()
    assert all(earlier < later for earlier, later in zip(times, times[1:]))


def test_the_event_files_graph_is_the_labs_alone(small, pattern):
    classifier = softmax()
    with start_run(classifier, pattern) as run:
        train_epoch(run, small.train, 100)
    with start_run(classifier, pattern) as again:
        pass
    first, second = ({node.name for node in read_graph(r.directory).node} for r in (run, again))
    assert first == second and not any("loop" in name for name in first)


def test_a_network_that_mixes_images_is_trained_by_the_plain_loop(small, pattern):
    def build(x):
        with_mean = tf.concat([x, x - tf.reduce_mean(x, axis=0)], axis=1)
        tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, tf.no_op())  # as batch normalisation does
        return tf.matmul(with_mean, tf.Variable(tf.zeros([1568, 10])))

    classifier = build_classifier(build, tf.train.GradientDescentOptimizer(0.01))
    with start_run(classifier, pattern) as run:
        optimize(run, small, 1, 100)
    assert not classifier.loops and len(run.history.step_loss) == 10


def test_blocks_give_the_values_and_gradients_of_the_operations_they_stand_for():
    def plain(x, weights1, bias, weights2):
        conv1 = tf.nn.relu(tf.nn.conv2d(x, weights1, 1, "SAME") + bias)
        return tf.nn.conv2d(tf.nn.max_pool(conv1, 2, 2, "VALID"), weights2, 1, "VALID")

    def on_blocks(x, weights1, bias, weights2):
        return blocks.convolve(blocks.convolve_relu_pool(x, weights1, bias), weights2)

    rng = np.random.RandomState(0)
    shapes = [3, 28, 28, 1], [5, 5, 1, 6], [6], [5, 5, 6, 16]
    with tf.Graph().as_default(), tf.Session() as session:
        inputs = [tf.constant(rng.randn(*shape), tf.float32) for shape in shapes]
        results = []
        for function in (plain, on_blocks):
            result = function(*inputs)
            results.append([result, *tf.gradients(tf.reduce_sum(tf.sin(result)), inputs)])
        for expected, got in zip(*session.run(results)):
            np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
