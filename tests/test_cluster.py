"""Several machines: a run on a server elsewhere, shards on workers, workers that die, asynchronous replicas.

All servers are real ones, in processes of their own, on the loopback. `make test`
runs the short form, `make reliability` also the long one.
"""

import gc
import http.server
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import victim
from tensorboard.util import tensor_util
from victim import dropout_classifier, softmax_classifier

from lenet_lab import (
    build_classifier,
    build_lenet5,
    build_lenet5_dropout,
    build_softmax_regression,
    evaluate,
    optimize,
    print_accuracy,
    restore_model,
    resume_run,
    save_model,
    sessions,
    start_run,
    tf,
    training,
)
from lenet_lab.analysis.events import read_curve, read_events
from lenet_lab.beyond.optimizers import warm_up_and_cosine
from lenet_lab.checkpoints import last_complete
from lenet_lab.cluster import servers
from lenet_lab.cluster.processes import Cluster, start_cluster
from lenet_lab.cluster.replicas import build_replica, train_asynchronously
from lenet_lab.compat import cores
from lenet_lab.fast import loop as fast
from lenet_lab.models import dropout

pytestmark = [
    pytest.mark.network,  # every test talks to servers on loopback
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux binds TensorFlow's servers to the loopback"),
]

ROOT = Path(__file__).parent.parent
FIRST, SECOND = "/job:worker/task:0", "/job:worker/task:1"
EPOCHS = 3
KILLS = 30  # in the long form, at random moments
AT_MOST = 15  # seconds that an error or an end may take


def lenet5_classifier():
    return build_classifier(build_lenet5, tf.train.AdamOptimizer(0.001))


def scheduled_classifier():
    """LeNet-5 with dropout whose learning rate follows a schedule, from a counter of steps that is a variable."""
    return build_classifier(build_lenet5_dropout, tf.train.AdamOptimizer(warm_up_and_cosine(0.002, 30, 5)))


def small_classifier():
    """A small network with dropout and a schedule."""

    def build(x, keep_prob):
        return build_softmax_regression(dropout(x, keep_prob))

    return build_classifier(build, tf.train.AdamOptimizer(warm_up_and_cosine(0.002, 30, 5)))


def wait_until(condition, seconds=AT_MOST):
    """Wait for a condition, whose value is returned; fails if it takes too long."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)
    return value


def left_of(processes, zombies=True):
    """Which processes are still there; a zombie is one as well, unless nobody here could have waited for it."""
    there = [psutil.Process(process) for process in processes if psutil.pid_exists(process)]
    return [process for process in there if zombies or process.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="module")
def two_workers():
    """A cluster; when it is closed, nothing of any task that it ever had may be left."""
    with start_cluster(2) as cluster:
        cluster.ever = {cluster._launcher.pid}
        yield cluster
        cluster.ever |= set(cluster.processes.values())
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert not left_of(cluster.ever)


@pytest.fixture
def cluster(two_workers):
    """The cluster, with both of its tasks running."""
    yield two_workers
    two_workers.ever |= set(two_workers.processes.values())
    for name in two_workers.names("worker"):
        if not left_of([two_workers.processes.get(name, -1)], zombies=False):
            two_workers.start(name)


@pytest.fixture
def mnist():
    return victim.digits()


def train(classifier, pattern, mnist, epochs=2, **place):
    """Train with seed 3; returns the digest of everything that was trained and measured."""
    with start_run(classifier, str(pattern), seed=3, **place) as run:
        optimize(run, mnist, epochs, 64, checkpoint_every=1)
        return victim.digest(run)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The digest of the training in the tests of kills, on one machine with two shards."""
    pattern = tmp_path_factory.mktemp("undisturbed") / "run_%d"
    return train(softmax_classifier(), pattern, victim.digits(), EPOCHS, shards=2)


# A run elsewhere


def files_of(directory):
    """The names of a run's files, without what differs between two runs."""
    names = {str(path.relative_to(directory)) for path in Path(directory).rglob("*") if path.is_file()}
    return {re.sub(r"tfevents\..*", "tfevents", name) for name in names}


def recorded(directory):
    """All that TensorBoard reads of a run, by tag, without times and directories."""
    found = {}
    for folder in (Path(directory), Path(directory, "validation")):
        reader = read_events(folder)
        tags = reader.Tags()
        scalars = {tag: [(event.step, event.value) for event in reader.Scalars(tag)] for tag in tags["scalars"]}
        found[folder.name == "validation"] = (scalars, sorted(tags["tensors"]), tags["run_metadata"], tags["graph"])
    return found


