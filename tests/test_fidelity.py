"""Training steps and batches are those that were recorded with the real TensorFlow 1.15.5."""

import json
from pathlib import Path

import numpy as np
import pytest

from lenet_lab import tf
from lenet_lab.input_data import DataSet, read_data_sets
from lenet_lab.tf1 import fidelity

GOLDEN = Path(__file__).parent / "golden"
TRAINING = json.loads((GOLDEN / "tf115_training.json").read_text())
NEXT_BATCH = json.loads((GOLDEN / "tf115_next_batch.json").read_text())
ON_MNIST = json.loads((GOLDEN / "tf115_mnist.json").read_text())


@pytest.mark.parametrize("case", TRAINING["cases"])
def test_training_steps_match_tensorflow_1_15(case):
    recorded = TRAINING["cases"][case]
    ours = fidelity.replay(recorded, TRAINING["data_seed"], TRAINING["init_seed"])
    theirs = np.array(recorded["rows"])
    adam = recorded["optimizer"] == "adam"
    # On random data Adam divides by second moments near zero, which magnifies rounding errors.
    steps, tolerance = (20, 5e-4) if adam else (len(theirs), 1e-5)
    assert ours.rows.shape == theirs.shape
    np.testing.assert_allclose(ours.rows[:steps, :2], theirs[:steps, :2], rtol=0, atol=tolerance)
    np.testing.assert_allclose(ours.rows[:steps, 2], theirs[:steps, 2], rtol=0, atol=0.02 if adam else 1e-6)
    np.testing.assert_allclose(ours.final_norms, recorded["final_norms"], rtol=0, atol=1e-2 if adam else 1e-5)
    np.testing.assert_allclose(ours.last_logits, recorded["last_logits"], rtol=0, atol=0.1 if adam else 1e-5)


@pytest.mark.parametrize("case", ON_MNIST["cases"])
def test_training_steps_on_mnist_match_tensorflow_1_15(case, real_folder, monkeypatch):
    monkeypatch.setenv("LENET_LAB_DATA", real_folder)
    recorded = ON_MNIST["cases"][case]
    mnist = read_data_sets("unused", one_hot=True, seed=ON_MNIST["seed"])
    ours = fidelity.replay_mnist(recorded, mnist, ON_MNIST["init_seed"], ON_MNIST["batch"])
    steps = 20 if recorded["optimizer"] == "adam" else len(ours)
    # Adam's first steps magnify rounding, which depends on the number of threads that the process began with.
    tolerance = 5e-4 if recorded["optimizer"] == "adam" else 1e-5
    np.testing.assert_allclose(ours[:steps], recorded["losses"][:steps], rtol=0, atol=tolerance)


@pytest.mark.parametrize("case", NEXT_BATCH["cases"])
def test_batches_match_tensorflow_1_15(case):
    recorded = NEXT_BATCH["cases"][case]
    count = recorded["num_examples"]
    images = np.zeros((count, 1, 4, 1), np.uint8)
    images[:, 0, :, 0] = np.arange(count, dtype="<u4").view(np.uint8).reshape(count, 4)  # the index in four bytes
    data = DataSet(images, np.arange(count), dtype=tf.uint8, seed=recorded["seed"])
    for call in recorded["calls"]:
        batch, labels = data.next_batch(call["batch_size"], shuffle=call["shuffle"])
        np.testing.assert_array_equal(labels, call["index"])
        np.testing.assert_array_equal(np.ascontiguousarray(batch).view("<u4").ravel(), call["index"])
        assert data.epochs_completed == call["epochs_completed"]


def test_a_reshuffle_moves_no_images():
    moving, ours = fidelity.reshuffle_seconds(np.zeros((55000, 784), np.float32), rounds=3)
    assert ours < moving / 5
