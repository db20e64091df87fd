"""Self-checks for the answers that a student writes into a notebook.

A check is called as ``check.placeholders(globals())``. It prints one sentence if
the answer is right. Otherwise it raises `CheckFailed`, whose one sentence says
what to look at. It judges what the answer does, not how it is written: it feeds
made-up values in a session of its own and compares the outcome with NumPy's. It
adds no node to the student's graph and changes no run.

>>> from lenet_lab.course import check
>>> check.placeholders({})
Traceback (most recent call last):
lenet_lab.course.inspection.CheckFailed: Not yet: graph is missing: run the cells above this one, from the top.
"""

import inspect
import io
import os
import re
import reprlib
import tempfile
from contextlib import redirect_stdout
from typing import Any

import numpy as np

from lenet_lab.analysis.evaluation import evaluate
from lenet_lab.analysis.events import Curve, read_events
from lenet_lab.analysis.inference import predict
from lenet_lab.analysis.layers import LayerParameters, layer_parameters
from lenet_lab.analysis.results import optimizer_table as right_table
from lenet_lab.classifier import Classifier
from lenet_lab.compat import learning_rate, tf
from lenet_lab.course.functions import (
    WEIGHTS,
    build_network,
    check_dropout,
    check_initial_values,
    check_iterate,
    check_lenet5_variables,
    check_next_path,
    compare_lenet5,
)
from lenet_lab.course.inspection import (
    IF_MISSING,
    CheckFailed,
    Names,
    check_name,
    close,
    compare,
    compute,
    cross_entropy,
    find,
    find_a,
    find_function,
    find_nodes,
    find_operation,
    friendly,
    kind_of,
    load,
    made_up,
    made_up_batch,
    relu,
    session_of,
    shown,
    softmax,
)
from lenet_lab.paths import LabError
from lenet_lab.runs import History, Run

LN_10 = np.log(10)  # the loss of a guess
MINIMIZE = "the operation that optimizer.minimize(loss) returns"
STUCK_AFTER = 5_000  # steps; gradient descent at 0.001 leaves the plateau within 1,500


# Notebook 1


@friendly
def placeholders(names: Names) -> None:
    """Check `x`, `y_true` and `y_true_cls`."""
    _x, y_true, y_true_cls = find_nodes(names, "x", "y_true", "y_true_cls")
    labels = made_up_batch(6)[1]
    with session_of(y_true.graph) as session:
        found = compute(session, y_true_cls, {y_true: labels}, "y_true_cls")
    classes = labels.argmax(1)
    compare(
        found, classes, {}, f"y_true_cls gives {found} for labels of the classes {classes}: take tf.argmax(y_true, 1)"
    )
    print("Right: x and y_true take any number of images and labels, and y_true_cls finds the class of each label.")


@friendly
def variables(names: Names) -> None:
    """Check `weights` and `biases`."""
    weights, biases = find_nodes(names, "weights", "biases")
    trainable = weights.graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES)
    with session_of(weights.graph) as session:
        for name, variable in {"weights": weights, "biases": biases}.items():
            if not any(variable is other for other in trainable):
                raise CheckFailed(f"training would not change {name}: leave out trainable=False")
            if compute(session, variable, {}, name).any():
                raise CheckFailed(f"{name} does not start at zero: here all numbers do, so make it from tf.zeros")
    print("Right: weights and biases hold 7,850 numbers, and all of them start at zero.")


@friendly
def model(names: Names) -> None:
    """Check `logits`, `y_pred` and `y_pred_cls`."""
    x, *parameters = find_nodes(names, "x", "weights", "biases")
    tensors = find_nodes(names, "logits", "y_pred", "y_pred_cls")
    values = made_up(parameters)
    weights, biases = values.values()
    images = made_up_batch(6)[0]
    with session_of(x.graph) as session:
        load(session, values)
        logits, y_pred, y_pred_cls = compute(session, tensors, {x: images}, "the model")
    product = images @ weights
    compare(
        logits,
        product + biases,
        {
            "the logits lack the biases: add biases to the product": product,
            "the biases are subtracted from the product, expected a sum": product - biases,
            "the logits are probabilities already: leave the softmax to y_pred": softmax(product + biases),
            "the logits go through a ReLU, which cuts off the negative ones: leave it out": relu(product + biases),
        },
        "the logits are not x times weights plus biases: look at the formula above, z = xW + b",
    )
    twice = "y_pred has the softmax twice, so no probability can exceed 0.23: apply it to the logits, once"
    compare(
        y_pred,
        softmax(logits),
        {
            "y_pred is the logits themselves: apply tf.nn.softmax to them": logits,
            twice: softmax(softmax(logits)),
            "y_pred adds up to 1 over the images, expected over the classes: the softmax goes over axis 1":
                softmax(logits, axis=0),
            "y_pred is a sigmoid, so its rows don't add up to 1: use tf.nn.softmax": 1 / (1 + np.exp(-logits)),
        },
        "y_pred is not the softmax of the logits: use tf.nn.softmax(logits)",
    )  # fmt: skip
    least = {"y_pred_cls is the least likely class: use tf.argmax, not tf.argmin": logits.argmin(1)}
    compare(y_pred_cls, logits.argmax(1), least, "y_pred_cls is not the most likely class: take tf.argmax over axis 1")
    print("Right: the model gives each image ten logits, their softmax, and the most likely class.")


