"""The self-checks: right answers pass, and each mistake that students make gets its own sentence."""

import copy
import doctest
import functools
import operator
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import time
from contextlib import suppress

import numpy as np
import pytest

from lenet_lab import (
    build_classifier,
    build_lenet5,
    build_lenet5_dropout,
    build_softmax_regression,
    input_data,
    next_path,
    optimize,
    print_accuracy,
    start_run,
    tf,
)
from lenet_lab.analysis.events import read_curve
from lenet_lab.analysis.results import optimizer_table
from lenet_lab.analysis.summaries import scalars
from lenet_lab.compat import scalar_summary
from lenet_lab.course import check, inspection
from lenet_lab.models import bias_variable, dropout, weight_variable
from lenet_lab.runs import History, Model
from lenet_lab.training import iterate


@pytest.fixture(autouse=True)
def own_default_graph():
    """Some mistakes put nodes into the default graph, which other tests expect to be empty."""
    with tf.Graph().as_default():
        yield


GIVEN = {
    "tf": tf, "np": np, "os": os, "time": time, "scalar_summary": scalar_summary,
    "weight_variable": weight_variable, "bias_variable": bias_variable, "dropout": dropout, "learning_rate": 0.01,
    "scalars": scalars,
}  # fmt: skip
CHECKS = (
    "placeholders", "variables", "model", "loss", "optimizer", "accuracy", "summaries", "same_graph", "next_path",
    "training_loop", "lenet5", "parameter_count", "training", "curves", "adam", "optimizer_table", "dropout", "feeding",
)  # fmt: skip

# Right answers, as a student writes them by hand: a name of a check, then its cell.
CELLS = {
    "given": "graph = tf.Graph()",
    "placeholders": """
        with graph.as_default():
            x = tf.placeholder(tf.float32, [None, 784], name="inputs")
            y_true = tf.placeholder(tf.float32, [None, 10], name="labels")
            y_true_cls = tf.argmax(y_true, 1)
        """,
    "variables": """
        with graph.as_default():
            weights = tf.Variable(tf.zeros([784, 10]), name="weights")
            biases = tf.Variable(tf.zeros([10]), name="bias")
        """,
    "model": """
        with graph.as_default(), tf.name_scope("model"):
            logits = tf.matmul(x, weights) + biases
            y_pred = tf.nn.softmax(logits)
            y_pred_cls = tf.argmax(y_pred, axis=1)
        """,
    "loss": """
        with graph.as_default(), tf.name_scope("loss"):
            losses = tf.nn.softmax_cross_entropy_with_logits_v2(logits=logits, labels=y_true)
            loss = tf.reduce_mean(losses)
        """,
    "optimizer": """
        with graph.as_default(), tf.name_scope("optim"):
            opt_step = tf.train.GradientDescentOptimizer(learning_rate).minimize(loss)
        """,
    "accuracy": """
        with graph.as_default(), tf.name_scope("accuracy"):
            correct = tf.equal(y_pred_cls, y_true_cls)
            accuracy = tf.reduce_mean(tf.cast(correct, tf.float32))
        """,
    "summaries": """
        with graph.as_default():
            init_op = tf.global_variables_initializer()
            scalar_summary("Loss", loss)
            scalar_summary("Accuracy", accuracy)
            merged_summary_op = tf.summary.merge_all()
            saver = tf.train.Saver()
        """,
    "next_path": """
        def next_path(path_pattern):
            number = 1
            while os.path.exists(path_pattern % number):
                number += 1
            os.makedirs(path_pattern % number)
            return path_pattern % number
        """,
    "training_loop": """
        def iterate(run, x_batches, y_batches, keep_prob):
            c, records = run.classifier, []
            for i in range(len(x_batches)):
                feed = {c.x: x_batches[i], c.y_true: y_batches[i]}
                on = c.feed_dropout(keep_prob)
                run.session.run(c.opt_step, {**feed, **on})
                loss, acc, summary = run.session.run([c.loss, c.accuracy, c.summary], feed)
                event = tf.Event(wall_time=time.time(), summary=tf.Summary.FromString(summary))
                records.append((loss, acc, event))
            return records
        """,
    "lenet5": """
        def build_lenet5(x):
            with tf.name_scope("reshape"):
                image = tf.reshape(x, [-1, 28, 28, 1])
            with tf.name_scope("lenet5"):
                with tf.name_scope("layer1"):
                    w1 = weight_variable([5, 5, 1, 6], "weights1")
                    b1 = bias_variable([6], "bias1")
                    a1 = tf.nn.relu(tf.nn.conv2d(image, w1, strides=[1, 1, 1, 1], padding="SAME") + b1)
                    p1 = tf.nn.max_pool(a1, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="SAME")
                with tf.name_scope("layer2"):
                    w2 = weight_variable([5, 5, 6, 16], "weights2")
                    b2 = bias_variable([16], "bias2")
                    a2 = tf.nn.relu(tf.nn.conv2d(p1, w2, strides=[1, 1, 1, 1], padding="VALID") + b2)
                    p2 = tf.nn.max_pool(a2, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="SAME")
                with tf.name_scope("flatten"):
                    flat = tf.reshape(p2, [-1, 400])
                with tf.name_scope("layer3"):
                    w3 = weight_variable([400, 120], "weights3")
                    b3 = bias_variable([120], "bias3")
                    a3 = tf.nn.relu(tf.matmul(flat, w3) + b3)
                with tf.name_scope("layer4"):
                    w4 = weight_variable([120, 84], "weights4")
                    b4 = bias_variable([84], "bias4")
                    a4 = tf.nn.relu(tf.matmul(a3, w4) + b4)
                with tf.name_scope("layer5"):
                    w5 = weight_variable([84, 10], "weights5")
                    b5 = bias_variable([10], "bias5")
                    return tf.matmul(a4, w5) + b5
        """,
    "parameter_count": """
        layer1 = (5 * 5 * 1 + 1) * 6
        layer2 = (5 * 5 * 6 + 1) * 16
        layer3 = (400 + 1) * 120
        layer4 = (120 + 1) * 84
        layer5 = (84 + 1) * 10
        total = layer1 + layer2 + layer3 + layer4 + layer5
        """,
    "adam": "classifier = build_classifier(build_lenet5, tf.train.AdamOptimizer(learning_rate))",
    "optimizer_table": 'table = optimizer_table({"Gradient Descent": gradient_descent, "AdamOptimizer": adam})',
}
CELLS["dropout"] = CELLS["lenet5"].replace("build_lenet5(x)", "build_lenet5_dropout(x, keep_prob)").replace(
    'with tf.name_scope("layer3")',
    'with tf.name_scope("dropout"):\n'
    "                    flat = tf.nn.dropout(flat, rate=1 - keep_prob)\n"
    '                with tf.name_scope("layer3")',
)  # fmt: skip
NOTEBOOK_1 = ("given", "placeholders", "variables", "model", "loss", "optimizer", "accuracy", "summaries")


