"""The benchmark: its notes show the tables as measured, and its contenders do the same work."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
OUTCOME = json.loads((ROOT / "benchmarks" / "results.json").read_text())


@pytest.fixture(scope="module")
def compare():
    spec = importlib.util.spec_from_file_location("compare", ROOT / "benchmarks" / "compare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_in_the_notes_are_the_measured_ones(compare):
    lenet5, softmax = compare.table(OUTCOME["lenet5"], OUTCOME["examples"]), compare.table(OUTCOME["softmax"], 55000)
    notes = (ROOT / "benchmarks" / "README.md").read_text()
    assert lenet5 in notes
    assert softmax in notes
    assert OUTCOME["data"] == "MNIST"
    assert OUTCOME["examples"] == 55000
    assert all(len(result["seconds"]) >= 5 for result in OUTCOME["lenet5"].values())


def test_the_contenders_record_every_iteration_and_learn_equally_well(compare, small, tmp_path):
    data = tmp_path / "data.npz"
    np.savez(data, images=small.train.images, labels=small.train.labels.argmax(axis=1).astype(np.uint8))
    answers = {}
    for contender in (compare.OURS, compare.LAB_LOOP):
        worker = compare.Worker(contender, data, "--batch-size", "50", "--model", "softmax")
        answers[contender.title] = [worker.ask("epoch") for _ in range(2)][-1] | worker.ask("report")
        worker.close()
    ours, theirs = answers.values()
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=0.05)
    # Each has an order of the images of its own, from which the accuracies of so short a training vary by 0.01.
    assert ours["accuracy"] == pytest.approx(theirs["accuracy"], abs=0.1)
    for answer in answers.values():
        assert answer["seconds"] > 0
        assert 0 < answer["kernel_share"] < 1
        assert answer["peak_bytes"] > 1e8


def test_a_contender_that_fails_is_reported_with_its_error(compare, tmp_path):
    with pytest.raises(RuntimeError, match=r"(?s)ours\.py failed.*nowhere\.npz"):
        compare.Worker(compare.OURS, tmp_path / "nowhere.npz")
