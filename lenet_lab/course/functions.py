"""How the checks try out a student's functions: `next_path`, `iterate`, and LeNet-5 without and with dropout."""

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from lenet_lab.classifier import build_classifier
from lenet_lab.compat import tf
from lenet_lab.course.inspection import (
    CheckFailed,
    call,
    close,
    compare,
    compute,
    kind_of,
    load,
    made_up,
    made_up_batch,
    name_of,
    relu,
    shown,
    softmax,
)
from lenet_lab.models import build_softmax_regression
from lenet_lab.models import dropout as repeatable_dropout
from lenet_lab.runs import Model
from lenet_lab.training import iterate as right_iterate

# next_path

# A pattern, the numbers that are there already, and what it means if a function returns one of these.
FOLDERS: tuple[tuple[str, Iterable[int], str], ...] = (
    ("run_%02d", (), "each call must find a new number"),
    ("run_%02d", (1, 3), "run_01 and run_03 were there, and to count the directories gives a number that is taken"),
    ("run_%d", range(1, 11), "run_1 to run_10 were there, and sorted as text run_9 comes last, so compare the numbers"),
    ("run_%03d", (1,), "run_001 was there"),
)


def check_next_path(function: Callable[..., Any]) -> None:
    """Call a student's `next_path` in temporary folders with directories that are there already."""
    for name, numbers, meaning in FOLDERS:
        with tempfile.TemporaryDirectory() as folder:
            pattern = os.path.join(folder.replace("%", "%%"), "softmax", name)
            files = [os.path.join(pattern % number, "events") for number in numbers]
            for file in files:
                os.makedirs(os.path.dirname(file))
                open(file, "w").close()
            taken = {os.path.dirname(file) for file in files}
            for _ in range(3):
                taken.add(_claimed(function, pattern, taken, meaning))
            if not all(map(os.path.exists, files)):
                raise CheckFailed("next_path empties a directory that was there: leave the existing ones alone")


def _claimed(function: Callable[..., Any], pattern: str, taken: set[str], meaning: str) -> str:
    """The path that a student's `next_path` returns; it must be new."""
    path = call(function, pattern, advice=meaning)
    if not isinstance(path, str):
        hint = "end it with return and the path" if path is None else "expected the path, a str"
        raise CheckFailed(f"next_path returns {path!r}: {hint}")
    path, name = os.path.normpath(path), os.path.basename(path)
    if path not in {pattern % number for number in range(1, 1000)}:
        why = _why_unlike(path, pattern)
        raise CheckFailed(f"for the pattern {os.path.basename(pattern)}, next_path returns {name}: {why}")
    if path in taken:
        raise CheckFailed(f"next_path returns {name}, which exists already: {meaning}")
    if not taken and path != pattern % 1:
        raise CheckFailed(f"next_path begins with {name}, expected {os.path.basename(pattern % 1)}")
    if not os.path.isdir(path):
        raise CheckFailed(f"next_path returns {name} but does not make this directory: os.makedirs does")
    return path


def _why_unlike(path: str, pattern: str) -> str:
    """Why a path is none that the pattern makes."""
    if path == pattern % 0:
        return "the first number is 1"
    if re.search(r"\d\.\d", os.path.basename(path)):
        return "the number has a fraction, because in Python 3 a / b always gives one, while a // b is whole"
    if "%" in os.path.basename(path):
        return "put the number into it, path_pattern % number"
    return "path_pattern % number keeps its folder and its number of digits"


# iterate


def _loop(run: Model, x_batches: Any, y_batches: Any, keep_prob: float, order: str, dropout: str) -> list[Any]:
    """A training loop: its `order` of updates (u) and measurements (m), and which of these have dropout on."""
    c = run.classifier
    records = []
    for x_batch, y_batch in zip(x_batches, y_batches):
        for action in order:
            feed = {c.x: x_batch, c.y_true: y_batch} | (c.feed_dropout(keep_prob) if action in dropout else {})
            if action == "u":
                run.session.run(c.opt_step, feed)
            else:
                records.append(run.session.run([c.loss, c.accuracy], feed))
    return records