@friendly
def loss(names: Names) -> None:
    """Check `loss`, also for an image that the model gets wrong with great confidence."""
    x, y_true, *parameters = find_nodes(names, "x", "y_true", "weights", "biases")
    tensors = find_nodes(names, "logits", "loss")
    images, labels = made_up_batch(6)
    values = made_up(parameters)
    with session_of(x.graph) as session:
        load(session, values)
        logits, found = compute(session, tensors, {x: images, y_true: labels}, "the loss")
        losses = cross_entropy(logits, labels)
        swapped = -np.mean(np.sum(logits * np.log(softmax(labels)), axis=1))
        compare(
            found,
            losses.mean(),
            {
                "the loss is the sum over the images, so it grows with the batch: use tf.reduce_mean":
                    losses.sum(),
                "the loss is a mean over the classes too, so it is ten times too small: sum over the classes first":
                    losses.mean() / 10,
                "the softmax is applied twice, because the function got y_pred, expected logits: with two of them, "
                "the loss can't fall below about 1.46": cross_entropy(softmax(logits), labels).mean(),
                "the loss has the wrong sign, so it would fall as the model gets worse: put a minus before the mean":
                    -losses.mean(),
                "logits and labels are swapped: give the function logits=logits, labels=y_true": swapped,
                "the loss is the squared error, expected the cross-entropy": np.mean((softmax(logits) - labels) ** 2),
                "the loss is the cross-entropy of sigmoids, expected of the softmax": np.mean(
                    np.log1p(np.exp(logits)) - labels * logits
                ),
            },
            f"the loss is {found:.4g} where the mean cross-entropy is {losses.mean():.4g}: look at the formula above",
        )  # fmt: skip
        load(session, {variable: 1000 * value for variable, value in values.items()})
        logits, found = compute(session, tensors, {x: images, y_true: labels}, "the loss")
    expected = cross_entropy(logits, labels).mean()
    safe = "tf.nn.softmax_cross_entropy_with_logits_v2 computes softmax and logarithm together, safely"
    if not np.isfinite(found):
        raise CheckFailed(f"the loss of a confident mistake is {found}, because the logarithm gets a zero: {safe}")
    compare(found, expected, {}, f"the loss of confident mistakes is {found:.4g}, expected {expected:.4g}: {safe}")
    print("Right: the loss is the mean cross-entropy of the batch, finite for a confident mistake too.")


@friendly
def optimizer(names: Names) -> None:
    """Check that `opt_step` is a step of gradient descent on the loss."""
    x, y_true, *parameters = find_nodes(names, "x", "y_true", "weights", "biases")
    rate = float(find(names, "learning_rate"))
    if not rate >= 1e-5:
        raise CheckFailed(f"learning_rate is {rate:g}, expected a positive number, and at least 1e-05 for this check")
    opt_step = find_operation(names, "opt_step", x.graph, MINIMIZE)
    check_name("opt_step", opt_step.name, None, "optim")
    images, labels = made_up_batch(8)
    values = made_up(parameters)
    before = np.concatenate([value.reshape(-1, 10) for value in values.values()])  # the biases are the last row
    after = []
    with session_of(x.graph) as session:
        load(session, values)
        for _ in range(2):
            compute(session, opt_step, {x: images, y_true: labels}, "opt_step")
            after.append(np.concatenate([value.reshape(-1, 10) for value in session.run(parameters)]))

    def gradient(parameters: np.ndarray) -> np.ndarray:
        inputs = np.pad(images, ((0, 0), (0, 1)), constant_values=1)
        return inputs.T @ (softmax(inputs @ parameters) - labels) / len(images)

    first = gradient(before)
    try:
        _check_step((before - after[0]) / rate, first, rate)
    except CheckFailed:
        _require_right_loss(names)
        raise
    second = gradient(after[0])
    if not np.allclose((after[0] - after[1]) / rate, second, atol=0.02 * abs(second).max()):
        raise CheckFailed(
            "the first step is right, but the second one also moves along the first (momentum), "
            "expected tf.train.GradientDescentOptimizer(learning_rate)"
        )
    print(f"Right: opt_step moves weights and biases against the gradient of the loss, with the rate {rate:g}.")


