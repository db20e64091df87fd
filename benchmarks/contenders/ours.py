"""lenet_lab itself, as the notebooks run it."""

import tempfile

import numpy as np
import worker

from lenet_lab import build_classifier, build_lenet5, build_softmax_regression, start_run, tf
from lenet_lab.input_data import DataSet
from lenet_lab.training import train_epoch


def prepare(images, labels, batch_size, model):
    if model == "lenet5":
        classifier = build_classifier(build_lenet5, tf.train.AdamOptimizer(worker.LEARNING_RATE[model]))
    else:
        optimizer = tf.train.GradientDescentOptimizer(worker.LEARNING_RATE[model])
        classifier = build_classifier(build_softmax_regression, optimizer)
    run = start_run(classifier, tempfile.mkdtemp() + "/run_%02d")
    history = run.history

    def train_on(dataset):
        first = train_epoch(run, dataset, batch_size)
        run.writer.flush()
        return history.step_loss[first:], history.step_accuracy[first:]

    pixels, one_hot = np.rint(images * 255).astype(np.uint8).reshape(-1, 28, 28, 1), np.eye(10)[labels]
    everything = DataSet(pixels, one_hot)
    train_on(DataSet(pixels[:batch_size], one_hot[:batch_size]))
    return lambda: train_on(everything)


if __name__ == "__main__":
    worker.serve(prepare)
