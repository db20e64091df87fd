"""Programs written for TensorFlow 1 run unchanged, each in its own process as a user would run it."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from lenet_lab import tf
from lenet_lab.data import standin
from lenet_lab.tf1.__main__ import main

ROOT = Path(__file__).parent.parent
SEEDS = Path(os.environ.get("LENET_LAB_SEEDS", "nowhere"))


@pytest.fixture
def run(tmp_path, small_folder):
    """Runs `python -m lenet_lab.tf1` in a temporary folder and checks its exit status."""

    def run(*arguments, expect=0, data=small_folder, **environment):
        done = subprocess.run(
            [sys.executable, "-m", "lenet_lab.tf1", *arguments],
            cwd=tmp_path, capture_output=True, text=True, timeout=280,
            env=os.environ | {"LENET_LAB_DATA": str(data), "PYTHONPATH": str(ROOT), **environment},
        )  # fmt: skip
        assert done.returncode == expect, done.stderr
        return done

    return run


PROGRAM = """
import sys
import numpy as np
import matplotlib.pyplot as plt
import tensorflow as tf
import tensorflow.examples.tutorials.mnist.input_data
import tensorflow.examples.tutorials.mnist.input_data as same
from tensorflow.examples.tutorials.mnist import input_data, mnist as network
from tensorflow.contrib import rnn, slim
from tensorflow.contrib.learn.python.learn.datasets.mnist import read_data_sets
from tensorflow.python.framework import ops
import helper

assert tensorflow.examples.tutorials.mnist.input_data.read_data_sets is same.read_data_sets is read_data_sets
assert helper.tf.placeholder is tf.placeholder
mnist = input_data.read_data_sets("MNIST_data/", one_hot=True)
x = tf.placeholder(tf.float32, [None, 784], name="inputs")
y = tf.placeholder(tf.float32, [None, 10])
print(x, sys.argv[1:], __name__)

rows = tf.unstack(tf.reshape(x, [-1, 28, 28]), 28, 1)
outputs, state = rnn.static_rnn(rnn.BasicLSTMCell(8, forget_bias=1.0), rows, dtype=tf.float32)
flat = tf.contrib.layers.flatten(tf.reshape(x, [-1, 28, 28, 1]))
weights = tf.get_variable("W", [784, 10], initializer=tf.contrib.layers.xavier_initializer())
logits = tf.matmul(flat, weights) + tf.layers.dense(outputs[-1], 10)
with slim.arg_scope([slim.fully_connected], activation_fn=None, weights_regularizer=slim.l2_regularizer(0.1)):
    logits += tf.contrib.layers.fully_connected(flat, 10)
    assert logits.op.inputs[1].op.type == "BiasAdd"  # no activation: the scope's default holds
assert len(tf.losses.get_regularization_losses()) == 1
loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(logits=logits, labels=y))
step = tf.train.AdamOptimizer(0.01).minimize(loss)
print([v.name for v in tf.trainable_variables()])
with tf.Session() as sess:
    sess.run(tf.global_variables_initializer())
    losses = []
    for _ in range(30):
        images, labels = mnist.train.next_batch(100)
        losses.append(sess.run([loss, step], {x: images, y: labels})[0])
    assert np.reshape(np.zeros(4, np.float), newshape=(2, 2)).shape == (2, 2)
    assert losses[-1] < losses[0] / 2
logits = network.inference(x, 16, 8)
print(logits, network.IMAGE_PIXELS)
plt.plot(losses)
plt.show()
plt.plot(losses)
plt.show()
"""


def test_a_program_runs_unchanged_with_its_arguments_modules_and_plots(run, tmp_path):
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "old.py").write_text(PROGRAM)
    (tmp_path / "programs" / "helper.py").write_text("import tensorflow as tf\n")
    out = run("programs/old.py", "--rate", "3").stdout
    assert "Tensor(\"inputs:0\", shape=(?, 784), dtype=float32) ['--rate', '3'] __main__" in out
    assert "'rnn/basic_lstm_cell/kernel:0', 'rnn/basic_lstm_cell/bias:0'" in out  # names as in a TF1 checkpoint
    assert "'fully_connected/weights:0', 'fully_connected/biases:0'" in out
    assert 'Tensor("softmax_linear/add:0", shape=(?, 10), dtype=float32) 784' in out
    assert {path.name for path in tmp_path.glob("*.png")} == {"old-figure-1.png", "old-figure-2.png"}


MISSING = """
import tensorflow as tf
for name in ("tf.contrib.slim.learning", "tf.mul", "tf.train.SummaryWriter", "tf.estimator", "tf.contrib.layers.stack",
             "tf.layers.nothing"):
    try:
        eval(name)
    except AttributeError as error:
        print(name, "|", error)