TWICE = "each batch is trained on twice: run opt_step once for each, and not again with the loss"
# By the order and the dropout of `_loop`, what the mistake is.
WRONG_LOOPS = {
    ("mu", "u"): "the loss is measured before the update: run opt_step first, then loss, accuracy and summary",
    ("mu", "um"): "the loss is measured before the update and with dropout on: call session.run twice, and feed the "
    "dropout only to the first call",
    ("uum", "u"): TWICE,
    ("umu", "u"): TWICE,
    ("um", "um"): "dropout is on while the loss is measured: feed it only to opt_step",
    ("um", ""): "dropout is off in training: add run.classifier.feed_dropout(keep_prob) to what opt_step gets",
    ("um", "m"): "dropout is on in measuring and off in training: feed it the other way round",
}


def check_iterate(function: Callable[..., Any]) -> None:
    """Run a student's `iterate` on two small networks, without dropout and with it."""
    for build in (build_softmax_regression, _with_dropout):
        with Model(build_classifier(build, tf.train.GradientDescentOptimizer(0.1))) as small_model:
            _check_iterate(function, small_model)


def _with_dropout(x: tf.Tensor, keep_prob: tf.Tensor) -> tf.Tensor:
    return build_softmax_regression(repeatable_dropout(x, keep_prob))


def _check_iterate(function: Callable[..., Any], small_model: Model) -> None:
    images, labels = (numbers.reshape(3, 8, -1) for numbers in made_up_batch(24))
    session, graph = small_model.session, small_model.classifier.graph
    parameters = graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES)
    session.run(small_model.classifier.init_op)
    variables = graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
    start = dict(zip(variables, session.run(variables))) | made_up(parameters)

    def outcome(iterate: Callable[..., Any], batches: int = 3) -> tuple[Any, np.ndarray]:
        """What a loop returns, and the weights that it leaves."""
        load(session, start)
        advice = "it needs only run.session, run.classifier and the batches"
        records = call(iterate, small_model, images[:batches], labels[:batches], 0.5, advice=advice)
        return records, session.run(parameters[0])

    records, weights = outcome(function)
    if close(weights, start[parameters[0]]):
        raise CheckFailed("iterate leaves the weights as they are: run opt_step for each batch")
    found = _measured(records)
    right_records, right_weights = outcome(right_iterate)
    right = np.array([record[:2] for record in right_records])
    if close(weights, right_weights) and close(found, right):
        _check_events(records)
        return
    if close(weights, outcome(right_iterate, 1)[1]):
        raise CheckFailed("iterate trains only on the first batch: run opt_step for each batch, inside the loop")
    for (order, dropout), sentence in WRONG_LOOPS.items():
        wrong, wrong_weights = outcome(partial(_loop, order=order, dropout=dropout))
        if close(weights, wrong_weights) and close(found, wrong):
            raise CheckFailed(sentence)
    if close(found, right[:, ::-1]):
        raise CheckFailed("iterate returns the accuracy before the loss, expected (loss, accuracy, event)")
    if close(weights, right_weights):
        raise CheckFailed("the updates are right, but not what is measured: measure each batch right after its update")
    raise CheckFailed("the updates are not one for each batch, in their order: look at what opt_step is fed")


def _measured(records: Any) -> np.ndarray:
    """Loss and accuracy of each batch, from what an `iterate` returns for three of them."""
    if not isinstance(records, (list, tuple)):
        hint = "collect the records in it and end with return"
        raise CheckFailed(f"what iterate returns is {kind_of(records)}, expected a list: {hint}")
    if len(records) != 3:
        hint = "add a record in each turn of the loop, and return after it"
        raise CheckFailed(f"the list that iterate returns has length {len(records)} for 3 batches: {hint}")
    for record in records:
        if not isinstance(record, (list, tuple)) or len(record) != 3:
            raise CheckFailed(f"a record is {kind_of(record)}, expected (loss, accuracy, event)")
        event = record[2]
        if not isinstance(event, tf.Event):
            hint = "tf.Event(wall_time=time.time(), summary=tf.Summary.FromString(summary)) makes it"
            raise CheckFailed(f"the third value is {kind_of(event)}, expected a tf.Event: {hint}")
        if not event.wall_time:
            raise CheckFailed("the events have no time, which the curves need: give them wall_time=time.time()")
    return np.array([record[:2] for record in records], float)