def test_a_run_on_a_server_leaves_the_same_files_here_as_a_local_one(cluster, mnist, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # the servers started elsewhere, and the run's path is relative
    assert all(os.readlink(f"/proc/{process}/cwd") != str(tmp_path) for process in cluster.processes.values())
    digests, runs, output = [], [], []
    for target in ("", cluster.target):
        with start_run(softmax_classifier(), "run_%d", seed=3, target=target, shards=2) as run:
            optimize(run, mnist, 2, 64, checkpoint_every=1)
            print_accuracy(run, mnist)
            digests.append(victim.digest(run))
            path = save_model(run)
            accuracy = evaluate(run, mnist.test)
            run.session.run(run.classifier.init_op)
            restore_model(run, path)
            assert evaluate(run, mnist.test) == accuracy
        runs.append(run)
        output.append(re.sub(r"run_\d", "", capsys.readouterr().out))
    local, elsewhere = runs
    assert (local.workers, elsewhere.workers) == ([], [FIRST, SECOND])
    assert digests[0] == digests[1] and output[0] == output[1] and "Accuracy on test-set" in output[0]
    assert files_of("run_1") == files_of("run_2") and (tmp_path / "run_2" / "checkpoints" / "epoch-0002.json").exists()
    assert recorded("run_1") == recorded("run_2")
    assert recorded("run_2")[False][2] == ["inference"]  # the trace
    assert len(recorded("run_2")[True][0]["Accuracy"]) == 2
    assert not (ROOT / "run_2").exists()
    with resume_run(softmax_classifier(), "run_2") as run:  # what was trained elsewhere goes on here
        assert (run.epoch, run.shards, victim.digest(run)) == (2, 2, digests[0])


def losses(classifier, pattern, mnist, batch_size=64, fast=True, **place):
    """Train two epochs; returns what was measured, and the workers."""
    with start_run(classifier, str(pattern), seed=3, **place) as run:
        history = optimize(run, mnist, 2, batch_size, fast=fast)
        return [*history.step_loss, *history.step_accuracy, *history.validation_loss], run.workers


def test_three_shards_on_two_workers_train_as_three_shards_on_one_machine(cluster, mnist, tmp_path):
    pattern = tmp_path / "run_%d"
    expected, _ = losses(small_classifier(), pattern, mnist, shards=3)
    found, places = losses(small_classifier(), pattern, mnist, shards=3, target=cluster.target)
    assert places == [FIRST, SECOND]
    np.testing.assert_allclose(found, expected, rtol=1e-5)  # TensorFlow first adds up what one worker has


def test_one_classifier_trains_now_here_now_there_to_the_same_bits(cluster, mnist, tmp_path):
    pattern = tmp_path / "run_%d"
    expected = train(softmax_classifier(), pattern, mnist, shards=2)
    classifier = softmax_classifier()
    for target in (cluster.target, "", cluster.target):
        assert train(classifier, pattern, mnist, shards=2, target=target) == expected


def test_twelve_workers_and_the_plain_loop_train_as_one_machine_does(mnist, tmp_path, only_long, report):
    same = []
    with start_cluster(12) as cluster:
        for make in (softmax_classifier, dropout_classifier, lenet5_classifier, scheduled_classifier):
            for shards, fast_too in ((1, False), (2, True), (4, True), (12, True)):
                settings = {"batch_size": 16 * 12, "shards": shards, "fast": fast_too}
                expected, _ = losses(make(), tmp_path / "run_%d", mnist, **settings)
                found, places = losses(make(), tmp_path / "run_%d", mnist, **settings, target=cluster.target)
                assert places == [f"/job:worker/task:{task}" for task in range(12)]
                np.testing.assert_allclose(found, expected, rtol=1e-5)
                same.append(found == expected)
    report("trainings on a cluster of 12 workers, in 1 to 12 shards, and on one machine with as many",
           f"{len(same)} trainings",
           f"losses within 0.001%, {sum(same)} bit-identical")  # fmt: skip


def test_each_worker_computes_its_shard_forward_and_backward(cluster, mnist, tmp_path):
    x, y_true = mnist.train.images[:128].reshape(2, 64, 784), mnist.train.labels[:128].reshape(2, 64, 10)
    metadata = tf.RunMetadata()
    with start_run(lenet5_classifier(), str(tmp_path / "run_%d"), target=cluster.target, shards=2) as run:
        fast.iterate(run, x, y_true, 1.0, tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), metadata)
    kernels = {name: Counter() for name in run.workers}
    shapes = {name: set() for name in run.workers}
    for device in metadata.step_stats.dev_stats:
        for node in device.node_stats:
            task = re.sub("/replica:0|/device:CPU:0", "", device.device)
            kernel = re.search(r"Conv2D(Backprop\w+)?", node.timeline_label.partition(" = ")[2].partition("(")[0])
            if kernel:
                kernels[task][kernel[0]] += 1
                shapes[task] |= {output.tensor_description.shape.dim[0].size for output in node.output}
    for task in (FIRST, SECOND):
        assert {"Conv2D", "Conv2DBackpropFilter", "Conv2DBackpropInput"} <= kernels[task].keys(), kernels
        assert 32 in shapes[task] and 64 not in shapes[task]  # half of the batch
    assert kernels[FIRST] == kernels[SECOND]


