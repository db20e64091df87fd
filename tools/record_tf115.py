"""Record what the lab's code does under the real TensorFlow 1.15.5, for the tests to compare with.

This made `tf115_events/` and `tf115_mnist.json` in `tests/golden`. It needs Python 3.7 with TensorFlow 1.15.5:

    python tools/record_tf115.py events FOLDER           the event file of LeNet-5, trained on random data
    python tools/record_tf115.py mnist MNIST_DATA FILE   the losses of 300 steps on the real MNIST

NumPy draws the data and the initial values from the seeds below, which the tests use too.
"""

import json
import sys

import numpy as np
import tensorflow as tf

DATA_SEED, INIT_SEED, ORDER_SEED = 1234, 7, 5
IMAGES, BATCH, EPOCHS = 320, 32, 2
MNIST_SEED, MNIST_INIT_SEED, MNIST_STEPS, MNIST_BATCH = 3, 21, 300, 128


def variables(layer, shape):
    weights = tf.Variable(tf.truncated_normal(shape, stddev=0.1), name=f"weights{layer}")
    return weights, tf.Variable(tf.constant(0.0, shape=shape[-1:]), name=f"bias{layer}")


def lenet5(x):
    with tf.name_scope("reshape"):
        image = tf.reshape(x, [-1, 28, 28, 1])
    with tf.name_scope("lenet5"):
        out = image
        for layer, (shape, padding) in enumerate((([5, 5, 1, 6], "SAME"), ([5, 5, 6, 16], "VALID")), start=1):
            with tf.name_scope(f"layer{layer}"):
                weights, bias = variables(layer, shape)
                out = tf.nn.relu(tf.nn.conv2d(out, weights, strides=[1, 1, 1, 1], padding=padding) + bias)
                out = tf.nn.max_pool(out, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="VALID")
        with tf.name_scope("flatten"):
            out = tf.reshape(out, [-1, 400])
        for layer, shape in enumerate(([400, 120], [120, 84], [84, 10]), start=3):
            with tf.name_scope(f"layer{layer}"):
                weights, bias = variables(layer, shape)
                out = tf.matmul(out, weights) + bias
                out = out if layer == 5 else tf.nn.relu(out)
    return out


def set_initial_values(session, seed):
    r = np.random.RandomState(seed)
    for variable in tf.trainable_variables():
        value = (np.clip(r.standard_normal(variable.shape.as_list()), -2, 2) * 0.1).astype(np.float32)
        variable.load(value if value.ndim > 1 else np.zeros_like(value), session)


def softmax(x):
    return tf.matmul(x, tf.Variable(tf.zeros([784, 10]))) + tf.Variable(tf.zeros([10]))


def events(folder):
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
    order = np.random.RandomState(ORDER_SEED)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        set_initial_values(session, INIT_SEED)
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


def mnist(data, file):
    from tensorflow.examples.tutorials.mnist import input_data

    cases = {}
    for name, build, optimizer, rate in (
        ("softmax-gd", softmax, tf.train.GradientDescentOptimizer, 0.01),
        ("lenet5-gd", lenet5, tf.train.GradientDescentOptimizer, 0.001),
        ("lenet5-adam", lenet5, tf.train.AdamOptimizer, 0.001),
    ):
        data_sets = input_data.read_data_sets(data, one_hot=True, seed=MNIST_SEED)
        tf.reset_default_graph()
        x, y_true = tf.placeholder(tf.float32, [None, 784]), tf.placeholder(tf.float32, [None, 10])
        loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits_v2(logits=build(x), labels=y_true))
        opt_step = optimizer(rate).minimize(loss)
        losses = []
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            set_initial_values(session, MNIST_INIT_SEED)
            for _ in range(MNIST_STEPS):
                images, labels = data_sets.train.next_batch(MNIST_BATCH)
                session.run(opt_step, {x: images, y_true: labels})
                losses.append(float(session.run(loss, {x: images, y_true: labels})))
        model, _, kind = name.partition("-")
        cases[name] = {"model": model, "optimizer": kind, "learning_rate": rate, "losses": losses}
    settings = {"seed": MNIST_SEED, "init_seed": MNIST_INIT_SEED, "batch": MNIST_BATCH, "tensorflow": tf.__version__}
    with open(file, "w") as f:
        json.dump(dict(settings, cases=cases), f)


{"events": events, "mnist": mnist}[sys.argv[1]](*sys.argv[2:])