def _check_events(records: Sequence[tuple[Any, Any, tf.Event]]) -> None:
    """Check that each event has the loss and the accuracy of its record."""
    for loss, accuracy, event in records:
        values = {value.tag: value.simple_value for value in event.summary.value}
        if not close([values.get("Loss", np.nan), values.get("Accuracy", np.nan)], [loss, accuracy]):
            raise CheckFailed(
                "an event lacks the loss and the accuracy of its batch, tagged Loss and Accuracy: its summary is "
                "tf.Summary.FromString(summary), with the summary that session.run returns with them"
            )


# LeNet-5

WEIGHTS: dict[int, tuple[int, ...]] = {1: (5, 5, 1, 6), 2: (5, 5, 6, 16), 3: (400, 120), 4: (120, 84), 5: (84, 10)}
SHAPES = {
    f"lenet5/layer{layer}/{kind}{layer}": its_shape
    for layer, shape in WEIGHTS.items()
    for kind, its_shape in (("weights", shape), ("bias", shape[-1:]))
}
WEIGHTS_WHY = {
    1: "filters of 5x5 pixels, 1 input channel, 6 filters",
    2: "filters of 5x5 pixels, 6 input channels (the maps of layer 1), 16 filters",
    3: "5x5x16 = 400 features in, 120 numbers out",
    4: "120 numbers in, 84 out",
    5: "84 numbers in, one logit out for each of the 10 classes",
}


class Network(NamedTuple):
    """A network in a graph of its own."""

    graph: tf.Graph
    x: tf.Tensor
    keep_prob: tf.Tensor | None
    logits: tf.Tensor

    def variables(self) -> list[tf.Variable]:
        """In the order of `SHAPES`, whatever order they were made in."""
        variables = self.graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES)
        by_name = {_short_name(variable): variable for variable in variables}
        return [by_name[name] for name in SHAPES]


def build_network(build: Callable[..., tf.Tensor], dropout: bool = False) -> Network:
    """Build a student's LeNet-5 as `build_classifier` does, and check its variables and the shape of its logits."""
    graph = tf.Graph()
    with graph.as_default():
        x = tf.placeholder(tf.float32, [None, 784], name="inputs")
        keep_prob = tf.placeholder_with_default(1.0, [], name="keep_prob") if dropout else None
        arguments = (x,) if keep_prob is None else (x, keep_prob)
        with tf.name_scope("model"):
            try:
                logits = call(build, *arguments, advice="compare the shapes with the table of layers")
            except CheckFailed:
                _check_sizes(graph)  # a wrong size here explains an error that comes later
                _check_shapes(graph)
                raise
    name = name_of(build)
    if logits is None:
        raise CheckFailed(f"{name} returns None: end it with return and the logits")
    if not isinstance(logits, tf.Tensor):
        raise CheckFailed(f"{name} returns a {type(logits).__name__}, expected a tensor, the logits alone")
    _check_sizes(graph)
    check_lenet5_variables(graph)
    if logits.graph is not graph or logits.shape.rank != 2 or logits.shape.as_list() != [None, 10]:
        raise CheckFailed(f"{name} returns {logits}, expected the logits of layer 5, of shape (?, 10)")
    for scope in ("reshape", "flatten"):
        if not any(f"/{scope}/" in op.name for op in graph.get_operations()):
            raise CheckFailed(f'the scope {scope} is missing: reshape in the block of tf.name_scope("{scope}")')
    return Network(graph, x, keep_prob, logits)