for line in (
    "from tensorflow.contrib import crf",
    "import tensorflow.contrib.crf as crf",
    "from tensorflow.contrib.factorization import KMeans",
):
    try:
        exec(line)
    except ImportError as error:
        print(line, "|", error)
try:
    tf.contrib.learn.datasets.load_dataset("iris")
except ValueError as error:
    print("iris", "|", error)
assert not hasattr(tf, "mul") and hasattr(tf, "multiply")
"""


SLIM = "tf.layers, and a loop over session.run for slim.learning"
GUIDE = "what https://www.tensorflow.org/guide/migrate suggests"


def test_a_missing_name_says_what_to_use_instead(run, tmp_path):
    (tmp_path / "old.py").write_text(MISSING)
    lines = dict(line.split(" | ") for line in run("old.py").stdout.splitlines())
    message = "tf.{} is not in TensorFlow " + tf.VERSION + ", and lenet_lab.tf1 does not provide it; use {}"
    for code, name, replacement in (
        ("tf.contrib.slim.learning", "contrib.slim.learning", SLIM),
        ("tf.mul", "mul", "tf.multiply"),
        ("tf.train.SummaryWriter", "train.SummaryWriter", "tf.summary.FileWriter"),
        ("tf.estimator", "estimator", "tf.keras, or a loop over session.run"),
        ("tf.contrib.layers.stack", "contrib.layers.stack", "tf.layers"),
        ("tf.layers.nothing", "layers.nothing", "its successor (see https://www.tensorflow.org/api_docs)"),
        ("from tensorflow.contrib import crf", "contrib.crf", GUIDE),
        ("import tensorflow.contrib.crf as crf", "contrib.crf", GUIDE),
        ("from tensorflow.contrib.factorization import KMeans", "contrib.factorization", "scikit-learn's KMeans"),
    ):
        assert lines[code] == message.format(name, replacement)
    assert "expected 'mnist'" in lines["iris"]


KERAS_3 = """
import tensorflow as tf
x = tf.placeholder(tf.float32, [None, 784])
for code in ("tf.layers.dense", "tf.nn.rnn_cell.BasicLSTMCell", "tf.contrib.rnn.GRUCell",
             "tf.contrib.layers.dropout(x)"):
    try:
        eval(code)
    except AttributeError as error:
        print(code, "|", error)
