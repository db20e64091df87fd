"""The lab's claims with five seeds each: configurations, their training, and what came of it in one JSON file."""

import json
import platform
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from lenet_lab.checkpoints import resume_or_start
from lenet_lab.classifier import Classifier, build_classifier
from lenet_lab.compat import tf
from lenet_lab.deform import Strength, deform
from lenet_lab.inference import mistakes_among, predict
from lenet_lab.input_data import DataSet, Datasets
from lenet_lab.loop import cores
from lenet_lab.models import (
    build_lenet5,
    build_lenet5_dropout,
    build_softmax_regression,
    count_parameters,
    markdown_table,
)
from lenet_lab.optimizers import AdamWithDecay, warm_up_and_cosine
from lenet_lab.paths import EXPERIMENTS, whole_file
from lenet_lab.predict import KEPT, open_model
from lenet_lab.results import FILE as RESULT_FILE
from lenet_lab.runs import MODEL_FILE, Run, save_model
from lenet_lab.training import optimize

FILE = "logs/experiments/results.json"
LOGS = "logs/experiments"
CHECKPOINT_EVERY = 5
MEASURED = {"test": "", "test_with_dropout": ", dropout left on in the test"}  # how, and the tables' remark


class Configuration(NamedTuple):
    """A training as the lab has it, or with more to it."""

    title: str
    build: Callable[..., tf.Tensor] = build_lenet5
    optimizer: Callable[..., tf.train.Optimizer] = tf.train.AdamOptimizer
    rate: float = 0.001
    scheduled: bool = False  # the rate rises and falls, see `optimizers`
    epochs: int = 40
    batch_size: int = 128
    keep_prob: float = 1.0
    deformed: Strength | None = None
    radius: float = 0.0  # above 0, sharpness-aware

    def classifier(self, examples: int) -> Classifier:
        """A new graph, for a training set of so many examples."""
        rate: Any = self.rate
        if self.scheduled:
            rate = warm_up_and_cosine(self.rate, self.epochs * (examples // self.batch_size))
        deformed = None if self.deformed is None else lambda x: deform(x, self.deformed)
        return build_classifier(self.build, self.optimizer(rate), deformed, self.radius)


AFFINE, BENT = Strength(bend=0.0), Strength()
GRADIENT_DESCENT = tf.train.GradientDescentOptimizer
SCHEDULED = Configuration("LeNet-5, Adam, schedule", rate=0.003, scheduled=True)
DECAYED = SCHEDULED._replace(
    title="LeNet-5, Adam, schedule, affine, bent, decay", deformed=BENT, optimizer=partial(AdamWithDecay, decay=0.1)
)
SHARPNESS_AWARE = DECAYED._replace(title=f"{DECAYED.title}, sharpness-aware", radius=0.05)
CONFIGURATIONS = {
    "softmax": Configuration(
        "softmax regression", build_softmax_regression, GRADIENT_DESCENT, 0.01, epochs=50, batch_size=100
    ),
    "gradient_descent": Configuration("LeNet-5, gradient descent", optimizer=GRADIENT_DESCENT),
    "adam": Configuration("LeNet-5, Adam"),
    "dropout": Configuration("LeNet-5, Adam, dropout", build_lenet5_dropout, keep_prob=0.75),
    "keep_prob_25": Configuration("LeNet-5, Adam, keep_prob 0.25", build_lenet5_dropout, keep_prob=0.25),
    # Beyond the lab, one ingredient more each; how strong they are was chosen on the validation set.
    "scheduled": SCHEDULED,
    "affine": SCHEDULED._replace(title="LeNet-5, Adam, schedule, affine", deformed=AFFINE),
    "bent": SCHEDULED._replace(title="LeNet-5, Adam, schedule, affine, bent", deformed=BENT),
    "decayed": DECAYED,
    "longer": DECAYED._replace(title=f"{DECAYED.title}, 60 epochs", epochs=60),
    "sharpness_aware": SHARPNESS_AWARE,
    "beyond": SHARPNESS_AWARE._replace(title=f"{SHARPNESS_AWARE.title}, 60 epochs", epochs=60),
}


def run_experiments(
    names: Sequence[str], seeds: Sequence[int], mnist: Datasets, file: str | Path = FILE, logs: str = LOGS
) -> dict[str, Any]:
    """Train each configuration with each seed, unless the file has it already; go on where it was stopped.

    The test set is read once for each, after its last epoch. The file is written
    anew after each training.

    Parameters
    ----------
    names : sequence of str
        Of `CONFIGURATIONS`.
    seeds : sequence of int
    mnist : Datasets
    file : path
        JSON, with what was measured of each run and the test images that it misread.
    logs : str
        Where the runs are kept.

    Returns
    -------
    dict
        What the file then holds.

    Raises
    ------
    ValueError
        If a name is not known, or the file's results are of other data.
    """
    unknown = sorted(set(names) - set(CONFIGURATIONS))
    if unknown:
        raise ValueError(f"no configuration {unknown[0]!r}; there are {', '.join(CONFIGURATIONS)}")
    results = read_experiments(file) if Path(file).exists() else {"data": mnist.name, "runs": {}}
    if results["data"] != mnist.name:
        raise ValueError(f"{file} has results on {results['data']}, not on {mnist.name}; name another file")
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    for seed in seeds:  # seed by seed: a first row of everything stands early
        for name in names:
            runs = results["runs"].setdefault(name, {})
            if str(seed) not in runs:
                print(f"\n== {CONFIGURATIONS[name].title}, seed {seed}", flush=True)
                runs[str(seed)] = train(CONFIGURATIONS[name], seed, mnist, f"{logs}/{name}/seed_{seed}")
                with whole_file(file) as part:
                    part.write_text(json.dumps(results) + "\n")
    return results


def read_experiments(file: str | Path = EXPERIMENTS) -> dict[str, Any]:
    """What `run_experiments` wrote, in the lab's folder by default the committed file."""
    return json.loads(Path(file).read_text())


def train(configuration: Configuration, seed: int, mnist: Datasets, folder: str) -> dict[str, Any]:
    """One training to its last epoch, resumed if it was stopped before; what came of it, for JSON."""
    c = configuration
    with resume_or_start(c.classifier(mnist.train.num_examples), f"{folder}/run_%02d", seed) as run:
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
        }
        if run.classifier.keep_prob is not None:
            result["test_with_dropout"] = _misread(run, mnist.test, c.keep_prob)
        save_model(run)
    return result


def _misread(run: Run, dataset: DataSet, keep_prob: float = 1.0) -> dict[str, Any]:
    """The accuracy, which images were misread, and as what."""
    mistakes = mistakes_among(dataset, predict(run, dataset.images, keep_prob))
    return {
        "images": dataset.num_examples,
        "accuracy": 1 - len(mistakes.index) / dataset.num_examples,
        "wrong": mistakes.index.tolist(),
        "read_as": mistakes.predicted.tolist(),
    }


def keep_best(results: dict[str, Any], name: str, folder: str | Path = KEPT) -> dict[str, Any]:
    """Keep the network of one of a configuration's runs where `predict` finds it: the best on the validation set.

    Parameters
    ----------
    results : dict
    name : str
        Of `CONFIGURATIONS`; its runs must still stand in their directories.
    folder : path
        It gets the network's variables, without the optimizer's, and a
        `result.json` that tells where they come from.

    Returns
    -------
    dict
        What `result.json` then holds.

    Raises
    ------
    ValueError
        If there is no such run, or its saved model is gone.
    """
    runs = results["runs"].get(name)
    if not runs:
        raise ValueError(f"nothing to keep of {name!r}; there are runs of {', '.join(results['runs'])}")
    seed = max(runs, key=lambda seed: runs[seed]["validation_accuracy"][-1])
    best = runs[seed]
    told = {
        "title": CONFIGURATIONS[name].title,
        "data": results["data"],
        "command": f"make experiments NAMES={name}",
        "seed": int(seed),
        "best_on_validation_of_seeds": sorted(map(int, runs)),
        "validation_accuracy": best["validation_accuracy"][-1],
        "test_accuracy": best["test"]["accuracy"],
    } | {key: best[key] for key in ("epochs", "parameters", "tensorflow", "python", "cores")}
    with open_model(f"{best['directory']}/{MODEL_FILE}") as run:
        save_model(run, folder)
    with whole_file(Path(folder, RESULT_FILE)) as part:
        part.write_text(json.dumps(told, indent=1) + "\n")
    return told


def accuracies(results: dict[str, Any], name: str, measured: str = "test") -> np.ndarray:
    """Each seed's accuracy on the test set at the last epoch, float array [seeds].

    With ``measured="test_with_dropout"``, that with dropout left on.
    """
    return np.array([run[measured]["accuracy"] for run in results["runs"][name].values()])


def per_epoch(results: dict[str, Any], name: str, measured: str) -> np.ndarray:
    """What was measured after each epoch, such as ``"validation_loss"``; float array [seeds, epochs]."""
    return np.array([run[measured] for run in results["runs"][name].values()])


def accuracy_table(results: dict[str, Any], names: Sequence[str] | None = None, times: bool = True) -> str:
    """Test accuracies of configurations as Markdown: mean, standard deviation, each seed's; the training time.

    Parameters
    ----------
    results : dict
    names : sequence of str, optional
        By default all that the results have.
    times : bool, default True
        Whether the median of the seeds' training times is told. Only those of one machine can be compared.
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
    """How much better one configuration is on the test set than another."""

    difference: float  # of the mean accuracies
    low: float  # of the 95% interval, were the test images drawn anew
    high: float
    p_values: tuple[float, ...]  # McNemar's exact test, of each pair of runs with the same seed


def compare(results: dict[str, Any], name: str, other: str, measured: str = "test") -> Comparison:
    """Compare a configuration with another, both on the same test images with the same seeds.

    Parameters
    ----------
    results : dict
    name, other : str
        Of `CONFIGURATIONS`.
    measured : {"test", "test_with_dropout"}, default "test"
        How `other` was measured.
    """
    seeds = [seed for seed in results["runs"][name] if seed in results["runs"][other]]
    ours = np.stack([_is_wrong(results["runs"][name][seed]["test"]) for seed in seeds])
    theirs = np.stack([_is_wrong(results["runs"][other][seed][measured]) for seed in seeds])
    gained = theirs.mean(axis=0) - ours.mean(axis=0)  # of each image, over the seeds
    interval = stats.bootstrap((gained,), np.mean, n_resamples=2000, method="percentile", rng=0, batch=100)
    p_values = tuple(
        stats.binomtest(int((b & ~a).sum()), int((a ^ b).sum())).pvalue if (a ^ b).any() else 1.0
        for a, b in zip(ours, theirs)
    )
    return Comparison(float(gained.mean()), *map(float, interval.confidence_interval), p_values)


def comparison_table(results: dict[str, Any], pairs: Sequence[tuple[str, str]], measured: str = "test") -> str:
    """How much each first configuration is better than the second, as Markdown; `measured` as in `compare`."""
    rows = [("better", "than", "by", "95% interval", "McNemar's exact p of each seed")]
    for name, other in pairs:
        c = compare(results, name, other, measured)
        titles = CONFIGURATIONS[name].title, CONFIGURATIONS[other].title + MEASURED[measured]
        p_values = " ".join(f"{p:.2g}" for p in c.p_values)
        rows.append((*titles, f"{c.difference:+.2%}", f"{c.low:+.2%} to {c.high:+.2%}", p_values))
    return markdown_table(rows)


def _is_wrong(test: dict[str, Any]) -> np.ndarray:
    wrong = np.zeros(test["images"], bool)
    wrong[test["wrong"]] = True
    return wrong
