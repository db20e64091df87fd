"""The lab's own loop: two `session.run` calls and an `add_summary` per batch, on TensorFlow 1.15.5 or 2.x."""

import tempfile

import numpy as np
import tensorflow.compat.v1 as tf
import traces
import worker

tf.disable_v2_behavior()


def prepare(images, labels, batch_size, model):
    x, y_true, opt_step, measured = build(model)
    session = tf.Session()
    session.run(tf.global_variables_initializer())
    writer = tf.summary.FileWriter(tempfile.mkdtemp(), session.graph)
    data = [images, np.eye(10)[labels]]  # one-hot labels as float64, as the lab's loader makes them
    state = {"step": 0}

    def step(start, **trace):
        feed = {x: data[0][start : start + batch_size], y_true: data[1][start : start + batch_size]}
        session.run(opt_step, feed, *trace.get("update", ()))
        loss, accuracy, summary = session.run(measured, feed, *trace.get("measure", ()))
        writer.add_summary(summary, state["step"])
        state["step"] += 1
        return loss, accuracy

    def epoch():
        order = np.random.permutation(len(labels))
        data[:] = data[0][order], data[1][order]  # like the lab's loader, copy the whole set
        starts = range(0, len(labels) - batch_size + 1, batch_size)
        losses, accuracies = zip(*[step(start) for start in starts])
        writer.flush()
        return losses, accuracies

    def traced():
        update, measure = traces.request(), traces.request()
        step(0, update=update, measure=measure)
        return update, measure

    step(0)
    return epoch, lambda: {"kernel_share": traces.kernel_share(traced)}


def build(model):
    x = tf.placeholder(tf.float32, [None, 784])
    y_true = tf.placeholder(tf.float32, [None, 10])
    logits = lenet5(x) if model == "lenet5" else dense(x, 784, 10, tf.zeros)
    loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits_v2(logits=logits, labels=y_true))
    optimizer = tf.train.AdamOptimizer if model == "lenet5" else tf.train.GradientDescentOptimizer
    opt_step = optimizer(worker.LEARNING_RATE[model]).minimize(loss)
    prediction = tf.argmax(tf.nn.softmax(logits), axis=1)
    accuracy = tf.reduce_mean(tf.cast(tf.equal(prediction, tf.argmax(y_true, 1)), tf.float32))
    tf.summary.scalar("Loss", loss)
    tf.summary.scalar("Accuracy", accuracy)
    return x, y_true, opt_step, [loss, accuracy, tf.summary.merge_all()]


def normal(shape):
    return tf.truncated_normal(shape, stddev=0.1)


def dense(x, inputs, outputs, initial=normal):
    return tf.matmul(x, tf.Variable(initial([inputs, outputs]))) + tf.Variable(tf.zeros([outputs]))


def convolution(x, inputs, outputs, padding):
    weights, bias = tf.Variable(normal([5, 5, inputs, outputs])), tf.Variable(tf.zeros([outputs]))
    activation = tf.nn.relu(tf.nn.conv2d(x, weights, [1, 1, 1, 1], padding) + bias)
    return tf.nn.max_pool(activation, [1, 2, 2, 1], [1, 2, 2, 1], "VALID")


def lenet5(x):
    pool1 = convolution(tf.reshape(x, [-1, 28, 28, 1]), 1, 6, "SAME")
    flat = tf.reshape(convolution(pool1, 6, 16, "VALID"), [-1, 400])
    return dense(tf.nn.relu(dense(tf.nn.relu(dense(flat, 400, 120)), 120, 84)), 84, 10)


if __name__ == "__main__":
    worker.serve(prepare)
