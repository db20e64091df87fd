"""What all contenders share: each one prepares itself, then obeys the commands on its standard input.

This runs under each contender's own Python, 3.7 or later, and needs only NumPy.
"""

import argparse
import json
import os
import resource
import sys
import time

import numpy as np

LEARNING_RATE = {"lenet5": 0.001, "softmax": 0.01}  # for Adam; for gradient descent


def serve(prepare, recorded=True):
    """Obey the commands on standard input: `epoch` trains and times one epoch, `report` returns other figures.

    Parameters
    ----------
    prepare : callable
        `prepare(images, labels, batch_size, model)` gets float32 images [n, 784] in
        [0, 1] and uint8 labels [n]. It does a first step and returns two functions, of
        which the second may be None. `epoch()` trains one epoch and returns the losses
        and the accuracies of all iterations; `report()` returns more figures as a dict.
    recorded : bool, default True
        Whether `epoch()` must return the loss and the accuracy of every iteration.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("data", help="an .npz file with images and labels")
    parser.add_argument("--model", choices=sorted(LEARNING_RATE), default="lenet5")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--examples", type=int, help="how many images to train on (default: all)")
    arguments = parser.parse_args()
    # Answers go to standard output. Whatever libraries print there goes to standard error instead.
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
                assert len(losses) == len(accuracies) == iterations, (
                    f"{len(losses)} of {iterations} iterations were recorded"
                )
                answer.update(loss=float(np.mean(losses)), accuracy=float(np.mean(accuracies)))
        else:
            answer = {"peak_bytes": peak_bytes()}
            answer.update(report() if report else {})
        print(json.dumps(answer), file=answers)


def peak_bytes():
    """Return the peak memory of this process.

    On Linux, `ru_maxrss` is never below what the parent process held when it started this one.
    """
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