def answer(name, *replacements):
    """What a notebook has defined after the cell of a check, in which some text was replaced."""
    names = dict(GIVEN)
    cells = NOTEBOOK_1[: NOTEBOOK_1.index(name) + 1] if name in NOTEBOOK_1 else [name]
    for cell in cells:
        source = textwrap.dedent(CELLS[cell])
        if cell == name:
            for old, new in replacements:
                assert old in source, old
                source = source.replace(old, new)
        with suppress(Exception):  # the student sees an error and runs the check all the same
            exec(source, names)
    return names


def sentence_of(name, names):
    with pytest.raises(check.CheckFailed) as failure:
        getattr(check, name)(names)
    sentence = str(failure.value)
    assert failure.value._render_traceback_() == [sentence]
    assert re.fullmatch(r"Not yet: [^\n]+[^.]\.", sentence)
    return sentence


@pytest.mark.parametrize("name", [*NOTEBOOK_1[1:], "next_path", "training_loop", "lenet5", "dropout"])
def test_a_right_answer_passes(name, capsys):
    names = answer(name)
    getattr(check, name)(names)
    assert re.fullmatch(r"Right: [^\n]+\.\n", capsys.readouterr().out)


SEARCH = "while os.path.exists(path_pattern % number):\n        number += 1"
OLD = "parent = os.path.dirname(path_pattern)\n    old = os.listdir(parent) if os.path.exists(parent) else []\n    "
UPDATE = "run.session.run(c.opt_step, {**feed, **on})"
LOGITS = "return tf.matmul(a4, w5) + b5"
POOL_2 = 'tf.nn.max_pool(a2, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="SAME")'
DROP = "tf.nn.dropout(flat, rate=1 - keep_prob)"

# Other right answers: what a student may write instead of what.
ALTERNATIVES = [
    ("placeholders", "tf.argmax(y_true, 1)", "tf.argmax(y_true, axis=-1, name='true_class')"),
    ("model", "tf.matmul(x, weights) + biases", "tf.nn.bias_add(tf.matmul(x, weights), biases)"),
    ("model", "tf.nn.softmax(logits)", "tf.exp(logits) / tf.reduce_sum(tf.exp(logits), 1, keepdims=True)"),
    ("loss", "tf.reduce_mean(losses)", "-tf.reduce_mean(tf.reduce_sum(y_true * tf.nn.log_softmax(logits), 1))"),
    ("loss", "tf.reduce_mean(losses)", "tf.losses.softmax_cross_entropy(y_true, logits)"),
    ("optimizer", "minimize(loss)", "minimize(loss, global_step=tf.train.get_or_create_global_step())"),
    ("accuracy", "y_pred_cls, y_true_cls", "tf.argmax(logits, 1), tf.argmax(y_true, 1)"),
    ("next_path", SEARCH, OLD + "number = max([0] + [int(name.split('_')[1]) for name in old]) + 1"),
    ("next_path", "number = 1", "number = 1.0"),  # as Python 3 reads the original's division; %d makes it whole
    ("training_loop", "(loss, acc, event)", "[float(loss), acc, event]"),
    ("lenet5", "tf.nn.relu(tf.matmul(a3, w4) + b4)", "tf.nn.relu(tf.nn.xw_plus_b(a3, w4, b4))"),
    ("lenet5", "def build_lenet5(x)", "def build_lenet5(x, keep_prob=None)"),
    ("variables", 'name="weights"', 'name="weights", use_resource=True'),
    ("summaries", "merged_summary_op =", "scalar_summary('Third', loss); merged_summary_op ="),
    ("lenet5", 'weight_variable([120, 84], "', 'tf.Variable(tf.random_normal([120, 84], stddev=0.01), name="'),
    ("lenet5", 'weight_variable([5, 5, 1, 6], "', 'tf.Variable(tf.initializers.he_normal()([5, 5, 1, 6]), name="'),
    ("dropout", "rate=1 - keep_prob", "keep_prob"),
    ("dropout", DROP, "dropout(flat, keep_prob)"),
]

