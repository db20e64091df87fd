"""Trainings with seeds: what deforms and paces them, the sweep that goes on, the tests of their differences."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from lenet_lab import experiments, tf
from lenet_lab.deform import Strength, deform, deform_images
from lenet_lab.experiments import (
    CONFIGURATIONS,
    Configuration,
    compare,
    keep_best,
    read_experiments,
    run_experiments,
)
from lenet_lab.inference import mistakes_among, predict
from lenet_lab.models import count_parameters
from lenet_lab.optimizers import AdamWithDecay, rates_of, sharpness_aware, warm_up_and_cosine
from lenet_lab.predict import open_model, told_of
from lenet_lab.runs import saved_shapes

STILL = Strength(rotation=0, shear=0, scale=0, shift=0, bend=0)


@pytest.fixture
def bar():
    """An upright bar through the centre, 4 pixels wide and 20 tall."""
    image = np.zeros((28, 28), np.float32)
    image[4:24, 12:16] = 1
    return image


def centre_and_slope(image):
    """Centre of mass (row, column), and by how many columns a row moves the ink."""
    image = image.reshape(28, 28)
    rows, columns = np.mgrid[:28, :28]
    centre = np.array([(image * rows).sum(), (image * columns).sum()]) / image.sum()
    rows, columns = rows - centre[0], columns - centre[1]
    return centre, (image * rows * columns).sum() / (image * rows**2).sum()


def test_without_strength_an_image_stays_as_it_is(small):
    np.testing.assert_array_equal(deform_images(small.test.images[:20], STILL), small.test.images[:20])


@pytest.mark.parametrize(
    "strength, most_shift, most_slope",
    [
        (STILL._replace(shift=3), 3, 0),
        (STILL._replace(rotation=20), 0, 0.364),  # the tangent of 20 degrees
        (STILL._replace(shear=0.3), 0, 0.3),
    ],
)
def test_each_deformation_does_what_it_is_called_and_no_more(bar, strength, most_shift, most_slope):
    images = deform_images(np.tile(bar.ravel(), (300, 1)), strength)
    measured = [centre_and_slope(image) for image in images]
    shifts = np.abs([centre - 13.5 for centre, _ in measured]).max()
    slopes = np.abs([slope for _, slope in measured]).max()
    assert 0.7 * most_shift <= shifts <= most_shift + 0.01
    assert 0.7 * most_slope <= slopes <= 1.05 * most_slope + 0.001


def test_scaling_keeps_the_proportion_of_ink(bar):
    images = deform_images(np.tile(bar.ravel(), (300, 1)), STILL._replace(scale=0.2))
    ink = images.sum(axis=1) / bar.sum()
    assert 1 / 1.2**2 - 0.05 <= ink.min() < 0.85 and 1.2 < ink.max() <= 1 / 0.8**2 + 0.05


def test_every_image_and_every_step_is_deformed_in_its_own_way(small):
    images = np.tile(small.test.images[0], (50, 1))
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, 784])
        deformed = deform(x)
        next_step = tf.assign_add(tf.train.get_global_step(), 1)
        session.run(tf.global_variables_initializer())
        first, again = (session.run(deformed, {x: images}) for _ in range(2))
        session.run(next_step)
        second = session.run(deformed, {x: images})
    np.testing.assert_array_equal(first, again)
    assert len({image.tobytes() for image in [*first, *second]}) == 100
    assert first.min() >= 0 and first.max() <= 1
    np.testing.assert_array_equal(deform_images(images, seed=3), deform_images(images, seed=3))
    assert (deform_images(images, seed=3) != deform_images(images, seed=4)).any()


def test_the_rate_rises_and_falls():
    rates = rates_of(warm_up_and_cosine(0.01, steps=100, warm_up=0.1), steps=101)
    assert rates[0] == pytest.approx(0.001) and rates[-1] == pytest.approx(0, abs=1e-9)
    assert np.argmax(rates) in (9, 10) and max(rates) == pytest.approx(0.01)
    assert (np.diff(rates[:10]) > 0).all() and (np.diff(rates[10:]) < 0).all()
    assert rates[55] == pytest.approx(0.005)  # halfway down


@pytest.mark.parametrize("rate", [0.01, lambda: tf.constant(0.01)])
def test_decay_shrinks_weights_by_its_share_of_the_rate_and_no_bias(rate):
    def after_a_step(optimizer):
        with tf.Graph().as_default(), tf.Session() as session:
            weights, bias = tf.Variable([[3.0], [-4.0]]), tf.Variable([5.0])
            step = optimizer.minimize(tf.reduce_sum(weights**2) + tf.reduce_sum(bias**2))
            session.run(tf.global_variables_initializer())
            session.run(step)
            return session.run([weights, bias])

    decayed, plain = after_a_step(AdamWithDecay(rate, decay=0.5)), after_a_step(tf.train.AdamOptimizer(0.01))
    np.testing.assert_allclose(decayed[0], plain[0] - 0.01 * 0.5 * np.array([[3.0], [-4.0]]), rtol=1e-6)
    np.testing.assert_array_equal(decayed[1], plain[1])


def test_a_sharpness_aware_step_takes_the_gradient_uphill():
    with tf.Graph().as_default(), tf.Session() as session:
        variable = tf.Variable([3.0, 4.0])
        loss = tf.reduce_sum([1.0, 2.0] * variable**2) / 2
        climb, step = sharpness_aware(tf.train.GradientDescentOptimizer(0.1), loss, radius=0.5, global_step=None)
        session.run(tf.global_variables_initializer())
        start, curvature = np.array([3.0, 4.0]), np.array([1.0, 2.0])
        above = start + 0.5 * curvature * start / np.linalg.norm(curvature * start)
        session.run(climb)
        np.testing.assert_allclose(session.run(variable), above, rtol=1e-6)
        session.run(step)
        np.testing.assert_allclose(session.run(variable), start - 0.1 * curvature * above, rtol=1e-6)


def test_every_lenet_of_the_experiments_has_61706_parameters():
    for name, configuration in CONFIGURATIONS.items():
        parameters = count_parameters(configuration.classifier(examples=1000).graph)
        assert parameters == (7_850 if name == "softmax" else 61_706)


QUICK = {
    "quick": Configuration("quick", CONFIGURATIONS["softmax"].build, tf.train.GradientDescentOptimizer, epochs=2),
    "dropped": CONFIGURATIONS["dropout"]._replace(epochs=1),
}


def test_a_sweep_goes_on_and_its_file_has_all(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(experiments, "CONFIGURATIONS", QUICK)
    file, logs = tmp_path / "new" / "results.json", str(tmp_path / "logs")
    first = run_experiments(["quick"], [1], small, file, logs)
    before = first["runs"]["quick"]["1"]
    results = run_experiments(["quick", "dropped"], [1, 2], small, file, logs)
    assert results == read_experiments(file) and results["data"] == "stand-in digits"
    assert results["runs"]["quick"]["1"] == before  # not trained again
    assert capsys.readouterr().out.count("== quick, seed") == 2
    for run in results["runs"]["dropped"].values():
        assert run["test"]["accuracy"] == 1 - len(run["test"]["wrong"]) / 500
        assert run["test_with_dropout"]["wrong"] != run["test"]["wrong"]
        assert len(run["loss"]) == len(run["validation_accuracy"]) == run["epochs"] == 1
    assert experiments.per_epoch(results, "dropped", "validation_loss").shape == (2, 1)
    assert len(experiments.accuracy_table(results, []).splitlines()) == 2  # of none, the heading alone
    table = experiments.accuracy_table(results).splitlines()
    assert [line.split("|")[1].strip() for line in table[2:]] == [
        "quick", "LeNet-5, Adam, dropout", "LeNet-5, Adam, dropout, dropout left on in the test"
    ]  # fmt: skip
    untimed = experiments.accuracy_table(results, times=False).splitlines()
    assert [line.split("|")[:5] for line in untimed[::2]] == [line.split("|")[:5] for line in table[::2]]
    assert "time" in table[0] and "time" not in untimed[0]


def test_the_best_network_on_the_validation_set_is_kept_and_nothing_else_of_it(small, tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "CONFIGURATIONS", QUICK)
    results = run_experiments(["dropped"], [1, 2], small, tmp_path / "results.json", str(tmp_path / "logs"))
    runs = results["runs"]["dropped"]
    told = keep_best(results, "dropped", tmp_path / "kept")
    assert told["validation_accuracy"] == max(run["validation_accuracy"][-1] for run in runs.values())
    assert told == told_of(tmp_path / "kept" / "model.ckpt") and told["data"] == "stand-in digits"
    with open_model(tmp_path / "kept" / "model.ckpt") as run:
        mistakes = mistakes_among(small.test, predict(run, small.test.images))
    assert sorted(mistakes.index) == sorted(runs[str(told["seed"])]["test"]["wrong"])
    shapes = saved_shapes(str(tmp_path / "kept" / "model.ckpt"))
    with pytest.raises(ValueError, match="nothing to keep of 'adam'; there are runs of dropped"):
        keep_best(results, "adam", tmp_path / "kept")
    assert len(shapes) == 10 and sum(np.prod(shape) for shape in shapes.values()) == 61_706


def test_a_sweep_refuses_what_it_does_not_know(small, tmp_path):
    with pytest.raises(ValueError, match="no configuration 'nonsense'; there are softmax, "):
        run_experiments(["nonsense"], [1], small, tmp_path / "r.json", str(tmp_path))
    (tmp_path / "r.json").write_text(json.dumps({"data": "MNIST", "runs": {}}))
    with pytest.raises(ValueError, match="on MNIST, not on stand-in digits"):
        run_experiments([], [1], small, tmp_path / "r.json", str(tmp_path))


SWEEP = """
import sys
from lenet_lab import experiments, input_data
experiments.CONFIGURATIONS = {"quick": experiments.CONFIGURATIONS["softmax"]._replace(epochs=400)}
experiments.run_experiments(["quick"], [1], input_data.read_data_sets("unused", one_hot=True), sys.argv[1], sys.argv[2])
"""


def test_a_killed_sweep_goes_on_in_the_same_run(small_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("LENET_LAB_DATA", str(small_folder))
    command = [sys.executable, "-c", SWEEP, str(tmp_path / "results.json"), str(tmp_path / "logs")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    for line in process.stdout:
        if line.startswith("Epoch:  08"):
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    first = next(line for line in process.stdout if line.startswith("Epoch: "))
    process.kill()
    process.communicate()
    assert int(first.split()[1]) in (6, 11), "one after a checkpoint"
    assert len(list((tmp_path / "logs").iterdir())) == 1


def test_differences_are_tested_exactly(monkeypatch):
    def run(wrong):
        return {"test": {"images": 1000, "wrong": wrong, "accuracy": 1 - len(wrong) / 1000}}

    results = {"runs": {
        "a": {"1": run(list(range(0, 10))), "2": run([])},
        "b": {"1": run(list(range(5, 35))), "2": run([])},
    }}  # fmt: skip
    compared = compare(results, "a", "b")
    assert compared.difference == pytest.approx(0.010)  # 10 and 0 wrong against 30 and 0, of 1000
    # Of the 30 images that only one of the two read rightly, 25 were read by a.
    assert compared.p_values == (pytest.approx(stats.binom.cdf(5, 30, 0.5) * 2), 1.0)
    spread = 1.96 * np.std(np.r_[np.full(25, 0.5), np.full(5, -0.5), np.zeros(970)]) / 1000**0.5
    assert compared.low == pytest.approx(0.010 - spread, abs=0.001)
    assert compared.high == pytest.approx(0.010 + spread, abs=0.001)
    monkeypatch.setattr(experiments, "CONFIGURATIONS", {name: Configuration(name.upper()) for name in "ab"})
    row = experiments.comparison_table(results, [("a", "b")]).splitlines()[2]
    assert row.startswith("| A      | B    | +1.00% | +") and row.endswith("| 0.00032 1                      |")
