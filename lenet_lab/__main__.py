"""The command line: `python -m lenet_lab lab` runs the lab, `... predict digit.png` reads a digit of your own."""

import argparse
import sys

from nbclient.exceptions import CellExecutionError

from lenet_lab.notebooks import make_notebooks, run_lab


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the process's exit status."""
    parser = argparse.ArgumentParser(prog="python -m lenet_lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    lab = commands.add_parser("lab", help="run the four notebooks and print their results")
    lab.add_argument("--epochs", type=_positive, help="how many for each model (default: the lab's own)")
    commands.add_parser("notebooks", help="re-execute the committed notebooks in place, on MNIST")
    many = commands.add_parser("experiments", help="train configurations with several seeds, on MNIST")
    many.add_argument("names", nargs="*", help="which (default: all that are known)")
    many.add_argument("--seeds", type=_positive, default=5, help="how many of each (default: 5)")
    digit = commands.add_parser("predict", help="read the digit in a picture with a saved model")
    digit.add_argument("picture", help="a photo or drawing of one digit")
    digit.add_argument("--model", help="what save_model returned (default: the LeNet-5 saved last in logs/)")
    chosen = parser.parse_args(arguments)
    try:
        match chosen.command:
            case "lab":
                run_lab(chosen.epochs)
            case "notebooks":
                make_notebooks()
            case "experiments":
                _experiments(chosen.names, chosen.seeds)
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


def _experiments(names: list[str], seeds: int) -> None:
    from lenet_lab import experiments, input_data  # late: imports TensorFlow

    mnist = input_data.read_mnist("MNIST_data/")
    results = experiments.run_experiments(names or list(experiments.CONFIGURATIONS), range(1, seeds + 1), mnist)
    print("\n" + experiments.accuracy_table(results))


def _predict(picture: str, model: str | None) -> None:
    from lenet_lab import predict  # late: imports TensorFlow

    model = model or predict.newest_model("logs")
    with predict.open_model(model) as run:
        prediction = predict.predict_image(run, picture)
    print(f"Model: {model}, trained on {predict.trained_on(model)}")
    for digit in (-prediction.probabilities).argsort():
        print(f"{digit}  {prediction.probabilities[digit]:6.1%}")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
