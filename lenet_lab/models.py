"""The networks: softmax regression, LeNet-5, LeNet-5 with dropout, and their parameters counted."""

from typing import NamedTuple

from lenet_lab.compat import tf

OPERATION_NAMES = {"Reshape": "reshape", "Relu": "ReLU", "MaxPool": "max pooling"}


def weight_variable(shape: list[int], name: str) -> tf.Variable:
    """A float32 weight variable, drawn from a normal(0, 0.1) cut at two deviations (lab cell 19)."""
    return tf.Variable(tf.truncated_normal(shape, stddev=0.1), name=name)


def bias_variable(shape: list[int], name: str) -> tf.Variable:
    """A float32 bias variable that starts at zero (lab cell 19)."""
    return tf.Variable(tf.zeros(shape), name=name)


def dropout(x: tf.Tensor, keep_prob: float | tf.Tensor) -> tf.Tensor:
    """`tf.nn.dropout` whose draws follow from a seed and the training step, two variables.

    A saved model thus has all that its training needs to go on as if never stopped.

    Parameters
    ----------
    x : float32 tensor [None, ...]
    keep_prob : float or float32 scalar tensor
        The chance of a value to be kept; the kept ones are divided by it.
    """
    return tf.nn.experimental.stateless_dropout(x, rate=1 - keep_prob, seed=draw_seed())


def draw_seed() -> tf.Tensor:
    """The seed of a draw by chance in each training step, int64 [2]: a variable drawn once, and the step."""
    first_seed = tf.random_uniform([], maxval=2**31 - 1, dtype=tf.int64)
    seed = tf.Variable(first_seed, trainable=False, name="seed")
    return tf.stack([seed, tf.train.get_or_create_global_step()])


def build_softmax_regression(x: tf.Tensor) -> tf.Tensor:
    """One linear layer, 784 -> 10: 7,850 parameters that start at zero (lab cells 5 to 7).

    Parameters
    ----------
    x : float32 tensor [None, 784]
        Flat images with values in [0, 1].

    Returns
    -------
    float32 tensor [None, 10]
        The logits.
    """
    with tf.name_scope(None):  # in the lab the two variables stand outside every scope
        weights = tf.Variable(tf.zeros([784, 10]), name="weights")  # 784 x 10 = 7,840
        biases = tf.Variable(tf.zeros([10]), name="bias")  # 10
    return tf.matmul(x, weights) + biases


def build_lenet5(x: tf.Tensor, keep_prob: float | tf.Tensor | None = None) -> tf.Tensor:
    """LeNet-5 as the lab draws it: 61,706 parameters, ReLU and max pooling.

    After LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to
    Document Recognition" (1998), section II.B, where the activation is a tanh,
    the pooling has weights and the second convolution is sparse; lab cell 20.

        x 784 -> image 28x28x1 -> conv1 28x28x6 -> pool1 14x14x6
                               -> conv2 10x10x16 -> pool2 5x5x16
                               -> flat 400 -> 120 -> 84 -> logits 10

    Parameters
    ----------
    x : float32 tensor [None, 784]
        Flat images with values in [0, 1].
    keep_prob : float or float32 scalar tensor, optional
        With it, dropout before the first fully connected layer; see
        `build_lenet5_dropout`.

    Returns
    -------
    float32 tensor [None, 10]
        The logits.
    """
    with tf.name_scope("reshape"):
        image = tf.reshape(x, [-1, 28, 28, 1])

    with tf.name_scope("lenet5"):
        with tf.name_scope("layer1"):  # 5x5x1x6 + 6 = 156 parameters
            weights = weight_variable([5, 5, 1, 6], "weights1")
            bias = bias_variable([6], "bias1")
            conv1 = tf.nn.relu(tf.nn.conv2d(image, weights, strides=1, padding="SAME") + bias)
            pool1 = tf.nn.max_pool(conv1, ksize=2, strides=2, padding="VALID")

        with tf.name_scope("layer2"):  # 5x5x6x16 + 16 = 2,416
            weights = weight_variable([5, 5, 6, 16], "weights2")
            bias = bias_variable([16], "bias2")
            conv2 = tf.nn.relu(tf.nn.conv2d(pool1, weights, strides=1, padding="VALID") + bias)
            pool2 = tf.nn.max_pool(conv2, ksize=2, strides=2, padding="VALID")

        with tf.name_scope("flatten"):
            flat = tf.reshape(pool2, [-1, 5 * 5 * 16])

        if keep_prob is not None:
            with tf.name_scope("dropout"):
                flat = dropout(flat, keep_prob)

        with tf.name_scope("layer3"):  # 400x120 + 120 = 48,120
            weights = weight_variable([400, 120], "weights3")
            bias = bias_variable([120], "bias3")
            full3 = tf.nn.relu(tf.matmul(flat, weights) + bias)

        with tf.name_scope("layer4"):  # 120x84 + 84 = 10,164
            weights = weight_variable([120, 84], "weights4")
            bias = bias_variable([84], "bias4")
            full4 = tf.nn.relu(tf.matmul(full3, weights) + bias)

        with tf.name_scope("layer5"):  # 84x10 + 10 = 850
            weights = weight_variable([84, 10], "weights5")
            bias = bias_variable([10], "bias5")
            return tf.matmul(full4, weights) + bias


