"""`tensorflow.examples.tutorials.mnist`: its data module `input_data` and its small network `mnist`."""

import math

from lenet_lab import input_data
from lenet_lab.compat import tf
from lenet_lab.tf1.proxy import Proxy

NUM_CLASSES = 10
IMAGE_SIZE = 28
IMAGE_PIXELS = IMAGE_SIZE * IMAGE_SIZE


def inference(images, hidden1_units, hidden2_units):
    """A network of two hidden ReLU layers: images [batch, 784], float32, to logits [batch, 10]."""
    hidden1 = tf.nn.relu(_layer("hidden1", images, IMAGE_PIXELS, hidden1_units))
    hidden2 = tf.nn.relu(_layer("hidden2", hidden1, hidden1_units, hidden2_units))
    return _layer("softmax_linear", hidden2, hidden2_units, NUM_CLASSES)


def loss(logits, labels):
    """The mean cross-entropy of logits [batch, 10] for integer labels [batch]."""
    return tf.losses.sparse_softmax_cross_entropy(labels=tf.to_int64(labels), logits=logits)


def training(loss, learning_rate):
    """One step of gradient descent; it also counts the steps and makes a summary of the loss."""
    tf.summary.scalar("loss", loss)
    global_step = tf.Variable(0, name="global_step", trainable=False)
    return tf.train.GradientDescentOptimizer(learning_rate).minimize(loss, global_step=global_step)


def evaluation(logits, labels):
    """The number of correct predictions in a batch, an int32 scalar."""
    return tf.reduce_sum(tf.cast(tf.nn.in_top_k(logits, labels, 1), tf.int32))


def examples() -> Proxy:
    """The module `tensorflow.examples`."""
    network = {function.__name__: function for function in (inference, loss, training, evaluation)}
    constants = {"NUM_CLASSES": NUM_CLASSES, "IMAGE_SIZE": IMAGE_SIZE, "IMAGE_PIXELS": IMAGE_PIXELS}
    path = "examples.tutorials.mnist"
    members = {
        "input_data": Proxy(f"{path}.input_data", fallback=input_data),
        "mnist": Proxy(f"{path}.mnist", {**network, **constants}),
    }
    return Proxy("examples", {"tutorials": Proxy("examples.tutorials", {"mnist": Proxy(path, members)})})


def _layer(name: str, inputs, input_units: int, units: int):
    with tf.name_scope(name):
        weights = tf.Variable(
            tf.truncated_normal([input_units, units], stddev=1 / math.sqrt(input_units)), name="weights"
        )
        biases = tf.Variable(tf.zeros([units]), name="biases")
        return tf.matmul(inputs, weights) + biases
