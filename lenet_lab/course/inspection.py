"""What the self-checks share: they find what a student made, run it in a session apart, and explain a wrong value."""

import functools
import inspect
import re
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from lenet_lab.compat import describe_error, tf
from lenet_lab.sessions import thread_settings

Names = Mapping[str, Any]  # from the names in a notebook to their values: its `globals()`


class CheckFailed(AssertionError):
    """An answer is missing or wrong; the message says in one sentence what to look at.

    Parameters
    ----------
    sentence : str
        Without "Not yet" and without a full stop.
    """

    def __init__(self, sentence: str):
        super().__init__(f"Not yet: {sentence}.")

    def _render_traceback_(self) -> list[str]:
        """What Jupyter and IPython show: the sentence, without a traceback."""
        return [str(self)]


def friendly(check: Callable[[Names], None]) -> Callable[[Names], None]:
    """Turn every error that a check did not expect into a sentence."""

    @functools.wraps(check)
    def checked(names: Names) -> None:
        try:
            check(names)
        except CheckFailed:
            raise
        except Exception as error:
            raise CheckFailed(
                f"the check stopped with {_first_line(error)}; run the cells from the top, then this one again"
            ) from error

    return checked


# Finding what the student made

CELLS = {
    "the cell of the placeholders": ("x", "y_true", "y_true_cls"),
    "the cell of the variables": ("weights", "biases"),
    "the cell of the model": ("logits", "y_pred", "y_pred_cls"),
    "the cell of the loss": ("loss",),
    "the cell of the optimizer": ("opt_step",),
    "the cell of the accuracy": ("accuracy",),
    "the cell of the summaries": ("init_op", "merged_summary_op", "saver"),
    "the cell that counts the parameters": ("layer1", "layer2", "layer3", "layer4", "layer5", "total"),
    "the cell of the training": ("history",),
    "the cell of the curves": ("accuracy_curve", "loss_curve"),
    "the cell of the table": ("table",),
    "the cell of this function": ("next_path", "iterate", "build_lenet5", "build_lenet5_dropout"),
    "the cell that feeds the dropout": ("on", "off"),
}
CELL_OF = {name: cell for cell, names in CELLS.items() for name in names}
IF_MISSING = {
    "init_op": "; it is what tf.global_variables_initializer() returns",
    "merged_summary_op": "; tf.summary.merge_all() returns None if it comes before the two summaries",
    "run": "; it is what start_run returns",
    "history": "; it is what optimize returns",
    "classifier": "; build_classifier takes the network, then an optimizer of tf.train (not of Keras)",
}


def find(names: Names, name: str) -> Any:
    """The value of a name, which is not None."""
    value = names.get(name)
    if value is None or value is ...:
        state = "None" if name in names else "missing"
        cell = CELL_OF.get(name)
        advice = f"fill in {cell} and run it" if cell else "run the cells above this one, from the top"
        raise CheckFailed(f"{name} is {state}: {advice}{IF_MISSING.get(name, '')}")
    return value


def find_a(kind: type, names: Names, name: str, expected: str) -> Any:
    """The value of a name, which is of a certain type; `expected` says of which, or how to get it."""
    value = find(names, name)
    if not isinstance(value, kind):
        raise CheckFailed(f"{name} is {kind_of(value)}, expected {expected}")
    return value


def kind_of(value: Any) -> str:
    """What a value is, in a sentence."""
    return "None" if value is None else f"of type {type(value).__name__}"


def find_function(names: Names, name: str) -> Callable[..., Any]:
    """A function that the student wrote."""
    function = find(names, name)
    if not callable(function) or isinstance(function, type):
        raise CheckFailed(f"{name} is {kind_of(function)}, expected a function: def {name}(...)")
    return function


def name_of(function: Callable[..., Any]) -> str:
    """The name of a function, also where `functools.partial` or a class with `__call__` takes its place."""
    function = inspect.unwrap(getattr(function, "func", function))
    return getattr(function, "__name__", type(function).__name__)


