"""The solutions of the exercises: a function for each answer, and what these functions share.

A function returns the rows of its exercise's table. It trains with few epochs and one seed, and it
chooses nothing on the test set: what it trains is measured on the validation images.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from scipy import stats

from lenet_lab.analysis.evaluation import measure
from lenet_lab.analysis.inference import find_mistakes, layer_activations, open_model, predict, trained_weights
from lenet_lab.analysis.layers import count_parameters
from lenet_lab.beyond.augmentation import Strength, augmented, loss_on_augmented_images
from lenet_lab.beyond.experiments import CONFIGURATIONS, accuracies, compare, per_epoch
from lenet_lab.beyond.kept import KEPT_MODEL
from lenet_lab.beyond.optimizers import warm_up_and_cosine
from lenet_lab.classifier import build_classifier
from lenet_lab.compat import tf
from lenet_lab.course.networks import (
    build_deeper,
    build_lenet5_1998,
    build_lenet5_kernel,
    build_lenet5_late_dropout,
    build_softmax_random,
)
from lenet_lab.input_data import IMAGE_SIDE, Datasets
from lenet_lab.models import build_lenet5, build_lenet5_dropout, build_softmax_regression
from lenet_lab.runs import Model, Run, start_run
from lenet_lab.training import optimize

SEED = 1

Row = dict[str, Any]  # a row of a table, from the name of its column to a value that JSON has
Results = dict[str, Any]  # what `read_experiments` returns
Builder = Callable[..., tf.Tensor]
OPTIMIZERS = {
    "gradient descent": tf.train.GradientDescentOptimizer,
    "momentum 0.9": partial(tf.train.MomentumOptimizer, momentum=0.9),
    "Adam": tf.train.AdamOptimizer,
}


# Training and measuring.


@contextmanager
def trained(
    mnist: Datasets,
    build: Builder,
    optimizer: tf.train.Optimizer,
    epochs: int,
    batch_size: int = 128,
    keep_prob: float = 1.0,
    train_loss: Callable[[tf.Tensor], tf.Tensor] | None = None,
) -> Iterator[Run]:
    """An open run that has been trained, in a temporary folder."""
    classifier = build_classifier(build, optimizer, train_loss)
    with TemporaryDirectory() as folder, start_run(classifier, f"{folder}/run_%02d", SEED) as run:
        optimize(run, mnist, epochs, batch_size, keep_prob)
        yield run


def measured(run: Run, mnist: Datasets) -> Row:
    """The columns on a run's last epoch."""
    loss, accuracy = measure(run, mnist.validation)
    return {"training loss": run.history.loss[-1], "validation loss": loss, "validation accuracy": accuracy}


def train_row(about: Row, mnist: Datasets, *training: Any, **options: Any) -> Row:
    """The row of a training: what is said about it, then what came of it. The rest is as for `trained`."""
    with trained(mnist, *training, **options) as run:
        return about | measured(run, mnist)


def shifted(images: np.ndarray, down: int, right: int) -> np.ndarray:
    """Flat images moved by whole pixels; what leaves the image is lost."""
    margin = max(abs(down), abs(right))
    padded = np.pad(images.reshape(-1, IMAGE_SIDE, IMAGE_SIDE), [(0, 0), (margin, margin), (margin, margin)])
    top, left = margin - down, margin - right
    return padded[:, top : top + IMAGE_SIDE, left : left + IMAGE_SIDE].reshape(-1, IMAGE_SIDE**2)


# Notebook 1.


def softmax_rates(mnist: Datasets, epochs: int, rates: Sequence[float]) -> list[Row]:
    """Softmax regression with several learning rates."""
    gradient_descent = tf.train.GradientDescentOptimizer
    return [
        train_row({"learning rate": rate}, mnist, build_softmax_regression, gradient_descent(rate), epochs, 100)
        for rate in rates
    ]


def unchanged_weights(mnist: Datasets, epochs: int, rate: float, deviation: float) -> list[Row]:
    """How many pixels never have ink in training, and how many pixels' ten weights training left as they were."""
    builders: dict[str, Builder] = {
        "zero": build_softmax_regression,
        "random": partial(build_softmax_random, deviation=deviation),
    }
    rows = []
    for start, build in builders.items():
        weights = []
        for length in (0, epochs):  # a run's initial weights depend on its seed alone
            with trained(mnist, build, tf.train.GradientDescentOptimizer(rate), length, 100) as run:
                weights.append(trained_weights(run)["weights"])
        rows.append({
            "weights start": start,
            "pixels": len(weights[0]),
            "without ink in all training images": int((mnist.train.images.max(axis=0) == 0).sum()),
            "ten weights unchanged": int((weights[0] == weights[1]).all(axis=1).sum()),
        })  # fmt: skip
    return rows