def _check_sizes(graph: tf.Graph) -> None:
    """Check the sides of the feature maps, which show where the padding or the pooling is wrong."""
    operations = graph.get_operations()
    convolutions = [op for op in operations if op.type == "Conv2D"]
    maps = [convolutions[0].outputs[0]] if convolutions else []
    if len(convolutions) == 2:
        later = operations[operations.index(convolutions[1]) :]
        maps += [convolutions[1].inputs[0], convolutions[1].outputs[0]]
        if any(op.type == "Reshape" for op in later):  # all maps are there
            maps += [o for op in later for o in op.outputs if o.shape.rank == 4 and o.shape.as_list()[0] is None][-1:]
    for tensor, (side, place, why) in zip(maps, SIZES):
        height, width = tensor.shape.as_list()[1:3]
        if (height, width) != (side, side):
            raise CheckFailed(f"{place} {height}x{width} numbers, expected {side}x{side}: {why}")


SAME = 'padding="SAME" adds zeros around, so 28 stays 28; with "VALID" the filter must fit inside, and 28 - 5 + 1 = 24'
VALID = (
    'with padding="VALID" the filter must fit inside, and 14 - 5 + 1 = 10; "SAME" would keep 14 and make 784 features'
)
SIZES = (
    (28, "each map of layer 1's convolution has", SAME),
    (14, "each map that layer 2 gets has", "max pooling in layer 1, 2x2 with strides=2, makes 14 of 28"),
    (10, "each map of layer 2's convolution has", VALID),
    (5, "each map before the flattening has", "max pooling in layer 2, 2x2 with strides=2, makes 5 of 10"),
)  # fmt: skip


def check_lenet5_variables(graph: tf.Graph) -> None:
    """Check the names, the scopes and the shapes of LeNet-5's ten variables."""
    _check_shapes(graph)
    others = {name: shape for name, shape in _shapes(graph).items() if name not in SHAPES}
    for name in SHAPES:
        if name not in _shapes(graph):
            raise CheckFailed(_why_missing(name, others))
    if others:
        raise CheckFailed(f"there is a variable too many, {min(others)}: each layer has its weights and its bias")


def _check_shapes(graph: tf.Graph) -> None:
    for name, shape in _shapes(graph).items():
        expected = SHAPES.get(name, shape)
        if shape != expected:
            why = WEIGHTS_WHY[int(name[-1])] if len(expected) > 1 else "one bias for each output of the layer"
            raise CheckFailed(f"{name} has shape {shown(shape)}, expected {shown(expected)}: {why}")


def _shapes(graph: tf.Graph) -> dict[str, tuple[int, ...]]:
    """The shapes of the trainable variables by their short names."""
    variables = graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES)
    return {_short_name(variable): tuple(variable.shape.as_list()) for variable in variables}


def _short_name(variable: tf.Variable) -> str:
    """Without the scope `model`, which a variable made by tf.get_variable does not have."""
    return variable.op.name.removeprefix("model/")


def _why_missing(name: str, others: Mapping[str, tuple[int, ...]]) -> str:
    scope, _, last = name.rpartition("/")
    for other in others:
        if other.rpartition("/")[2] == last:
            return f"{last} is called {other}, expected {name}: look at the scopes lenet5 and layer{last[-1]}"
    for other, its_shape in others.items():
        if its_shape == SHAPES[name]:
            return f"the variable {other} should be called {name}: give it the name {last}, in the scope {scope}"
    kind = "weights" if "weights" in last else "a bias, one number for each output"
    return f"the variable {name} is missing: layer {last[-1]} needs {kind}"


Step = Callable[[np.ndarray, np.ndarray], np.ndarray]  # what a layer makes of its sums and its bias


def lenet5_logits(
    images: np.ndarray, values: Sequence[np.ndarray], steps: Sequence[Step] = (), pool: Any = np.max
) -> np.ndarray:
    """LeNet-5's logits, in NumPy. Other `steps` and another `pool` make the networks of known mistakes."""
    return lenet5_end(lenet5_features(images, values, steps, pool), values, steps)