def call(function: Callable[..., Any], *arguments: Any, advice: str) -> Any:
    """Call a student's function. If it fails, the sentence has its line, the error's first line and the advice."""
    name = name_of(function)
    try:
        with _limited():
            return function(*arguments)
    except _NotFinished as error:
        raise CheckFailed(f"{name} does not come to an end: look at its loop") from error
    except NotImplementedError as error:
        raise CheckFailed(f"{name} is not written yet: replace raise NotImplementedError") from error
    except SystemExit as error:
        raise CheckFailed(f"{name} calls exit: leave that out") from error
    except Exception as error:
        line = _line_in(function, error)
        where = "" if line is None else f" in its line {line}"
        known = next((why for pattern, why in KNOWN_ERRORS.items() if re.search(pattern, str(error))), advice)
        if "positional argument" in str(error):
            call_or_def = "look at the arguments in its first line, def"
            known = call_or_def if line is None else "look at the arguments of the call there"
        raise CheckFailed(f"{name} stopped{where} with {_first_line(error)}; {known}") from error


def _line_in(function: Callable[..., Any], error: BaseException) -> int | None:
    """The line of a function, counted from 1 at its first, in which it failed."""
    code = getattr(inspect.unwrap(getattr(function, "func", function)), "__code__", None)
    for frame, line in traceback.walk_tb(error.__traceback__):
        if frame.f_code is code:
            return line - frame.f_code.co_firstlineno + 1
    return None


def _first_line(error: Exception) -> str:
    """The class of an error and its first line, without what only TensorFlow's authors need."""
    text = re.sub(r" \(graphs are .*", "", describe_error(error))
    text = re.sub(r" for '{{node (.+?)}}.*", r" in \1", text).rstrip(".")
    return f"{type(error).__name__} ({text})"


class _NotFinished(BaseException):
    """No `Exception`, so that a student's `except` does not catch it."""


LIMIT = 10.0  # seconds


@contextmanager
def _limited() -> Iterator[None]:
    """Stop Python code that does not end, where the system can."""
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise _NotFinished

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


KNOWN_ERRORS = {
    "No such file or directory": "os.makedirs makes a directory and those above it",
    "NoneType into a Tensor": "run.classifier.feed_dropout(keep_prob) also works for a network without dropout",
    "name .* is not defined": "import it or define it",
    "same graph|not an element of this graph": "use only what the function gets as arguments, since a tensor or "
    "variable from outside is in another graph",
    "rank 4 but is rank 2": "a convolution needs images, so first reshape x to [-1, 28, 28, 1], in the scope reshape",
}


# The nodes of notebook 1


class Node(NamedTuple):
    """What a name of notebook 1 must be."""

    kind: str  # "placeholder", "variable" or "tensor"
    dtype: str
    shape: list[int | None]
    why: str  # this shape
    name: str | None = None  # in the graph; None if any will do
    scope: str | None = None


NODES = {
    "x": Node("placeholder", "float32", [None, 784], "an image is a flat list of 784 numbers", "inputs"),
    "y_true": Node("placeholder", "float32", [None, 10], "a label has a number for each of the ten classes", "labels"),
    "y_true_cls": Node("tensor", "int64", [None], "the class of each image, found by argmax over axis 1"),
    "weights": Node("variable", "float32", [784, 10], "one weight for each pixel and class", "weights"),
    "biases": Node("variable", "float32", [10], "one bias for each class", "bias"),
    "logits": Node("tensor", "float32", [None, 10], "one score for each image and class", scope="model"),
    "y_pred": Node("tensor", "float32", [None, 10], "a probability for each image and class", scope="model"),
    "y_pred_cls": Node("tensor", "int64", [None], "the most likely class, by argmax over axis 1", scope="model"),
    "loss": Node("tensor", "float32", [], "one number for the batch, found by tf.reduce_mean", scope="loss"),
    "accuracy": Node("tensor", "float32", [], "one number for the batch, found by tf.reduce_mean", scope="accuracy"),
    "merged_summary_op": Node("tensor", "string", [], "all summaries in one string, made by tf.summary.merge_all()"),
}  # fmt: skip
RUN_AGAIN = "run the cell graph = tf.Graph() and those after it again"
NOT_IN_GRAPH = "{} is not in graph: make it in the block of graph.as_default(), and " + RUN_AGAIN