def batch_sizes(mnist: Datasets, epochs: int, settings: Sequence[tuple[int, float]]) -> list[Row]:
    """Softmax regression with pairs of a batch size and a learning rate."""
    return [
        train_row(
            {"batch size": size, "learning rate": rate, "steps": epochs * (mnist.train.num_examples // size)},
            mnist, build_softmax_regression, tf.train.GradientDescentOptimizer(rate), epochs, size,
        )
        for size, rate in settings
    ]  # fmt: skip


def initial_weights(mnist: Datasets, epochs: int, rate: float, deviations: Sequence[float]) -> list[Row]:
    """Softmax regression from random weights; a deviation of 0 is the lab's start at zero."""
    rows = []
    for deviation in deviations:
        build, optimizer = partial(build_softmax_random, deviation=deviation), tf.train.GradientDescentOptimizer(rate)
        with trained(mnist, build, optimizer, 0, 100) as run:
            loss, accuracy = measure(run, mnist.validation)
        before = {"deviation": deviation, "loss before": loss, "accuracy before": accuracy}
        rows.append(train_row(before, mnist, build, optimizer, epochs, 100))
    return rows


# Notebook 2.


def lenet5_rates(mnist: Datasets, epochs: int, rates: Sequence[float]) -> list[Row]:
    """LeNet-5 with gradient descent and several learning rates."""
    return compare_rates(mnist, epochs, rates, tf.train.GradientDescentOptimizer)


def compare_rates(
    mnist: Datasets, epochs: int, rates: Sequence[float], optimizer: Callable[[float], tf.train.Optimizer]
) -> list[Row]:
    """Train LeNet-5 with several learning rates, and look for networks with one answer and ReLUs that stay at zero."""
    rows = []
    for rate in rates:
        with trained(mnist, build_lenet5, optimizer(rate), epochs) as run:
            answers = predict(run, mnist.validation.images).argmax(axis=1)
            layer4 = layer_activations(run, mnist.validation.images)["layer4 ReLU"]
            rows.append({
                "learning rate": rate,
                **measured(run, mnist),
                "most frequent answer": float(np.bincount(answers).max() / len(answers)),
                "layer 4 above zero": float(np.mean(layer4 > 0)),
            })  # fmt: skip
    return rows


def kernel_sizes(mnist: Datasets, epochs: int, rate: float, sides: Sequence[int]) -> list[Row]:
    """LeNet-5 with other filter sizes."""
    builders: dict[str, Builder] = {f"{side}x{side}": partial(build_lenet5_kernel, side=side) for side in sides}
    return compare_networks(mnist, epochs, rate, builders)


def as_in_1998(mnist: Datasets, epochs: int, rate: float) -> list[Row]:
    """LeNet-5 with the functions of today and of 1998."""
    builders = {"ReLU, max pooling": build_lenet5, "tanh, trained averages": build_lenet5_1998}
    return compare_networks(mnist, epochs, rate, builders)


def deeper(mnist: Datasets, epochs: int, rate: float) -> list[Row]:
    """LeNet-5 and the network with seven layers."""
    return compare_networks(mnist, epochs, rate, {"LeNet-5": build_lenet5, "seven layers": build_deeper})


def compare_networks(mnist: Datasets, epochs: int, rate: float, builders: Mapping[str, Builder]) -> list[Row]:
    """Train several networks by gradient descent; the first epoch's loss shows how fast each leaves the plateau."""
    rows = []
    for network, build in builders.items():
        with trained(mnist, build, tf.train.GradientDescentOptimizer(rate), epochs) as run:
            about = {
                "network": network,
                "parameters": count_parameters(run.classifier.graph),
                "loss of epoch 1": run.history.loss[0],
            }
            rows.append(about | measured(run, mnist))
    return rows


# Notebook 3.


def optimizers(mnist: Datasets, epochs: int, rates: Mapping[str, float]) -> list[Row]:
    """LeNet-5 with several optimizers, each at a rate of its own."""
    rows = []
    for name, rate in rates.items():
        with trained(mnist, build_lenet5, OPTIMIZERS[name](rate), epochs) as run:
            about = {"optimizer": name, "learning rate": rate, "loss of epoch 1": run.history.loss[0]}
            rows.append(about | measured(run, mnist))
    return rows


def adam_rates(mnist: Datasets, epochs: int, rates: Sequence[float]) -> list[Row]:
    """LeNet-5 with Adam and several learning rates."""
    return compare_rates(mnist, epochs, rates, tf.train.AdamOptimizer)


def first_step(mnist: Datasets, rate: float, names: Sequence[str]) -> list[Row]:
    """How far one step of each optimizer moves the parameters of LeNet-5."""
    rows = []
    for name in names:
        with trained(mnist, build_lenet5, OPTIMIZERS[name](rate), 0) as run:
            before, c = trained_weights(run), run.classifier
            run.session.run(c.opt_step, {c.x: mnist.train.images[:128], c.y_true: mnist.train.labels[:128]})
            after = trained_weights(run)
        moved = np.concatenate([np.abs(after[variable] - before[variable]).ravel() for variable in before])
        rows.append({
            "optimizer": name,
            "median step": float(np.median(moved)),
            "longest step": float(moved.max()),
            "moved by 99% to 101% of the rate": float(np.mean(np.abs(moved / rate - 1) <= 0.01)),
            "not moved": float(np.mean(moved == 0)),
        })  # fmt: skip
    return rows


def confused_pairs(mnist: Datasets, epochs: int, pairs: int) -> list[Row]:
    """The pairs of digits that softmax regression and LeNet-5 with Adam confuse most often, in either direction."""
    compared = {
        "softmax regression": (build_softmax_regression, tf.train.GradientDescentOptimizer(0.1)),
        "LeNet-5": (build_lenet5, tf.train.AdamOptimizer(0.001)),
    }
    rows = []
    for network, (build, optimizer) in compared.items():
        with trained(mnist, build, optimizer, epochs) as run:
            mistakes = find_mistakes(run, mnist.validation)
        counted = Counter(
            zip(np.minimum(mistakes.true, mistakes.predicted), np.maximum(mistakes.true, mistakes.predicted))
        )
        for (low, high), count in sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:pairs]:
            rows.append(
                {"network": network, "mistakes": len(mistakes.index), "pair": f"{low} and {high}", "images": count}
            )
    return rows


# Notebook 4.


def keep_probs(mnist: Datasets, epochs: int, rate: float, keep: Sequence[float]) -> list[Row]:
    """LeNet-5 with several values of keep_prob; 1 is training without dropout."""
    return [
        train_row(
            {"keep_prob": keep_prob},
            mnist, build_lenet5_dropout, tf.train.AdamOptimizer(rate), epochs, keep_prob=keep_prob,
        )
        for keep_prob in keep
    ]  # fmt: skip


def dropout_places(mnist: Datasets, epochs: int, rate: float, keep: Sequence[float]) -> list[Row]:
    """LeNet-5 with dropout before layer 3, and after layers 3 and 4."""
    builders = {"before layer 3": build_lenet5_dropout, "after layers 3 and 4": build_lenet5_late_dropout}
    return [
        train_row(
            {"dropout": place, "keep_prob": keep_prob},
            mnist, build, tf.train.AdamOptimizer(rate), epochs, keep_prob=keep_prob,
        )
        for place, build in builders.items()
        for keep_prob in keep
    ]  # fmt: skip


def averaged_predictions(
    mnist: Datasets, epochs: int, rate: float, keep_prob: float, passes: Sequence[int]
) -> list[Row]:
    """The accuracy with dropout left on, averaged over several passes, and with dropout off."""
    images, true = mnist.validation.images, mnist.validation.labels.argmax(axis=1)
    rows = []
    with trained(mnist, build_lenet5_dropout, tf.train.AdamOptimizer(rate), epochs, keep_prob=keep_prob) as run:
        with run.classifier.graph.as_default():
            step = tf.train.get_global_step()
        total = np.zeros((len(images), 10))
        for number in range(1, max(passes) + 1):
            step.load(number, run.session)  # the same step would drop the same features again
            total += predict(run, images, keep_prob)
            if number in passes:
                accuracy = float(np.mean(total.argmax(axis=1) == true))
                rows.append({"dropout": "on", "passes averaged": number, "validation accuracy": accuracy})
        off = float(np.mean(predict(run, images).argmax(axis=1) == true))
    return [*rows, {"dropout": "off", "passes averaged": 1, "validation accuracy": off}]


def shifted_digits(mnist: Datasets, epochs: int, rate: float, keep_prob: float, pixels: Sequence[int]) -> list[Row]:
    """The accuracy on shifted images, the mean over four directions: the lab's network and notebook 6's."""
    with trained(mnist, build_lenet5_dropout, tf.train.AdamOptimizer(rate), epochs, keep_prob=keep_prob) as run:
        lab = [accuracy_when_shifted(run, mnist, shift) for shift in pixels]
    with open_model(KEPT_MODEL) as model:
        beyond = [accuracy_when_shifted(model, mnist, shift) for shift in pixels]
    return [
        {"shift in pixels": shift, "trained here": ours, "notebook 6's network": theirs}
        for shift, ours, theirs in zip(pixels, lab, beyond)
    ]


def accuracy_when_shifted(model: Model, mnist: Datasets, pixels: int) -> float:
    """The accuracy on the validation images moved up, down, left and right; the mean of the four."""
    true = mnist.validation.labels.argmax(axis=1)
    moves = [(-pixels, 0), (pixels, 0), (0, -pixels), (0, pixels)] if pixels else [(0, 0)]
    answers = [predict(model, shifted(mnist.validation.images, *move)).argmax(axis=1) for move in moves]
    return float(np.mean(answers == true))


# Notebook 5. These read the results of `make experiments`.


def mcnemar_by_hand(results: Results, name: str, other: str) -> list[Row]:
    """McNemar's exact test for two configurations, from the lists of misread images."""
    rows = []
    for seed, run in results["runs"][name].items():
        ours, theirs = set(run["test"]["wrong"]), set(results["runs"][other][seed]["test"]["wrong"])
        only_ours, only_theirs = len(theirs - ours), len(ours - theirs)
        p = stats.binomtest(only_ours, only_ours + only_theirs).pvalue
        rows.append({"seed": int(seed), f"only {name} right": only_ours, f"only {other} right": only_theirs, "p": p})
    return rows


def seeds_needed(results: Results, name: str, other: str) -> list[Row]:
    """Half the width of the 95% intervals for a difference, over the seeds and over the images, by number of seeds.

    Over the seeds it is Welch's interval, for as many seeds with the deviations of those that there are.
    The last row has the number of seeds that would halve it.
    """
    variances = [float(accuracies(results, key).var(ddof=1)) for key in (name, other)]
    have = len(results["runs"][name])

    def over_seeds(count: int) -> float:
        freedom = (count - 1) * sum(variances) ** 2 / sum(variance**2 for variance in variances)
        return float(stats.t.ppf(0.975, freedom)) * (sum(variances) / count) ** 0.5

    enough = next(count for count in itertools.count(have) if over_seeds(count) <= over_seeds(have) / 2)
    rows = []
    for count in (*range(2, have + 1), enough):
        row = {"seeds": count, "over the seeds": over_seeds(count)}
        if count <= have:
            runs = {key: dict(itertools.islice(results["runs"][key].items(), count)) for key in (name, other)}
            compared = compare({"runs": runs}, name, other)
            row |= {
                "over the images": (compared.high - compared.low) / 2,
                "difference of the means": compared.difference,
            }
        rows.append(row)
    return rows


def best_of_five(results: Results, names: Sequence[str]) -> list[Row]:
    """The mean test accuracy of each configuration's seeds, and that of one of them, chosen in two ways."""
    rows = []
    for name in names:
        test = accuracies(results, name)
        validation = per_epoch(results, name, "validation_accuracy")[:, -1]
        rows.append({
            "network": CONFIGURATIONS[name].title,
            "mean": float(test.mean()),
            "best on the test set": float(test.max()),
            "too high by": float(test.max() - test.mean()),
            "best on the validation set": float(test[validation.argmax()]),
        })  # fmt: skip
    return rows


def early_stopping(results: Results, names: Sequence[str]) -> list[Row]:
    """The epoch with the lowest validation loss and the last one: loss and accuracy, each the mean of the seeds."""
    rows = []
    for name in names:
        loss, accuracy = (per_epoch(results, name, f"validation_{what}") for what in ("loss", "accuracy"))
        best = loss.argmin(axis=1)
        seeds = range(len(best))
        rows.append({
            "network": CONFIGURATIONS[name].title,
            "epoch of the lowest loss": float(best.mean() + 1),
            "lowest loss": float(loss[seeds, best].mean()),
            "accuracy then": float(accuracy[seeds, best].mean()),
            "last loss": float(loss[:, -1].mean()),
            "last accuracy": float(accuracy[:, -1].mean()),
        })  # fmt: skip
    return rows


# Notebook 6.


def augmentation_strengths(mnist: Datasets, epochs: int, rate: float, factors: Sequence[float]) -> list[Row]:
    """LeNet-5 with notebook 6's schedule and its augmentation, weaker and stronger; 0 is without."""
    schedule = warm_up_and_cosine(rate, epochs * (mnist.train.num_examples // 128))
    rows = []
    for factor in factors:
        changes = {field: factor * value for field, value in Strength()._asdict().items() if field != "knots"}
        build, optimizer = augmented(build_lenet5, Strength(**changes)), tf.train.AdamOptimizer(schedule)
        rows.append(
            train_row({"strength": factor}, mnist, build, optimizer, epochs, train_loss=loss_on_augmented_images)
        )
    return rows


def vote_of_networks(results: Results, names: Sequence[str]) -> list[Row]:
    """The test accuracy of a vote of each configuration's networks. A tie counts as wrong."""
    rows = []
    for name in names:
        votes = votes_for(results, name)
        right = votes[:, 0] > votes[:, 1:].max(axis=1)
        rows.append({
            "network": CONFIGURATIONS[name].title,
            "networks": int(votes[0].sum()),
            "mean of the networks": float(accuracies(results, name).mean()),
            "vote": float(right.mean()),
        })  # fmt: skip
    return rows


def votes_for(results: Results, name: str) -> np.ndarray:
    """How many of a configuration's networks read each test image rightly, and wrongly as 0 to 9; int [images, 11]."""
    tests = [run["test"] for run in results["runs"][name].values()]
    votes = np.zeros((tests[0]["images"], 11), int)
    votes[:, 0] = len(tests)
    for test in tests:
        votes[test["wrong"], 0] -= 1
        votes[test["wrong"], np.array(test["read_as"], int) + 1] += 1
    return votes


def vote_of_shifts(mnist: Datasets, epochs: int, rate: float, pixels: Sequence[int]) -> list[Row]:
    """How many validation images are misread if probabilities are averaged over an image's shifts up to some pixels.

    By LeNet-5 with Adam, trained on the images as they are, and by notebook 6's network.
    """
    with trained(mnist, build_lenet5, tf.train.AdamOptimizer(rate), epochs) as run:
        plain = [misread_by_vote(run, mnist, reach) for reach in pixels]
    with open_model(KEPT_MODEL) as model:
        beyond = [misread_by_vote(model, mnist, reach) for reach in pixels]
    return [
        {
            "shifts up to": reach,
            "images averaged": (2 * reach + 1) ** 2,
            "misread by Adam's network": ours,
            "misread by notebook 6's": theirs,
        }
        for reach, ours, theirs in zip(pixels, plain, beyond)
    ]


def misread_by_vote(model: Model, mnist: Datasets, reach: int) -> int:
    """How many validation images a network misreads by its mean probabilities over all shifts up to `reach` pixels."""
    images, true = mnist.validation.images, mnist.validation.labels.argmax(axis=1)
    moves = itertools.product(range(-reach, reach + 1), repeat=2)
    total = np.sum([predict(model, shifted(images, down, right)) for down, right in moves], axis=0)
    return int((total.argmax(axis=1) != true).sum())


def hard_digits(results: Results, names: Sequence[str]) -> list[Row]:
    """How many test images are misread by how many of a configuration's networks, and of all networks together."""
    votes = {CONFIGURATIONS[name].title: votes_for(results, name) for name in names}
    votes["all of these"] = np.sum(list(votes.values()), axis=0)
    rows = []
    for title, counts in votes.items():
        networks = int(counts[0].sum())
        misread = networks - counts[:, 0]
        rows.append({
            "network": title,
            "networks": networks,
            "misread by at least one": int((misread > 0).sum()),
            "by exactly one": int((misread == 1).sum()),
            "by all": int((misread == networks).sum()),
            "by all as the same digit": int((counts[:, 1:].max(axis=1) == networks).sum()),
        })  # fmt: skip
    return rows