def lenet5_features(
    images: np.ndarray, values: Sequence[np.ndarray], steps: Sequence[Step] = (), pool: Any = np.max
) -> np.ndarray:
    """The 400 features of each image."""
    maps = images.reshape(-1, 28, 28, 1)
    for layer, padding in enumerate((2, 0)):
        weights, bias = values[2 * layer : 2 * layer + 2]
        maps = np.pad(maps, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(maps, (5, 5), axis=(1, 2))
        maps = (steps or STEPS)[layer](np.einsum("nhwcij,ijco->nhwo", windows, weights, optimize=True), bias)
        count, side, _, channels = maps.shape
        maps = pool(maps.reshape(count, side // 2, 2, side // 2, 2, channels), axis=(2, 4))
    return maps.reshape(len(images), -1)


def lenet5_end(features: np.ndarray, values: Sequence[np.ndarray], steps: Sequence[Step] = ()) -> np.ndarray:
    """The logits of the 400 features."""
    for layer in (2, 3, 4):
        features = (steps or STEPS)[layer](features @ values[2 * layer], values[2 * layer + 1])
    return features


STEPS: tuple[Step, ...] = (*4 * (lambda z, b: relu(z + b),), lambda z, b: z + b)


def compare_lenet5(found: np.ndarray, images: np.ndarray, values: Sequence[np.ndarray]) -> None:
    """Fail unless the logits are LeNet-5's; say which known mistake gives them."""
    expected = lenet5_logits(images, values)
    if close(found, expected):
        return
    mistakes = {sentence: lenet5_logits(images, values, steps) for sentence, steps in _wrong_steps().items()}
    average = "the pooling takes the mean of each 2x2 block, expected the largest value: use tf.nn.max_pool"
    mistakes[average] = lenet5_logits(images, values, pool=np.mean)
    compare(
        found, expected, mistakes,
        "with made-up weights, the logits are not LeNet-5's: compare each layer with the table, operation by operation",
    )  # fmt: skip


def _wrong_steps() -> dict[str, tuple[Step, ...]]:
    """For each known mistake, what it makes of the steps."""
    wrong: dict[str, tuple[Step, ...]] = {
        "no layer has a ReLU, so the whole network is only one linear layer: tf.nn.relu belongs around layers 1 to 4":
            5 * (lambda z, b: z + b,),
        "tanh takes the place of ReLU, as in 1998; this lab's LeNet-5 has tf.nn.relu":
            (*4 * (lambda z, b: np.tanh(z + b),), STEPS[4]),
        "the sigmoid takes the place of ReLU; this lab's LeNet-5 has tf.nn.relu":
            (*4 * (lambda z, b: 1 / (1 + np.exp(-z - b)),), STEPS[4]),
        "the logits go through a ReLU, which cuts off the negative ones: layer 5 has none":
            (*STEPS[:4], lambda z, b: relu(z + b)),
        "the network returns probabilities, expected logits: the loss has the softmax, and two are one too many":
            (*STEPS[:4], lambda z, b: softmax(z + b)),
        "layer 5 does not add its bias: add bias5 to the product": (*STEPS[:4], lambda z, b: z),
    }  # fmt: skip
    for layer in range(4):
        here: dict[str, Step] = {
            "has no ReLU: put tf.nn.relu around the sum": lambda z, b: z + b,
            f"does not add its bias: add bias{layer + 1} before the ReLU": lambda z, b: relu(z),
            "adds its bias after the ReLU: add it before": lambda z, b: relu(z) + b,
        }
        wrong |= {f"layer {layer + 1} {what}": (*STEPS[:layer], s, *STEPS[layer + 1 :]) for what, s in here.items()}
    for layers in (*combinations(range(4), 2), *combinations(range(4), 3)):
        sentence = (
            f"layers {' and '.join(str(layer + 1) for layer in layers)} have no ReLU: put tf.nn.relu around the sum"
        )
        wrong[sentence] = tuple(STEPS[4] if layer in layers else step for layer, step in enumerate(STEPS))
    return wrong


def check_initial_values(session: tf.Session, network: Network) -> None:
    """Check that the weights start at random, the right size, and the biases near zero."""
    for variable, value in zip(network.variables(), session.run(network.variables())):
        name = variable.op.name.rpartition("/")[2]
        deviation, largest = value.std(), abs(value).max()
        if value.ndim == 1:
            if largest > 0.2:
                raise CheckFailed(f"{name} starts at {largest:.2g}, expected 0: bias_variable makes it so")
        elif deviation == 0:
            raise CheckFailed(
                f"all numbers of {name} start at {largest:g}, so they get the same gradients and stay the same: "
                "weight_variable makes random ones"
            )
        elif not 0.005 < deviation < 0.45:
            size = "small" if deviation < 0.1 else "large, so the loss would begin far above ln 10"
            raise CheckFailed(f"{name} starts too {size}: the deviation is {deviation:.2g}, expected about 0.1")


def check_dropout(session: tf.Session, network: Network, values: Sequence[np.ndarray]) -> None:
    """Check where dropout is, how much it keeps, and that it can be switched off."""
    images = made_up_batch(32)[0]
    images[1] = images[0]

    def run(tensors: Any, keep_prob: float) -> Any:
        return compute(session, tensors, {network.x: images, network.keep_prob: keep_prob}, "the network")

    off = run(network.logits, 1.0)
    output = _dropout_output(network.graph)
    if output is None:
        if close(off, run(network.logits, KEEP_PROB)):
            raise CheckFailed("keep_prob changes nothing: put dropout between flatten and layer3")
        raise CheckFailed('dropout is not in the scope dropout: make it in the block of tf.name_scope("dropout")')
    size = np.prod(output.shape.as_list()[1:])
    if size != 400:
        raise CheckFailed(f"dropout acts on {size} numbers of each image, expected the 400 between flatten and layer3")
    if not output.op.name.startswith(("model/dropout/", "model/lenet5/dropout/")):
        raise CheckFailed(
            f'dropout is in another scope, as {output.op.name}: make it in the block of tf.name_scope("dropout")'
        )
    dropped, on = run([output, network.logits], KEEP_PROB)
    features = lenet5_features(images, values)
    dropped = dropped.reshape(features.shape)
    _check_dropped(dropped, features)
    if close(on, lenet5_end(features, values)):
        raise CheckFailed("layer 3 does not use what dropout returns: give it that instead of the 400 features")
    compare_lenet5(off, images, values)
    if not close(on, lenet5_end(dropped, values)):
        raise CheckFailed("dropout acts on more than the 400 features: put it before layer3, and nowhere else")


KEEP_PROB = 0.6  # neither the lab's 0.75 nor half


def _dropout_output(graph: tf.Graph) -> tf.Tensor | None:
    """The last tensor with a row for each image in a scope `dropout`."""
    tensors = [op.outputs[0] for op in graph.get_operations() if "/dropout/" in op.name and op.outputs]
    tensors = [t for t in tensors if t.dtype == tf.float32 and t.shape.rank in (2, 4) and t.shape.as_list()[0] is None]
    return tensors[-1] if tensors else None


def _check_dropped(dropped: np.ndarray, features: np.ndarray) -> None:
    """Compare features after dropout with those before it."""
    alive = features > 1e-3
    kept = dropped[alive] != 0
    factors = dropped[alive][kept] / features[alive][kept]
    if not kept.any() or not close(factors, np.full_like(factors, np.median(factors))):
        return  # other features: `compare_lenet5` finds out why
    share = kept.mean()
    if share < 1 and close(dropped[0], dropped[1]):  # of the same image
        raise CheckFailed("all images lose the same features, expected others for each image: leave out noise_shape")
    if abs(share - (1 - KEEP_PROB)) < 0.03:
        raise CheckFailed(
            f"with keep_prob {KEEP_PROB}, dropout keeps {share:.0%} of the features: lenet_lab.models.dropout takes "
            "the share to keep, dropout(x, keep_prob); in tf.nn.dropout, rate is the share that it drops, "
            "so rate = 1 - keep_prob"
        )
    if abs(share - KEEP_PROB) > 0.03:
        raise CheckFailed(
            f"with keep_prob {KEEP_PROB}, dropout keeps {share:.0%} of the features, so it can't be switched off for "
            "the test: use the argument keep_prob, not a number"
        )
    if abs(np.median(factors) - 1 / KEEP_PROB) > 0.01:
        raise CheckFailed("the kept features are not divided by keep_prob, so their sum shrinks: tf.nn.dropout does it")
