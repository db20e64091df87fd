"""lenet_lab itself, as the notebooks run it."""

import tempfile

import numpy as np
import traces
import worker

from lenet_lab import build_classifier, build_lenet5, build_softmax_regression, start_run, tf, training
from lenet_lab.analysis.summaries import write_records
from lenet_lab.fast.loop import iterate
from lenet_lab.input_data import DataSet


def prepare(images, labels, batch_size, model):
    if model == "lenet5":
        classifier = build_classifier(build_lenet5, tf.train.AdamOptimizer(worker.LEARNING_RATE[model]))
    else:
        optimizer = tf.train.GradientDescentOptimizer(worker.LEARNING_RATE[model])
        classifier = build_classifier(build_softmax_regression, optimizer)
    run = start_run(classifier, tempfile.mkdtemp() + "/run_%02d")
    history = run.history

    def train_on(dataset):
        first = len(history.step_loss)
        training.train_epoch(run, dataset, batch_size, 1.0, loop)
        run.flush()
        return history.step_loss[first:], history.step_accuracy[first:]

    pixels, one_hot = np.rint(images * 255).astype(np.uint8).reshape(-1, 28, 28, 1), np.eye(10)[labels]
    everything = DataSet(pixels, one_hot)
    loop = training.choose_loop(run, everything, batch_size, fast=True)

    def traced():
        request = traces.request()
        x, y_true = next(everything.epoch(batch_size, run.rng, loop.batches_at_a_time))
        write_records(run, iterate(run, x, y_true, 1.0, *request))
        return [request]

    train_on(DataSet(pixels[:batch_size], one_hot[:batch_size]))
    return lambda: train_on(everything), lambda: {"kernel_share": traces.kernel_share(traced)}


if __name__ == "__main__":
    worker.serve(prepare)