# A check, what the student wrote instead of what, and a part of the sentence.
MISTAKES = [
    ("placeholders", "[None, 784]", "[None, 28, 28]", "x has shape (?, 28, 28), expected (?, 784): an image is a"),
    ("placeholders", "[None, 784]", "[100, 784]", "expected (?, 784): None leaves the number of images open"),
    ("placeholders", "tf.float32, [None, 784]", "tf.float64, [None, 784]", "x has the type float64, expected"),
    ("placeholders", ', name="inputs"', "", 'x is called Placeholder, expected inputs: give it name="inputs"'),
    ("placeholders", "tf.placeholder(tf.float32, [None, 10]", "tf.zeros([5, 10]", "y_true is of type Const"),
    ("placeholders", "y_true, 1", "y_true, 0", "y_true_cls has shape (10,), expected (?,)"),
    ("placeholders", "argmax(y_true, 1)", "argmin(y_true, 1)", "take tf.argmax(y_true, 1)"),
    ("placeholders", "tf.argmax(y_true, 1)", "tf.placeholder(tf.int64, [None])", "needs a value for the placeholder"),
    ("placeholders", "y_true, 1", "y_true, 1, output_type=tf.int32", "has the type int32, expected int64"),
    ("placeholders", "graph.as_default()", "tf.Graph().as_default()", "x is not in graph: make it in the block of"),
    ("variables", "tf.Variable(tf.zeros([784, 10])", "tf.constant(np.zeros([784, 10])", "of type Const, expected a"),
    ("variables", "tf.zeros([784, 10])", "tf.truncated_normal([784, 10])", "weights does not start at zero"),
    ("variables", "tf.zeros([784, 10])", "np.zeros([784, 10])", "weights has the type float64, expected float32;"),
    ("variables", "tf.zeros([10])", "tf.zeros([784])", "biases has shape (784,), expected (10,): one bias for each"),
    ("variables", 'name="bias"', 'name="biases"', "biases is called biases, expected bias"),
    ("variables", 'name="bias"', 'name="bias", trainable=False', "training would not change biases"),
    ("variables", ":", ', tf.name_scope("model"):', "called model/weights, expected weights"),
    ("model", ', tf.name_scope("model")', "", "logits is in no scope, expected model"),
    ("model", 'name_scope("model")', 'name_scope("softmax")', "logits is in the scope softmax, expected model"),
    ("model", " + biases", "", "the logits lack the biases"),
    ("model", "tf.matmul(x, weights) + biases", "tf.nn.softmax(tf.matmul(x, weights) + biases)", "probabilities"),
    ("model", "tf.nn.softmax(logits)", "tf.nn.softmax(tf.nn.softmax(logits))", "y_pred has the softmax twice"),
    ("model", "tf.nn.softmax(logits)", "logits * 1", "y_pred is the logits themselves"),
    ("model", "softmax(logits)", "softmax(logits, axis=0)", "adds up to 1 over the images"),
    ("model", "tf.nn.softmax", "tf.sigmoid", "y_pred is a sigmoid"),
    ("model", "axis=1", "axis=0", "y_pred_cls has shape (10,), expected (?,)"),
    ("model", "argmax", "argmin", "y_pred_cls is the least likely class"),
    ("loss", "reduce_mean", "reduce_sum", "the loss is the sum over the images"),
    ("loss", "tf.reduce_mean(losses)", "losses", "loss has shape (?,), expected (): one number for the batch"),
    ("loss", "logits=logits", "logits=y_pred", "the loss can't fall below about 1.46"),
    ("loss", "tf.reduce_mean(losses)", "tf.reduce_mean(-y_true * tf.log(y_pred))", "mean over the classes too"),
    ("loss", "(losses)", "(-tf.reduce_sum(y_true * tf.log(y_pred), 1))", "of a confident mistake is nan, because"),
    ("loss", "(losses)", "(-tf.log(tf.reduce_sum(y_true * y_pred, 1)))", "of a confident mistake is inf, because"),
    ("loss", "(losses)", "(-tf.log(tf.reduce_sum(y_true * y_pred, 1) + 1e-10))", "the loss of confident mistakes is"),
    ("loss", "tf.reduce_mean(losses)", "-tf.reduce_mean(losses)", "the loss has the wrong sign"),
    ("loss", "logits=logits, labels=y_true", "labels=logits, logits=y_true", "logits and labels are swapped"),
    ("loss", "(losses)", "((y_pred - y_true) ** 2)", "the loss is the squared error"),
    ("loss", 'tf.name_scope("loss")', 'tf.name_scope("cost")', "loss is in the scope cost, expected loss"),
    ("optimizer", "minimize(loss)", "minimize(-loss)", "opt_step maximizes the loss"),
    ("optimizer", "minimize(loss)", "minimize(losses)", "each step is the sum over the images"),
    ("optimizer", "minimize(loss)", "minimize(accuracy)", "opt_step is missing: fill in the cell of the optimizer"),
    ("optimizer", "GradientDescent", "Adam", "every number moves equally far, as with Adam"),
    ("optimizer", "GradientDescentOptimizer(", "MomentumOptimizer(momentum=0.9, learning_rate=", "(momentum)"),
    ("optimizer", "learning_rate", "0.5", "the learning rate is 0.5, expected learning_rate, which is 0.01"),
    ("optimizer", "minimize(loss)", "minimize(y_pred)", "opt_step changes neither weights nor biases"),
    ("optimizer", "minimize(loss)", "minimize(logits)", "opt_step does not follow the gradient"),
    ("optimizer", "minimize(loss)", "minimize(loss, var_list=[weights])", "opt_step does not change biases"),
    ("optimizer", ".minimize(loss)", "", "opt_step is of type GradientDescentOptimizer, expected the operation"),
    ("optimizer", 'tf.name_scope("optim")', 'tf.name_scope("train")', "opt_step is in the scope train, expected"),
    ("accuracy", "tf.reduce_mean(tf.cast(correct, tf.float32))", "correct", "has the type bool, expected float32;"),
    ("accuracy", "tf.float32", "tf.int32", "accuracy has the type int32, expected float32; cast"),
    ("accuracy", "reduce_mean", "reduce_sum", "the accuracy counts the right answers"),
    ("accuracy", "tf.equal", "tf.not_equal", "the accuracy is the share of wrong answers"),
    ("accuracy", "tf.reduce_mean", "100 * tf.reduce_mean", "the accuracy is in percent"),
    ("accuracy", "y_pred_cls, y_true_cls", "y_pred_cls, tf.argmax(y_pred, 1)", "the accuracy is always 1"),
    ("accuracy", "y_pred_cls, y_true_cls", "y_pred, y_true", "compares probabilities with labels, number by number"),
    ("accuracy", "y_pred_cls, y_true_cls", "tf.round(y_pred), y_true", "compares rounded probabilities with labels"),
    ("accuracy", "y_pred_cls, y_true_cls", "tf.argmax(y_pred, 0), tf.argmax(y_true, 0)", "the images of each class"),
    ("summaries", "tf.summary.merge_all()", "None", "merged_summary_op is None: fill in the cell of the summaries"),
    ("summaries", "global_variables_initializer()", "variables_initializer([weights])", "leaves bias without a"),
    ("summaries", "tf.global_variables_initializer()", "tf.no_op()", "init_op leaves weights without a value"),
    ("summaries", "tf.global_variables_initializer()", "tf.global_variables_initializer", "init_op is of type"),
    ("summaries", 'scalar_summary("Loss"', 'tf.summary.scalar("Loss"', "would show Accuracy and Loss_1, expected"),
    ("summaries", 'scalar_summary("Accuracy", accuracy)', "pass", "the summary Accuracy is missing"),
    ("accuracy", "tf.equal(y_pred_cls, y_true_cls)", "y_pred_cls == y_true_cls", "use tf.equal, because in"),
    ("loss", "labels=y_true)", "labels=y_true_cls)", "the labels are y_true, ten numbers each, not y_true_cls"),
    ("optimizer", "minimize(loss)", "minimize(no_loss)", "fill in the cell of the optimizer and run it."),
    ("summaries", '"Accuracy", accuracy', '"Accuracy", loss', "don't show loss and accuracy"),
    ("summaries", "tf.train.Saver()", "tf.train.Saver([weights])", "saver leaves out bias"),
    ("next_path", "os.makedirs(path_pattern % number)", "pass", "returns run_01 but does not make this directory"),
    ("next_path", SEARCH + "\n    os.makedirs(", "os.makedirs(exist_ok=True, name=", "run_01, which exists already"),
    ("next_path", SEARCH, "number = 1", "File exists"),
    ("next_path", SEARCH, OLD + "number = len(old) + 1", "to count the directories gives a number that is taken"),
    ("next_path", SEARCH, OLD + "number = int(max(old)[4:]) + 1 if old else 1", "sorted as text run_9 comes last"),
    ("next_path", SEARCH, "__import__('shutil').rmtree(path_pattern % 1, True)", "returns run_01, which exists"),
    ("next_path", "number = 1", "number = 0", "next_path returns run_00: the first number is 1"),
    ("next_path", "return path_pattern % number", "return number", "next_path returns 1: expected the path, a str"),
    ("next_path", "return path_pattern % number", "pass", "next_path returns None: end it with return"),
    ("next_path", "path_pattern % number", "path_pattern.replace('%02d', str(number / 1))", "the number has a"),
    ("next_path", "path_pattern % number", "path_pattern.split('%')[0] + '%02d' % number", "its number of digits"),
    ("next_path", "return path_pattern % number", "return path_pattern", "put the number into it"),
    ("next_path", "number += 1", "pass", "next_path does not come to an end: look at its loop"),
    ("next_path", "os.makedirs", "os.mkdir", "os.makedirs makes a directory and those above it"),
    ("training_loop", "return records", "pass", "what iterate returns is None, expected a list"),
    ("training_loop", "return records", "    return records", "the list that iterate returns has length 1 for 3"),
    ("training_loop", "append((loss, acc, event))", "append(event)", "a record is of type Event, expected"),
    ("training_loop", "acc, event))", "acc, summary))", "the third value is of type bytes, expected a tf.Event"),
    ("training_loop", "wall_time=time.time(), ", "", "the events have no time"),
    ("training_loop", "(loss, acc, event)", "(acc, loss, event)", "the accuracy before the loss"),
    ("training_loop", UPDATE, "pass", "iterate leaves the weights as they are"),
    ("training_loop", UPDATE, "if i == 0: " + UPDATE, "trains only on the first batch"),
    ("training_loop", UPDATE, UPDATE + "; " + UPDATE, "each batch is trained on twice"),
    ("training_loop", UPDATE, f"later = lambda: {UPDATE}", "iterate leaves the weights as they are"),
    ("training_loop", "records.append", UPDATE + "; records.append", "each batch is trained on twice"),
    ("training_loop", "feed)\n", "{**feed, **on})\n", "dropout is on while the loss is measured"),
    ("training_loop", "{**feed, **on}", "feed", "dropout is off in training"),
    ("training_loop", "y_batches[i]}", "y_batches[0]}", "the updates are not one for each batch"),
    ("training_loop", "c.feed_dropout(keep_prob)", "{c.keep_prob: keep_prob}", "also works for a network without"),
    ("training_loop", "FromString(summary))", "FromString(summary)); event.ClearField('summary')", "an event lacks"),
    ("training_loop", "event))", "tf.Event(wall_time=1, summary=scalars(acc, loss))))", "tagged Loss and Accuracy"),
    ("training_loop", "return records", "raise SystemExit", "iterate calls exit: leave that out"),
    ("training_loop", "c.x: x_batches", "tf.placeholder(tf.float32): x_batches", "iterate stopped in its line 6 with"),
    ("lenet5", 'w1, strides=[1, 1, 1, 1], padding="SAME"', 'w1, strides=1, padding="VALID"', "24x24 numbers"),
    ("lenet5", '"VALID"', '"SAME"', "layer 2's convolution has 14x14 numbers, expected 10x10"),
    ("lenet5", POOL_2, "a2", "before the flattening has 10x10 numbers, expected 5x5"),
    ("lenet5", "tf.nn.conv2d(p1", "tf.nn.conv2d(a1", "that layer 2 gets has 28x28 numbers, expected 14x14"),
    ("lenet5", "tf.nn.max_pool", "tf.nn.avg_pool", "the pooling takes the mean of each 2x2 block"),
    ("lenet5", "tf.nn.relu(tf.matmul(a3, w4) + b4)", "tf.matmul(a3, w4) + b4", "layer 4 has no ReLU"),
    ("lenet5", "tf.nn.relu(tf.nn", "(tf.nn", "layers 1 and 2 have no ReLU: put"),
    ("lenet5", "tf.nn.relu(tf.m", "(tf.m", "layers 3 and 4 have no ReLU: put"),
    ("lenet5", 'weight_variable([400, 120], "', 'weights([400, 120], "', "stopped in its line 18 with NameError (name"),
    ("lenet5", 'weight_variable([400, 120], "', 'weights([400, 120], "', "is not defined); import it or define it"),
    ("lenet5", '[120], "bias3"', "[120]", "in its line 19 with TypeError"),
    ("lenet5", '[120], "bias3"', "[120]", "look at the arguments of the call there"),
    ("lenet5", "tf.nn.relu", "tf.identity", "no layer has a ReLU"),
    ("lenet5", "tf.nn.relu", "tf.tanh", "tanh takes the place of ReLU"),
    ("lenet5", LOGITS, "return tf.nn.relu(tf.matmul(a4, w5) + b5)", "the logits go through a ReLU"),
    ("lenet5", LOGITS, "return tf.nn.softmax(tf.matmul(a4, w5) + b5)", "the network returns probabilities"),
    ("lenet5", LOGITS, "return tf.matmul(a4, w5)", "layer 5 does not add its bias"),
    ("lenet5", "tf.matmul(flat, w3) + b3", "tf.matmul(flat, w3)", "layer 3 does not add its bias"),
    ("lenet5", "(tf.matmul(flat, w3) + b3)", "(tf.matmul(flat, w3)) + b3", "layer 3 adds its bias after the ReLU"),
    ("lenet5", "[5, 5, 1, 6]", "[5, 5, 1, 16]", "has shape (5, 5, 1, 16), expected (5, 5, 1, 6): filters of 5x5"),
    ("lenet5", '"weights1"', '"weights_1"', "layer1/weights_1 should be called lenet5/layer1/weights1"),
    ("lenet5", 'with tf.name_scope("layer3"):', "if True:", "weights3 is called lenet5/weights3, expected"),
    ("lenet5", 'with tf.name_scope("lenet5"):', "if True:", "weights1 is called layer1/weights1, expected"),
    ("lenet5", 'bias_variable([6], "bias1")', "0.0", "lenet5/layer1/bias1 is missing: layer 1 needs a bias"),
    ("lenet5", "tf.reshape(x, [-1, 28, 28, 1])", "x", "a convolution needs images, so first reshape x"),
    ("lenet5", 'with tf.name_scope("flatten"):', "if True:", "the scope flatten is missing"),
    ("lenet5", LOGITS, "logits = tf.matmul(a4, w5) + b5", "build_lenet5 returns None"),
    ("lenet5", LOGITS, LOGITS + ", a4", "build_lenet5 returns a tuple"),
    ("lenet5", LOGITS, "return a4", "expected the logits of layer 5, of shape (?, 10)"),
    ("lenet5", 'weight_variable([400, 120], "', 'tf.Variable(tf.zeros([400, 120]), name="', "all numbers of"),
    ("lenet5", 'weight_variable([84, 10], "', 'tf.Variable(tf.random_normal([84, 10]), name="', "weights5 starts"),
    ("lenet5", "[400, 120]", "[784, 120]", "has shape (784, 120), expected (400, 120): 5x5x16 = 400 features in"),
    ("lenet5", "(x):", "():", "look at the arguments in its first line"),
    ("lenet5", "(x):", "(x):\n    raise NotImplementedError", "is not written yet"),
    ("lenet5", "(x):", "(x, outside=tf.ones([784])):\n    x = x * outside", "is in another graph"),
    ("dropout", DROP, "flat", "keep_prob changes nothing"),
    ("dropout", "rate=1 - keep_prob", "rate=keep_prob", "rate is the share that it drops, so rate = 1 - keep_prob"),
    ("dropout", DROP, "dropout(flat, 1 - keep_prob)", "lenet_lab.models.dropout takes the share to keep, dropout(x, k"),
    ("dropout", "rate=1 - keep_prob", "rate=1 - keep_prob, noise_shape=[1, 400]", "all images lose the same features"),
    ("dropout", "rate=1 - keep_prob", "keep_prob=0.75", "so it can't be switched off for the test"),
    ("dropout", "rate=1 - keep_prob", "rate=0.75", "so it can't be switched off for the test"),
    ("dropout", DROP, "flat * tf.floor(tf.random_uniform(tf.shape(flat)) + keep_prob)", "not divided by keep_prob"),
    ("dropout", "flat = tf.nn.dropout", "other = tf.nn.dropout", "layer 3 does not use what dropout returns"),
    ("dropout", 'name_scope("dropout")', 'name_scope("drop")', "dropout is in another scope"),
    ("dropout", "tf.nn.relu(tf.matmul(flat, w3) + b3)", DROP.replace("flat", "tf.matmul(flat, w3)"), "acts on 120"),
    ("dropout", "(x, keep_prob)", "(x, keep_prob=0.75)", "keep_prob has the default 0.75"),
    ("dropout", "(x, keep_prob)", "(x, p)", "takes x and keep_prob"),
    ("dropout", "tf.nn.relu(tf.matmul(flat, w3) + b3)", "tf.matmul(flat, w3) + b3", "layer 3 has no ReLU"),
]  # fmt: skip


