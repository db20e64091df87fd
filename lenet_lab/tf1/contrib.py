"""The parts of `tf.contrib` that MNIST programs used, written with what TensorFlow still has."""

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tensorboard.plugins import projector

from lenet_lab import input_data
from lenet_lab.compat import tf
from lenet_lab.tf1.proxy import Proxy

# Its names raise `Missing`, with advice, where Keras 2 is switched off.
tf_layers = Proxy("layers", fallback=tf.layers)

# contrib.framework: default arguments for the layers in a block

_scopes: ContextVar[dict[Callable, dict] | None] = ContextVar("arg_scopes", default=None)


def add_arg_scope(function):
    """Let a function take default arguments from `arg_scope`."""

    @functools.wraps(function)
    def scoped(*arguments, **options):
        return function(*arguments, **((_scopes.get() or {}).get(scoped, {}) | options))

    return scoped


@contextmanager
def arg_scope(list_ops_or_scope, **defaults) -> Iterator[dict]:
    """Set default arguments of the listed functions for the calls in the block.

    The value after `as` can be passed to a later `arg_scope` in place of the list.
    """
    if isinstance(list_ops_or_scope, dict):
        scopes = dict(list_ops_or_scope)
    else:
        scopes = dict(_scopes.get() or {})
        scopes |= {function: scopes.get(function, {}) | defaults for function in list_ops_or_scope}
    token = _scopes.set(scopes)
    try:
        yield scopes
    finally:
        _scopes.reset(token)


# contrib.layers


def flatten(inputs, outputs_collections=None, scope=None):
    """Flatten all dimensions but the first: [batch, ...] to [batch, features]."""
    with tf.name_scope(scope, "Flatten", [inputs]):
        return _add_to_collections(outputs_collections, tf_layers.flatten(tf.convert_to_tensor(inputs)))


def variance_scaling_initializer(factor=2.0, mode="FAN_IN", uniform=False, seed=None, dtype=tf.float32):
    """Random initial values with variance factor / n, where n is the fan that `mode` names."""
    if mode not in ("FAN_IN", "FAN_OUT", "FAN_AVG"):
        raise TypeError(f"Unknown mode {mode} [FAN_IN, FAN_OUT, FAN_AVG]")

    def initializer(shape, dtype=dtype, partition_info=None):
        shape = [int(size) for size in shape]
        receptive = math.prod(shape[:-2])
        fan_in, fan_out = shape[-2 if len(shape) > 1 else -1] * receptive, shape[-1] * receptive
        n = {"FAN_IN": fan_in, "FAN_OUT": fan_out, "FAN_AVG": (fan_in + fan_out) / 2}[mode]
        if uniform:
            limit = math.sqrt(3 * factor / n)
            return tf.random_uniform(shape, -limit, limit, dtype, seed=seed)
        # Cutting the tails at two standard deviations lowers the variance; 1.3 makes up for it.
        return tf.truncated_normal(shape, 0, math.sqrt(1.3 * factor / n), dtype, seed=seed)

    return initializer


def xavier_initializer(uniform=True, seed=None, dtype=tf.float32):
    """Initial values of Glorot and Bengio (2010): variance 2 / (fan in + fan out)."""
    return variance_scaling_initializer(1.0, "FAN_AVG", uniform, seed, dtype)


def l2_regularizer(scale, scope=None):
    """A function of weights: `scale` times half the sum of their squares."""
    return _regularizer(scale, scope, "l2_regularizer", tf.nn.l2_loss)


def l1_regularizer(scale, scope=None):
    """A function of weights: `scale` times the sum of their absolute values."""
    return _regularizer(scale, scope, "l1_regularizer", _sum_of_absolute_values)


@add_arg_scope
def fully_connected(
    inputs, num_outputs, activation_fn=tf.nn.relu, normalizer_fn=None, normalizer_params=None,
    weights_initializer=None, weights_regularizer=None, biases_initializer=tf.zeros_initializer(),
    biases_regularizer=None, reuse=None, variables_collections=None, outputs_collections=None,
    trainable=True, scope=None,
):  # fmt: skip
    """A fully connected layer with ReLU by default; its variables are `weights` and `biases`."""
    with tf.variable_scope(scope, "fully_connected", [inputs], reuse=reuse):
        shape = [inputs.shape[-1].value, num_outputs]
        weights = _variable("weights", shape, weights_initializer or xavier_initializer(), weights_regularizer,
                            variables_collections, trainable)  # fmt: skip
        outputs = tf.tensordot(inputs, weights, 1) if inputs.shape.ndims > 2 else tf.matmul(inputs, weights)
        outputs = _normalized_or_biased(outputs, num_outputs, normalizer_fn, normalizer_params, biases_initializer,
                                        biases_regularizer, variables_collections, trainable)  # fmt: skip
        return _add_to_collections(outputs_collections, activation_fn(outputs) if activation_fn else outputs)