tf.contrib.layers.fully_connected(x, 10)
"""


def test_without_keras_2_the_message_says_how_to_switch_it_on(run, tmp_path):
    (tmp_path / "old.py").write_text(KERAS_3)
    lines = dict(line.split(" | ") for line in run("old.py", TF_USE_LEGACY_KERAS="0").stdout.splitlines())
    for code, name in (
        ("tf.layers.dense", "layers.dense"),
        ("tf.nn.rnn_cell.BasicLSTMCell", "nn.rnn_cell.BasicLSTMCell"),
        ("tf.contrib.rnn.GRUCell", "contrib.rnn.GRUCell"),
        ("tf.contrib.layers.dropout(x)", "layers.dropout"),
    ):
        assert lines[code].startswith(f"tf.{name} is not in TensorFlow {tf.VERSION} with Keras 3; use Keras 2")
        assert "TF_USE_LEGACY_KERAS to 1" in lines[code]


STAR = """
from tensorflow import *
from tensorflow.contrib.rnn import *
from tensorflow.contrib.slim import *
from tensorflow.examples.tutorials.mnist.input_data import *
x = placeholder(float32, [None, 784])
assert contrib.slim.conv2d is conv2d
assert nn.rnn_cell.BasicLSTMCell is BasicLSTMCell and nn.static_rnn is static_rnn
read_data_sets("MNIST_data/")
"""


def test_a_star_import_gives_every_public_name(run, tmp_path):
    (tmp_path / "old.py").write_text(STAR)
    run("old.py")


LIBRARIES = """
import sys
import lenet_lab.tf1
found = []  # signs that installing unpickles something or starts a program
watched = ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen")
sys.addaudithook(lambda event, arguments: found.append(arguments) if event in watched else None)
lenet_lab.tf1.install()
assert not found
before = __import__
lenet_lab.tf1.install()
assert __import__ is before
import tensorflow as tf
assert tf.placeholder(tf.float32, [None, 2]).shape.as_list() == [None, 2] and not tf.executing_eagerly()
assert not hasattr(sys.modules["tensorflow"], "placeholder")  # libraries get the real one
import keras, tensorboard, tf_keras
from tensorboard.compat import tf as of_tensorboard
assert of_tensorboard.__version__ == sys.modules["tensorflow"].__version__
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
with tf.summary.FileWriter(sys.argv[1]) as writer:
    writer.add_summary(tf.Summary(value=[tf.Summary.Value(tag="a", simple_value=1.0)]), 3)
reader = EventAccumulator(sys.argv[1]); reader.Reload()
assert [event.step for event in reader.Scalars("a")] == [3]
print("fine")
"""


def test_installed_libraries_keep_the_real_tensorflow_and_a_second_install_changes_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LIBRARIES, str(tmp_path)], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout == "fine\n", done.stderr


def test_libraries_in_any_package_folder_keep_the_real_tensorflow(run, tmp_path):
    folders = [tmp_path / name for name in ("site-packages", "dist-packages")]
    for number, folder in enumerate(folders):
        folder.mkdir()
        (folder / f"library{number}.py").write_text("import tensorflow as tf\n")
    (tmp_path / "old.py").write_text(
        "import sys, tensorflow as tf, library0, library1\n"
        "assert library0.tf is library1.tf is sys.modules['tensorflow'] is not tf and tf.placeholder\n"
    )
    run("old.py", PYTHONPATH=os.pathsep.join(map(str, [ROOT, *folders])))


def write_notebook(path, *cells):
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells]), path)


def test_a_notebook_runs_in_order_saves_its_plots_and_stops_at_the_first_error(run, tmp_path):
    course = tmp_path / "course of 2017"
    course.mkdir()
    plot = "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 2]);"
    cells = ("import tensorflow as tf\na = tf.constant(3)", plot, "print(tf.Session().run(a * 2))", "1 / 0", "print(0)")
    write_notebook(course / "old.ipynb", *cells)
    course.chmod(0o555)
    done = run("course of 2017/old.ipynb", expect=1)
    assert done.stdout == "6\n" and "ZeroDivisionError" in done.stderr
    assert (tmp_path / "old-figure-1.png").read_bytes().startswith(b"\x89PNG")
    executed = nbformat.read(tmp_path / "old.executed.ipynb", 4)
    assert executed.cells[-3].outputs[0].text == "6\n"
    assert [path.name for path in course.iterdir()] == ["old.ipynb"]  # whose folder need not be writable


def test_a_notebook_whose_process_dies_ends_in_one_sentence(run, tmp_path):
    write_notebook(tmp_path / "old.ipynb", "print('before')", "import os\nos._exit(5)")
    done = run("old.ipynb", expect=1)
    assert done.stdout == "before\n"
    assert done.stderr == "old.ipynb: its Python process died; old.executed.ipynb has the cells that were done\n"
    assert nbformat.read(tmp_path / "old.executed.ipynb", 4).cells[1].outputs[0].text == "before\n"


def test_a_file_that_cannot_run_gives_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["nothing.py"]) == 2
    assert "nothing.py: no such file" in capsys.readouterr().err
    (tmp_path / "broken.ipynb").write_text("{")
    assert main(["broken.ipynb"]) == 2
    assert "broken.ipynb: not a readable notebook" in capsys.readouterr().err
    write_notebook(tmp_path / "fine.ipynb", "print(1)")
    assert main(["fine.ipynb", "--rate", "3"]) == 2
    assert "fine.ipynb: a notebook takes no arguments" in capsys.readouterr().err
    (tmp_path / "fine.executed.ipynb").mkdir()  # so the copy can't be written
    assert main(["fine.ipynb"]) == 2
    assert "fine.executed.ipynb: cannot be written here" in capsys.readouterr().err
    (tmp_path / "python2.py").write_text('print "hello"\n')
    with pytest.raises(SystemExit, match=r"python2.py, line 1: .*expected Python 3"):
        main(["python2.py"])


def test_a_program_ends_with_its_own_exit_status(run, tmp_path):
    (tmp_path / "old.py").write_text("import sys\nsys.exit(3)\n")
    run("old.py", expect=3)


def test_a_program_in_a_folder_with_a_space_finds_its_modules_and_arguments(run, tmp_path):
    (tmp_path / "my programs").mkdir()
    (tmp_path / "my programs" / "helper.py").touch()
    (tmp_path / "my programs" / "old lab.py").write_text("import sys, helper\nprint(sys.argv)\n")
    out = run("my programs/old lab.py", "a b").stdout
    assert out == f"{[str(Path('my programs/old lab.py')), 'a b']}\n"


def test_a_warning_about_a_programs_syntax_comes_once(run, tmp_path):
    (tmp_path / "old.py").write_text("print(1 is 1)\n")
    assert run("old.py").stderr.count("SyntaxWarning") == 1


TWO_PROGRAMS = """
import sys
from pathlib import Path
from lenet_lab.tf1.__main__ import main
Path("old.py").write_text("import tensorflow as tf\\nprint(tf.placeholder(tf.float32, name='inputs').name)\\n")
Path("empty.py").touch()
before = list(sys.argv), list(sys.path)
for arguments in (["empty.py"], ["old.py"], ["old.py", "--again"]):
    assert main(arguments) == 0