def _require_right_loss(names: Names) -> None:
    try:
        with redirect_stdout(io.StringIO()):
            loss(names)
    except CheckFailed as error:
        raise CheckFailed(
            "the loss that opt_step minimizes is not right yet: begin with the check of the loss"
        ) from error


def _check_step(step: np.ndarray, gradient: np.ndarray, rate: float) -> None:
    """Compare a step, divided by the learning rate, with the gradient; float arrays [785, 10]."""
    size = abs(gradient).max()
    if np.allclose(step, gradient, atol=0.01 * size):
        return
    times = float((step * gradient).sum() / (gradient**2).sum())
    along = np.allclose(step, times * gradient, atol=0.01 * abs(times) * size)
    moved = abs(step[gradient != 0])
    still = [np.allclose(part, 0, atol=0.001 * size) for part in (step[:-1], step[-1])]
    if all(still):
        sentence = "opt_step changes neither weights nor biases: it must minimize loss"
    elif any(still):
        name = "weights" if still[0] else "biases"
        sentence = f"opt_step does not change {name}: let minimize(loss) find the variables by itself"
    elif along and abs(times + 1) < 0.02:
        sentence = "opt_step maximizes the loss: minimize loss itself, not -loss"
    elif along and abs(times - 8) < 0.1:
        sentence = "each step is the sum over the images, expected the mean: minimize loss, one number for the batch"
    elif along:
        sentence = f"the learning rate is {times * rate:.4g}, expected learning_rate, which is {rate:g}"
    elif np.allclose(moved, moved.max(), rtol=0.05):
        sentence = "every number moves equally far, as with Adam, expected tf.train.GradientDescentOptimizer"
    else:
        sentence = "opt_step does not follow the gradient of the loss: GradientDescentOptimizer must minimize loss"
    raise CheckFailed(sentence)


@friendly
def accuracy(names: Names) -> None:
    """Check `accuracy`."""
    x, y_true, *parameters = find_nodes(names, "x", "y_true", "weights", "biases")
    y_pred, found_in = find_nodes(names, "y_pred", "accuracy")
    images, labels = made_up_batch(8)
    with session_of(x.graph) as session:
        load(session, made_up(parameters))
        probabilities = compute(session, y_pred, {x: images}, "y_pred")
        classes = probabilities.argmax(1)
        classes[3:] += 1  # the first 3 of 8 are right
        labels = np.eye(10, dtype=np.float32)[classes % 10]
        found = compute(session, found_in, {x: images, y_true: labels}, "the accuracy")
    by_class = "number by number, expected the classes: compare y_pred_cls with y_true_cls"
    compare(
        found,
        3 / 8,
        {
            "the accuracy counts the right answers, expected their share: use tf.reduce_mean, not tf.reduce_sum": 3,
            "the accuracy is the share of wrong answers: use tf.equal": 5 / 8,
            "the accuracy is in percent, expected a share from 0 to 1": 37.5,
            "the accuracy is always 1: compare y_pred_cls with y_true_cls, and nothing with itself": 1,
            "the accuracy is always 0: use tf.equal, because in TensorFlow 1, == asks whether both are the same Python "
            f"object; or the accuracy compares probabilities with labels, {by_class}": 0,
            f"the accuracy compares rounded probabilities with labels, {by_class}":
                np.mean(np.round(probabilities) == labels),
            "the accuracy compares the images of each class, expected the classes of each image: argmax over axis 1":
                np.mean(probabilities.argmax(0) == labels.argmax(0)),
        },
        f"the accuracy is {found:.4g} where 3 of 8 answers are right: compare y_pred_cls with y_true_cls",
    )  # fmt: skip
    print("Right: accuracy is the share of images whose class is right.")


