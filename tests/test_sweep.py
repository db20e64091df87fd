"""Sweeps on Dask: the same bits as in one process, killed workers, Ctrl-C, and what is refused."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import psutil
import pytest
from distributed import Client, KilledWorker, LocalCluster
from distributed.client import FutureCancelledError

from lenet_lab import input_data, tf
from lenet_lab.beyond import experiments, sweep
from lenet_lab.beyond.experiments import CONFIGURATIONS, Configuration, Training, run_experiments
from lenet_lab.beyond.sweep import dask_engine
from lenet_lab.checkpoints import last_complete, resume_run
from lenet_lab.models import build_softmax_regression
from lenet_lab.paths import LabError

SOFTMAX = CONFIGURATIONS["softmax"]
SHORT = SOFTMAX._replace(title="short", epochs=1)


@pytest.fixture
def configure(monkeypatch):
    """Choose the configurations, given by name."""
    return lambda **configurations: monkeypatch.setattr(experiments, "CONFIGURATIONS", configurations)


@pytest.fixture
def cluster():
    """A scheduler that listens on this machine, with a worker in a thread of this process."""
    with cluster_in_threads(threads=1) as cluster:
        yield cluster


def cluster_in_threads(threads):
    return LocalCluster(
        n_workers=1, threads_per_worker=threads, processes=False, protocol="tcp://", host="127.0.0.1",
        scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"}, silence_logs=sweep.SILENT,
    )  # fmt: skip


def figures(results):
    """What must be the same wherever a training ran."""
    return {
        name: {
            seed: {key: run[key] for key in run.keys() - {"seconds", "directory"}} for seed, run in runs.items()
        }
        for name, runs in results["runs"].items()
    }  # fmt: skip


def sweep_of(mnist, folder, names, engine=experiments.one_by_one, seeds=(1,), **settings):
    return run_experiments(
        names, seeds, mnist, folder / "results.json", str(folder / "logs"), engine=engine, **settings
    )


def test_a_killed_workers_training_is_resumed_by_another_one_with_the_bits_of_one_process(
    only_long, small, tmp_path, monkeypatch, configure, capsys
):
    def build(x):
        print("in process", os.getpid())
        return build_softmax_regression(x)

    configure(long=SOFTMAX._replace(build=build, epochs=30), short=SHORT)
    expected = sweep_of(small, tmp_path / "alone", ["long", "short"], shards=3)
    lines, process, show = [], [], sweep._show

    def watch(labels, event):
        show(labels, event)
        label, line = labels[event[1]["key"]], event[1]["line"]
        lines.append(f"{label}: {line}")
        if line.startswith("in process"):
            process.append(int(line.split()[-1]))
        if label.startswith("long") and line.startswith("Epoch:  08") and len(process) == 1:
            os.kill(process[0], signal.SIGKILL)

    monkeypatch.setattr(sweep, "_show", watch)
    results = sweep_of(small, tmp_path / "dask", ["long", "short"], dask_engine(workers=2), shards=3)
    assert figures(results) == figures(expected) == figures(json.loads((tmp_path / "dask/results.json").read_text()))
    assert results["runs"]["long"]["1"]["shards"] == 3 and len(results["runs"]["long"]["1"]["loss"]) == 30
    assert len(set(process)) == 2 and os.getpid() not in process
    resumed = lines[lines.index(f"long, seed 1: in process {process[1]}") + 1]
    assert int(resumed.split()[4]) in range(6, 30) and results["runs"]["long"]["1"]["directory"].endswith("run_01")
    assert "short, seed 1: Epoch:  01   =====> Training Acc" in capsys.readouterr().out
    assert not psutil.Process().children() or all(
        "spawn_main" not in " ".join(p.cmdline()) for p in psutil.Process().children()
    )
    assert "OMP_NUM_THREADS" not in os.environ.keys() - {"OMP_NUM_THREADS"} and "TQDM_DISABLE" not in os.environ


def workers_of(process):
    """The worker processes that a process started."""
    return [child for child in psutil.Process(process).children() if "spawn_main" in " ".join(child.cmdline())]


COMMAND = """
import sys
from lenet_lab import __main__, input_data
from lenet_lab.beyond import commands, experiments
experiments.CONFIGURATIONS["softmax"] = experiments.CONFIGURATIONS["softmax"]._replace(epochs=int(sys.argv[1]))
commands.read_mnist = lambda folder: input_data.read_data_sets(folder, one_hot=True)
sys.exit(__main__.main(["experiments", "softmax", "--seeds", "1", *sys.argv[2:]]))
"""


@pytest.mark.slow
def test_nothing_is_lost_by_a_killed_worker_and_ctrl_c(small, tmp_path, configure, capsys):
    command = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "5000", "--workers", "1", "--shards", "3"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert any("softmax, seed 1: Epoch:  08" in line for line in command.stdout)
    (first,) = workers_of(command.pid)
    first.kill()
    # What the first worker told may still come. Then another one resumes.
    assert any(line == "softmax, seed 1: softmax regression\n" for line in command.stdout)
    epoch = int(next(line for line in command.stdout if "Epoch: " in line).split("Epoch:")[1].split()[0])
    assert epoch > 1 and epoch % 5 == 1  # after a checkpoint
    (worker,) = workers_of(command.pid)
    worker.send_signal(signal.SIGINT)  # Ctrl-C is not meant for workers
    assert any(f"Epoch:  {epoch + 20:02d}" in line for line in command.stdout)
    assert workers_of(command.pid) == [worker] != [first]
    started = time.monotonic()
    os.killpg(command.pid, signal.SIGINT)  # as a terminal does
    _, errors = command.communicate(timeout=30)
    assert time.monotonic() - started < 10 and command.returncode == 130
    told = [line for line in errors.splitlines() if line.strip() and "trainings: " not in line]
    assert told == ["Interrupted. What was trained is in logs/."]
    assert not worker.is_running()
    logs = tmp_path / "logs/experiments"
    done = int(last_complete(logs / "softmax/seed_1/run_01").name.removeprefix("epoch-"))
    configure(softmax=SOFTMAX._replace(epochs=done + 1))
    resumed = run_experiments(["softmax"], [1], small, tmp_path / "r.json", str(logs), shards=3)
    epochs = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("Epoch: ")]
    assert int(epochs[0]) == done + 1 > epoch and resumed["runs"]["softmax"]["1"]["shards"] == 3
    assert figures(resumed) == figures(sweep_of(small, tmp_path / "alone", ["softmax"], shards=3))


def test_a_cluster_trains_what_is_missing_and_a_failed_training_ends_the_sweep(small, tmp_path, configure, cluster):
    configure(short=SHORT, explodes=SHORT._replace(optimizer=tf.train.GradientDescentOptimizer, rate=1e38))
    engine = dask_engine(scheduler=cluster.scheduler_address)
    with pytest.raises(FloatingPointError, match=r"^explodes, seed 1: .*loss"):
        sweep_of(small, tmp_path, ["short", "explodes"], engine)
    kept = json.loads((tmp_path / "results.json").read_text())
    assert list(kept["runs"]) == ["short"]
    results = sweep_of(small, tmp_path, ["short"], engine, seeds=[3, 1, 2])
    assert results["runs"]["short"]["1"] == kept["runs"]["short"]["1"] and list(results["runs"]["short"]) == [
        "1",
        "2",
        "3",
    ]


def test_a_complete_file_needs_no_scheduler(small, tmp_path, configure):
    configure(short=SHORT)
    expected = sweep_of(small, tmp_path, ["short"])
    assert sweep_of(small, tmp_path, ["short"], dask_engine(scheduler="tcp://127.0.0.1:9")) == expected


def test_errors_name_the_training_in_one_process_too(small, tmp_path, configure):
    configure(explodes=SHORT._replace(rate=1e38))
    with pytest.raises(FloatingPointError, match=r"^explodes, seed 1: "):
        sweep_of(small, tmp_path, ["explodes"])


def long_training(folder):
    return Training("long", SOFTMAX._replace(epochs=100_000), 1, str(folder / "long"), 2)


def test_a_training_that_nobody_wants_any_more_ends_and_closes_its_run(small, tmp_path, cluster):
    checkpoint = tmp_path / "long/run_01/checkpoints/epoch-0005.json"
    with Client(cluster.scheduler_address, set_as_default=False) as client:
        task = client.submit(
            sweep._train, long_training(tmp_path), sweep._describe(small), sweep._versions(), "key", key="key"
        )
        wait_until(lambda: checkpoint.exists() or task.done())
        assert not task.done()
    (worker,) = cluster.workers.values()
    wait_until(lambda: not worker.state.executing and not worker.state.long_running)
    classifier = SOFTMAX.classifier(1000)
    wait_until(lambda: not worker.state.tasks)
    resume_run(classifier, str(tmp_path / "long/run_01")).close()  # it is not locked


def test_a_training_waits_until_its_run_is_closed_elsewhere(small, tmp_path, configure, cluster, monkeypatch):
    configure(short=SHORT)
    first = sweep_of(small, tmp_path, ["short"])
    held, told, lines = threading.Event(), threading.Event(), []

    def hold():  # in a thread of its own, since a lock belongs to a thread
        with resume_run(SHORT.classifier(1000), first["runs"]["short"]["1"]["directory"]):
            held.set()
            told.wait(20)

    def show(labels, event):
        lines.append(event[1]["line"])
        if "still open" in lines[-1]:
            told.set()

    monkeypatch.setattr(sweep, "_show", show)
    engine = dask_engine(scheduler=cluster.scheduler_address)
    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(20)
    (tmp_path / "results.json").unlink()
    monkeypatch.setattr(sweep, "PATIENCE", 0)
    with pytest.raises(OSError, match=r"^short, seed 1: .*this run is open already"):
        sweep_of(small, tmp_path, ["short"], engine)
    monkeypatch.setattr(sweep, "PATIENCE", 20)
    assert figures(sweep_of(small, tmp_path, ["short"], engine)) == figures(first) and told.is_set()
    holder.join()


def wait_until(condition):
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_workers_with_other_data_or_another_lab_are_refused(small, tmp_path, configure, cluster, monkeypatch):
    configure(short=SHORT)
    engine = dask_engine(scheduler=cluster.scheduler_address)
    other = input_data.read_data_sets("unused", one_hot=True, validation_size=4000)
    with pytest.raises(
        LabError, match=r"a worker found stand-in digits \(1000 training, .* expected .*\(2000 training"
    ):
        sweep_of(other, tmp_path, ["short"], engine)
    with pytest.raises(LabError, match=r"a worker has 1, expected 2 as where the sweep was called"):
        sweep._compare_versions("a worker", "1", "2")
    monkeypatch.setattr(sweep, "_versions", lambda: threading.current_thread().name)
    with pytest.raises(LabError, match=r"the scheduler at tcp://127.0.0.1:.* has .*, expected MainThread"):
        sweep_of(small, tmp_path, ["short"], engine)

    def missing():
        if threading.current_thread().name != "MainThread":
            raise ImportError("No module named 'lenet_lab'")
        return "lenet_lab 1"

    monkeypatch.setattr(sweep, "_versions", missing)
    with pytest.raises(LabError, match=r"can't import lenet_lab .* expected lenet_lab 1 .*; install that there"):
        sweep_of(small, tmp_path, ["short"], engine)


def test_workers_with_several_threads_are_refused(small, tmp_path, configure):
    configure(short=SHORT)
    with cluster_in_threads(threads=2) as cluster:
        with pytest.raises(LabError, match=r"has 2 threads, expected 1; start it with --nthreads 1"):
            sweep_of(small, tmp_path, ["short"], dask_engine(scheduler=cluster.scheduler_address))


def test_a_scheduler_without_workers_is_waited_for(small, tmp_path, configure, cluster, capsys):
    configure(short=SHORT)
    cluster.scale(0)
    wait_until(lambda: not cluster.scheduler.workers)
    threading.Timer(1, cluster.scale, [1]).start()
    results = sweep_of(small, tmp_path, ["short"], dask_engine(scheduler=cluster.scheduler_address))
    assert len(results["runs"]["short"]) == 1
    assert "has no worker yet; waiting for one: dask worker tcp://127.0.0.1:" in capsys.readouterr().out


def test_a_scheduler_that_does_not_answer_or_goes_away_is_named(small, tmp_path, configure, monkeypatch):
    configure(short=SHORT)
    monkeypatch.setattr(sweep, "ANSWER", 1)
    with pytest.raises(ConnectionError, match=r"no Dask scheduler answered at tcp://127.0.0.1:9 within 1 s; start"):
        sweep_of(small, tmp_path, ["short"], dask_engine(scheduler="tcp://127.0.0.1:9"))
    with cluster_in_threads(threads=1) as cluster:
        address = cluster.scheduler_address
        finished = dask_engine(scheduler=address)(
            [Training("short", SHORT, seed, str(tmp_path / f"{seed}"), 2) for seed in (1, 2)], small
        )
        next(finished)
    with pytest.raises(ConnectionError, match=rf"the Dask scheduler at {address} is gone"):
        next(finished)


@pytest.mark.parametrize(
    "failure, error, message",
    [
        (
            KilledWorker("key", SimpleNamespace(address="tcp://host:1"), 3),
            OSError,
            r"^deadly, seed 2: 4 workers died in this training, the last one at tcp://host:1;",
        ),
        (
            FutureCancelledError("key", "lost"),
            ConnectionError,
            r"^the Dask scheduler at tcp://host:2 is gone;",
        ),
    ],
)
def test_what_ends_a_task_from_outside_is_named(failure, error, message):
    def result():
        raise failure

    client = SimpleNamespace(scheduler=SimpleNamespace(address="tcp://host:2"))
    with pytest.raises(error, match=message):
        sweep._result(SimpleNamespace(result=result), Training("deadly", SHORT, 2, "folder", 1), client)


def test_a_training_that_kills_each_worker_ends_the_sweep(only_long, small, tmp_path, configure):
    def build(x):
        os.kill(os.getpid(), signal.SIGKILL)

    configure(short=SHORT, deadly=Configuration("deadly", build))
    with pytest.raises(OSError, match=r"^deadly, seed 1: 4 workers died"):
        sweep_of(small, tmp_path, ["short", "deadly"], dask_engine(workers=1))
    assert list(json.loads((tmp_path / "results.json").read_text())["runs"]) == ["short"]


@pytest.mark.parametrize(
    "settings, message",
    [
        ({}, "workers is None and scheduler is None, expected one of them and not the other"),
        ({"workers": 2, "scheduler": "tcp://host:1"}, "workers is 2 and scheduler is 'tcp://host:1', expected one"),
        ({"workers": 0}, "workers is 0, expected a whole number from 1 up"),
        ({"workers": -1}, "workers is -1, expected"),
        ({"workers": 1.5}, "workers is 1.5, expected a whole number"),
        ({"scheduler": "host"}, "scheduler is 'host', expected an address such as 'tcp://host:8786'"),
        ({"scheduler": ""}, "scheduler is '', expected an address"),
        ({"scheduler": "http://host:8786"}, "scheduler is 'http://host:8786', expected an address"),
    ],
)
def test_settings_that_make_no_engine_are_refused(settings, message):
    with pytest.raises(LabError, match=message):
        dask_engine(**settings)


def test_without_dask_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(LabError, match=r"need Dask, which is not installed; .*pip install -e '.\[cluster\]'"):
        dask_engine(workers=2)


def test_the_number_of_shards_is_checked(small, tmp_path):
    with pytest.raises(LabError, match=r"shards is 0, expected a whole number from 1 up"):
        sweep_of(small, tmp_path, [], shards=0)