@pytest.mark.parametrize("name, old, new", ALTERNATIVES)
def test_another_right_answer_passes(name, old, new, capsys):
    getattr(check, name)(answer(name, (old, new)))
    assert capsys.readouterr().out.startswith("Right: ")


def test_lenet5_made_with_get_variable_passes(capsys):
    get = ("weight_variable(", "new_variable("), ("bias_variable(", "new_variable(")
    names = answer("lenet5", *get, ("tf.name_scope", "tf.variable_scope"))
    names["new_variable"] = lambda shape, name: tf.get_variable(
        name, shape, initializer=None if len(shape) > 1 else tf.zeros_initializer()
    )
    check.lenet5(names)
    assert capsys.readouterr().out.startswith("Right: ")


class Lab:
    def __init__(self, build):
        self.build = build

    def method(self, x):
        return self.build(x)

    __call__ = method


@pytest.mark.parametrize("wrapped", [functools.partial, Lab, lambda build: Lab(build).method])
def test_what_is_called_like_a_function_passes(wrapped, capsys):
    check.lenet5({"build_lenet5": wrapped(build_lenet5)})
    assert capsys.readouterr().out.startswith("Right: ")
    assert "build_lenet5 is of type type, expected a function" in sentence_of("lenet5", {"build_lenet5": Lab})


