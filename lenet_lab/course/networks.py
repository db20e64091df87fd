"""The networks that the exercises ask for."""

from lenet_lab.compat import tf
from lenet_lab.input_data import IMAGE_SIDE
from lenet_lab.models import bias_variable, dropout, weight_variable


def convolution(x: tf.Tensor, layer: int, side: int, maps: int, padding: str) -> tf.Tensor:
    """A convolution with its bias, [count, rows, columns, maps]; the filters have `side` by `side` pixels."""
    with tf.name_scope(f"layer{layer}"):
        weights = weight_variable([side, side, int(x.shape[-1]), maps], f"weights{layer}")
        return tf.nn.conv2d(x, weights, strides=1, padding=padding) + bias_variable([maps], f"bias{layer}")


def fully_connected(x: tf.Tensor, layer: int, outputs: int) -> tf.Tensor:
    """A fully connected layer without a function after it, [count, outputs]."""
    with tf.name_scope(f"layer{layer}"):
        weights = weight_variable([int(x.shape[-1]), outputs], f"weights{layer}")
        return tf.matmul(x, weights) + bias_variable([outputs], f"bias{layer}")


def max_pool(x: tf.Tensor) -> tf.Tensor:
    """The largest value of each 2x2 block."""
    return tf.nn.max_pool(x, ksize=2, strides=2, padding="VALID")


def as_image(x: tf.Tensor) -> tf.Tensor:
    """Flat images as [count, 28, 28, 1]."""
    return tf.reshape(x, [-1, IMAGE_SIDE, IMAGE_SIDE, 1])


def flatten(maps: tf.Tensor) -> tf.Tensor:
    """Maps [count, rows, columns, maps] as one row of features for each image."""
    return tf.reshape(maps, [-1, maps.shape[1:].num_elements()])


def build_softmax_random(x: tf.Tensor, deviation: float) -> tf.Tensor:
    """Softmax regression whose weights start at random: normal, cut off at two deviations."""
    weights = tf.Variable(tf.truncated_normal([784, 10], stddev=deviation), name="weights")
    return tf.matmul(x, weights) + tf.Variable(tf.zeros([10]), name="bias")


def build_lenet5_kernel(x: tf.Tensor, side: int) -> tf.Tensor:
    """LeNet-5 with another filter size in both convolutions: 3, 5 or 7 pixels."""
    pool1 = max_pool(tf.nn.relu(convolution(as_image(x), 1, side, 6, "SAME")))
    pool2 = max_pool(tf.nn.relu(convolution(pool1, 2, side, 16, "VALID")))  # 14 pixels become 14 - side + 1
    full3 = tf.nn.relu(fully_connected(flatten(pool2), 3, 120))
    full4 = tf.nn.relu(fully_connected(full3, 4, 84))
    return fully_connected(full4, 5, 10)


def build_lenet5_1998(x: tf.Tensor) -> tf.Tensor:
    """LeNet-5 with the functions of 1998: tanh, and averages with a trained coefficient and bias for each map."""
    pool1 = subsampling(tf.tanh(convolution(as_image(x), 1, 5, 6, "SAME")), 1)
    pool2 = subsampling(tf.tanh(convolution(pool1, 2, 5, 16, "VALID")), 2)
    full3 = tf.tanh(fully_connected(flatten(pool2), 3, 120))
    full4 = tf.tanh(fully_connected(full3, 4, 84))
    return fully_connected(full4, 5, 10)


def subsampling(x: tf.Tensor, layer: int) -> tf.Tensor:
    """The pooling of 1998: the average of each 2x2 block, times a coefficient, plus a bias, then tanh."""
    maps = int(x.shape[-1])
    with tf.name_scope(f"pooling{layer}"):
        coefficient = tf.Variable(tf.ones([maps]), name="coefficient")
        averages = tf.nn.avg_pool(x, ksize=2, strides=2, padding="VALID")
        return tf.tanh(averages * coefficient + bias_variable([maps], "bias"))


def build_deeper(x: tf.Tensor) -> tf.Tensor:
    """LeNet-5 with two 3x3 convolutions in place of each 5x5 one: seven layers, and the same 400 features."""
    conv1 = tf.nn.relu(convolution(as_image(x), 1, 3, 6, "SAME"))
    pool2 = max_pool(tf.nn.relu(convolution(conv1, 2, 3, 6, "SAME")))
    conv3 = tf.nn.relu(convolution(pool2, 3, 3, 16, "VALID"))
    pool4 = max_pool(tf.nn.relu(convolution(conv3, 4, 3, 16, "VALID")))
    full5 = tf.nn.relu(fully_connected(flatten(pool4), 5, 120))
    full6 = tf.nn.relu(fully_connected(full5, 6, 84))
    return fully_connected(full6, 7, 10)


def build_lenet5_late_dropout(x: tf.Tensor, keep_prob: tf.Tensor) -> tf.Tensor:
    """LeNet-5 with dropout after layers 3 and 4 instead of before layer 3."""
    pool1 = max_pool(tf.nn.relu(convolution(as_image(x), 1, 5, 6, "SAME")))
    pool2 = max_pool(tf.nn.relu(convolution(pool1, 2, 5, 16, "VALID")))
    full3 = dropout(tf.nn.relu(fully_connected(flatten(pool2), 3, 120)), keep_prob)
    full4 = dropout(tf.nn.relu(fully_connected(full3, 4, 84)), keep_prob)
    return fully_connected(full4, 5, 10)
