"""The event file of a run holds what the lab's own code writes under TensorFlow 1.15.5."""

from pathlib import Path

import numpy as np
import pytest

from lenet_lab import build_classifier, build_lenet5, optimize, print_accuracy, start_run, tf
from lenet_lab.analysis.events import read_events, read_graph
from lenet_lab.input_data import DataSet, Datasets
from lenet_lab.tf1.fidelity import set_initial_values

RECORDED = str(Path(__file__).parent / "golden" / "tf115_events")  # made by tools/record_tf115.py


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """The directory of the recorded training, repeated with this package."""
    r = np.random.RandomState(1234)
    images = r.randint(0, 256, (320, 784)).astype(np.uint8).reshape(320, 28, 28, 1)
    data = DataSet(images, np.eye(10)[r.randint(0, 10, 320)])
    classifier = build_classifier(build_lenet5, tf.train.GradientDescentOptimizer(0.001))
    with start_run(classifier, str(tmp_path_factory.mktemp("runs") / "run_%02d"), seed=5) as run:
        set_initial_values(run.session, classifier, seed=7)
        optimize(run, Datasets(data, data, data), epochs=2, batch_size=32)
        print_accuracy(run, Datasets(data, data, data))
    return run.directory


def scalars(directory):
    reader = read_events(directory)
    # Under 1.15.5 the lab's tags silently became Loss_1 and Accuracy_1; here they are Loss and Accuracy.
    return {tag.removesuffix("_1"): reader.Scalars(tag) for tag in reader.Tags()["scalars"]}


def forward(graph):
    """The operation types in `model`, `loss` and `accuracy`, in the graph's order, without the making of variables."""
    variable_types = ("Const", "Identity", "Assign", "VariableV2", "Fill")
    nodes = [node for node in graph.node if node.name.startswith(("model/", "loss/", "accuracy/"))]
    types = [node.op for node in nodes if node.op not in variable_types and "/truncated_normal" not in node.name]
    return ["Add" if op == "AddV2" else op for op in types]  # `+` makes an AddV2 today, which is Add without strings


def variables(graph):
    nodes = [node for node in graph.node if node.op == "VariableV2"]
    return [[dim.size for dim in node.attr["shape"].shape.dim] for node in nodes]


def test_scalars_have_the_same_steps_and_values(ours):
    theirs, ours = scalars(RECORDED), scalars(ours)
    assert sorted(ours) == sorted(theirs) == ["Accuracy", "Loss"]
    for tag in ours:
        assert [event.step for event in ours[tag]] == [event.step for event in theirs[tag]] == list(range(20))
        np.testing.assert_allclose(
            [event.value for event in ours[tag]], [event.value for event in theirs[tag]], rtol=0, atol=1e-5
        )


def test_the_graph_has_the_same_variables_and_forward_operations(ours):
    theirs, ours = read_graph(RECORDED), read_graph(ours)
    assert variables(ours) == variables(theirs) != []
    assert forward(ours) == forward(theirs)
    assert forward(ours).count("Conv2D") == 2 and forward(ours).count("MatMul") == 3


def test_both_event_files_have_the_trace_named_inference(ours):
    for directory in (RECORDED, ours):
        reader = read_events(directory)
        assert reader.Tags()["run_metadata"] == ["inference"]
        assert reader.RunMetadata("inference").step_stats.dev_stats
