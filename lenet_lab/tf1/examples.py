"""`tensorflow.examples.tutorials.mnist`: its data module, and its small network `mnist`."""

import math

from lenet_lab import input_data
from lenet_lab.compat import tf
from lenet_lab.tf1 import Stand

NUM_CLASSES = 10
IMAGE_SIZE = 28
IMAGE_PIXELS = IMAGE_SIZE * IMAGE_SIZE


def inference(images, hidden1_units, hidden2_units):
    """Two hidden ReLU layers: float32 [batch, 784] to logits [batch, 10]."""
    hidden1 = tf.nn.relu(_layer("hidden1", images, IMAGE_PIXELS, hidden1_units))
    hidden2 = tf.nn.relu(_layer("hidden2", hidden1, hidden1_units, hidden2_units))
    return _layer("softmax_linear", hidden2, hidden2_units, NUM_CLASSES)


def loss(logits, labels):
    """The mean cross-entropy of logits [batch, 10] for integer labels [batch]."""
    return tf.losses.sparse_softmax_cross_entropy(labels=tf.to_int64(labels), logits=logits)


def training(loss, learning_rate):
    """One step of gradient descent, which also counts the steps and reports the loss to TensorBoard."""
    tf.summary.scalar("loss", loss)
    global_step = tf.Variable(0, name="global_step", trainable=False)
    return tf.train.GradientDescentOptimizer(learning_rate).minimize(loss, global_step=global_step)


def evaluation(logits, labels):
    """How many of the batch are right, as an int32 scalar."""
    return tf.reduce_sum(tf.cast(tf.nn.in_top_k(logits, labels, 1), tf.int32))


def examples() -> Stand:
    """The module `tensorflow.examples`."""
    network = (inference, loss, training, evaluation)
    names = {function.__name__: function for function in network}
    names |= {"NUM_CLASSES": NUM_CLASSES, "IMAGE_SIZE": IMAGE_SIZE, "IMAGE_PIXELS": IMAGE_PIXELS}
    path = "examples.tutorials.mnist"
    mnist = Stand(
        path,
        {"input_data": Stand(path + ".input_data", behind=input_data), "mnist": Stand(path + ".mnist", names)},
    )
    return Stand("examples", {"tutorials": Stand("examples.tutorials", {"mnist": mnist})})


def _layer(name: str, inputs, before: int, after: int):
    with tf.name_scope(name):
        weights = tf.Variable(tf.truncated_normal([before, after], stddev=1 / math.sqrt(before)), name="weights")
        biases = tf.Variable(tf.zeros([after]), name="biases")
        return tf.matmul(inputs, weights) + biases