assert (sys.argv, sys.path) == before
"""


def test_a_second_program_in_a_process_starts_with_an_empty_graph(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", TWO_PROGRAMS], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout == "inputs:0\ninputs:0\n", done.stderr
    assert done.returncode == 0, done.stderr


def code_cells(document):
    """The code cells of a source document: its fenced blocks, or what follows each `In [n]:`."""
    if "```python" in document:
        return re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    return [longest_code(part) for part in re.split(r"^In \[\d+\]:\n", document, flags=re.MULTILINE)[1:]]


def longest_code(text):
    """The longest run of lines from the start that is Python; output and prose follow it."""
    lines = text.splitlines()
    for end in range(len(lines), 0, -1):
        try:
            ast.parse("\n".join(lines[:end]))
            return "\n".join(lines[:end])
        except SyntaxError:
            continue
    raise AssertionError(f"no code in {lines[:3]}")


@pytest.mark.slow
@pytest.mark.parametrize("seed, cells, accuracies", [("000_62a9d7499578dd96", 29, 5), ("001_4c15d90ce040330e", 29, 2)])
def test_the_labs_own_cells_run_unchanged(seed, cells, accuracies, run, tmp_path):
    if not (SEEDS / f"{seed}.txt").exists():
        pytest.skip("the lab's documents are not here: set LENET_LAB_SEEDS to their folder")
    code = code_cells((SEEDS / f"{seed}.txt").read_text())
    assert len(code) == cells
    write_notebook(tmp_path / "lab.ipynb", *code)
    # An epoch has two batches here, so the lab's 50 and 40 epochs need not be fewer.
    tiny = standin.make(tmp_path / "tiny", {"validation": 5000, "train": 256, "test": 200})
    out = run("lab.ipynb", data=tiny).stdout
    assert 'Tensor("inputs:0", shape=(?, 784), dtype=float32)' in out
    assert "<tf.Variable 'weights:0' shape=(784, 10) dtype=float32_ref>" in out
    assert len(re.findall(r"^Accuracy on test-set: \d+\.\d%$", out, re.MULTILINE)) == accuracies
    assert "Epoch:  50   =====> Loss = " in out