def find_nodes(names: Names, *wanted: str) -> list[Any]:
    """Tensors and variables of notebook 1, each with the kind, name, scope, type and shape that it must have."""
    graph = find_a(tf.Graph, names, "graph", "a tf.Graph: run the cell graph = tf.Graph() again")
    return [_find_node(names, name, NODES[name], graph) for name in wanted]


def find_operation(names: Names, name: str, graph: tf.Graph, expected: str) -> tf.Operation:
    """An operation of notebook 1, in its graph."""
    operation = find_a(tf.Operation, names, name, expected)
    if operation.graph is not graph:
        raise CheckFailed(NOT_IN_GRAPH.format(name))
    return operation


def _find_node(names: Names, name: str, node: Node, graph: tf.Graph) -> Any:
    value = find(names, name)
    _check_kind(name, value, node.kind)
    if value.graph is not graph:
        raise CheckFailed(NOT_IN_GRAPH.format(name))
    check_name(name, value.op.name, node.name, node.scope)
    dtype = value.dtype.base_dtype.name
    if dtype != node.dtype:
        numpy = "; NumPy's arrays are float64, so make it with tf" if dtype == "float64" else ""
        hint = "; cast the right answers to tf.float32 before the mean" if name == "accuracy" else numpy
        raise CheckFailed(f"{name} has the type {dtype}, expected {node.dtype}{hint}")
    shape = None if value.shape.rank is None else value.shape.as_list()
    if shape != node.shape:
        fixed = shape and node.shape and shape[0] is not None and [None, *shape[1:]] == node.shape
        why = "None leaves the number of images open" if fixed else node.why
        raise CheckFailed(f"{name} has shape {shown(shape)}, expected {shown(node.shape)}: {why}")
    return value


def _check_kind(name: str, value: Any, kind: str) -> None:
    right = {
        "placeholder": isinstance(value, tf.Tensor) and value.op.type == "Placeholder",
        "variable": hasattr(value, "initializer"),  # a resource variable is no tf.Variable here
        "tensor": isinstance(value, tf.Tensor),
    }
    expected = {
        "placeholder": "a placeholder, tf.placeholder(...), which gets its value when the graph runs",
        "variable": "a tf.Variable, which keeps a value that training changes",
        "tensor": "a tensor, which is a node of the graph and has no value yet",
    }
    if not right[kind]:
        found = value.op.type if isinstance(value, tf.Tensor) else type(value).__name__
        raise CheckFailed(f"{name} is of type {found}, expected {expected[kind]}")


def check_name(name: str, found: str, expected: str | None, scope: str | None) -> None:
    """Check the name that a node has in the graph, or only its first scope."""
    if expected and found != expected:
        if re.fullmatch(rf"{expected}_\d+", found):
            raise CheckFailed(f"{name} is called {found}, because its cell ran twice: {RUN_AGAIN}")
        outside = ", outside of every scope" if found.endswith(f"/{expected}") else ""
        raise CheckFailed(f'{name} is called {found}, expected {expected}: give it name="{expected}"{outside}')
    first = found.partition("/")[0] if "/" in found else ""
    if scope and first != scope:
        if re.fullmatch(rf"{scope}_\d+", first):
            raise CheckFailed(f"{name} is in the scope {first}, because its cell ran twice: {RUN_AGAIN}")
        where = f"in the scope {first}" if first else "in no scope"
        raise CheckFailed(f'{name} is {where}, expected {scope}: make it in the block of tf.name_scope("{scope}")')