def linear(*arguments, **options):
    """`fully_connected`, by default without an activation."""
    return fully_connected(*arguments, **({"activation_fn": None} | options))


@add_arg_scope
def conv2d(
    inputs, num_outputs, kernel_size, stride=1, padding="SAME", data_format=None, rate=1,
    activation_fn=tf.nn.relu, normalizer_fn=None, normalizer_params=None, weights_initializer=None,
    weights_regularizer=None, biases_initializer=tf.zeros_initializer(), biases_regularizer=None, reuse=None,
    variables_collections=None, outputs_collections=None, trainable=True, scope=None,
):  # fmt: skip
    """A convolution with ReLU by default, of images [batch, height, width, channels]."""
    if data_format not in (None, "NHWC"):
        raise ValueError(f"data_format is {data_format!r}; expected 'NHWC', the only one in lenet_lab.tf1")
    with tf.variable_scope(scope, "Conv", [inputs], reuse=reuse):
        shape = [*_pair(kernel_size), inputs.shape[-1].value, num_outputs]
        weights = _variable("weights", shape, weights_initializer or xavier_initializer(), weights_regularizer,
                            variables_collections, trainable)  # fmt: skip
        outputs = tf.nn.conv2d(inputs, weights, _pair(stride), padding, dilations=_pair(rate))
        outputs = _normalized_or_biased(outputs, num_outputs, normalizer_fn, normalizer_params, biases_initializer,
                                        biases_regularizer, variables_collections, trainable)  # fmt: skip
        return _add_to_collections(outputs_collections, activation_fn(outputs) if activation_fn else outputs)


@add_arg_scope
def max_pool2d(
    inputs, kernel_size, stride=2, padding="VALID", data_format="NHWC", outputs_collections=None, scope=None
):
    """Max pooling of images [batch, height, width, channels]."""
    outputs = tf.nn.max_pool(inputs, _pair(kernel_size), _pair(stride), padding, data_format, scope)
    return _add_to_collections(outputs_collections, outputs)


@add_arg_scope
def avg_pool2d(
    inputs, kernel_size, stride=2, padding="VALID", data_format="NHWC", outputs_collections=None, scope=None
):
    """Average pooling of images [batch, height, width, channels]."""
    outputs = tf.nn.avg_pool(inputs, _pair(kernel_size), _pair(stride), padding, data_format, scope)
    return _add_to_collections(outputs_collections, outputs)


@add_arg_scope
def dropout(inputs, keep_prob=0.5, noise_shape=None, is_training=True, outputs_collections=None, scope=None, seed=None):
    """Dropout if `is_training`, which may be a tensor."""
    with tf.name_scope(scope, "Dropout", [inputs]):
        outputs = tf_layers.dropout(inputs, 1 - keep_prob, noise_shape, seed, training=is_training)
        return _add_to_collections(outputs_collections, outputs)