@friendly
def summaries(names: Names) -> None:
    """Check `init_op`, `merged_summary_op` and `saver`."""
    x, y_true, loss, accuracy = find_nodes(names, "x", "y_true", "loss", "accuracy")
    init_op = find_operation(names, "init_op", x.graph, "what tf.global_variables_initializer() returns")
    (merged,) = find_nodes(names, "merged_summary_op")
    saver = find_a(tf.train.Saver, names, "saver", "what tf.train.Saver() returns")
    images, labels = made_up_batch(6)
    variables = x.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
    with session_of(x.graph, initialized=False) as session:
        compute(session, init_op, {}, "init_op")
        for variable in variables:
            try:
                session.run(variable)
            except tf.errors.FailedPreconditionError as error:
                raise CheckFailed(
                    f"init_op leaves {variable.op.name} without a value: call tf.global_variables_initializer() "
                    "after all variables are made"
                ) from error
        results = compute(session, [merged, loss, accuracy], {x: images, y_true: labels}, "merged_summary_op")
        _check_tags(*results)
        with tempfile.TemporaryDirectory() as folder:
            path = saver.save(session, os.path.join(folder, "model"), write_meta_graph=False, write_state=False)
            saved = {name for name, _ in tf.train.list_variables(path)}
    if unsaved := {variable.op.name for variable in variables} - saved:
        raise CheckFailed(f"saver leaves out {min(unsaved)}: call tf.train.Saver() after all variables are made")
    print("Right: init_op gives every variable a value, TensorBoard gets Loss and Accuracy, saver saves all variables.")


def _check_tags(summary: bytes, loss: float, accuracy: float) -> None:
    values = tf.Summary.FromString(summary).value
    tags = sorted(value.tag for value in values)
    missing = [tag for tag in ("Loss", "Accuracy") if tag not in tags]
    if missing and len(tags) < 2:
        raise CheckFailed(
            f"the summary {missing[0]} is missing: make it with scalar_summary before tf.summary.merge_all"
        )
    if missing:
        hint = "scalar_summary keeps the tag that it gets, tf.summary.scalar may change it"
        raise CheckFailed(f"TensorBoard would show {' and '.join(tags)}, expected Accuracy and Loss: {hint}")
    found = {value.tag: value.simple_value for value in values}
    compare(
        [found["Loss"], found["Accuracy"]],
        [loss, accuracy],
        {"the tags are swapped: Loss shows the accuracy": [accuracy, loss]},
        "the summaries don't show loss and accuracy: look at the second argument of scalar_summary",
    )


@friendly
def same_graph(names: Names) -> None:
    """Compare `graph` with the graph of the package's `classifier`, by what they compute and node by node."""
    x, y_true, *measured = find_nodes(names, "x", "y_true", "loss", "accuracy")
    parameters = find_nodes(names, "weights", "biases")
    opt_step = find_operation(names, "opt_step", x.graph, MINIMIZE)
    c = find_a(Classifier, names, "classifier", "what build_classifier returns")
    results = [
        _one_step(x, y_true, measured, parameters, opt_step),
        _one_step(c.x, c.y_true, [c.loss, c.accuracy], c.graph.get_collection("trainable_variables"), c.opt_step),
    ]
    for what, found, expected in zip(("loss", "accuracy", "weights after a step", "biases after a step"), *results):
        if not close(found, expected):
            raise CheckFailed(f"for the same batch, the two graphs differ in the {what}: run the checks above again")
    nodes, others = ({node.name: node for node in graph.as_graph_def().node} for graph in (x.graph, c.graph))
    different = [name for name, node in nodes.items() if node != others.get(name)]
    missing = [name for name in others if name not in nodes]
    if different or missing:
        first = f"{different[0]} in yours" if different else f"{missing[0]} in the package's"
        print(
            f"Right: both graphs compute the same, yours with {len(nodes)} nodes and the package's with {len(others)}; "
            f"the first difference is {first}, which does no harm."
        )
    else:
        print(f"Right: both graphs have the same {len(nodes)} nodes.")


def _one_step(x: Any, y_true: Any, measured: list[Any], parameters: list[Any], opt_step: Any) -> list[np.ndarray]:
    """What is measured on a batch, and the parameters after a step on it."""
    images, labels = made_up_batch(100)
    with session_of(x.graph) as session:
        load(session, made_up(parameters))
        values = compute(session, measured, {x: images, y_true: labels}, "the loss")
        compute(session, opt_step, {x: images, y_true: labels}, "opt_step")
        return [*values, *session.run(parameters)]


