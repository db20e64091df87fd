"""Experiments: configurations, a sweep that trains them with several seeds, and tables of its results."""

import json
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from lenet_lab.analysis.inference import mistakes_among, predict
from lenet_lab.analysis.layers import count_parameters
from lenet_lab.analysis.tables import markdown_table
from lenet_lab.beyond.augmentation import Strength, augmented, loss_on_augmented_images
from lenet_lab.beyond.optimizers import AdamW, SharpnessAware, warm_up_and_cosine
from lenet_lab.checkpoints import resume_or_start, save_model
from lenet_lab.classifier import Classifier, build_classifier
from lenet_lab.compat import cores, tf
from lenet_lab.input_data import DataSet, Datasets
from lenet_lab.models import build_lenet5, build_lenet5_dropout, build_softmax_regression
from lenet_lab.paths import EXPERIMENTS, LabError, whole_file, whole_number
from lenet_lab.runs import Run
from lenet_lab.training import optimize

RESULTS = "logs/experiments/results.json"
LOGS = "logs/experiments"
CHECKPOINT_EVERY = 5
# The two ways to test a network, and what a table adds to its title.
MEASURED = {"test": "", "test_with_dropout": ", dropout left on in the test"}


class Configuration(NamedTuple):
    """The settings of a training. The defaults are those of the lab's LeNet-5 with Adam."""

    title: str
    build: Callable[..., tf.Tensor] = build_lenet5
    optimizer: Callable[..., tf.train.Optimizer] = tf.train.AdamOptimizer
    rate: float = 0.001
    scheduled: bool = False  # whether the rate follows `optimizers.warm_up_and_cosine`; `rate` is its maximum
    epochs: int = 40
    batch_size: int = 128
    keep_prob: float = 1.0  # in training
    augmentation: Strength | None = None  # None to train on the images as they are
    rho: float = 0.0  # of `optimizers.SharpnessAware`; 0 to train without it

    def classifier(self, examples: int) -> Classifier:
        """Build the classifier, in a new graph, for a training set with this number of examples."""
        rate: Any = self.rate
        if self.scheduled:
            rate = warm_up_and_cosine(self.rate, self.epochs * (examples // self.batch_size))
        optimizer = self.optimizer(rate)
        if self.rho:
            optimizer = SharpnessAware(optimizer, self.rho)
        if self.augmentation is None:
            return build_classifier(self.build, optimizer)
        return build_classifier(augmented(self.build, self.augmentation), optimizer, loss_on_augmented_images)


AFFINE, ELASTIC = Strength(elastic=0.0), Strength()
GRADIENT_DESCENT = tf.train.GradientDescentOptimizer
SCHEDULED = Configuration("LeNet-5, Adam, schedule", rate=0.003, scheduled=True)
DECAYED = SCHEDULED._replace(
    title="LeNet-5, Adam, schedule, affine, elastic, decay",
    augmentation=ELASTIC,
    optimizer=partial(AdamW, weight_decay=0.1),
)
SHARPNESS_AWARE = DECAYED._replace(title=f"{DECAYED.title}, sharpness-aware", rho=0.05)
CONFIGURATIONS = {
    "softmax": Configuration(
        "softmax regression", build_softmax_regression, GRADIENT_DESCENT, 0.01, epochs=50, batch_size=100
    ),
    "gradient_descent": Configuration("LeNet-5, gradient descent", optimizer=GRADIENT_DESCENT),
    "adam": Configuration("LeNet-5, Adam"),
    "dropout": Configuration("LeNet-5, Adam, dropout", build_lenet5_dropout, keep_prob=0.75),
    "keep_prob_25": Configuration("LeNet-5, Adam, keep_prob 0.25", build_lenet5_dropout, keep_prob=0.25),
    # Beyond the lab. Each adds one thing to an earlier one; its strength was chosen on the validation set.
    "scheduled": SCHEDULED,
    "affine": SCHEDULED._replace(title="LeNet-5, Adam, schedule, affine", augmentation=AFFINE),
    "elastic": SCHEDULED._replace(title="LeNet-5, Adam, schedule, affine, elastic", augmentation=ELASTIC),
    "decayed": DECAYED,
    "longer": DECAYED._replace(title=f"{DECAYED.title}, 60 epochs", epochs=60),
    "sharpness_aware": SHARPNESS_AWARE,
    "beyond": SHARPNESS_AWARE._replace(title=f"{SHARPNESS_AWARE.title}, 60 epochs", epochs=60),
}


class Training(NamedTuple):
    """A training of a sweep, which any process can do: a configuration with a seed."""

    name: str
    configuration: Configuration
    seed: int
    folder: str  # of its run
    shards: int

    @property
    def label(self) -> str:
        """What messages call it."""
        return f"{self.name}, seed {self.seed}"

    def run(self, mnist: Datasets) -> dict[str, Any]:
        """Call `train`; its errors then say which training failed."""
        try:
            return train(self.configuration, self.seed, mnist, self.folder, self.shards)
        except (LabError, OSError, FloatingPointError) as error:
            raise type(error)(f"{self.label}: {error}") from error


# Does trainings, and yields each with its result (see `train`) once it is finished, in any order.
Engine = Callable[[Sequence[Training], Datasets], Iterator[tuple[Training, dict[str, Any]]]]


def one_by_one(trainings: Sequence[Training], mnist: Datasets) -> Iterator[tuple[Training, dict[str, Any]]]:
    """The engine that trains in this process, one training after the other."""
    for training in trainings:
        print(f"\n== {training.configuration.title}, seed {training.seed}", flush=True)
        yield training, training.run(mnist)


def run_experiments(
    names: Sequence[str],
    seeds: Sequence[int],
    mnist: Datasets,
    file: str | Path = RESULTS,
    logs: str = LOGS,
    shards: int | None = None,
    engine: Engine = one_by_one,
) -> dict[str, Any]:
    """Train each configuration with each seed, unless the file already has the result.

    The file is written again after each training, and a training that was stopped
    resumes at its last checkpoint. So a sweep can be stopped at any time and
    called again. The test set is used only after a training's last epoch.

    Parameters
    ----------
    names : sequence of str
        Keys of `CONFIGURATIONS`.
    seeds : sequence of int
        As for `start_run`.
    mnist : Datasets
        With flat images and one-hot labels.
    file : str or path, default "logs/experiments/results.json"
        A JSON file with the results of all runs; it need not exist.
    logs : str, default "logs/experiments"
        The folder of the runs.
    shards : int, optional
        As for `start_run`; by default the cores of this process. All trainings
        have the same number, wherever they run.
    engine : callable, default `one_by_one`
        What does the trainings; `sweep.dask_engine` makes another one. The results
        are the same except for the times.

    Returns
    -------
    dict
        The content of the file: ``"data"``, the data set's name, and ``"runs"``,
        the results (see `train`) by configuration and by seed, a str.

    Raises
    ------
    ValueError
        If a name is unknown, there is no seed, `shards` is not 1 or more, or the
        file has results on other data.
    """
    unknown = sorted(set(names) - set(CONFIGURATIONS))
    if unknown:
        raise LabError(f"there is no configuration {unknown[0]!r}; choose from {', '.join(CONFIGURATIONS)}")
    if not seeds:
        raise LabError("there are no seeds, expected at least one")
    shards = cores() if shards is None else whole_number("shards", shards, 1)
    results: dict[str, Any] = read_experiments(file) if Path(file).exists() else {"data": mnist.name, "runs": {}}
    if results["data"] != mnist.name:
        raise LabError(f"{file} has results on {results['data']}, not on {mnist.name}; use another file")
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    trainings = [
        Training(name, CONFIGURATIONS[name], seed, f"{logs}/{name}/seed_{seed}", shards)
        for seed in dict.fromkeys(seeds)  # the outer loop, so that each configuration soon has a first result
        for name in dict.fromkeys(names)
        if str(seed) not in results["runs"].get(name, {})
    ]
    with closing(engine(trainings, mnist)) as finished:  # type: ignore[type-var]
        for training, result in finished:
            runs = results["runs"].setdefault(training.name, {}) | {str(training.seed): result}
            # Tables show the seeds in the order of the file.
            results["runs"][training.name] = dict(sorted(runs.items(), key=lambda item: int(item[0])))
            with whole_file(file) as part:
                part.write_text(json.dumps(results) + "\n")
    return results


def read_experiments(file: str | Path = EXPERIMENTS) -> dict[str, Any]:
    """Read a file that `run_experiments` wrote.

    Parameters
    ----------
    file : str or path, default "experiments/results.json"
        By default the committed file, if the lab's folder is the working directory.

    Returns
    -------
    dict
        As from `run_experiments`.
    """
    try:
        return json.loads(Path(file).read_text())
    except json.JSONDecodeError as error:
        raise LabError(f"{file} is not a file of results ({error}); expected one that run_experiments wrote") from error


def train(
    configuration: Configuration, seed: int, mnist: Datasets, folder: str, shards: int | None = None
) -> dict[str, Any]:
    """Train a configuration to its last epoch, and test it. A training that was stopped resumes.

    Parameters
    ----------
    configuration : Configuration
        What to train.
    seed : int
        As for `start_run`.
    mnist : Datasets
        With flat images and one-hot labels.
    folder : str
        The folder of the run.
    shards : int, optional
        As for `start_run`. A training that resumes keeps the number it began with.

    Returns
    -------
    dict
        The results, all of types that JSON has: losses and accuracies after each
        epoch, the time, the accuracy on the test set and the images misread there.
    """
    c = configuration
    with resume_or_start(c.classifier(mnist.train.num_examples), f"{folder}/run_%02d", seed, shards) as run:
        history = optimize(
            run, mnist, c.epochs - run.epoch, c.batch_size, c.keep_prob, checkpoint_every=CHECKPOINT_EVERY
        )
        result = {
            "directory": run.directory,
            "epochs": run.epoch,
            "parameters": count_parameters(run.classifier.graph),
            "loss": history.loss,
            "validation_loss": history.validation_loss,
            "train_accuracy": history.train_accuracy,
            "validation_accuracy": history.validation_accuracy,
            "seconds": sum(history.seconds),
            "test": _misread(run, mnist.test),
            "tensorflow": tf.VERSION,
            "python": platform.python_version(),
            "cores": cores(),
            "shards": run.shards,
        }
        if run.classifier.keep_prob is not None:
            result["test_with_dropout"] = _misread(run, mnist.test, c.keep_prob)
        save_model(run)
    return result


def _misread(run: Run, dataset: DataSet, keep_prob: float = 1.0) -> dict[str, Any]:
    """The accuracy on a data set, the indices of the misread images, and the digits predicted for them."""
    mistakes = mistakes_among(dataset, predict(run, dataset.images, keep_prob))
    return {
        "images": dataset.num_examples,
        "accuracy": 1 - len(mistakes.index) / dataset.num_examples,
        "wrong": mistakes.index.tolist(),
        "read_as": mistakes.predicted.tolist(),
    }


def accuracies(results: dict[str, Any], name: str, measured: str = "test") -> np.ndarray:
    """The test accuracy of each run of a configuration, after its last epoch.

    Parameters
    ----------
    results : dict
        From `run_experiments`.
    name : str
        A key of `CONFIGURATIONS`.
    measured : {"test", "test_with_dropout"}, default "test"
        Whether dropout was off or on in the test.

    Returns
    -------
    float array [seeds]
        In [0, 1].
    """
    return np.array([run[measured]["accuracy"] for run in results["runs"][name].values()])


def per_epoch(results: dict[str, Any], name: str, measured: str) -> np.ndarray:
    """What was measured after each epoch, in each run of a configuration.

    Parameters
    ----------
    results : dict
        From `run_experiments`.
    name : str
        A key of `CONFIGURATIONS`.
    measured : {"loss", "validation_loss", "train_accuracy", "validation_accuracy"}
        Losses are in nats, accuracies in [0, 1].

    Returns
    -------
    float array [seeds, epochs]
    """
    return np.array([run[measured] for run in results["runs"][name].values()])


def accuracy_table(results: dict[str, Any], names: Sequence[str] | None = None, times: bool = True) -> str:
    """Make a table of test accuracies, with a row for each configuration.

    It shows the mean over the seeds, the standard deviation, the accuracy with
    each seed, and the median training time. A network that was also tested with
    dropout on has a second row.

    Parameters
    ----------
    results : dict
        From `run_experiments`.
    names : sequence of str, optional
        Keys of `CONFIGURATIONS`; by default all that have results.
    times : bool, default True
        Whether to show the training times. Leave them out where the runs were
        made on different machines.

    Returns
    -------
    str
        A Markdown table.
    """
    rows = [("model", "mean", "deviation", "each seed", "training time")]
    if names is None:
        names = [name for name in CONFIGURATIONS if name in results["runs"]]
    for name in names:
        runs = results["runs"][name].values()
        seconds = np.median([run["seconds"] for run in runs])
        for measured, remark in MEASURED.items():
            if all(measured in run for run in runs):
                values = accuracies(results, name, measured)
                deviation = f"{values.std(ddof=1):.2%}" if len(values) > 1 else ""
                each = " ".join(f"{value:.2%}" for value in values)
                title = CONFIGURATIONS[name].title + remark
                rows.append((title, f"{values.mean():.2%}", deviation, each, f"{seconds:.0f} s"))
    return markdown_table(rows if times else [row[:-1] for row in rows])


class Comparison(NamedTuple):
    """How much better one configuration is than another on the test set."""

    difference: float  # between the mean accuracies
    low: float  # the lower and the upper end of a 95% bootstrap interval, over the test images
    high: float
    p_values: tuple[float, ...]  # of McNemar's exact test, for each seed's pair of runs


def compare(results: dict[str, Any], name: str, other: str, measured: str = "test") -> Comparison:
    """Compare two configurations on the same test images, over the seeds that both were trained with.

    Parameters
    ----------
    results : dict
        From `run_experiments`.
    name : str
        A key of `CONFIGURATIONS`. A positive difference means that this one is
        better.
    other : str
        The key of the configuration to compare with.
    measured : {"test", "test_with_dropout"}, default "test"
        Whether dropout was off or on in the test of `other`. In the test of
        `name` it was off.

    Returns
    -------
    Comparison
        The difference, its interval, and the p-values in the order of the seeds.

    Raises
    ------
    ValueError
        If the two have no seed in common.
    """
    seeds = [seed for seed in results["runs"][name] if seed in results["runs"][other]]
    if not seeds:
        raise LabError(
            f"{name} and {other} have no seed in common, so they can't be compared; train both with the same seed"
        )
    ours = np.stack([_is_wrong(results["runs"][name][seed]["test"]) for seed in seeds])
    theirs = np.stack([_is_wrong(results["runs"][other][seed][measured]) for seed in seeds])
    gained = theirs.mean(axis=0) - ours.mean(axis=0)  # for each image, averaged over the seeds
    interval = stats.bootstrap((gained,), np.mean, n_resamples=2000, method="percentile", rng=0, batch=100)
    p_values = tuple(
        stats.binomtest(int((b & ~a).sum()), int((a ^ b).sum())).pvalue if (a ^ b).any() else 1.0
        for a, b in zip(ours, theirs)
    )
    low, high = interval.confidence_interval
    return Comparison(float(gained.mean()), float(low), float(high), p_values)


def comparison_table(results: dict[str, Any], pairs: Sequence[tuple[str, str]], measured: str = "test") -> str:
    """Make a table of comparisons, with a row for each pair.

    Parameters
    ----------
    results : dict
        From `run_experiments`.
    pairs : sequence of (str, str)
        For each row, `name` and `other` as in `compare`.
    measured : {"test", "test_with_dropout"}, default "test"
        As in `compare`.

    Returns
    -------
    str
        A Markdown table.

    Raises
    ------
    ValueError
        If a pair has no seed in common.
    """
    rows = [("better", "than", "by", "95% interval", "McNemar's exact p of each seed")]
    for name, other in pairs:
        c = compare(results, name, other, measured)
        titles = CONFIGURATIONS[name].title, CONFIGURATIONS[other].title + MEASURED[measured]
        p_values = " ".join(f"{p:.2g}" for p in c.p_values)
        interval = f"{_points(c.low)}\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}{_points(c.high)}"
        rows.append((*titles, _points(c.difference), interval, p_values))
    return markdown_table(rows)


def _points(difference: float) -> str:
    """A difference of accuracies with its sign; a rounded zero has a plus."""
    return f"{round(difference, 4) + 0.0:+.2%}"


def _is_wrong(test: dict[str, Any]) -> np.ndarray:
    """Whether each test image was misread, bool array [images]."""
    wrong = np.zeros(test["images"], bool)
    wrong[test["wrong"]] = True
    return wrong
