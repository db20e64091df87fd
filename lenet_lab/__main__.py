"""The command line: `python -m lenet_lab lab` runs the lab, `... predict digit.png` reads a digit of your own."""

import argparse
import sys

from nbclient.exceptions import CellExecutionError

from lenet_lab.notebooks import NOTEBOOKS, make_notebooks, run_lab
from lenet_lab.paths import EXPERIMENTS


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the process's exit status."""
    parser = argparse.ArgumentParser(prog="python -m lenet_lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    lab = commands.add_parser("lab", help="run the notebooks and print their results")
    lab.add_argument("--epochs", type=_positive, help="how many for each model (default: the lab's own)")
    committed = commands.add_parser("notebooks", help="re-execute committed notebooks in place, on MNIST")
    committed.add_argument("names", nargs="*", help="which (default: all)")
    many = commands.add_parser("experiments", help="train configurations with several seeds, on MNIST")
    many.add_argument("names", nargs="*", help="which (default: all that are known)")
    many.add_argument("--seeds", type=_positive, default=5, help="how many of each (default: 5)")
    many.add_argument("--file", help="where the results go (default: logs/experiments/results.json)")
    many.add_argument("--keep", metavar="NAME", help="afterwards keep this one's best network, by the validation set")
    digit = commands.add_parser("predict", help="read the digit in a picture with a saved model")
    digit.add_argument("picture", help="a photo or drawing of one digit")
    digit.add_argument("--model", help="what save_model returned (default: the LeNet-5 of notebook 6)")
    chosen = parser.parse_args(arguments)
    try:
        match chosen.command:
            case "lab":
                run_lab(chosen.epochs)
            case "notebooks":
                make_notebooks(chosen.names or NOTEBOOKS)
            case "experiments":
                _experiments(chosen)
            case "predict":
                _predict(chosen.picture, chosen.model)
    except KeyboardInterrupt:
        print("\nInterrupted. What was trained stands in logs/.", file=sys.stderr)
        return 130
    except CellExecutionError as error:
        print(f"\nA cell failed:\n{error}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


def _experiments(chosen: argparse.Namespace) -> None:
    from lenet_lab import experiments, input_data  # late: imports TensorFlow

    file, names = chosen.file or experiments.FILE, chosen.names or list(experiments.CONFIGURATIONS)
    mnist = input_data.read_mnist("MNIST_data/")
    results = experiments.run_experiments(names, range(1, chosen.seeds + 1), mnist, file)
    print(f"\n{file}:\n\n{experiments.accuracy_table(results, names)}")
    if file != EXPERIMENTS:
        committed = experiments.read_experiments()
        known = [name for name in names if name in committed["runs"]]
        if known:
            print(f"\n{EXPERIMENTS}:\n\n{experiments.accuracy_table(committed, known)}")
    if chosen.keep:
        kept = experiments.keep_best(results, chosen.keep)
        print(f"\nKept: {kept['title']}, seed {kept['seed']}, {kept['validation_accuracy']:.2%} on the validation set")


def _predict(picture: str, model: str | None) -> None:
    from lenet_lab import predict  # late: imports TensorFlow

    model = model or predict.KEPT_MODEL
    with predict.open_model(model) as run:
        prediction = predict.predict_image(run, picture)
    told = predict.told_of(model)
    print(f"Model: {told['title']}, trained on {told['data']}, {model}")
    for digit in (-prediction.probabilities).argsort():
        print(f"{digit}  {prediction.probabilities[digit]:6.1%}")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