@friendly
def next_path(names: Names) -> None:
    """Check the function `next_path` in temporary folders."""
    check_next_path(find_function(names, "next_path"))
    print("Right: next_path makes the next free directory and returns its path.")


@friendly
def training_loop(names: Names) -> None:
    """Check the function `iterate` on two small networks, without dropout and with it."""
    check_iterate(find_function(names, "iterate"))
    print("Right: iterate updates once for each batch, then measures it with dropout off.")


# Notebooks 2 to 4


@friendly
def lenet5(names: Names) -> None:
    """Check the function `build_lenet5`."""
    network = build_network(find_function(names, "build_lenet5"))
    values = made_up(network.variables())
    images = made_up_batch(4)[0]
    with session_of(network.graph) as session:
        check_initial_values(session, network)
        load(session, values)
        logits = compute(session, network.logits, {network.x: images}, "the network")
    compare_lenet5(logits, images, list(values.values()))
    print("Right: build_lenet5 is LeNet-5 in its scopes, and its weights start at small random values.")


@friendly
def parameter_count(names: Names) -> None:
    """Check `layer1` to `layer5` and `total`, the numbers of parameters."""
    classifier = find_a(Classifier, names, "classifier", "what build_classifier returns")
    layers = layer_parameters(classifier.graph)
    if [layer.weights_shapes for layer in layers] != [[shape] for shape in WEIGHTS.values()]:
        raise CheckFailed("classifier is not LeNet-5: go back to the cell that builds it")
    counts = []
    for number, layer in enumerate(layers, start=1):
        counts.append(_whole(names, f"layer{number}"))
        if counts[-1] != layer.total:
            raise CheckFailed(f"layer{number} is {counts[-1]:,}: {_why_count(number, layer, counts[-1])}")
    total = _whole(names, "total")
    if total != sum(counts):
        raise CheckFailed(f"total is {total:,}, but the five layers do not add up to this: add them again")
    print(f"Right: LeNet-5 has {total:,} parameters, and layer 3 alone has {counts[2] / total:.0%} of them.")


def _whole(names: Names, name: str) -> int:
    count = find(names, name)
    if isinstance(count, float) and count.is_integer():
        raise CheckFailed(f"{name} is {count}, expected an int: / makes a fraction, use //")
    if not isinstance(count, (int, np.integer)):
        raise CheckFailed(f"{name} is {reprlib.repr(count)}, expected a whole number, an int")
    if abs(int(count)) >= 10**9:
        raise CheckFailed(f"{name} has ten digits or more, far too many for LeNet-5: count again")
    return int(count)


def _why_count(number: int, layer: LayerParameters, count: int) -> str:
    """What a wrong number of parameters means; it does not tell the right one."""
    weights, biases = layer.weights, layer.biases
    wrong = {
        weights: f"the biases are missing, one for each of the {biases} outputs",
        weights + 1: f"that has a single bias, expected one for each of the {biases} outputs",
    }
    if number <= 2:
        positions, channels = ((28 * 28, 1), (10 * 10, 6))[number - 1]
        shared = f"that counts connections, but a filter uses the same weights at all of its {positions} positions"
        wrong |= dict.fromkeys((layer.total * positions, weights * positions, weights * positions + biases), shared)
        one_filter = f"that is one filter, but there are {biases}"
        wrong |= dict.fromkeys((25 * channels + 1, 25 * channels), one_filter)
    if number == 2:
        one_channel = "a filter of layer 2 looks at all 6 maps of layer 1, so it has 5x5x6 weights"
        wrong |= dict.fromkeys((25 * 16 + 16, 25 * 16), one_channel)
    if number == 3:
        for inputs, why in WRONG_INPUTS.items():
            wrong |= {inputs * 120 + bias: why for bias in (120, 0, 1)}
    kinds = "5x5 x input channels x filters" if number <= 2 else "inputs x outputs"
    return wrong.get(count, f"count the weights, {kinds}, and add the biases, one for each output")


WRONG_INPUTS = {
    784: "784 inputs are the pixels, or the 7x7x16 that SAME would leave, but in layer 2 VALID leaves 5x5x16",
    14 * 14 * 16: "that has 14x14x16 inputs, but layer 2's VALID convolution and pooling leave 5x5x16",
    10 * 10 * 16: "that has 10x10x16 inputs, but the second pooling leaves 5x5x16",
    5 * 5: "that has 5x5 inputs, but there are 16 maps of 5x5 numbers",
}