@add_arg_scope
def batch_norm(
    inputs, decay=0.999, center=True, scale=False, epsilon=0.001, activation_fn=None,
    updates_collections=tf.GraphKeys.UPDATE_OPS, is_training=True, reuse=None, trainable=True, scope=None,
):  # fmt: skip
    """Batch normalization; with `updates_collections=None`, each forward pass updates the moving averages."""
    with tf.variable_scope(scope, "BatchNorm", [inputs], reuse=reuse):
        before = set(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
        layer = tf_layers.BatchNormalization(
            momentum=decay, center=center, scale=scale, epsilon=epsilon, trainable=trainable,
            name=tf.get_variable_scope().name.rpartition("/")[2], _scope=tf.get_variable_scope(), _reuse=reuse,
        )  # fmt: skip
        outputs = layer(inputs, training=is_training)
        if updates_collections is None:
            updates = [op for op in tf.get_collection(tf.GraphKeys.UPDATE_OPS) if op not in before]
            with tf.control_dependencies(updates):
                outputs = tf.identity(outputs)
        return activation_fn(outputs) if activation_fn else outputs


# contrib.learn.datasets


def load_dataset(name, size="small", test_with_fake_data=False):
    """The data set "mnist", read from the folder `MNIST-data`."""
    if name != "mnist":
        raise ValueError(f"the data set is {name!r}; expected 'mnist', the only one in lenet_lab.tf1")
    return input_data.load_mnist()


# contrib.tensorboard.plugins.projector


def visualize_embeddings(summary_writer, config):
    """Write the projector's settings into a folder, or into the folder of a FileWriter."""
    logdir = summary_writer if isinstance(summary_writer, str) else summary_writer.get_logdir()
    projector.visualize_embeddings(logdir, config)


def contrib() -> Proxy:
    """The module `tensorflow.contrib`."""
    layer_functions = (
        flatten, variance_scaling_initializer, xavier_initializer, l1_regularizer, l2_regularizer,
        fully_connected, conv2d, max_pool2d, avg_pool2d, dropout, batch_norm,
    )  # fmt: skip
    layers = {function.__name__: function for function in layer_functions}
    layers |= {"xavier_initializer_conv2d": xavier_initializer, "convolution2d": conv2d, "linear": linear}
    framework = {"arg_scope": arg_scope, "add_arg_scope": add_arg_scope}
    rnn = {name: getattr(tf.nn, name) for name in ("static_rnn", "static_bidirectional_rnn")}
    embeddings = {"ProjectorConfig": projector.ProjectorConfig, "visualize_embeddings": visualize_embeddings}
    return Proxy(
        "contrib",
        {
            "framework": Proxy("contrib.framework", framework),
            "layers": Proxy("contrib.layers", layers),
            "slim": Proxy("contrib.slim", layers | framework),  # slim has the layers of contrib.layers
            "rnn": Proxy("contrib.rnn", rnn, fallback=tf.nn.rnn_cell),
            "distributions": Proxy("contrib.distributions", fallback=tf.distributions),
            "learn": Proxy("contrib.learn", {
                "datasets": _datasets("contrib.learn.datasets"),
                "python": Proxy("contrib.learn.python", {
                    "learn": Proxy("contrib.learn.python.learn", {
                        "datasets": _datasets("contrib.learn.python.learn.datasets"),
                    }),
                }),
            }),
            "tensorboard": Proxy("contrib.tensorboard", {
                "plugins": Proxy("contrib.tensorboard.plugins", {
                    "projector": Proxy("contrib.tensorboard.plugins.projector", embeddings),
                }),
            }),
        },
    )  # fmt: skip


def _datasets(path: str) -> Proxy:
    mnist = Proxy(f"{path}.mnist", fallback=input_data)
    base = Proxy(f"{path}.base", {"Datasets": input_data.Datasets})
    return Proxy(path, {"mnist": mnist, "base": base, "load_dataset": load_dataset})


def _pair(size) -> list[int]:
    return [size, size] if isinstance(size, int) else list(size)


def _sum_of_absolute_values(weights):
    return tf.reduce_sum(tf.abs(weights))


def _regularizer(scale: float, scope: str | None, name: str, penalty: Callable) -> Callable:
    if isinstance(scale, int):
        raise ValueError(f"scale cannot be an integer: {scale}")
    if scale < 0:
        raise ValueError(f"Setting a scale less than 0 on a regularizer: {scale}")

    def regularizer(weights):
        if scale == 0:
            return None
        with tf.name_scope(scope, name, [weights]):
            return tf.multiply(tf.convert_to_tensor(scale, weights.dtype.base_dtype), penalty(weights))

    return regularizer


def _variable(name, shape, initializer, regularizer, collections, trainable):
    if isinstance(collections, dict):
        collections = collections.get(name)
    if collections is not None:
        collections = [tf.GraphKeys.GLOBAL_VARIABLES, *collections]
    return tf.get_variable(name, shape, tf.float32, initializer, regularizer, trainable, collections)


def _normalized_or_biased(
    outputs, channels, normalizer_fn, parameters, initializer, regularizer, collections, trainable
):
    if normalizer_fn is not None:
        return normalizer_fn(outputs, **(parameters or {}))
    if initializer is None:
        return outputs
    biases = _variable("biases", [channels], initializer, regularizer, collections, trainable)
    return tf.nn.bias_add(outputs, biases)


def _add_to_collections(collections, outputs):
    if collections:
        tf.add_to_collections(collections, outputs)
    return outputs