# The number of shards is a setting


def test_the_number_of_shards_is_recorded_and_a_resumed_run_has_it(mnist, tmp_path):
    with start_run(softmax_classifier(), str(tmp_path / "run_%d"), seed=1, shards=3) as run:
        optimize(run, mnist, 1, 64, checkpoint_every=1)
    settings = read_events(run.directory).Tensors("settings/text_summary")[0].tensor_proto
    assert b"| shards | 3 |" in tensor_util.make_ndarray(settings).item()
    (state,) = Path(run.directory, "checkpoints").glob("*.json")
    content = json.loads(state.read_text())
    assert content["place"].pop("shards") == 3
    with resume_run(softmax_classifier(), run.directory) as run:
        assert run.shards == 3
    state.write_text(json.dumps(content))  # as earlier versions wrote it
    with resume_run(softmax_classifier(), run.directory) as run:
        assert (run.epoch, run.shards) == (1, cores())
        optimize(run, mnist, 1, 64, checkpoint_every=1)
    with resume_run(softmax_classifier(), run.directory) as run:
        assert (run.epoch, run.shards) == (2, cores())


@pytest.mark.parametrize("shards", [0, -1, 1.5, "two"])
def test_a_number_of_shards_that_is_none_is_refused_before_a_directory_is_made(tmp_path, shards):
    with pytest.raises(ValueError, match=r"shards is .*, expected a whole number"):
        start_run(softmax_classifier(), str(tmp_path / "run_%d"), shards=shards)
    assert not list(tmp_path.iterdir())


def test_there_is_a_shard_for_each_worker_if_these_are_more_than_the_cores(cluster, tmp_path, monkeypatch):
    for count, expected in ((1, 2), (5, 5)):
        monkeypatch.setattr("lenet_lab.runs.cores", lambda count=count: count)
        with start_run(softmax_classifier(), str(tmp_path / "run_%d"), target=cluster.target) as run:
            assert run.shards == expected