@friendly
def training(names: Names) -> None:
    """Check that `run` was trained as the settings say, that it learnt, and that it was tested."""
    run, mnist = _trained_run(names), find(names, "mnist")
    _check_losses(run.history.step_loss)
    try:
        logits = run.session.run(run.classifier.logits, {run.classifier.x: mnist.validation.images[:100]})
    except LabError as error:
        raise CheckFailed(
            "run is closed (the end of a with block does that), and later cells need it: "
            "write run = start_run(...) without with"
        ) from error
    if _are_probabilities(logits):
        raise CheckFailed(
            f"the softmax is applied twice, so the loss, {run.history.step_loss[-1]:.3g}, can't fall below 1.46: "
            "the network must return logits"
        )
    _check_settings(run, names, mnist.train.num_examples)
    again = "call print_accuracy(run, mnist) after the training"
    if run.test_accuracy is None:
        raise CheckFailed(f"run is not tested: {again}")
    accuracy_now = evaluate(run, mnist.test)
    if abs(run.test_accuracy - accuracy_now) > 0.002:
        raise CheckFailed(
            f"run was tested before the last training ({run.test_accuracy:.1%}, now {accuracy_now:.1%}): {again}"
        )
    print(f"Right: the loss of epoch {run.epoch} is {run.history.loss[-1]:.3f}, and the run is tested.")


AFRESH = "start a new run with start_run, then train it"


def _trained_run(names: Names) -> Run:
    """The run whose `history` the student has."""
    run = names.get("run")
    if names.get("history") is None and isinstance(run, Run) and run.batch_size:  # optimize began
        if run.epoch == names.get("epochs"):
            raise CheckFailed("optimize has finished, but its result was not kept: write history = optimize(...)")
        raise CheckFailed(
            f"the training stopped after {run.step} steps, before optimize returned history: if the loss became nan, "
            f"the learning rate or the weights are too large; {AFRESH}"
        )
    history = find_a(History, names, "history", "what optimize returns")
    run = find_a(Run, names, "run", "what start_run returns")
    if not run.step:
        raise CheckFailed("run is not trained: call history = optimize(run, mnist, epochs, batch_size)")
    if history is not run.history:
        raise CheckFailed("history is that of another run: run the training again, history = optimize(run, ...)")
    return run


