"""Beyond the lab: augmentation, optimizers, sweeps that can be resumed, and comparisons of their results."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from lenet_lab import count_parameters, tf
from lenet_lab.analysis.inference import mistakes_among, open_model, predict
from lenet_lab.analysis.results import describe_model
from lenet_lab.beyond import experiments, kept
from lenet_lab.beyond.augmentation import Strength, augment, augment_images
from lenet_lab.beyond.experiments import CONFIGURATIONS, Configuration, compare, read_experiments, run_experiments
from lenet_lab.beyond.kept import keep_best
from lenet_lab.beyond.optimizers import AdamW, SharpnessAware, rates_of, warm_up_and_cosine
from lenet_lab.checkpoints import saved_shapes
from lenet_lab.compat import learning_rate

UNCHANGED = Strength(rotation=0, shear=0, scale=0, shift=0, elastic=0)


@pytest.fixture
def bar():
    """An upright bar through the centre, 4 pixels wide and 20 tall."""
    image = np.zeros((28, 28), np.float32)
    image[4:24, 12:16] = 1
    return image


def centre_and_slope(image):
    """The centre of mass (row, column), and how many columns the ink moves from one row to the next."""
    image = image.reshape(28, 28)
    rows, columns = np.mgrid[:28, :28]
    centre = np.array([(image * rows).sum(), (image * columns).sum()]) / image.sum()
    rows, columns = rows - centre[0], columns - centre[1]
    return centre, (image * rows * columns).sum() / (image * rows**2).sum()


def test_augmentation_of_strength_zero_changes_nothing(small):
    np.testing.assert_array_equal(augment_images(small.test.images[:20], UNCHANGED), small.test.images[:20])


@pytest.mark.parametrize(
    "strength, largest_shift, largest_slope",
    [
        (UNCHANGED._replace(shift=3), 3, 0),
        (UNCHANGED._replace(rotation=20), 0, 0.364),  # the tangent of 20 degrees
        (UNCHANGED._replace(shear=0.3), 0, 0.3),
    ],
)
def test_each_kind_of_augmentation_stays_within_its_strength(bar, strength, largest_shift, largest_slope):
    images = augment_images(np.tile(bar.ravel(), (300, 1)), strength)
    measured = [centre_and_slope(image) for image in images]
    shifts = np.abs([centre - 13.5 for centre, _ in measured]).max()
    slopes = np.abs([slope for _, slope in measured]).max()
    assert 0.7 * largest_shift <= shifts <= largest_shift + 0.01
    assert 0.7 * largest_slope <= slopes <= 1.05 * largest_slope + 0.001


def test_scaling_changes_the_area_within_its_strength(bar):
    images = augment_images(np.tile(bar.ravel(), (300, 1)), UNCHANGED._replace(scale=0.2))
    ink = images.sum(axis=1) / bar.sum()
    assert 1 / 1.2**2 - 0.05 <= ink.min() < 0.85 and 1.2 < ink.max() <= 1 / 0.8**2 + 0.05


def test_augmentation_differs_for_each_image_and_step_and_repeats_with_its_seed(small):
    images = np.tile(small.test.images[0], (50, 1))
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, 784])
        augmented_x = augment(x)
        next_step = tf.assign_add(tf.train.get_global_step(), 1)
        session.run(tf.global_variables_initializer())
        first, again = (session.run(augmented_x, {x: images}) for _ in range(2))
        session.run(next_step)
        second = session.run(augmented_x, {x: images})
    np.testing.assert_array_equal(first, again)
    assert len({image.tobytes() for image in [*first, *second]}) == 100
    assert first.min() >= 0 and first.max() <= 1
    np.testing.assert_array_equal(augment_images(images, seed=3), augment_images(images, seed=3))
    assert (augment_images(images, seed=3) != augment_images(images, seed=4)).any()


def test_the_learning_rate_rises_linearly_and_falls_along_a_cosine():
    rates = rates_of(warm_up_and_cosine(0.01, steps=100, warm_up=0.1), steps=101)
    assert rates[0] == pytest.approx(0.001) and rates[-1] == pytest.approx(0, abs=1e-9)
    assert np.argmax(rates) in (9, 10) and max(rates) == pytest.approx(0.01)
    assert (np.diff(rates[:10]) > 0).all() and (np.diff(rates[10:]) < 0).all()
    assert rates[4] == pytest.approx(0.005)  # halfway up
    assert rates[55] == pytest.approx(0.005)  # halfway down


@pytest.mark.parametrize("rate", [0.01, lambda: tf.constant(0.01)])
def test_adamw_shrinks_weights_by_rate_times_decay_and_leaves_biases_alone(rate):
    def after_a_step(optimizer):
        with tf.Graph().as_default(), tf.Session() as session:
            weights, bias = tf.Variable([[3.0], [-4.0]]), tf.Variable([5.0])
            step = optimizer.minimize(tf.reduce_sum(weights**2) + tf.reduce_sum(bias**2))
            session.run(tf.global_variables_initializer())
            session.run(step)
            return session.run([weights, bias])

    decayed, plain = after_a_step(AdamW(rate, weight_decay=0.5)), after_a_step(tf.train.AdamOptimizer(0.01))
    np.testing.assert_allclose(decayed[0], plain[0] - 0.01 * 0.5 * np.array([[3.0], [-4.0]]), rtol=1e-6)
    np.testing.assert_array_equal(decayed[1], plain[1])


def test_a_sharpness_aware_step_takes_the_gradient_at_the_perturbed_weights():
    with tf.Graph().as_default(), tf.Session() as session:
        variable = tf.Variable([3.0, 4.0])
        loss = tf.reduce_sum([1.0, 2.0] * variable**2) / 2
        step = SharpnessAware(tf.train.GradientDescentOptimizer(0.1), rho=0.5).minimize(loss)
        session.run(tf.global_variables_initializer())
        start, curvature = np.array([3.0, 4.0]), np.array([1.0, 2.0])
        perturbed = start + 0.5 * curvature * start / np.linalg.norm(curvature * start)
        session.run(step)
        np.testing.assert_allclose(session.run(variable), start - 0.1 * curvature * perturbed, rtol=1e-6)


def test_no_configuration_changes_the_number_of_parameters():
    for name, configuration in CONFIGURATIONS.items():
        parameters = count_parameters(configuration.classifier(examples=1000).graph)
        assert parameters == (7_850 if name == "softmax" else 61_706)


QUICK = {
    "quick": Configuration("quick", CONFIGURATIONS["softmax"].build, tf.train.GradientDescentOptimizer, epochs=2),
    "dropout": CONFIGURATIONS["dropout"]._replace(epochs=1),
}


@pytest.mark.slow
def test_a_sweep_trains_what_its_file_lacks_and_its_file_holds_every_result(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(experiments, "CONFIGURATIONS", QUICK)
    file, logs = tmp_path / "new" / "results.json", str(tmp_path / "logs")
    first = run_experiments(["quick"], [1], small, file, logs)
    before = first["runs"]["quick"]["1"]
    results = run_experiments(["quick", "dropout"], [1, 2], small, file, logs)
    assert results == read_experiments(file) and results["data"] == "stand-in digits"
    assert results["runs"]["quick"]["1"] == before
    assert capsys.readouterr().out.count("== quick, seed") == 2  # seed 1 was not trained again
    for run in results["runs"]["dropout"].values():
        assert run["test"]["accuracy"] == 1 - len(run["test"]["wrong"]) / 500
        assert run["test_with_dropout"]["wrong"] != run["test"]["wrong"]
        assert len(run["loss"]) == len(run["validation_accuracy"]) == run["epochs"] == 1
    assert experiments.per_epoch(results, "dropout", "validation_loss").shape == (2, 1)
    assert len(experiments.accuracy_table(results, []).splitlines()) == 2  # only the heading
    table = experiments.accuracy_table(results).splitlines()
    assert [line.split("|")[1].strip() for line in table[2:]] == [
        "quick", "LeNet-5, Adam, dropout", "LeNet-5, Adam, dropout, dropout left on in the test"
    ]  # fmt: skip
    untimed = experiments.accuracy_table(results, times=False).splitlines()
    assert [line.split("|")[:5] for line in untimed[::2]] == [line.split("|")[:5] for line in table[::2]]
    assert "time" in table[0] and "time" not in untimed[0]


def test_the_best_network_on_the_validation_set_is_kept_without_the_optimizers_variables(small, tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "CONFIGURATIONS", QUICK)
    monkeypatch.setattr(kept, "CONFIGURATIONS", QUICK)
    results = run_experiments(["dropout"], [1, 2], small, tmp_path / "results.json", str(tmp_path / "logs"))
    runs = results["runs"]["dropout"]
    about = keep_best(results, "dropout", tmp_path / "kept")
    assert about["validation_accuracy"] == max(run["validation_accuracy"][-1] for run in runs.values())
    assert about == describe_model(tmp_path / "kept" / "model.ckpt") and about["data"] == "stand-in digits"
    with open_model(tmp_path / "kept" / "model.ckpt") as run:
        mistakes = mistakes_among(small.test, predict(run, small.test.images))
    assert sorted(mistakes.index) == sorted(runs[str(about["seed"])]["test"]["wrong"])
    shapes = saved_shapes(str(tmp_path / "kept" / "model.ckpt"))
    assert len(shapes) == 10 and sum(np.prod(shape) for shape in shapes.values()) == 61_706
    with pytest.raises(ValueError, match="no run of 'adam' to keep; there are runs of dropout"):
        keep_best(results, "adam", tmp_path / "kept")


def test_a_sweep_refuses_unknown_configurations_no_seeds_and_results_on_other_data(small, tmp_path):
    with pytest.raises(ValueError, match="no configuration 'nonsense'; choose from softmax, "):
        run_experiments(["nonsense"], [1], small, tmp_path / "r.json", str(tmp_path))
    with pytest.raises(ValueError, match="no seeds"):
        run_experiments(["softmax"], [], small, tmp_path / "r.json", str(tmp_path))
    (tmp_path / "r.json").write_text(json.dumps({"data": "MNIST", "runs": {}}))
    with pytest.raises(ValueError, match="on MNIST, not on stand-in digits"):
        run_experiments([], [1], small, tmp_path / "r.json", str(tmp_path))


SWEEP = """
import sys
from lenet_lab import input_data
from lenet_lab.beyond import experiments
experiments.CONFIGURATIONS = {"quick": experiments.CONFIGURATIONS["softmax"]._replace(epochs=400)}
experiments.run_experiments(["quick"], [1], input_data.read_data_sets("unused", one_hot=True), sys.argv[1], sys.argv[2])
"""


@pytest.mark.slow
def test_a_killed_sweep_resumes_its_run_at_the_last_checkpoint(small_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("LENET_LAB_DATA", str(small_folder))
    command = [sys.executable, "-c", SWEEP, str(tmp_path / "results.json"), str(tmp_path / "logs")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert any(line.startswith("Epoch:  08") for line in process.stdout)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    first = next(line for line in process.stdout if line.startswith("Epoch: "))
    process.kill()
    process.communicate()
    assert int(first.split()[1]) in (6, 11)  # the epoch after a checkpoint
    assert len(list((tmp_path / "logs").iterdir())) == 1


def test_configurations_without_a_common_seed_cannot_be_compared():
    run = {"test": {"images": 10, "wrong": [], "accuracy": 1.0}}
    with pytest.raises(ValueError, match="a and b have no seed in common"):
        compare({"runs": {"a": {"1": run}, "b": {"2": run}}}, "a", "b")


def test_sharpness_aware_has_the_learning_rate_and_the_name_of_its_optimizer():
    assert learning_rate(SharpnessAware(tf.train.AdamOptimizer(0.001), 0.05)) == 0.001
    assert learning_rate(SharpnessAware(tf.train.AdamOptimizer(warm_up_and_cosine(0.1, 10)), 0.05)) is None
    assert SharpnessAware(tf.train.AdamOptimizer(0.001), 0.05).get_name() == "SharpnessAwareAdam"


def test_a_comparison_has_the_exact_p_values_and_a_bootstrap_interval(monkeypatch):
    def run(wrong):
        return {"test": {"images": 1000, "wrong": wrong, "accuracy": 1 - len(wrong) / 1000}}

    results = {"runs": {
        "a": {"1": run(list(range(10))), "2": run([])},
        "b": {"1": run(list(range(5, 35))), "2": run([])},
    }}  # fmt: skip
    compared = compare(results, "a", "b")
    assert compared.difference == pytest.approx(0.010)  # with seed 1, 10 mistakes in 1000 images against 30
    # With seed 1, only one of the two read 30 of the images correctly: a 25 of them, b the other 5.
    assert compared.p_values == (pytest.approx(stats.binom.cdf(5, 30, 0.5) * 2), 1.0)
    spread = 1.96 * np.std(np.r_[np.full(25, 0.5), np.full(5, -0.5), np.zeros(970)]) / 1000**0.5
    assert compared.low == pytest.approx(0.010 - spread, abs=0.001)
    assert compared.high == pytest.approx(0.010 + spread, abs=0.001)
    monkeypatch.setattr(experiments, "CONFIGURATIONS", {name: Configuration(name.upper()) for name in "ab"})
    row = experiments.comparison_table(results, [("a", "b")]).splitlines()[2]
    assert row.startswith("| A      | B    | +1.00% | +") and row.endswith("| 0.00032 1                      |")