class Client:
    """A program in a process of its own; see `victim.CLIENTS`."""

    def __init__(self, process, output):
        self.process, self.file = process, output

    def output(self):
        return self.file.read_text() if self.file.exists() else ""

    def says(self, text, seconds=AT_MOST):
        """Wait until it has written something; returns all it wrote."""
        wait_until(lambda: text in self.output() or self.code() is not None, seconds)
        assert text in self.output()
        return self.output()

    def code(self):
        file = Path(f"{self.file}.code")
        return int(file.read_text()) if file.exists() else None

    def ends(self, seconds=AT_MOST):
        """Wait for its end; returns its exit code, negative after a signal."""
        wait_until(lambda: self.code() is not None, seconds)
        return self.code()

    def send(self, signal_):
        os.kill(self.process, signal_)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """``client(name, *arguments)`` starts a program. They all end with the test module."""
    folder = tmp_path_factory.mktemp("clients")
    server = subprocess.Popen(
        [sys.executable, victim.__file__, "clients"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    started = []

    def start(name, *arguments):
        output = folder / f"{len(started)}.txt"
        print(json.dumps([name, arguments, str(output)]), file=server.stdin, flush=True)
        started.append(Client(int(server.stdout.readline()), output))
        return started[-1]

    yield start
    for process in started:
        if process.code() is None:
            process.send(signal.SIGKILL)
            process.ends()
    server.stdin.close()
    server.wait(timeout=30)


@pytest.mark.skipif(cores() < 2, reason="needs two cores")
def test_as_many_shards_give_the_same_bits_on_any_number_of_cores(client, tmp_path, long):
    one, two = sorted(os.sched_getaffinity(0))[:1], sorted(os.sched_getaffinity(0))[:2]
    kinds = [(one, 2), (two, None)]  # by default, as many as cores
    clients = [client("print_digest_on", cores_, str(tmp_path), shards, long) for cores_, shards in kinds]
    assert [client_.ends(60) for client_ in clients] == [0, 0]
    first, second = (client_.output().splitlines()[-1].split() for client_ in clients)
    assert first == second and first[0] == "2"


# Servers that die


def kill_between_epochs(kill, monkeypatch):
    save = training.save_checkpoint

    def save_and_kill(run):
        save(run)
        if run.epoch == 2:
            kill()

    monkeypatch.setattr(training, "save_checkpoint", save_and_kill)


def kill_in_an_epoch(kill, monkeypatch):
    """Kill while a call of the loop is under way, which is repeated so that it is long enough."""
    iterate = fast.iterate

    def iterate_and_kill(run, x_batches, y_batches, *arguments):
        if getattr(run, "epoch", 0) == 1:  # the second one, in a run
            threading.Timer(0.05, kill).start()
            x_batches, y_batches = (np.concatenate([batches] * 300) for batches in (x_batches, y_batches))
        return iterate(run, x_batches, y_batches, *arguments)

    monkeypatch.setattr(fast, "iterate", iterate_and_kill)


def kill_in_a_checkpoint(kill, monkeypatch):
    save = training.save_checkpoint

    def kill_and_save(run):
        if run.epoch == 2:
            kill()
        save(run)

    monkeypatch.setattr(training, "save_checkpoint", kill_and_save)


def kill_in_a_measure(kill, monkeypatch):
    measure = fast.measure

    def kill_and_measure(run, dataset):
        if run.epoch == 2:
            kill()
        return measure(run, dataset)

    monkeypatch.setattr(fast, "measure", kill_and_measure)


MOMENTS = {
    "between two epochs": (kill_between_epochs, 2),
    "in an epoch": (kill_in_an_epoch, 1),
    "in a checkpoint": (kill_in_a_checkpoint, None),  # the variables are on the first task only
    "in a measure": (kill_in_a_measure, 1),
}


FEW = [(FIRST, "in an epoch"), (FIRST, "in a checkpoint"), (SECOND, "between two epochs")]  # in the short form


def kill_once(cluster, name):
    """A function that kills a task when it is called for the first time."""
    killed = []

    def kill():
        if not killed:
            killed.append(name)
            cluster.kill(name)

    return kill


def check_error(error, cluster, name, directory):
    """Check an error of `optimize`: which server was lost, and from which checkpoint training goes on."""
    text = str(error)
    assert "\n" not in text and len(text) < 500 and text.count(str(last_complete(directory))) == 1, text
    assert cluster.target in text and (name == FIRST or f"{name} of the cluster" in text), text


@pytest.mark.parametrize("name", [FIRST, SECOND], ids=["target", "other"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_training_goes_on_after_a_worker_died(cluster, mnist, tmp_path, undisturbed, monkeypatch, moment, name, long):
    if not long and (name, moment) not in FEW:
        pytest.skip("takes minutes together with others: make reliability")
    prepare, saved = MOMENTS[moment]
    pattern = str(tmp_path / "run_%d")
    classifier = softmax_classifier()
    with monkeypatch.context() as patched, start_run(classifier, pattern, 3, cluster.target, 2) as run:
        prepare(kill_once(cluster, name), patched)
        began = time.monotonic()
        with pytest.raises(ConnectionError) as raised:
            optimize(run, mnist, EPOCHS, 64, checkpoint_every=1)
    assert time.monotonic() - began < AT_MOST  # closing included
    check_error(raised.value, cluster, name, run.directory)
    assert last_complete(run.directory).name in ("epoch-0001", "epoch-0002")
    assert not saved or last_complete(run.directory).name == f"epoch-{saved:04d}"
    shutil.copytree(run.directory, tmp_path / "copy")
    cluster.start(name)
    for directory, target in ((run.directory, cluster.target), (str(tmp_path / "copy"), "")):
        with resume_run(classifier, directory, target) as resumed:
            assert (resumed.shards, len(resumed.workers)) == (2, 2 if target else 0)
            optimize(resumed, mnist, EPOCHS - resumed.epoch, 64, checkpoint_every=1)
            assert victim.digest(resumed) == undisturbed
        assert read_curve(directory, "Loss").steps.tolist() == list(range(EPOCHS * victim.BATCHES))


@pytest.mark.parametrize("name", [FIRST, SECOND], ids=["target", "other"])
def test_a_server_that_died_is_named_outside_of_training_too(cluster, mnist, tmp_path, monkeypatch, name):
    monkeypatch.setattr(sessions, "PATIENCE", 1)
    with start_run(softmax_classifier(), str(tmp_path / "run_%d"), target=cluster.target) as run:
        cluster.kill(name)
        began = time.monotonic()
        with pytest.raises(ConnectionError, match=f"no TensorFlow server answers at {cluster.target}|did not begin"):
            print_accuracy(run, mnist)  # TensorFlow uses only the first task for it
            optimize(run, mnist, 1, 64)
    assert time.monotonic() - began < AT_MOST
    run.close()  # a second time


def test_a_worker_that_dies_while_both_loops_are_compared_is_no_reason_for_the_plain_loop(
    cluster, mnist, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(sessions, "PATIENCE", 1)
    losses_of, kill = fast._losses, kill_once(cluster, SECOND)

    def kill_after_the_plain_loop(*arguments):
        found = losses_of(*arguments)
        kill()
        return found

    monkeypatch.setattr(fast, "_losses", kill_after_the_plain_loop)
    with start_run(softmax_classifier(), str(tmp_path / "run_%d"), target=cluster.target) as run:
        with pytest.raises(ConnectionError, match="there is no earlier checkpoint"):
            optimize(run, mnist, 1, 64)
    assert "plain loop" not in capsys.readouterr().err


def test_ctrl_c_ends_a_training_on_a_cluster(client, cluster, tmp_path):
    program = client("train_on", cluster.target, str(tmp_path), 1000)
    program.says("Epoch:  02", 60)
    program.send(signal.SIGINT)
    assert program.ends() == -signal.SIGINT or program.code() == 1
    assert program.output().count("Traceback") == 1 and "KeyboardInterrupt" in program.output()
    assert not left_of([program.process])
    assert len(left_of(cluster.processes.values(), zombies=False)) == 2
    with resume_run(softmax_classifier(), str(tmp_path / "run_01")) as run:
        assert run.epoch >= 2


def test_a_program_that_forgets_to_close_its_run_ends(client, cluster, tmp_path):
    program = client("leave", cluster.target, str(tmp_path))
    assert program.ends(30) == 0
    assert program.output() == "leaving\n"


@pytest.mark.parametrize("killed", ["client", "launcher"])
def test_servers_end_with_a_client_or_a_launcher_that_is_killed(client, killed, long):
    if killed == "launcher" and not long:
        pytest.skip("takes minutes together with others: make reliability")
    holder = client("hold_cluster")
    launcher, *tasks = json.loads(holder.says("]", 60))
    assert len(left_of([launcher, *tasks])) == 3
    os.kill(holder.process if killed == "client" else launcher, signal.SIGKILL)
    wait_until(lambda: not left_of([launcher, *tasks], zombies=False), 5)
    # Where a parent was killed, the system waits for its children.
    assert killed == "launcher" or (not left_of(tasks) and holder.ends() == -signal.SIGKILL)


@pytest.mark.slow
def test_a_training_survives_kills_at_any_time(mnist, tmp_path, monkeypatch, only_long, report):
    monkeypatch.setattr(sessions, "PATIENCE", 5)
    expected = train(dropout_classifier(), tmp_path / "undisturbed_%d", mnist, EPOCHS, shards=2)
    rng = random.Random(18)
    kills = {FIRST: 0, SECOND: 0}
    slowest, trainings = 0.0, 0
    with start_cluster(2) as cluster:
        while sum(kills.values()) < KILLS:
            trainings += 1
            run = start_run(dropout_classifier(), str(tmp_path / "run_%d"), 3, cluster.target, 2)
            while True:
                name = rng.choice([FIRST, SECOND])
                timer = threading.Timer(rng.uniform(0.1, 6), cluster.kill, [name])
                if sum(kills.values()) < KILLS:
                    timer.start()
                try:
                    optimize(run, mnist, EPOCHS - run.epoch, 64, checkpoint_every=1)
                    timer.cancel()
                    assert victim.digest(run) == expected
                    break
                except ConnectionError as error:
                    began = time.monotonic()
                    run.close()
                    kills[name] += 1
                    saved = last_complete(run.directory)
                    if saved and run.epoch < EPOCHS:  # not after the training
                        # Where a session was just beginning, TensorFlow does not say for which server it waits.
                        told = name == FIRST or name in str(error) or "did not begin" in str(error)
                        assert told and str(saved) in str(error), error
                    cluster.start(name)
                    resumed = dropout_classifier()
                    place = cluster.target
                    run = resume_run(resumed, run.directory, place) if saved else start_run(
                        resumed, str(tmp_path / "run_%d"), 3, place, 2)  # fmt: skip
                    slowest = max(slowest, time.monotonic() - began)
            run.close()
            for name in cluster.names("worker"):
                if not left_of([cluster.processes.get(name, -1)], zombies=False):
                    cluster.start(name)
        processes = list(cluster.processes.values())
    assert not left_of(processes) and slowest < AT_MOST
    report("SIGKILL of a server in training, either the target or another worker; started again, and resumed",
           f"{kills[FIRST]} and {kills[SECOND]} kills, {trainings} trainings",
           "one error, which says from where to go on; bit-identical; no process left")  # fmt: skip


# The command


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_servers_from_the_command_line_train_and_end(client, mnist, tmp_path):
    addresses = [f"localhost:{free_port()}" for _ in range(2)]
    programs = [client("command", None, "serve", *addresses, "--task", str(task)) for task in range(2)]
    for task, program in enumerate(programs):
        said = program.says("Ctrl-C ends it")
        assert f"/job:worker/task:{task} answers at grpc://{addresses[task]}, to this machine only" in said
    target = f"grpc://{addresses[0]}"
    with start_run(softmax_classifier(), str(tmp_path / "run_%d"), seed=3, target=target) as run:
        assert run.workers == [FIRST, SECOND]
        optimize(run, mnist, 1, 64)
    for task, message in ((0, "can't be used (Address already in use); choose another one"), (2, "there is no task 2")):
        refused = client("command", None, "serve", *addresses, "--task", str(task))
        assert refused.ends() == 1
        assert message in refused.output() and len(refused.output().strip().splitlines()) == 1
    for program, signal_, code in zip(programs, (signal.SIGINT, signal.SIGTERM), (0, -signal.SIGTERM)):
        program.send(signal_)
        assert program.ends(5) == code
    assert programs[0].output().endswith("Ended.\n")
    assert not left_of([program.process for program in programs])


@pytest.mark.parametrize(
    "workers, job, task, message",
    [
        (["192.0.2.1:2222"], "worker", 0, "192.0.2.1:2222 is no address on the loopback.*--everywhere"),
        (["0.0.0.0:2222"], "worker", 0, "is no address on the loopback"),
        (["localhost"], "worker", 0, "the address 'localhost' is not of the form host:port"),
        (["localhost:0"], "worker", 0, "not of the form"),
        (["localhost:65536"], "worker", 0, "not of the form"),
        (["localhost:²"], "worker", 0, "not of the form"),
        ([":2222"], "worker", 0, "not of the form"),
        (["localhost:2222", "nonsense"], "worker", 0, "the address 'nonsense' is not of the form"),
        (["localhost:2222"], "worker", 1, "there is no task 1 of the job 'worker', which has 1 addresses"),
        (["localhost:2222"], "worker", -1, "there is no task -1"),
        (["localhost:2222"], "ps", 0, "there is no task 0 of the job 'ps', which has 0 addresses"),
    ],
)
def test_a_server_that_cannot_be_is_refused(monkeypatch, workers, job, task, message):
    monkeypatch.delattr(tf.train, "Server")
    with pytest.raises(ValueError, match=message):
        servers.start_server({"worker": workers}, job, task)


@pytest.fixture
def two_machines():
    """The names of two networks with a cable between them, as of two machines: 192.0.2.1 and 192.0.2.2."""
    one, two = (f"lab{os.getpid()}{end}" for end in "ab")
    commands = (
        f"ip netns add {one}",
        f"ip netns add {two}",
        f"ip link add cable netns {one} type veth peer name cable netns {two}",
        f"ip -n {one} addr add 192.0.2.1/30 dev cable",
        f"ip -n {two} addr add 192.0.2.2/30 dev cable",
        *(f"ip -n {name} link set {device} up" for name in (one, two) for device in ("lo", "cable")),
    )
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("only root can make networks, with the program ip")
    try:
        for command in commands:
            if subprocess.run(command.split(), stderr=subprocess.DEVNULL).returncode:
                pytest.skip(f"this system makes no networks: {command}")
        yield one, two
    finally:
        for name in (one, two):
            subprocess.run(["ip", "netns", "delete", name], stderr=subprocess.DEVNULL)  # and with it the cable


def reaches(network, host, port):
    """Whether a port is reached from a network."""
    connect = f"import socket; socket.create_connection(({host!r}, {port}), 3)"
    command = ["ip", "netns", "exec", network, sys.executable, "-I", "-S", "-c", connect]
    return subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0


def test_other_machines_reach_no_server_unless_it_is_asked_for(client, two_machines):
    here, elsewhere = two_machines
    inside = client("command", here, "serve", "localhost:2301")
    outside = client("command", here, "serve", "192.0.2.1:2302", "--everywhere")
    inside.says("to this machine only. Ctrl-C ends it")
    outside.says("to every network. Ctrl-C ends it")
    assert reaches(here, "127.0.0.1", 2301) and not reaches(elsewhere, "192.0.2.1", 2301)
    assert reaches(here, "127.0.0.1", 2302) and reaches(elsewhere, "192.0.2.1", 2302)
    for program in (inside, outside):  # they would keep their network
        program.send(signal.SIGKILL)
        program.ends()


@pytest.mark.skipif(not shutil.which("ss"), reason="needs the program ss")
def test_servers_are_bound_to_the_loopback(cluster):
    listening = subprocess.run(["ss", "-ltnH"], stdout=subprocess.PIPE, text=True, check=True).stdout
    for address in cluster.spec["worker"]:
        (line,) = re.findall(rf"^.*:{address.partition(':')[2]} .*$", listening, re.MULTILINE)
        assert re.search(r"%lo:|127\.0\.0\.1:", line), line


def test_a_system_that_cannot_bind_to_the_loopback_starts_no_server(monkeypatch):
    monkeypatch.setattr(servers, "LOOPBACK", b"nowhere\0")
    monkeypatch.delattr(tf.train, "Server")
    with pytest.raises(
        OSError, match=r"can't bind a TensorFlow server to the loopback \(.*No such device.*--everywhere"
    ):
        servers.start_server({"worker": [f"localhost:{free_port()}"]})


# Wrong targets


@pytest.mark.parametrize(
    "target, kind, message",
    [
        ("localhost:2222", ValueError, "target is 'localhost:2222', expected a server's address, such as 'grpc://"),
        ("grpc://localhost", ValueError, "expected a server's address"),
        ("grpc://localhost:2222/x", ValueError, "expected a server's address"),
        (2222, ValueError, "expected a server's address"),
        (
            "grpc://localhost:{free}",
            ConnectionError,
            "no TensorFlow server answers at grpc://localhost:.*refused.*serve",
        ),
        ("grpc://localhost:99999", ConnectionError, "no TensorFlow server answers"),
        ("grpc://nowhere.invalid:2222", ConnectionError, "no TensorFlow server answers"),
        ("grpc://a..b:2222", ConnectionError, "no TensorFlow server answers"),
    ],
)
def test_a_target_where_no_server_is_claims_no_directory(tmp_path, target, kind, message):
    if isinstance(target, str):
        target = target.format(free=free_port())
    with pytest.raises(kind, match=message):
        start_run(softmax_classifier(), str(tmp_path / "run_%d"), target=target)
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("error")  # also for errors in a destructor
def test_a_run_that_finds_no_server_stays_as_it_is(tmp_path, mnist):
    with start_run(softmax_classifier(), str(tmp_path / "run_%d"), shards=1) as run:
        optimize(run, mnist, 1, 64, checkpoint_every=1, fast=False)
    before = files_of(run.directory)
    for target, kind in ((f"grpc://localhost:{free_port()}", ConnectionError), ("localhost:2222", ValueError)):
        with pytest.raises(kind):
            resume_run(softmax_classifier(), run.directory, target)
    assert files_of(run.directory) == before
    resume_run(softmax_classifier(), run.directory).close()  # the lock is free
    gc.collect()


@contextmanager
def something_else(kind):
    """A port where something listens that is no TensorFlow server."""
    if kind == "a web server":
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as web:
            web.RequestHandlerClass.log_message = lambda *arguments: None
            threading.Thread(target=web.serve_forever, daemon=True).start()
            yield web.server_port
            web.shutdown()
    else:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            yield silent.getsockname()[1]


@pytest.mark.parametrize("kind", ["a web server", "silence"])
def test_a_target_where_something_else_listens_is_an_error_soon(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(sessions, "PATIENCE", 1)
    with something_else(kind) as port:
        began = time.monotonic()
        with pytest.raises(
            ConnectionError, match=rf"^the cluster at grpc://localhost:{port} did not begin within 1 s;"
        ):
            start_run(softmax_classifier(), str(tmp_path / "run_%d"), target=f"grpc://localhost:{port}")
        assert time.monotonic() - began < 5


def test_a_cluster_of_which_one_worker_is_missing_is_an_error_soon(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(sessions, "PATIENCE", 1)
    cluster.kill(SECOND)
    began = time.monotonic()
    with pytest.raises(ConnectionError, match="did not begin within 1 s; check that each of its servers runs"):
        start_run(softmax_classifier(), str(tmp_path / "run_%d"), target=cluster.target)
    assert time.monotonic() - began < 6
    cluster.start(SECOND)
    start_run(softmax_classifier(), str(tmp_path / "run_%d"), target=cluster.target).close()


# Many runs


def test_two_runs_at_once_on_a_server_share_no_variables(cluster, mnist, tmp_path):
    alone = train(softmax_classifier(), tmp_path / "alone_%d", mnist, shards=2)
    digests = {}

    def train_there(number):
        digests[number] = train(
            softmax_classifier(), tmp_path / f"{number}_%d", mnist, 2, shards=2, target=cluster.target
        )

    threads = [threading.Thread(target=train_there, args=[number]) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert digests == dict.fromkeys(range(2), alone)


def test_a_graph_with_operations_on_another_cluster_is_refused(cluster, tmp_path):
    classifier = softmax_classifier()
    with classifier.graph.as_default(), tf.device("/job:worker/task:2"):
        tf.constant(1)
    with pytest.raises(ValueError, match=r"has operations on /job:worker/task:2, .*; build the classifier again"):
        start_run(classifier, str(tmp_path / "run_%d"), target=cluster.target)


def test_many_runs_one_after_the_other_leave_nothing_on_the_server(cluster, tmp_path):
    server = psutil.Process(cluster.processes[FIRST])
    classifier = softmax_classifier()

    def use():
        with start_run(classifier, str(tmp_path / "run_%d"), target=cluster.target) as run:
            run.session.run(classifier.loss, {classifier.x: np.zeros((1, 784)), classifier.y_true: np.zeros((1, 10))})

    for _ in range(3):
        use()
    threads, memory, here = server.num_threads(), server.memory_info().rss, threading.active_count()
    for _ in range(20):
        use()
    assert server.num_threads() <= threads + 5
    assert server.memory_info().rss < memory + 20e6
    assert threading.active_count() <= here + 1


def test_a_cluster_says_what_went_wrong(cluster):
    with pytest.raises(ValueError, match=f"{FIRST} runs already; end it first"):
        cluster.start(FIRST)
    with pytest.raises(OSError, match="there is no task 7 of the job 'worker'"):
        cluster.start("/job:worker/task:7")
    with pytest.raises(OSError, match="no task -1 of the job 'nonsense'"):
        cluster.start("nonsense")
    for count in (0, -1, 1.5):
        with pytest.raises(ValueError, match=r"workers is .*, expected a whole number"):
            start_cluster(count)


# Asynchronous training


def test_a_replica_has_its_variables_on_the_parameter_server_and_the_rest_on_its_worker():
    spec = {"ps": ["localhost:1"], "worker": ["localhost:2", "localhost:3"]}
    operations = build_replica(spec, 1).graph.get_operations()
    variables = [op for op in operations if op.type in ("Variable", "VariableV2")]
    assert len(variables) > 30 and {op.device for op in variables} == {"/job:ps/task:0"}  # with Adam's slots
    updates = [op for op in operations if op.type == "ApplyAdam"]
    assert len(updates) == 10 and {op.device for op in updates} == {"/job:ps/task:0"}
    computed = [op for op in operations if op.type.startswith(("Conv2D", "MatMul", "MaxPool"))]
    # What has no device is computed where the session is: in the worker's own server.
    assert len(computed) > 10 and {op.device for op in computed} == {SECOND, ""}


@pytest.fixture
def asynchronous(small_folder, monkeypatch):
    """A cluster with a parameter server, none of whose tasks has started."""
    monkeypatch.setenv("LENET_LAB_DATA", str(small_folder))
    with Cluster(workers=2, parameter_servers=1) as cluster:
        yield cluster
        processes = list(cluster.processes.values())
    assert processes and not left_of(processes)


def kill_after(cluster, name, seconds):
    """Kill a task some time after the last worker has begun."""

    def kill():
        wait_until(lambda: SECOND in cluster.processes, 60)
        time.sleep(seconds)
        cluster.kill(name)

    threading.Thread(target=kill).start()


def test_replicas_train_together(asynchronous):
    steps = 60
    records = train_asynchronously(asynchronous, steps, batch_size=32)
    assert list(records) == [FIRST, SECOND] and all(len(of_worker) > steps / 10 for of_worker in records.values())
    all_records = sorted((r for of_worker in records.values() for r in of_worker), key=lambda r: r["step"])
    assert steps - 2 <= len(all_records) <= steps + 1  # those in which the end was reached are not reported
    assert all(r["staleness"] >= 0 for r in all_records)
    for of_worker in records.values():
        assert all(a["step"] < b["step"] and a["time"] <= b["time"] for a, b in itertools.pairwise(of_worker))
    losses = [r["loss"] for r in all_records]
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])


@pytest.mark.parametrize("name", [FIRST, SECOND, "/job:ps/task:0"])
@pytest.mark.parametrize("seconds", [0, 0.5, 3])
def test_any_task_that_dies_ends_an_asynchronous_training(only_long, asynchronous, name, seconds):
    kill_after(asynchronous, name, seconds)
    with pytest.raises(OSError, match=rf"^{name}\b.* ended"):
        train_asynchronously(asynchronous, 10**6)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_fewest_steps_end(only_long, asynchronous, steps):
    assert sum(len(r) for r in train_asynchronously(asynchronous, steps, batch_size=16).values()) <= steps + 1


def test_asynchronous_training_without_a_parameter_server_or_steps_is_refused(cluster):
    with pytest.raises(ValueError, match="has no parameter server; expected Cluster"):
        train_asynchronously(cluster, 10)
    for steps in (0, -1, 2.5):
        with pytest.raises(ValueError, match=r"steps is .*, expected a whole number"):
            train_asynchronously(cluster, steps)
