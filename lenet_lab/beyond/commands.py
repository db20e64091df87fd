"""The commands `predict` and `experiments`. `python -m lenet_lab` finds them by the entry points in pyproject.toml."""

import argparse
from collections.abc import Callable

from lenet_lab.analysis.inference import open_model
from lenet_lab.analysis.pictures import predict_image
from lenet_lab.analysis.results import describe_model
from lenet_lab.beyond.experiments import (
    CONFIGURATIONS,
    RESULTS,
    Engine,
    accuracy_table,
    one_by_one,
    read_experiments,
    run_experiments,
)
from lenet_lab.beyond.kept import KEPT_MODEL, keep_best
from lenet_lab.beyond.sweep import dask_engine
from lenet_lab.input_data import read_mnist
from lenet_lab.paths import EXPERIMENTS, LabError

Command = Callable[[argparse.Namespace], None]


def predict(parser: argparse.ArgumentParser) -> Command:
    """read the digit in a picture with a saved model"""
    parser.add_argument("picture", help="a photo or drawing of one digit")
    parser.add_argument(
        "--model", default=KEPT_MODEL, help="a path that save_model returned (default: notebook 6's LeNet-5)"
    )
    return _predict


def experiments(parser: argparse.ArgumentParser) -> Command:
    """train configurations on MNIST, each with several seeds"""
    parser.add_argument("names", nargs="*", help="the configurations to train (default: all)")
    parser.add_argument("--seeds", type=int, default=5, help="how many seeds for each (default: 5)")
    parser.add_argument(
        "--shards", type=int, help="parts of a batch, one for each core (default: this machine's cores)"
    )
    parser.add_argument("--file", default=RESULTS, help=f"the file of results (default: {RESULTS})")
    parser.add_argument(
        "--keep", metavar="NAME", help="then keep the network of NAME that is best on the validation set"
    )
    where = parser.add_argument_group("with Dask")
    where.add_argument("--workers", type=int, metavar="N", help="train in N processes of this machine")
    where.add_argument(
        "--scheduler", metavar="ADDRESS", help="train on a cluster; its scheduler's address, such as tcp://host:8786"
    )
    return _experiments


def _predict(chosen: argparse.Namespace) -> None:
    with open_model(chosen.model) as model:
        prediction = predict_image(model, chosen.picture)
    about = describe_model(chosen.model)
    print(f"Model: {about['title']}, trained on {about['data']}, {chosen.model}")
    for digit in (-prediction.probabilities).argsort():
        print(f"{digit}  {prediction.probabilities[digit]:6.1%}")


def _experiments(chosen: argparse.Namespace) -> None:
    names = chosen.names or list(CONFIGURATIONS)
    if chosen.seeds < 1:
        raise LabError(f"--seeds is {chosen.seeds}, expected 1 or more")
    engine: Engine = one_by_one
    if chosen.workers is not None or chosen.scheduler is not None:
        engine = dask_engine(chosen.workers, chosen.scheduler)
    seeds = range(1, chosen.seeds + 1)
    results = run_experiments(names, seeds, read_mnist("MNIST_data/"), chosen.file, shards=chosen.shards, engine=engine)
    print(f"\n{chosen.file}:\n\n{accuracy_table(results, names)}")
    if chosen.file != EXPERIMENTS:
        committed = read_experiments()
        known = [name for name in names if name in committed["runs"]]
        if known:
            print(f"\n{EXPERIMENTS}:\n\n{accuracy_table(committed, known)}")
    if chosen.keep:
        kept = keep_best(results, chosen.keep)
        print(f"\nKept: {kept['title']}, seed {kept['seed']}, {kept['validation_accuracy']:.2%} on the validation set")