def test_a_temporary_folder_may_have_a_percent_sign_in_its_name(tmp_path, monkeypatch, capsys):
    (tmp_path / "100%d").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "100%d"))
    check.next_path(answer("next_path"))
    assert capsys.readouterr().out.startswith("Right: ")


@pytest.mark.parametrize("name, operation", [("optimizer", "opt_step"), ("summaries", "init_op")])
def test_an_operation_of_another_graph_is_recognized(name, operation):
    names = answer(name) | {operation: tf.no_op()}
    assert f"{operation} is not in graph: make it in the block of graph.as_default()" in sentence_of(name, names)


@pytest.mark.parametrize("rate", [0, -0.1, 1e-8])
def test_a_learning_rate_without_a_step_is_named(rate):
    names = answer("optimizer", ("learning_rate", str(rate))) | {"learning_rate": rate}
    assert f"learning_rate is {rate:g}, expected a positive number" in sentence_of("optimizer", names)


@pytest.mark.parametrize("name, old, new, part", MISTAKES)
def test_a_mistake_gets_its_own_sentence(name, old, new, part, monkeypatch):
    monkeypatch.setattr(inspection, "LIMIT", 0.5)
    assert part in sentence_of(name, answer(name, (old, new)))


# Cells that ran twice, or not at all


@pytest.mark.parametrize(
    "again, name, part",
    [
        (
            "placeholders",
            "placeholders",
            "x is called inputs_1, because its cell ran twice: run the cell graph = tf.Graph()",
        ),
        ("variables", "variables", "weights is called weights_1, because its cell ran twice"),
        ("model", "model", "logits is in the scope model_1, because its cell ran twice"),
        ("optimizer", "optimizer", "opt_step is in the scope optim_1, because its cell ran twice"),
        ("summaries", "summaries", "Loss and Accuracy are there twice, because their cell ran twice"),
        (
            "given",
            "placeholders",
            "x is not in graph: make it in the block of graph.as_default(), and run the cell graph",
        ),
    ],
)
def test_a_cell_that_ran_twice_is_named(again, name, part):
    names = answer(name)
    exec(textwrap.dedent(CELLS[again]), names)
    assert part in sentence_of(name, names)


@pytest.mark.parametrize("name", CHECKS)
def test_an_empty_notebook_gets_a_sentence(name):
    assert re.match(r"Not yet: \w+ is missing: (run the cells above|fill in the cell)", sentence_of(name, {}))


@pytest.mark.parametrize("name", NOTEBOOK_1[1:])
def test_a_cell_of_notebook_1_that_is_not_filled_in_is_named(name):
    names = answer(NOTEBOOK_1[NOTEBOOK_1.index(name) - 1])
    assert f" is missing: fill in the cell of the {name} and run it" in sentence_of(name, names)