def shown(shape: Sequence[int | None] | None) -> str:
    """A shape as TensorFlow prints it, such as (?, 784)."""
    if shape is None:
        return "<unknown>"
    sides = ["?" if side is None else str(side) for side in shape]
    return f"({', '.join(sides)}{',' if len(sides) == 1 else ''})"


# Running it


@contextmanager
def session_of(graph: tf.Graph, initialized: bool = True) -> Iterator[tf.Session]:
    """A session of the check's own. It adds no node to the graph, and no run of the student's sees it."""
    config = thread_settings()
    # Otherwise TensorFlow mends log(softmax) in the loss, though not in its gradient, and the check can't see it.
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    with tf.Session(graph=graph, config=config) as session:
        if initialized:
            variables = graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
            compute(session, [variable.initializer for variable in variables], {}, "the initial values")
        yield session


def compute(session: tf.Session, tensors: Any, feed: Mapping[tf.Tensor, Any], what: str) -> Any:
    """Run tensors. If that fails, the sentence names what could not be computed."""
    try:
        return session.run(tensors, feed)
    except (tf.errors.OpError, ValueError, TypeError) as error:
        if unfed := re.search(r"feed a value for placeholder tensor '(.+?)'", str(error)):
            raise CheckFailed(
                f"{what} needs a value for the placeholder {unfed[1]}, but only x and y_true are fed: "
                "what follows from them is computed, not fed"
            ) from error
        if "Duplicate tag" in str(error):
            raise CheckFailed(
                f"Loss and Accuracy are there twice, because their cell ran twice: {RUN_AGAIN}"
            ) from error
        of_labels = "logits and labels" in str(error)
        advice = "the labels are y_true, ten numbers each, not y_true_cls" if of_labels else "look at the shapes"
        raise CheckFailed(f"computing {what} stopped with {_first_line(error)}; {advice}") from error


def load(session: tf.Session, values: Mapping[tf.Variable, np.ndarray]) -> None:
    """Give variables values through their own initializers, so no node is added."""
    for variable, value in values.items():
        session.run(variable.initializer, {variable.initializer.inputs[1]: value})


def made_up(variables: Sequence[tf.Variable]) -> dict[tf.Variable, np.ndarray]:
    """Random values for variables, of a size that keeps the logits moderate."""
    random = np.random.RandomState(1)
    values = {}
    for variable in variables:
        shape = variable.shape.as_list()
        deviation = np.sqrt(2 / np.prod(shape[:-1])) if len(shape) > 1 else 0.3
        values[variable] = random.normal(0, deviation, shape).astype(np.float32)
    return values


def made_up_batch(images: int) -> tuple[np.ndarray, np.ndarray]:
    """Random images [images, 784] and one-hot labels [images, 10]."""
    random = np.random.RandomState(2)
    pixels = random.random_sample((images, 784)).astype(np.float32)
    return pixels, np.eye(10, dtype=np.float32)[random.randint(10, size=images)]


# Comparing it


def close(found: Any, expected: Any) -> bool:
    """Whether two arrays are the same, except for rounding."""
    found, expected = np.asarray(found), np.asarray(expected)
    return found.shape == expected.shape and np.allclose(found, expected, rtol=1e-3, atol=1e-5)


def compare(found: Any, expected: Any, mistakes: Mapping[str, Any], otherwise: str) -> None:
    """Fail unless a value is right. `mistakes` has, for each sentence, the value that the mistake gives."""
    if not close(found, expected):
        raise CheckFailed(next((sentence for sentence, value in mistakes.items() if close(found, value)), otherwise))


def softmax(logits: np.ndarray, axis: int = 1) -> np.ndarray:
    """The probabilities."""
    powers = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def relu(x: np.ndarray) -> np.ndarray:
    """Zero in place of negative numbers."""
    return np.maximum(x, 0)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The loss of each image, in nats, for logits of any size."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return (labels * (np.log(np.exp(shifted).sum(axis=1, keepdims=True)) - shifted)).sum(axis=1)