def _check_settings(run: Run, names: Names, images: int) -> None:
    """Compare what a run did with the notebook's settings."""
    epochs, batch_size = find(names, "epochs"), find(names, "batch_size")
    if run.epoch != epochs:
        why = "perhaps its cell ran twice" if run.epoch > epochs else "perhaps it was stopped"
        raise CheckFailed(f"run has trained for {run.epoch} epochs, expected epochs, {epochs} ({why}): {AFRESH}")
    if run.batch_size != batch_size or run.step != epochs * (images // batch_size):
        raise CheckFailed(
            f"run took {run.step} steps in batches of {run.batch_size}, expected batch_size, {batch_size}: {AFRESH}"
        )
    seed = names.get("seed")
    if seed is not None and run.seed != seed:
        raise CheckFailed(f"run has the seed {run.seed}, expected {seed}: {AFRESH} with seed=seed")
    rate, used = names.get("learning_rate"), learning_rate(run.classifier.optimizer)
    if isinstance(rate, float) and used is not None and not np.isclose(used, rate):
        raise CheckFailed(f"run has the learning rate {used:g}, expected learning_rate, {rate:g}: {AFRESH}")
    if "keep_prob" in names:
        _check_keep_prob(run, names["keep_prob"])


def _check_keep_prob(run: Run, keep_prob: float) -> None:
    """Compare the keep_prob that `optimize` wrote into the event file with the notebook's."""
    if run.classifier.keep_prob is None:
        raise CheckFailed("run trains the network without dropout: build the classifier from build_lenet5_dropout")
    used = _used_keep_prob(run)
    if used is not None and not np.isclose(used, keep_prob):
        raise CheckFailed(
            f"run was trained with keep_prob {used:g}, expected keep_prob, {keep_prob:g}: give it to optimize, because "
            f"its default is 0.75; {AFRESH}"
        )


def _used_keep_prob(run: Run) -> float | None:
    """The keep_prob among the settings that `optimize` writes into the event file."""
    reader = read_events(run.directory)
    for tag in reader.Tags()["tensors"]:
        settings = b"".join(reader.Tensors(tag)[0].tensor_proto.string_val)
        found = re.search(rb"\| keep_prob \| (\S+) \|", settings)
        if tag.startswith("settings") and found:
            return float(found[1])
    return None


def _check_losses(step_loss: list[float]) -> None:
    """Recognize a training that went wrong by its losses."""
    last = np.mean(step_loss[-100:])
    if last > 1.3 * LN_10:
        raise CheckFailed(
            f"the loss ends at {last:.3g}, but a guess has ln 10 = 2.303, so the network is confident and wrong: "
            "the learning rate or the initial weights are too large"
        )
    if abs(last - LN_10) < 0.02 and len(step_loss) >= STUCK_AFTER:
        raise CheckFailed(
            f"after {len(step_loss):,} steps the loss is still {last:.3f}, and a guess has ln 10 = 2.303: the learning "
            "rate is too small, the weights all start at zero, or a ReLU stands before the loss"
        )


@friendly
def curves(names: Names) -> None:
    """Check `accuracy_curve` and `loss_curve`, which are read from the event file of `run`."""
    run = find_a(Run, names, "run", "what start_run returns")
    steps = {"Accuracy": run.history.step_accuracy, "Loss": run.history.step_loss}
    for name, tag, other in (("accuracy_curve", "Accuracy", "Loss"), ("loss_curve", "Loss", "Accuracy")):
        read = f'read_curve(run.directory, "{tag}")'
        for label, curve in find_a(dict, names, name, "a dict, {label: " + read + "}").items():
            if not isinstance(curve, Curve):
                raise CheckFailed(f"{name}[{label!r}] is {kind_of(curve)}, expected a curve: {read} reads it")
            if close(curve.values, steps[other]) and not close(curve.values, steps[tag]):
                raise CheckFailed(f'{name} has the values tagged "{other}", expected those tagged "{tag}"')
        if not any(close(curve.values, steps[tag]) for curve in names[name].values()):
            lengths = ", ".join(str(len(curve.values)) for curve in names[name].values()) or "no"
            raise CheckFailed(f"{name} has {lengths} values, expected those of all {run.step} steps of run: {read}")
    print(f"Right: both curves have all {run.step} steps of this run.")


@friendly
def adam(names: Names) -> None:
    """Check that `classifier` is LeNet-5 with `tf.train.AdamOptimizer`."""
    if names.get("classifier") is None:
        raise CheckFailed(f"classifier is missing: fill in the cell of the classifier{IF_MISSING['classifier']}")
    classifier = find_a(Classifier, names, "classifier", "what build_classifier returns")
    optimizer, rate = classifier.optimizer, find(names, "learning_rate")
    if not isinstance(optimizer, tf.train.AdamOptimizer):
        raise CheckFailed(f"the optimizer is {optimizer.get_name()}, expected tf.train.AdamOptimizer(learning_rate)")
    found = learning_rate(optimizer)
    if found is None or not np.isclose(found, rate):
        raise CheckFailed(f"the learning rate of Adam is {found}, expected learning_rate, which is {rate}")
    check_lenet5_variables(classifier.graph)
    print(f"Right: LeNet-5 with Adam, learning rate {rate:g}.")


@friendly
def optimizer_table(names: Names) -> None:
    """Check `table`, the table of the two optimizers."""
    table = find_a(str, names, "table", "the text that optimizer_table returns")
    results = {"Gradient Descent": find(names, "gradient_descent"), "AdamOptimizer": find(names, "adam")}
    if table != right_table(results):
        wrong = {
            "the columns are swapped: under each heading belongs its own result":
                dict(zip(results, reversed(results.values()))),
            "the column of AdamOptimizer is missing": {"Gradient Descent": results["Gradient Descent"]},
            "the column of Gradient Descent is missing": {"AdamOptimizer": results["AdamOptimizer"]},
            "both columns show Adam's result": dict.fromkeys(results, results["AdamOptimizer"]),
            "both columns show gradient descent's result": dict.fromkeys(results, results["Gradient Descent"]),
            "the columns are in the other order: gradient descent comes first": dict(reversed(results.items())),
            "the table is empty: give optimizer_table both results": {},
        }  # fmt: skip
        call_it = '{"Gradient Descent": gradient_descent, "AdamOptimizer": adam}'
        raise CheckFailed(
            next((text for text, columns in wrong.items() if table == right_table(columns)),
                 f"the headings are not the expected ones: give optimizer_table {call_it}")
        )  # fmt: skip
    print("Right: the table has the test accuracy and the training time of both optimizers.")


@friendly
def dropout(names: Names) -> None:
    """Check the function `build_lenet5_dropout`."""
    function = find_function(names, "build_lenet5_dropout")
    parameters = inspect.signature(function).parameters
    if len(parameters) < 2 or "keep_prob" not in parameters:
        raise CheckFailed("build_lenet5_dropout takes x and keep_prob: build_lenet5_dropout(x, keep_prob)")
    if parameters["keep_prob"].default is not inspect.Parameter.empty:
        raise CheckFailed(
            f"keep_prob has the default {parameters['keep_prob'].default}, so nobody could switch dropout on and off: "
            "leave the default out"
        )
    network = build_network(function, dropout=True)
    values = made_up(network.variables())
    with session_of(network.graph) as session:
        load(session, values)
        check_dropout(session, network, list(values.values()))
    print("Right: dropout keeps each of the 400 features with probability keep_prob, and 1 switches it off.")


@friendly
def feeding(names: Names) -> None:
    """Check `on` and `off`, the logits of three copies of a digit with dropout on and off."""
    on, off = (_three_rows(names, name) for name in ("on", "off"))
    on_varies, off_varies = (not close(rows, rows[[0, 0, 0]]) for rows in (on, off))
    if off_varies and not on_varies:
        raise CheckFailed("on and off are swapped: with dropout on, the three copies get different logits")
    if (off_varies and _of_digits(names, off)) or (on_varies and _of_digits(names, on)):
        raise CheckFailed("these are three different digits: take one image three times, images[[0, 0, 0]]")
    if off_varies:
        raise CheckFailed("dropout was on for off, where the rows differ: leave keep_prob out of its feed_dict")
    if not on_varies:
        raise CheckFailed(
            "dropout was off for on, where all rows are the same: feed keep_prob, {classifier.keep_prob: ...}"
        )
    run = find_a(Run, names, "run", "what start_run returns")
    same_digit = names.get("same_digit") or {run.classifier.x: find(names, "mnist").validation.images[[0, 0, 0]]}
    if not close(off, run.session.run(run.classifier.logits, same_digit)):
        raise CheckFailed(
            "off is not what run gives for same_digit alone, now: feed nothing else, and run its cell again"
        )
    if "keep_prob" in names:
        _check_spread(on - off, run, same_digit[run.classifier.x], names["keep_prob"])
    print("Right: with dropout on, three copies of a digit get different logits; with it off, the same.")


def _check_spread(changes: np.ndarray, run: Run, images: np.ndarray, keep_prob: float) -> None:
    """Compare how far dropout moves logits with what it does to more copies of the image, in a session apart."""
    c = run.classifier
    variables = c.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
    with session_of(c.graph, initialized=False) as session:
        load(session, dict(zip(variables, run.session.run(variables))))
        feed = {c.x: images[[0] * 200], c.keep_prob: keep_prob}
        expected = session.run(c.logits, feed) - session.run(c.logits, {c.x: images[:1]})
    if not 0.45 < np.sqrt(np.mean(changes**2) / np.mean(expected**2)) < 2.2:  # for 0.25 in place of 0.75, 3
        raise CheckFailed(f"on is not what run gives for same_digit with keep_prob, which is {keep_prob:g}: feed both")


def _three_rows(names: Names, name: str) -> np.ndarray:
    value = find(names, name)
    if isinstance(value, tf.Tensor):
        hint = "compute it with run.session.run(classifier.logits, feed_dict=...)"
        raise CheckFailed(f"{name} is a tensor without a value yet: {hint}")
    rows = np.asarray(value)
    if rows.shape != (3, 10):
        hint = "the logits of three copies of an image, images[[0, 0, 0]]"
        raise CheckFailed(f"{name} has shape {shown(rows.shape)}, expected (3, 10): {hint}")
    if _are_probabilities(rows):
        raise CheckFailed(f"{name} has probabilities, expected logits: run classifier.logits, not classifier.y_pred")
    return rows


def _are_probabilities(logits: np.ndarray) -> bool:
    """Whether they add up to 1, which logits never do, except by chance."""
    return close(logits.sum(axis=1), np.ones(len(logits))) and bool((logits >= 0).all())


def _of_digits(names: Names, logits: np.ndarray) -> bool:
    """Whether each row is what the network gives for a digit of the validation set, with dropout off."""
    run = find_a(Run, names, "run", "what start_run returns")
    probabilities = predict(run, find(names, "mnist").validation.images)
    return all(abs(probabilities - row).max(axis=1).min() < 1e-6 for row in softmax(logits))
