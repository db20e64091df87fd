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


def serve(prepare, recorded=True):
    """Obey the lines of standard input: `epoch` trains one and tells its seconds, `report` tells the rest.

    Parameters
    ----------
    prepare : callable
        `prepare(images, labels, batch_size, model)` gets float32 images [n, 784] in [0, 1]
        and uint8 labels [n], does its first step and returns two functions (the
        second may be None): `epoch()` trains one epoch and returns the loss and
        accuracy of every iteration; `report()` returns more figures as a dict.
    recorded : bool
        Whether an epoch must return the loss and accuracy of every iteration.
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
    epoch, report = prepare(images, labels, arguments.batch_size, arguments.model)
    print(json.dumps({"ready": time.time()}), file=answers)
    for line in sys.stdin:
        if line.strip() == "epoch":
            started = time.perf_counter()
            records = epoch()
            answer = {"seconds": time.perf_counter() - started}
            if recorded:
                losses, accuracies = records
                iterations = len(images) // arguments.batch_size
                assert len(losses) == len(accuracies) == iterations, "not every iteration was recorded"
                answer.update(loss=float(np.mean(losses)), accuracy=float(np.mean(accuracies)))
        else:
            answer = {"peak_bytes": peak_bytes()}
            answer.update(report() if report else {})
        print(json.dumps(answer), file=answers)


def peak_bytes():
    """The most memory this process has held. On Linux, `ru_maxrss` would be no less than the parent's at its start."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