@pytest.mark.parametrize(
    "name, missing, where",
    [
        ("next_path", "next_path", "fill in the cell of this function and run it"),
        ("training_loop", "iterate", "fill in the cell of this function and run it"),
        ("lenet5", "build_lenet5", "fill in the cell of this function and run it"),
        ("parameter_count", "layer1", "fill in the cell that counts the parameters and run it"),
        ("curves", "run", "run the cells above this one, from the top; it is what start_run returns"),
        ("curves", "accuracy_curve", "fill in the cell of the curves and run it"),
        ("adam", "classifier", "fill in the cell of the classifier; build_classifier takes the network"),
        ("optimizer_table", "table", "fill in the cell of the table and run it"),
        ("dropout", "build_lenet5_dropout", "fill in the cell of this function and run it"),
        ("feeding", "on", "fill in the cell that feeds the dropout and run it"),
    ],
)
def test_an_answer_that_is_missing_is_named(name, missing, where, trained, lenet5_classifier):
    names = trained | {"classifier": lenet5_classifier, "gradient_descent": GRADIENT_DESCENT, "adam": ADAM}
    del names["history"], names["accuracy_curve"]
    names.pop(missing, None)
    assert sentence_of(name, names).startswith(f"Not yet: {missing} is missing: {where}")


def test_a_check_adds_no_node_and_changes_nothing():
    names = answer("summaries") | {"classifier": softmax_classifier()}
    graphs = names["graph"], names["classifier"].graph
    before = [
        (graph.as_graph_def(), {key: list(graph.get_collection(key)) for key in graph.collections}) for graph in graphs
    ]
    for name in (*NOTEBOOK_1[1:], "same_graph"):
        getattr(check, name)(names)
    assert before == [(g.as_graph_def(), {key: list(g.get_collection(key)) for key in g.collections}) for g in graphs]


def test_an_error_inside_a_check_is_one_sentence():
    sentence = sentence_of("optimizer", answer("optimizer") | {"learning_rate": "fast"})
    assert "the check stopped with ValueError (could not convert string to float: 'fast'); run the cells" in sentence


def test_ipython_shows_the_sentence_and_no_traceback():
    code = "from lenet_lab.course import check\ncheck.placeholders(globals())"
    shell = subprocess.run([sys.executable, "-m", "IPython", "-c", code], capture_output=True, text=True, check=False)
    assert shell.returncode == 1
    shown = shell.stdout + shell.stderr
    assert "Not yet: graph is missing: run the cells above this one, from the top." in shown
    assert "Traceback" not in shown and "inspection.py" not in shown


def test_the_modules_example_prints_what_it_shows():
    assert doctest.testmod(check) == (0, 2)


# The same graph


def softmax_classifier(rate=0.01):
    return build_classifier(build_softmax_regression, tf.train.GradientDescentOptimizer(rate))


def test_the_students_graph_is_the_packages(capsys):
    check.same_graph(answer("summaries") | {"classifier": softmax_classifier()})
    assert re.fullmatch(r"Right: both graphs have the same \d+ nodes\.\n", capsys.readouterr().out)


def test_a_harmless_difference_between_the_graphs_is_named(capsys):
    names = answer("summaries") | {"classifier": softmax_classifier()}
    with names["graph"].as_default():
        tf.constant(1.0, name="leftover")
    check.same_graph(names)
    assert "the first difference is leftover in yours, which does no harm." in capsys.readouterr().out


def test_graphs_that_compute_something_else_are_no_harmless_difference():
    names = answer("summaries") | {"classifier": softmax_classifier(rate=0.02)}
    assert "the two graphs differ in the weights after a step" in sentence_of("same_graph", names)


# The package's functions pass as well


@pytest.mark.parametrize(
    "name, given",
    [
        ("next_path", {"next_path": next_path}),
        ("training_loop", {"iterate": iterate}),
        ("lenet5", {"build_lenet5": build_lenet5}),
        ("dropout", {"build_lenet5_dropout": build_lenet5_dropout}),
    ],
)
def test_the_packages_own_function_passes(name, given, capsys):
    getattr(check, name)(given)
    assert capsys.readouterr().out.startswith("Right: ")


# Counting


@pytest.fixture(scope="module")
def lenet5_classifier():
    return build_classifier(build_lenet5, tf.train.AdamOptimizer(0.001))


def test_the_right_number_of_parameters_passes(lenet5_classifier, capsys):
    check.parameter_count(answer("parameter_count") | {"classifier": lenet5_classifier})
    assert capsys.readouterr().out == "Right: LeNet-5 has 61,706 parameters, and layer 3 alone has 78% of them.\n"


@pytest.mark.parametrize(
    "wrong, part",
    [
        ({"layer1": 150}, "layer1 is 150: the biases are missing, one for each of the 6 outputs"),
        ({"layer1": 151}, "a single bias, expected one for each of the 6 outputs"),
        ({"layer1": 26}, "that is one filter, but there are 6"),
        ({"layer1": 156 * 784}, "that counts connections, but a filter uses the same weights at all of its 784"),
        ({"layer2": 2400 * 100 + 16}, "that counts connections, but a filter uses the same weights at all of its 100"),
        ({"layer2": 5 * 5 * 16 + 16}, "a filter of layer 2 looks at all 6 maps of layer 1"),
        ({"layer3": 784 * 120 + 120}, "784 inputs are the pixels, or the 7x7x16"),
        ({"layer3": 14 * 14 * 16 * 120 + 120}, "that has 14x14x16 inputs"),
        ({"layer3": 1600 * 120}, "the second pooling leaves 5x5x16"),
        ({"layer4": 120 * 84}, "layer4 is 10,080: the biases are missing, one for each of the 84 outputs"),
        ({"layer5": 12}, "layer5 is 12: count the weights, inputs x outputs, and add the biases"),
        ({"layer5": 850.0}, "layer5 is 850.0, expected an int: / makes a fraction, use //"),
        ({"layer5": [1] * 1000}, "layer5 is [1, 1, 1, 1, 1, 1, ...], expected a whole number"),
        ({"layer5": 10**500}, "layer5 has ten digits or more"),
        ({"total": 61700}, "total is 61,700, but the five layers do not add up to this"),
        ({"classifier": softmax_classifier()}, "classifier is not LeNet-5"),
    ],
)
def test_a_wrong_number_of_parameters_is_explained(wrong, part, lenet5_classifier):
    names = answer("parameter_count") | {"classifier": lenet5_classifier} | wrong
    assert part in sentence_of("parameter_count", names)


# Training


