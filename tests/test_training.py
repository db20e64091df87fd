"""Training: what a run prints, records and saves, and whether the fast loop agrees with the plain one."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import record_trainings
from victim import softmax_classifier

from lenet_lab import (
    build_classifier,
    build_lenet5,
    build_lenet5_dropout,
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
from lenet_lab.analysis.events import read_curve, read_events, read_graph
from lenet_lab.analysis.results import find_result, results_table, save_result
from lenet_lab.beyond.augmentation import augmented, loss_on_augmented_images
from lenet_lab.beyond.optimizers import AdamW, SharpnessAware, warm_up_and_cosine
from lenet_lab.fast import blocks
from lenet_lab.input_data import DataSet, Datasets
from lenet_lab.training import PLAIN, choose_loop, train_epoch

GOLDEN = json.loads((Path(__file__).parent / "golden" / "trainings.json").read_text())


@pytest.fixture
def pattern(tmp_path):
    return str(tmp_path / "run_%02d")


def test_every_iteration_records_its_loss_and_accuracy(small, pattern):
    with start_run(softmax_classifier(), pattern, seed=1) as run:
        history = optimize(run, small, epochs=3, batch_size=300)  # 3 batches; 100 images are left out
    reader = read_events(run.directory)
    assert reader.Tags()["scalars"] == ["Loss", "Accuracy"]
    for tag, values in (("Loss", history.step_loss), ("Accuracy", history.step_accuracy)):
        events = reader.Scalars(tag)
        assert [event.step for event in events] == list(range(9))
        np.testing.assert_allclose([event.value for event in events], values, rtol=1e-6)
    assert history.loss == pytest.approx(np.reshape(history.step_loss, (3, 3)).mean(axis=1))
    assert history.loss[2] < history.loss[0]


def test_the_loss_of_a_batch_is_measured_after_its_update(small, pattern):
    with start_run(softmax_classifier(), pattern, seed=1) as run:
        history = optimize(run, small, epochs=1, batch_size=1000)
        after = run.session.run(
            run.classifier.loss,
            {run.classifier.x: small.train.images, run.classifier.y_true: small.train.labels},
        )
    assert history.step_loss == [pytest.approx(float(after), rel=1e-5)]


def test_the_printed_lines_have_the_labs_format(small, pattern, capsys):
    with start_run(softmax_classifier(), pattern, seed=1) as run:
        print_accuracy(run, small)
        history = optimize(run, small, epochs=1, batch_size=100)
    lines = capsys.readouterr().out.splitlines()
    zeros = small.test.labels[:, 0].mean()  # without training, every prediction is 0
    assert lines[-3] == f"Accuracy on test-set: {zeros:.1%}"
    assert lines[-2] == f"Epoch:  01   =====> Loss = {history.loss[0]:.6f}"
    assert re.fullmatch(r"Epoch:  01   =====> Training Acc: \d+\.\d%   Validation Acc: \d+\.\d%", lines[-1])


def test_the_accuracies_after_an_epoch_are_of_the_whole_sets(small, pattern):
    with start_run(softmax_classifier(), pattern, seed=1) as run:
        history = optimize(run, small, epochs=1, batch_size=100)
        c = run.classifier
        for dataset, measured in (
            (small.train, history.train_accuracy),
            (small.validation, history.validation_accuracy),
        ):
            predicted = run.session.run(c.y_pred_cls, {c.x: dataset.images})
            assert measured == [pytest.approx((predicted == dataset.labels.argmax(axis=1)).mean())]


def test_the_event_file_holds_the_graph_and_the_traces(small, pattern):
    with start_run(softmax_classifier(), pattern) as run:
        print_accuracy(run, small)
        print_accuracy(run, small)
    reader = read_events(run.directory)
    assert sorted(reader.Tags()["run_metadata"]) == ["inference", "inference_2"]
    assert reader.RunMetadata("inference").step_stats.dev_stats  # only a FULL_TRACE has times and memory
    assert {"inputs", "labels", "weights", "bias"} <= {node.name for node in read_graph(run.directory).node}


def test_tensorboard_shows_the_name_of_the_data(small, pattern):
    with start_run(softmax_classifier(), pattern, seed=7) as run:
        print_accuracy(run, small)
    (text,) = read_events(run.directory).Tensors("data/text_summary")
    assert b"stand-in digits" in text.tensor_proto.string_val[0]


def test_a_second_call_continues_the_training(small, pattern, capsys):
    with start_run(softmax_classifier(), pattern, seed=1) as run:
        optimize(run, small, 1, 100)
        optimize(run, small, 1, 100)
    assert "Epoch:  02" in capsys.readouterr().out
    assert list(read_curve(run.directory, "Loss").steps) == list(range(20))


def test_a_seed_repeats_a_run_and_runs_without_a_seed_differ(small, tmp_path):
    def losses(seed):
        classifier = build_classifier(build_lenet5_dropout, tf.train.AdamOptimizer(0.001))
        with start_run(classifier, str(tmp_path / "run_%02d"), seed=seed) as run:
            return optimize(run, small, 1, 250).step_loss

    seeded = losses(3)
    assert losses(3) == seeded
    assert losses(None)[0] != losses(None)[0] != seeded[0]


def test_dropout_is_on_in_training_and_off_in_evaluation(small, pattern):
    def train_and_evaluate(keep_prob):
        classifier = build_classifier(build_lenet5_dropout, tf.train.GradientDescentOptimizer(0.1))
        with start_run(classifier, pattern, seed=1) as run:
            optimize(run, small, 1, 500, keep_prob)
            assert evaluate(run, small.test) == evaluate(run, small.test)
            feed = {classifier.x: small.test.images[:5]}
            first, second = (run.session.run(classifier.logits, feed) for _ in range(2))
            np.testing.assert_array_equal(first, second)
            return first

    assert not np.allclose(train_and_evaluate(0.5), train_and_evaluate(1.0))


def test_a_restored_model_gives_the_same_logits_as_the_saved_one(small, pattern):
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


def test_a_model_of_another_network_or_a_missing_one_cannot_be_restored(pattern, tmp_path):
    with start_run(softmax_classifier(), pattern) as run:
        saved = save_model(run)
    with start_run(build_classifier(build_lenet5, tf.train.GradientDescentOptimizer(0.1)), pattern) as run:
        with pytest.raises(ValueError, match="another network"):
            restore_model(run, saved)
        with pytest.raises(ValueError, match=r"no saved model at .*nowhere"):
            restore_model(run, str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"batch_size": 0}, "batch size is 0, expected 1 to 1000"),
        ({"batch_size": 1001}, "batch size is 1001"),
        ({"epochs": -1}, "epochs is -1"),
        ({"epochs": 1.5}, "epochs is 1.5, expected a whole number"),
        ({"checkpoint_every": 0.5}, "checkpoint_every is 0.5, expected a whole number"),
        ({"keep_prob": 0}, "keep_prob is 0"),
        ({"checkpoint_every": 0}, "checkpoint_every is 0"),
    ],
)
def test_invalid_settings_are_refused_before_training(small, pattern, settings, message):
    with start_run(softmax_classifier(), pattern) as run:
        with pytest.raises(ValueError, match=message):
            optimize(run, small, **({"epochs": 1, "batch_size": 100} | settings))
        assert run.step == 0 and run.history.step_loss == []


def test_labels_that_are_not_one_hot_are_refused(small_folder, pattern, monkeypatch):
    monkeypatch.setenv("LENET_LAB_DATA", str(small_folder))
    with start_run(softmax_classifier(), pattern) as run:
        with pytest.raises(ValueError, match="one_hot=True"):
            optimize(run, input_data.read_data_sets("unused"), 1, 100)


def test_an_empty_validation_set_is_refused_before_training(small, pattern):
    empty = DataSet(np.zeros((0, 28, 28, 1), np.uint8), np.zeros((0, 10)))
    with start_run(softmax_classifier(), pattern) as run:
        with pytest.raises(ValueError, match="validation set is empty"):
            optimize(run, Datasets(small.train, empty, small.test), 1, 100)
        assert run.step == 0


def test_a_saved_result_is_found_by_its_fields(small, tmp_path):
    with start_run(softmax_classifier(), str(tmp_path / "run_%02d")) as run:
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
def test_an_interrupted_training_keeps_every_step_and_can_be_continued(small_folder, pattern):
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, pattern],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"LENET_LAB_DATA": str(small_folder)},
    )
    assert any(line.startswith("Epoch:  03") for line in process.stdout)
    time.sleep(0.05)  # into the next epoch
    process.send_signal(signal.SIGINT)
    out = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    steps, after = map(int, re.search(r"steps (\d+) then (\d+)", out).groups())
    assert steps >= 30 and after == steps + 10
    recorded = read_curve(pattern % 1, "Loss").steps
    assert list(recorded) == list(range(after))


@pytest.mark.parametrize(
    "build, optimizer, batch_size, train_loss",
    [
        (build_softmax_regression, lambda: tf.train.GradientDescentOptimizer(0.01), 100, None),
        (build_lenet5, lambda: tf.train.GradientDescentOptimizer(0.02), 101, None),  # shards of different sizes
        (build_lenet5, lambda: tf.train.AdamOptimizer(0.001), 128, None),
        # All that the experiments add.
        (
            augmented(build_lenet5_dropout),
            lambda: SharpnessAware(AdamW(warm_up_and_cosine(0.001, 7), weight_decay=0.1), rho=0.05),
            128,
            loss_on_augmented_images,
        ),
        (build_lenet5, lambda: tf.train.MomentumOptimizer(0.01, 0.9), 7, None),  # one shard
    ],
)
def test_the_fast_loop_computes_the_values_of_the_plain_loop(small, tmp_path, build, optimizer, batch_size, train_loss):
    def train(fast):
        classifier = build_classifier(build, optimizer(), train_loss)
        with start_run(classifier, str(tmp_path / "run_%02d"), seed=5) as run:
            loop = choose_loop(run, small.train, batch_size, fast)
            assert (loop is not PLAIN) == fast
            train_epoch(run, small.train, batch_size, 0.6, loop)
            logits = run.session.run(classifier.logits, {classifier.x: small.test.images})
            return run.history.step_loss, run.history.step_accuracy, logits

    plain, fast = train(False), train(True)
    # Adam divides by the root of a mean square, which magnifies the rounding errors of small gradients.
    np.testing.assert_allclose(fast[0], plain[0], rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(fast[1], plain[1], atol=1.01 / batch_size)
    np.testing.assert_allclose(fast[2], plain[2], atol=2e-2)


@pytest.mark.parametrize("fast", [True, False])
def test_events_have_the_times_of_their_iterations(small, pattern, fast):
    began = time.time()
    with start_run(softmax_classifier(), pattern) as run:
        train_epoch(run, small.train, 10, 1.0, choose_loop(run, small.train, 10, fast))
    times = [event.wall_time for event in read_events(run.directory).Scalars("Loss")]
    assert len(times) == 100
    assert began < times[0] and times[-1] < time.time()
    assert all(earlier < later for earlier, later in itertools.pairwise(times))


def test_the_graph_in_the_event_file_does_not_show_the_fast_loop(small, pattern):
    classifier = softmax_classifier()
    with start_run(classifier, pattern) as run:
        optimize(run, small, 1, 100)
    assert any("loop" in op.name for op in classifier.graph.get_operations())
    with start_run(classifier, pattern) as again:
        pass
    first, second = ({node.name for node in read_graph(r.directory).node} for r in (run, again))
    assert first == second and not any("loop" in name for name in first)


def test_the_plain_loop_adds_nothing_to_the_graph(small, pattern):
    classifier = softmax_classifier()
    before = len(classifier.graph.get_operations())
    with start_run(classifier, pattern) as run:
        optimize(run, small, 1, 100, fast=False)
        evaluate(run, small.test)
    assert len(classifier.graph.get_operations()) == before


def test_both_loops_write_the_same_events(small, pattern):
    def events(fast):
        with start_run(softmax_classifier(), pattern, seed=1) as run:
            optimize(run, small, 1, 100, fast=fast)
        return read_events(run.directory).Tags(), read_curve(run.directory, "Loss")

    (plain_tags, plain), (fast_tags, fast) = events(False), events(True)
    assert fast_tags == plain_tags
    assert list(fast.steps) == list(plain.steps) == list(range(10))
    np.testing.assert_allclose(fast.values, plain.values, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("fast", [True, False], ids=["fast", "plain"])
def test_every_kind_of_training_has_the_recorded_losses(tmp_path, fast):
    for training in record_trainings.trainings():
        losses = record_trainings.step_losses(training, fast, str(tmp_path))
        recorded = GOLDEN[record_trainings.golden_key(training, fast)]
        # Other processors round differently, and Adam magnifies the difference.
        np.testing.assert_allclose(losses, recorded, rtol=2e-4, err_msg=training.name)


def test_blocks_have_the_values_and_gradients_of_the_operations_they_replace():
    def plain(x, weights1, bias, weights2):
        conv1 = tf.nn.relu(tf.nn.conv2d(x, weights1, 1, "SAME") + bias)
        return tf.nn.conv2d(tf.nn.max_pool(conv1, 2, 2, "VALID"), weights2, 1, "VALID")

    def with_blocks(x, weights1, bias, weights2):
        return blocks.convolve(blocks.convolve_relu_pool(x, weights1, bias), weights2)

    rng = np.random.RandomState(0)
    shapes = [3, 28, 28, 1], [5, 5, 1, 6], [6], [5, 5, 6, 16]
    with tf.Graph().as_default(), tf.Session() as session:
        inputs = [tf.constant(rng.randn(*shape), tf.float32) for shape in shapes]
        results = []
        for function in (plain, with_blocks):
            result = function(*inputs)
            results.append([result, *tf.gradients(tf.reduce_sum(tf.sin(result)), inputs)])
        for expected, actual in zip(*session.run(results)):
            np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
