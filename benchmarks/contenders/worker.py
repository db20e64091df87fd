"""What every contender shares: it makes itself ready, then trains one epoch per line it is sent.

Runs under each contender's own Python, 3.7 and later, with nothing but NumPy.
"""

import argparse
import json
import os
import resource
import sys
import time

import numpy as np

LEARNING_RATE = {"lenet5": 0.001, "softmax": 0.01}  # Adam's; gradient descent's


def serve(prepare, report=None):
    """Obey the lines of standard input: `epoch` trains one and tells its seconds, `report` tells the rest.

    Parameters
    ----------
    prepare : callable
        `prepare(images, labels, batch_size, model)` gets float32 images [n, 784] in [0, 1]
        and uint8 labels [n], does its first step and returns `epoch()`, which
        trains one epoch and returns the loss and accuracy of every iteration.
    report : callable, optional
        More figures of the contender's own, as a dict.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("data", help="an .npz with images and labels")
    parser.add_argument("--model", choices=sorted(LEARNING_RATE), default="lenet5")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--examples", type=int, help="how many of the images to train on")
    arguments = parser.parse_args()
    # The answers go where standard output was; what libraries print goes to standard error.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    data = np.load(arguments.data)
    images, labels = (data[name][: arguments.examples] for name in ("images", "labels"))
    epoch = prepare(images, labels, arguments.batch_size, arguments.model)
    print(json.dumps({"ready": time.time()}), file=answers)
    for line in sys.stdin:
        if line.strip() == "epoch":
            started = time.perf_counter()
            losses, accuracies = epoch()
            seconds = time.perf_counter() - started
            iterations = len(images) // arguments.batch_size
            assert len(losses) == len(accuracies) == iterations, "not every iteration was recorded"
            answer = {"seconds": seconds, "loss": float(np.mean(losses)), "accuracy": float(np.mean(accuracies))}
        else:
            answer = {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
            answer.update(report() if report else {})
        print(json.dumps(answer), file=answers)