@pytest.fixture(scope="module")
def trained_once(small_folder, tmp_path_factory):
    """A notebook in which softmax regression was trained for two epochs, and tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LENET_LAB_DATA", str(small_folder))
        mnist = input_data.read_data_sets("unused", one_hot=True)
    with start_run(softmax_classifier(), str(tmp_path_factory.mktemp("runs") / "run_%02d"), seed=1) as run:
        optimize(run, mnist, 2, 100)
        print_accuracy(run, mnist)
        curves = {
            "accuracy_curve": {"mine": read_curve(run.directory, "Accuracy")},
            "loss_curve": {"mine": read_curve(run.directory, "Loss")},
        }
        yield curves | {"run": run, "mnist": mnist, "epochs": 2, "batch_size": 100, "seed": 1}


@pytest.fixture
def trained(trained_once):
    """The same with a copy of the run, which a test may spoil."""
    run = copy.copy(trained_once["run"])
    run.history = copy.deepcopy(run.history)
    return trained_once | {"run": run, "history": run.history}


@pytest.mark.parametrize("fast", [False, True])
def test_a_students_lenet5_trains_and_passes_after_one_epoch_of_stand_in_data(fast, small, tmp_path, capsys):
    names = answer("lenet5") | {"mnist": small, "epochs": 1, "batch_size": 128, "seed": 1, "learning_rate": 0.001}
    classifier = build_classifier(names["build_lenet5"], tf.train.GradientDescentOptimizer(0.001))
    with start_run(classifier, str(tmp_path / "run_%02d"), seed=1) as run:
        history = optimize(run, small, 1, 128, fast=fast)
        print_accuracy(run, small)
        check.training(names | {"run": run, "history": history})
    assert capsys.readouterr().out.splitlines()[-1].startswith("Right: the loss of epoch 1 is 2.3")
    assert "run is closed (the end of a with block does that), and later" in sentence_of(
        "training", names | {"run": run, "history": history}
    )


def test_a_trained_and_tested_run_passes_and_is_left_as_it_is(trained, capsys):
    run = trained["run"]
    variables = run.classifier.graph.get_collection("variables")
    before = run.classifier.graph.as_graph_def(), run.step, run.rng.get_state()[2], run.session.run(variables)
    check.training(trained)
    check.curves(trained)
    assert capsys.readouterr().out.count("Right: ") == 2
    after = run.classifier.graph.as_graph_def(), run.step, run.rng.get_state()[2], run.session.run(variables)
    assert after[:3] == before[:3] and all(map(np.array_equal, after[3], before[3]))


def rewritten(losses):
    return lambda names: operator.setitem(names["run"].history.step_loss, slice(None), losses)


@pytest.mark.parametrize(
    "spoil, part",
    [
        (lambda n: n.update(epochs=3), "run has trained for 2 epochs, expected epochs, 3 (perhaps it was stopped)"),
        (lambda n: n.update(epochs=1), "run has trained for 2 epochs, expected epochs, 1 (perhaps its cell ran twice)"),
        (lambda n: n.update(batch_size=50), "run took 20 steps in batches of 100, expected batch_size, 50"),
        (lambda n: n.update(seed=2), "run has the seed 1, expected 2"),
        (lambda n: n.update(learning_rate=0.02), "run has the learning rate 0.01, expected learning_rate, 0.02"),
        (lambda n: n.update(keep_prob=0.5), "run trains the network without dropout"),
        (lambda n: n.update(history=None), "its result was not kept: write history = optimize(...)"),
        (
            lambda n: n.update(history=None, epochs=3),
            "the training stopped after 20 steps, before optimize returned history",
        ),
        (lambda n: n.update(history=History()), "history is that of another run"),
        (lambda n: n.update(run=Model(n["run"].classifier)), "run is of type Model, expected what start_run returns"),
        (lambda n: setattr(n["run"], "test_accuracy", None), "run is not tested: call print_accuracy(run, mnist)"),
        (lambda n: setattr(n["run"], "test_accuracy", 0.098), "run was tested before the last training (9.8%, now "),
        (lambda n: setattr(n["run"], "step", 0), "run is not trained: call history = optimize(run"),
        (rewritten([14.7] * 100), "the loss ends at 14.7, but a guess has ln 10 = 2.303, so the network is confident"),
        (rewritten([2.303] * 6000), "after 6,000 steps the loss is still 2.303, and a guess has ln 10"),
    ],
)
def test_a_training_that_went_wrong_is_explained(spoil, part, trained):
    spoil(trained)
    assert part in sentence_of("training", trained)


def test_a_short_training_may_still_be_guessing(trained):
    rewritten([2.303] * 4000)(trained)
    check.training(trained)


def test_a_network_that_returns_probabilities_is_recognized(small, tmp_path):
    classifier = build_classifier(lambda x: tf.nn.softmax(build_softmax_regression(x)), tf.train.AdamOptimizer(0.01))
    with start_run(classifier, str(tmp_path / "run_%02d"), seed=1) as run:
        history = optimize(run, small, 1, 100)
        names = {"run": run, "history": history, "mnist": small, "epochs": 1, "batch_size": 100}
        assert "so the loss, 1." in (sentence := sentence_of("training", names))
        assert "the softmax is applied twice" in sentence and "can't fall below 1.46" in sentence


def test_a_training_that_ended_with_nan_is_explained(small, tmp_path):
    with start_run(softmax_classifier(rate=1e38), str(tmp_path / "run_%02d"), seed=1) as run:
        with pytest.raises(FloatingPointError, match="the loss became nan"):
            optimize(run, small, 1, 100)
        sentence = sentence_of("training", {"run": run, "mnist": small, "epochs": 1, "batch_size": 100})
        assert "the training stopped after" in sentence and "if the loss became nan, the learning rate or" in sentence


def test_a_learning_rate_that_is_far_too_large_is_recognized(small, tmp_path):
    with start_run(softmax_classifier(rate=100.0), str(tmp_path / "run_%02d"), seed=1) as run:
        history = optimize(run, small, 1, 100)
        names = {"run": run, "history": history, "mnist": small, "epochs": 1, "batch_size": 100}
        assert "the network is confident and wrong: the learning rate or the initial" in sentence_of("training", names)


@pytest.mark.parametrize(
    "spoil, part",
    [
        (
            lambda n: n.update(accuracy_curve=n["loss_curve"]),
            'accuracy_curve has the values tagged "Loss", expected those',
        ),
        (lambda n: n.update(loss_curve=n["accuracy_curve"]), 'loss_curve has the values tagged "Accuracy"'),
        (
            lambda n: n.update(loss_curve=n["loss_curve"]["mine"]),
            "loss_curve is of type Curve, expected a dict, {label: ",
        ),
        (
            lambda n: n.update(loss_curve={"mine": n["run"].directory}),
            "loss_curve['mine'] is of type str, expected a curve",
        ),
        (lambda n: n.update(loss_curve={}), "loss_curve has no values, expected those of all 20 steps of run"),
        (
            lambda n: (n["run"].history.step_accuracy.append(0.5), setattr(n["run"], "step", 21)),
            "accuracy_curve has 20 values, expected those of all 21 steps",
        ),
    ],
)
def test_wrong_curves_are_explained(spoil, part, trained):
    spoil(trained)
    assert part in sentence_of("curves", trained)


# Adam, the table, and feeding dropout


def test_adam_passes_and_what_is_not_adam_does_not(lenet5_classifier, capsys):
    names = GIVEN | {"learning_rate": 0.001, "build_classifier": build_classifier, "build_lenet5": build_lenet5}
    check.adam(names | {"classifier": lenet5_classifier})
    assert capsys.readouterr().out == "Right: LeNet-5 with Adam, learning rate 0.001.\n"
    for old, new, part in (
        (
            "AdamOptimizer",
            "GradientDescentOptimizer",
            "the optimizer is GradientDescent, expected tf.train.AdamOptimizer",
        ),
        (
            "AdamOptimizer(learning_rate)",
            "AdamOptimizer(0.01)",
            "the learning rate of Adam is 0.01, expected learning_ra",
        ),
        ("tf.train.AdamOptimizer", "tf.keras.optimizers.Adam", "an optimizer of tf.train (not of Keras)"),
        (
            "build_lenet5",
            "lambda x: x[:, :10] * tf.Variable(1.0)",
            "lenet5/layer1/weights1 is missing: layer 1 needs weights",
        ),
    ):
        wrong = dict(names)
        with suppress(ValueError):
            exec(CELLS["adam"].replace(old, new), wrong)
        assert part in sentence_of("adam", wrong)


GRADIENT_DESCENT = {"data": "MNIST", "test_accuracy": 0.957, "seconds": 54.0}
ADAM = {"data": "MNIST", "test_accuracy": 0.992, "seconds": 46.0}


def test_the_table_of_optimizers_passes(capsys):
    names = {"gradient_descent": GRADIENT_DESCENT, "adam": ADAM, "optimizer_table": optimizer_table}
    exec(CELLS["optimizer_table"], names)
    check.optimizer_table(names)
    assert capsys.readouterr().out.startswith("Right: the table has the test accuracy")


@pytest.mark.parametrize(
    "columns, part",
    [
        ({"Gradient Descent": ADAM, "AdamOptimizer": GRADIENT_DESCENT}, "the columns are swapped"),
        ({"AdamOptimizer": ADAM, "Gradient Descent": GRADIENT_DESCENT}, "the columns are in the other order"),
        ({"Gradient Descent": GRADIENT_DESCENT}, "the column of AdamOptimizer is missing"),
        ({"AdamOptimizer": ADAM}, "the column of Gradient Descent is missing"),
        ({"Gradient Descent": ADAM, "AdamOptimizer": ADAM}, "both columns show Adam's result"),
        ({"SGD": GRADIENT_DESCENT, "Adam": ADAM}, "the headings are not the expected ones: give optimizer_table"),
        ({}, "the table is empty"),
    ],
)
def test_a_wrong_table_is_explained(columns, part):
    names = {"gradient_descent": GRADIENT_DESCENT, "adam": ADAM, "table": optimizer_table(columns)}
    assert part in sentence_of("optimizer_table", names)
    assert "table is of type dict, expected the text" in sentence_of("optimizer_table", names | {"table": columns})


def test_dropout_is_fed_in_training_and_not_in_measuring(small, tmp_path, capsys):
    classifier = build_classifier(build_lenet5_dropout, tf.train.AdamOptimizer(0.001))
    with start_run(classifier, str(tmp_path / "run_%02d"), seed=1) as run:

        def logits(images=(0, 0, 0), tensor=classifier.logits, **dropout):
            feed = {classifier.x: small.validation.images[list(images)]}
            return run.session.run(tensor, feed | {getattr(classifier, name): value for name, value in dropout.items()})

        names = {"run": run, "mnist": small, "keep_prob": 0.75}
        right = {"on": logits(keep_prob=0.75), "off": logits()}
        check.feeding(names | right)
        assert capsys.readouterr().out.startswith("Right: with dropout on, three copies")
        for wrong, part in (
            ({"on": right["off"], "off": right["on"]}, "on and off are swapped"),
            ({"on": right["off"]}, "dropout was off for on, where all rows are the same: feed keep_prob"),
            ({"off": right["on"]}, "dropout was on for off, where the rows differ: leave keep_prob out"),
            ({"on": logits((0, 1, 2), keep_prob=0.75), "off": logits((0, 1, 2))}, "these are three different digits"),
            ({"off": right["off"][:1]}, "off has shape (1, 10), expected (3, 10)"),
            ({"on": classifier.logits}, "on is a tensor without a value yet: compute it with run.session.run"),
            ({"on": logits(keep_prob=0.25)}, "on is not what run gives for same_digit with keep_prob, which is 0.75"),
            ({"on": 10 * np.eye(3, 10)}, "on is not what run gives for same_digit with keep_prob"),
            ({"on": logits((0, 1, 2))}, "these are three different digits"),
            ({"off": logits(keep_prob=1e-9)}, "off is not what run gives for same_digit alone"),
            ({"off": logits((1, 1, 1))}, "off is not what run gives for same_digit alone"),
            ({"off": logits(tensor=classifier.y_pred)}, "off has probabilities, expected logits"),
        ):
            assert part in sentence_of("feeding", names | right | wrong)


def test_the_keep_prob_of_a_training_is_read_from_its_event_file(small, tmp_path, capsys):
    def build(x, keep_prob):
        return build_softmax_regression(dropout(x, keep_prob))

    classifier = build_classifier(build, tf.train.GradientDescentOptimizer(0.01))
    with start_run(classifier, str(tmp_path / "run_%02d"), seed=1) as run:
        names = {"history": optimize(run, small, 1, 100), "run": run, "mnist": small, "epochs": 1, "batch_size": 100}
        print_accuracy(run, small)
        check.training(names | {"keep_prob": 0.75})
        assert capsys.readouterr().out.splitlines()[-1].startswith("Right: ")
        sentence = sentence_of("training", names | {"keep_prob": 0.5})
        assert "run was trained with keep_prob 0.75, expected keep_prob, 0.5: give it to optimize" in sentence