def build_lenet5_dropout(x: tf.Tensor, keep_prob: float | tf.Tensor) -> tf.Tensor:
    """LeNet-5 with dropout before its first fully connected layer (the lab's last question).

    Parameters
    ----------
    x : float32 tensor [None, 784]
        Flat images with values in [0, 1].
    keep_prob : float or float32 scalar tensor
        The chance of each of the 400 features to be kept (0.75 in the lab)
        while training; feed 1 to evaluate.

    Returns
    -------
    float32 tensor [None, 10]
        The logits.
    """
    return build_lenet5(x, keep_prob)


def count_parameters(graph: tf.Graph | None = None) -> int:
    """The number of trainable parameters of a graph, by default of the default graph."""
    return sum(variable.shape.num_elements() for variable in _trainable_variables(graph))


class LayerParameters(NamedTuple):
    """One layer's row in the parameter table: its scope, its weights' shape, its counts."""

    scope: str
    weights_shape: tuple[int, ...]
    weights: int
    biases: int

    @property
    def total(self) -> int:
        return self.weights + self.biases


def layer_parameters(graph: tf.Graph | None = None) -> list[LayerParameters]:
    """The parameters of each layer, in layer order, read from the graph itself.

    A layer is the trainable variables of one name scope: one of rank 2 or more
    is its weights, one of rank 1 its bias.
    """
    scopes: dict[str, list[tf.Variable]] = {}
    for variable in _trainable_variables(graph):
        scopes.setdefault(variable.op.name.rpartition("/")[0], []).append(variable)
    layers = []
    for scope, variables in scopes.items():
        weights = [v.shape for v in variables if v.shape.rank > 1]
        biases = [v.shape for v in variables if v.shape.rank <= 1]
        layers.append(
            LayerParameters(
                scope,
                tuple(weights[0].as_list()) if weights else (),
                sum(shape.num_elements() for shape in weights),
                sum(shape.num_elements() for shape in biases),
            )
        )
    return layers


class LayerOutput(NamedTuple):
    """What a layer puts out: its scope, the operation that makes it, its shape for one image."""

    scope: str
    operation: str
    shape: tuple[int, ...]
    tensor: str  # its name in the graph

    @property
    def title(self) -> str:
        """Such as "layer1 ReLU"; a change of form alone is called by its scope."""
        what = "" if self.operation == "Reshape" else OPERATION_NAMES.get(self.operation, "logits")
        return f"{self.scope} {what}".strip()


def layer_outputs(graph: tf.Graph, logits: tf.Tensor) -> list[LayerOutput]:
    """The activations on the way from the image to the logits, in order, read from the graph itself."""
    outputs = []
    for op in graph.get_operations():
        on_the_way = op.name.startswith("model/") and op.type in ("Reshape", "Relu", "MaxPool")
        if on_the_way or op is logits.op:
            scope = op.name.removeprefix("model/").removeprefix("lenet5/").rpartition("/")[0]
            outputs.append(LayerOutput(scope, op.type, tuple(op.outputs[0].shape.as_list()[1:]), op.outputs[0].name))
        if op is logits.op:
            break
    return outputs


def parameter_table(graph: tf.Graph | None = None) -> str:
    """The lab's table of parameters per layer, as Markdown that also reads well printed."""
    rows = [("layer", "weights", "biases", "total")]
    layers = layer_parameters(graph)
    for number, layer in enumerate(layers, start=1):
        product = "x".join(str(size) for size in layer.weights_shape)
        rows.append((str(number), f"{product} = {layer.weights}", str(layer.biases), str(layer.total)))
    rows.append(("Total", "", "", str(sum(layer.total for layer in layers))))
    return markdown_table(rows)


def markdown_table(rows: list[tuple[str, ...]]) -> str:
    """Rows of text as an aligned Markdown table; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _trainable_variables(graph: tf.Graph | None) -> list[tf.Variable]:
    graph = graph or tf.get_default_graph()
    return graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES)
