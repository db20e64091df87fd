"""Made `tf115_events/` here: the lab's LeNet-5 run on random data, recorded with the real TensorFlow 1.15.5.

To be run by a Python 3.7 with TensorFlow 1.15.5: python record_events.py FOLDER
The data and the initial values are those of `tests/test_records.py`, drawn by NumPy from the same seeds.
"""

import sys

import numpy as np
import tensorflow as tf

DATA_SEED, INIT_SEED, ORDER_SEED = 1234, 7, 5
IMAGES, BATCH, EPOCHS = 320, 32, 2


def variables(layer, shape):
    weights = tf.Variable(tf.truncated_normal(shape, stddev=0.1), name="weights%d" % layer)
    return weights, tf.Variable(tf.constant(0.0, shape=shape[-1:]), name="bias%d" % layer)


def lenet5(x):
    with tf.name_scope("reshape"):
        image = tf.reshape(x, [-1, 28, 28, 1])
    with tf.name_scope("lenet5"):
        out = image
        for layer, (shape, padding) in enumerate((([5, 5, 1, 6], "SAME"), ([5, 5, 6, 16], "VALID")), start=1):
            with tf.name_scope("layer%d" % layer):
                weights, bias = variables(layer, shape)
                out = tf.nn.relu(tf.nn.conv2d(out, weights, strides=[1, 1, 1, 1], padding=padding) + bias)
                out = tf.nn.max_pool(out, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="VALID")
        with tf.name_scope("flatten"):
            out = tf.reshape(out, [-1, 400])
        for layer, shape in enumerate(([400, 120], [120, 84], [84, 10]), start=3):
            with tf.name_scope("layer%d" % layer):
                weights, bias = variables(layer, shape)
                out = tf.matmul(out, weights) + bias
                out = out if layer == 5 else tf.nn.relu(out)
    return out


def main(folder):
    x = tf.placeholder(tf.float32, [None, 784], name="inputs")
    y_true = tf.placeholder(tf.float32, [None, 10], name="labels")
    y_true_cls = tf.argmax(y_true, 1)
    with tf.name_scope("model"):
        logits = lenet5(x)
        y_pred_cls = tf.argmax(tf.nn.softmax(logits), axis=1)
    with tf.name_scope("loss"):
        loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits_v2(logits=logits, labels=y_true))
    with tf.name_scope("optim"):
        opt_step = tf.train.GradientDescentOptimizer(0.001).minimize(loss)
    with tf.name_scope("accuracy"):
        accuracy = tf.reduce_mean(tf.cast(tf.equal(y_pred_cls, y_true_cls), tf.float32))
    tf.summary.scalar("Loss", loss)
    tf.summary.scalar("Accuracy", accuracy)
    summary = tf.summary.merge_all()

    r = np.random.RandomState(DATA_SEED)
    images = r.randint(0, 256, (IMAGES, 784)).astype(np.uint8) * np.float32(1 / 255)
    labels = np.eye(10)[r.randint(0, 10, IMAGES)]
    r = np.random.RandomState(INIT_SEED)
    order = np.random.RandomState(ORDER_SEED)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for variable in tf.trainable_variables():
            value = (np.clip(r.standard_normal(variable.shape.as_list()), -2, 2) * 0.1).astype(np.float32)
            variable.load(value if value.ndim > 1 else np.zeros_like(value), session)
        writer = tf.summary.FileWriter(folder, tf.get_default_graph())
        step = 0
        for _ in range(EPOCHS):
            shuffled = order.permutation(IMAGES)
            for start in range(0, IMAGES, BATCH):
                batch = shuffled[start : start + BATCH]
                feed = {x: images[batch], y_true: labels[batch]}
                session.run(opt_step, feed)
                writer.add_summary(session.run(summary, feed), step)
                step += 1
        metadata = tf.RunMetadata()
        options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
        session.run(accuracy, {x: images, y_true: labels}, options=options, run_metadata=metadata)
        writer.add_run_metadata(metadata, "inference")
        writer.close()


main(sys.argv[1])
