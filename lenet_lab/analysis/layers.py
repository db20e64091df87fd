"""The layers of a network, read from its graph: their parameters, their outputs, the table of parameters."""

from typing import NamedTuple

from lenet_lab.analysis.tables import markdown_table
from lenet_lab.compat import tf

OPERATION_NAMES = {"Reshape": "reshape", "Relu": "ReLU", "MaxPool": "max pooling"}


class LayerParameters(NamedTuple):
    """The parameters of one layer."""

    scope: str  # name scope of its variables, such as "model/lenet5/layer1"
    weights_shapes: list[tuple[int, ...]]  # one for each variable of rank 2 or more
    weights: int  # how many
    biases: int  # how many

    @property
    def total(self) -> int:
        """The number of weights and biases."""
        return self.weights + self.biases


class LayerOutput(NamedTuple):
    """One output on the way from the image to the logits."""

    scope: str  # of the layer, such as "layer1"
    operation: str  # TensorFlow's type of operation, such as "Relu"
    shape: tuple[int, ...]  # for one image
    tensor: str  # its name in the graph

    @property
    def title(self) -> str:
        """The layer and what it does, such as "layer1 ReLU"; for a reshape, the scope alone says it."""
        operation = "" if self.operation == "Reshape" else OPERATION_NAMES.get(self.operation, "logits")
        return f"{self.scope} {operation}".strip()


def layer_parameters(graph: tf.Graph | None = None) -> list[LayerParameters]:
    """Count the parameters of each layer (docs/lab.md, "Question: parameters").

    A layer is the trainable variables of one name scope. Those of rank 2 or
    more count as its weights, the others as its biases.

    Parameters
    ----------
    graph : tf.Graph, optional
        The default graph unless given.

    Returns
    -------
    list of LayerParameters
        In the order in which the layers were built.
    """
    graph = graph or tf.get_default_graph()
    scopes: dict[str, list[tf.Variable]] = {}
    for variable in graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES):
        scopes.setdefault(variable.op.name.rpartition("/")[0], []).append(variable)
    layers = []
    for scope, variables in scopes.items():
        weights = [v.shape for v in variables if v.shape.rank > 1]
        biases = [v.shape for v in variables if v.shape.rank <= 1]
        layers.append(
            LayerParameters(
                scope,
                [tuple(shape.as_list()) for shape in weights],
                sum(shape.num_elements() for shape in weights),
                sum(shape.num_elements() for shape in biases),
            )
        )
    return layers


def layer_outputs(graph: tf.Graph, logits: tf.Tensor) -> list[LayerOutput]:
    """Find the outputs on the way from the image to the logits.

    Parameters
    ----------
    graph : tf.Graph
        Built by `build_classifier`, with the network in the scope `model`.
    logits : float32 tensor [None, 10]
        The network's last output.

    Returns
    -------
    list of LayerOutput
        Every reshape, ReLU and max pooling in the order in which they were
        built, then the logits.
    """
    outputs = []
    for op in graph.get_operations():
        on_the_way = op.name.startswith("model/") and op.type in OPERATION_NAMES
        # What is computed inside a tf.cond or a loop can't be fetched.
        on_the_way = on_the_way and graph.is_fetchable(op) and op.outputs[0].shape.rank is not None
        if on_the_way or op is logits.op:
            scope = op.name.removeprefix("model/").removeprefix("lenet5/").rpartition("/")[0]
            outputs.append(LayerOutput(scope, op.type, tuple(op.outputs[0].shape.as_list()[1:]), op.outputs[0].name))
        if op is logits.op:
            break
    return outputs


def parameter_table(graph: tf.Graph | None = None) -> str:
    """Make the lab's table of parameters per layer (docs/lab.md, "Question: parameters").

    Parameters
    ----------
    graph : tf.Graph, optional
        The default graph unless given.

    Returns
    -------
    str
        A Markdown table, which also reads well printed.

    Examples
    --------
    >>> from lenet_lab import parameter_table, tf
    >>> graph = tf.Graph()
    >>> with graph.as_default():
    ...     weights = tf.Variable(tf.zeros([784, 10]), name="weights")
    ...     bias = tf.Variable(tf.zeros([10]), name="bias")
    >>> print(parameter_table(graph))
    | layer | weights       | biases | total |
    |-------|---------------|--------|-------|
    | 1     | 784x10 = 7840 | 10     | 7850  |
    | Total |               |        | 7850  |
    """
    rows = [("layer", "weights", "biases", "total")]
    layers = layer_parameters(graph)
    for number, layer in enumerate(layers, start=1):
        products = " + ".join("x".join(map(str, shape)) for shape in layer.weights_shapes)
        weights = f"{products} = {layer.weights}" if products else "0"
        rows.append((str(number), weights, str(layer.biases), str(layer.total)))
    rows.append(("Total", "", "", str(sum(layer.total for layer in layers))))
    return markdown_table(rows)


def count_parameters(graph: tf.Graph | None = None) -> int:
    """Count the trainable parameters of a graph (docs/lab.md, "Question: parameters").

    Parameters
    ----------
    graph : tf.Graph, optional
        By default the default graph.

    Returns
    -------
    int
        The optimizer's own variables are not counted.

    Examples
    --------
    >>> with tf.Graph().as_default():
    ...     weights = tf.Variable(tf.zeros([784, 10]))
    ...     count_parameters()
    7840
    """
    return sum(layer.total for layer in layer_parameters(graph))
