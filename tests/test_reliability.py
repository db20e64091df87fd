"""Nothing lost: the same seed, the same bits; killed and resumed; full disks; many at once; nothing let in.

`make test` runs the short form; `make reliability` the long one, whose table
stands in docs/reliability.md.
"""

import gzip
import json
import os
import pickle
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path
from xml.etree import ElementTree

import browser
import nbformat
import numpy as np
import pytest
import victim
from PIL import Image
from tensorboard.backend.event_processing import plugin_event_accumulator

from lenet_lab import (
    build_classifier,
    build_lenet5,
    build_softmax_regression,
    input_data,
    optimize,
    restore_model,
    resume_run,
    save_model,
    start_run,
    tf,
)
from lenet_lab.checkpoints import CheckpointError
from lenet_lab.events import read_events
from lenet_lab.idx import DataError
from lenet_lab.notebooks import NOTEBOOKS, run_notebook
from lenet_lab.predict import ImageError, predict_image

resource = pytest.importorskip("resource", reason="kills processes and limits files, as Unix can")

ROOT = Path(__file__).parent.parent
BUSY = "while True: pass"


def softmax(rate=0.01):
    return build_classifier(build_softmax_regression, tf.train.GradientDescentOptimizer(rate))


# The same seed, the same bits


@contextmanager
def busy_cores():
    """As many processes as there are cores that do nothing but count."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(os.cpu_count())]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_a_seed_gives_the_same_bits_in_fresh_processes_under_load(tmp_path, long, report):
    def start(number):
        environment = os.environ | {"PYTHONHASHSEED": str(number)}
        command = [sys.executable, victim.__file__, str(tmp_path / str(number)), *([] if long else ["few"])]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)

    told = [process.communicate()[0] for process in [start(0), start(1)]]  # of two, each has a core
    for number in range(2, 10 if long else 2):
        with busy_cores():
            told.append(start(number).communicate()[0])
    kinds = len(victim.KINDS if long else victim.FEW)
    assert told[0].count(":") == kinds
    assert set(told) == {told[0]}
    report("the same seed in fresh processes, side by side and with all cores busy",
           f"{len(told)} processes, {kinds} trainings each", "every loss and variable bit-identical")


# Killed and resumed


class Victims:
    """Trainings in processes of their own, one after the other; a file descriptor stands for each."""

    def __init__(self):
        self.server = subprocess.Popen(
            [sys.executable, victim.__file__],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def start(self, folder):
        folder.mkdir(exist_ok=True)
        print(folder, file=self.server.stdin, flush=True)
        return os.pidfd_open(int(self.server.stdout.readline()))

    def wait(self):
        return int(self.server.stdout.readline())


@pytest.fixture(scope="module")
def victims():
    victims = Victims()
    yield victims
    victims.server.stdin.close()
    victims.server.wait(timeout=30)


@pytest.fixture(scope="module")
def unharmed(victims, tmp_path_factory):
    """The digest of a training that nobody disturbed, and how long it took."""
    folder = tmp_path_factory.mktemp("unharmed")
    victims.start(folder)
    began = time.monotonic()
    assert victims.wait() == 0
    return (folder / "digest").read_text(), time.monotonic() - began


def newest_run(folder):
    """The one that is trained; one that was killed before its first checkpoint is left behind."""
    return max(folder.glob("run_*"), default=folder)


def finished_checkpoints(folder):
    return sorted(int(path.stem[-4:]) for path in newest_run(folder).glob("checkpoints/epoch-*.json"))


def unfinished_files(folder):
    finished = [f"epoch-{epoch:04d}" for epoch in finished_checkpoints(folder)]
    return [path for path in newest_run(folder).glob("checkpoints/*") if path.name.partition(".")[0] not in finished]


def event_bytes(folder):
    return sum(path.stat().st_size for path in newest_run(folder).glob("events*"))


def wait_for(moment, folder, seconds, process):
    """Wait some seconds, then for the moment to kill."""
    time.sleep(seconds)
    size = event_bytes(folder)
    while is_running(process):
        if moment == "training" or moment == "checkpoint" and unfinished_files(folder):
            return
        if moment == "event write" and event_bytes(folder) != size:
            return


def is_running(process):
    return not select.select([process], [], [], 0)[0]


def last_event_is_torn(folder):
    newest = max(newest_run(folder).glob("events*"), key=lambda path: path.stat().st_mtime)
    try:
        list(tf.python_io.tf_record_iterator(str(newest)))
    except tf.errors.DataLossError:
        return True
    return False


def check_events(directory):
    """TensorBoard's readers, the one for programs and its server's, see every step once, and every epoch."""
    steps = victim.EPOCHS * victim.BATCHES
    ends = [victim.BATCHES * epoch - 1 for epoch in range(1, victim.EPOCHS + 1)]
    events, validation = read_events(directory), read_events(directory / "validation")
    for tag in ("Loss", "Accuracy"):
        assert [event.step for event in events.Scalars(tag)] == list(range(steps))
        assert [event.step for event in validation.Scalars(tag)] == ends
    for folder, tag, expected in (
        (directory, "Loss", list(range(steps))),
        (directory, "lenet5/layer1/weights1/histogram_summary", ends),
        (directory / "validation", "Accuracy", ends),
    ):
        reader = plugin_event_accumulator.EventAccumulator(str(folder), tensor_size_guidance={"scalars": 0})
        reader.Reload()
        assert [event.step for event in reader.Tensors(tag)] == expected


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="kills as Linux can")
def test_killed_at_any_moment_and_resumed_it_ends_the_same(tmp_path, victims, unharmed, long, report):
    digest, seconds = unharmed
    wanted = 60 if long else 3
    chance = random.Random(20)
    kills, inside_checkpoint, torn, trainings, most_lost = 0, 0, 0, 0, 0
    directories = []
    while kills < wanted:
        folder = tmp_path / str(trainings)
        trainings += 1
        while True:
            whole = [] if not folder.exists() else finished_checkpoints(folder)
            process = victims.start(folder)
            if kills < wanted:
                moment = ("training", "checkpoint", "event write")[kills % 3]
                wait_for(moment, folder, chance.uniform(0.3, 0.7) * seconds, process)
                with suppress(ProcessLookupError):  # it came to its end before
                    signal.pidfd_send_signal(process, signal.SIGKILL)
            status = victims.wait()
            began_at = [int(line) for line in (folder / "began_at").read_text().split()]
            assert began_at[-1] == (whole[-1] if whole else 0) or status != 0  # the last whole checkpoint is taken
            if status == 0:
                break
            assert status == -signal.SIGKILL
            kills += 1
            inside_checkpoint += bool(unfinished_files(folder))
            torn += last_event_is_torn(folder)
            most_lost = max(most_lost, lost_epochs(folder))
        assert (folder / "digest").read_text() == digest
        directories.append(newest_run(folder))
        check_events(directories[-1])
        assert not unfinished_files(folder) and len(finished_checkpoints(folder)) == 3
    assert most_lost <= victim.CHECKPOINT_EVERY
    if long:
        check_tensorboard(tmp_path, directories)
    report("SIGKILL in training, in a checkpoint, at an event write; resumed",
           f"{kills} kills ({inside_checkpoint} left half a checkpoint, {torn} half an event), {trainings} trainings",
           f"variables and history bit-identical, every step once; at most {most_lost} epochs done again, with a "
           f"checkpoint every {victim.CHECKPOINT_EVERY}")  # fmt: skip


def check_tensorboard(logs, directories):
    """What TensorBoard's server, which has a reader of its own, serves to a browser."""
    names = [str(directory.relative_to(logs)) for directory in directories]
    with browser.tensorboard(logs, names[-1]) as address:
        time.sleep(10)  # until it has read all
        for name in names:
            query = urllib.parse.urlencode({"run": name, "tag": "Loss"})
            with urllib.request.urlopen(f"{address}/data/plugin/scalars/scalars?{query}") as answer:
                steps = [step for _, step, _ in json.load(answer)]
            assert steps == list(range(victim.EPOCHS * victim.BATCHES))


def lost_epochs(folder):
    """Epochs that were recorded but stand in no whole checkpoint, the begun one included."""
    events = read_events(newest_run(folder))
    recorded = [event.step for event in events.Scalars("Loss")] if "Loss" in events.Tags()["scalars"] else [-1]
    last = (finished_checkpoints(folder) or [0])[-1]
    return -(-(recorded[-1] + 1) // victim.BATCHES) - last


@pytest.fixture
def trained(tmp_path):
    """A run directory with checkpoints of epochs 1 and 2, and the digest of training it to epoch 3."""
    mnist = victim.digits()
    with start_run(softmax(), str(tmp_path / "whole_%d"), seed=1) as run:
        optimize(run, mnist, 3, 64)
        digest = victim.digest(run)
    with start_run(softmax(), str(tmp_path / "run_%d"), seed=1) as run:
        optimize(run, mnist, 2, 64, checkpoint_every=1)
    return Path(run.directory), mnist, digest


@pytest.mark.parametrize("file", ["data-00000-of-00001", "index", "json"])
@pytest.mark.parametrize("harm", ["cut", "flip", "missing"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(trained, file, harm):
    directory, mnist, digest = trained
    path = directory / f"checkpoints/epoch-0002.{file}"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.unlink()
    if harm != "missing":
        path.write_bytes(content if harm == "flip" else content[: len(content) // 2])
    (directory / "checkpoints/epoch-0003.index.tempstate12").touch()  # a kill leaves such
    with resume_run(softmax(), str(directory)) as run:
        assert run.epoch == 1
        optimize(run, mnist, 2, 64, checkpoint_every=1)
        assert victim.digest(run) == digest
    assert {path.name.partition(".")[0] for path in (directory / "checkpoints").iterdir()} == {
        "epoch-0001", "epoch-0002", "epoch-0003"
    }  # fmt: skip


def test_a_torn_event_is_passed_over(trained):
    directory, mnist, _ = trained
    (events,) = directory.glob("events*")
    os.truncate(events, events.stat().st_size - 5)
    with open(events, "ab") as file:
        file.write(b"\0\0\0")
    with resume_run(softmax(), str(directory)) as run:
        optimize(run, mnist, 1, 64)
    steps = [event.step for event in read_events(directory).Scalars("Loss")]
    assert steps == [step for step in range(30)]


def test_what_cannot_be_resumed_is_told_and_left_as_it_is(trained, tmp_path):
    directory, *_ = trained
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="no whole checkpoint"):
        resume_run(softmax(), str(tmp_path / "whole_1"))
    with pytest.raises(ValueError, match="nowhere has no whole checkpoint"):
        resume_run(softmax(), str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="another network"):
        resume_run(build_classifier(build_lenet5, tf.train.AdamOptimizer(0.001)), str(directory))
    assert before == {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_run_that_is_open_is_not_resumed(trained):
    directory, *_ = trained
    with resume_run(softmax(), str(directory)):
        with pytest.raises(OSError, match="still open"):
            resume_run(softmax(), str(directory))
    resume_run(softmax(), str(directory)).close()


# Full disks, and losses that are no numbers


@contextmanager
def file_size_limit(size):
    """What a full disk does to files that grow beyond a size, and nothing else."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of TensorFlow's own thread
@pytest.mark.parametrize(
    "size, kind, message",
    [
        (2_000, OSError, "no more events can be written .*File too large"),
        # Softmax regression's variables have 31 kB, an epoch's events 20.
        (30_000, CheckpointError, "File too large.* the last good checkpoint is .*epoch-0002"),
    ],
    ids=["events", "checkpoint"],
)
def test_a_full_disk_is_one_error_and_training_goes_on_when_there_is_room(trained, size, kind, message, report):
    directory, mnist, digest = trained
    run = resume_run(softmax(), str(directory))
    with file_size_limit(size), pytest.raises(kind, match=message):
        optimize(run, mnist, 1, 64, checkpoint_every=1)
    run.close()
    with resume_run(softmax(), str(directory)) as run:
        optimize(run, mnist, 1, 64, checkpoint_every=1)
        assert victim.digest(run) == digest
    assert [event.step for event in read_events(directory).Scalars("Loss")] == list(range(30))
    what = "a checkpoint" if kind is CheckpointError else "events"
    report(f"file-size limit met by {what}", "1", "one error; the checkpoint before is good; goes on bit-identically")


def test_a_loss_that_is_no_number_stops_training_and_says_where(tmp_path):
    mnist = victim.digits()
    with start_run(softmax(1e36), str(tmp_path / "run_%d"), seed=1) as run:
        with pytest.raises(FloatingPointError, match=r"\(learning rate 1e\+36\).*no earlier checkpoint") as told:
            optimize(run, mnist, 5, 64, checkpoint_every=1)
    step = int(re.search(r"step (\d+)", str(told.value))[1])
    assert run.step == step == len(run.history.step_loss) and np.isfinite(run.history.step_loss).all()
    assert [e.step for e in read_events(run.directory).Scalars("Loss")] == list(range(step))


def test_the_last_good_checkpoint_is_named(trained):
    directory, mnist, _ = trained
    with resume_run(softmax(1e36), str(directory)) as run:
        with pytest.raises(FloatingPointError, match=r"last good checkpoint is \S*epoch-0002"):
            optimize(run, mnist, 5, 64, checkpoint_every=5)


# Many at once


RUN_NOTEBOOK = """
import sys, pathlib, nbformat
from lenet_lab.notebooks import run_notebook, with_parameters
notebook = with_parameters(nbformat.read("notebooks/" + sys.argv[1], 4), {"epochs": 1})
run_notebook(notebook, pathlib.Path("notebooks"), pathlib.Path(sys.argv[2]))
"""


def test_ten_notebooks_at_once_do_not_disturb_each_other(tmp_path, only_long, report):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    # Without data and with no way to get it: all make the stand-in.
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HTTPS_PROXY": "http://127.0.0.1:9"}
    command = [sys.executable, "-c", RUN_NOTEBOOK]
    processes = {
        number: subprocess.Popen(
            [*command, NOTEBOOKS[number % 4], f"{number}.ipynb"],
            cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for number in range(10)
    }  # fmt: skip
    errors = [process.communicate()[1] for process in processes.values()]
    assert {process.returncode for process in processes.values()} == {0}, errors
    told = {name: set() for name in NOTEBOOKS}
    for number in processes:
        told[NOTEBOOKS[number % 4]].add(tuple(re.findall(r"=====> [^\\]*", (tmp_path / f"{number}.ipynb").read_text())))
    assert {len(lines) for lines in told.values()} == {1}  # one seed, one text
    figures = sorted(path for path in (tmp_path / "MNIST_figures").rglob("*.*"))
    assert len(figures) > 20 and {path.suffix for path in figures} == {".svg", ".png"}
    for path in figures:
        ElementTree.parse(path) if path.suffix == ".svg" else Image.open(path).load()
    assert [path.name for path in (tmp_path / "MNIST_data").iterdir() if path.name != ".download"] == ["stand-in"]
    results = list((tmp_path / "logs").rglob("result.json"))
    assert len({json.loads(path.read_text())["directory"] for path in results}) == len(results) >= 10
    report("ten notebooks at once in one folder, without data", f"{len(results)} trainings",
           "each notebook's printed figures the same in all its copies; every figure whole; one stand-in")  # fmt: skip


def test_fifty_processes_get_fifty_directories(tmp_path, only_long, report):
    command = [sys.executable, victim.__file__, str(tmp_path), "50"]
    told = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout
    assert sorted(told.split()) == [f"{tmp_path}/run_{number:02d}" for number in range(1, 51)]
    for directory in told.split():
        assert len(read_events(directory).Scalars("Loss")) == victim.BATCHES
    report("50 processes start and train a run in one folder", "50", "50 directories, each with its own events")


# Data that lies, for long


def test_no_input_found_by_coverage_breaks_the_reader(tmp_path, only_long, report):
    python = ROOT / ".venv-fuzz" / "bin" / "python"
    if not python.exists():
        pytest.skip("Atheris is not installed: make reliability")
    seconds = 660
    options = [f"-max_total_time={seconds}", "-timeout=5", "-rss_limit_mb=300", "-max_len=2000"]
    command = [str(python), str(ROOT / "tests" / "fuzz_idx.py"), str(tmp_path), *options]
    # By way of a shell that forks: the most memory that a process had stays with it when it becomes another program.
    by_shell = ["sh", "-c", '"$@"; exit $?', "sh", *command]
    done = subprocess.run(by_shell, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    runs, took = re.search(r"Done (\d+) runs in (\d+) second", done.stderr).groups()
    covered, memory = re.search(r"DONE +cov: (\d+) .* rss: (\d+)Mb", done.stderr).groups()
    report("IDX reader, coverage-guided fuzzing", f"{int(runs):,} inputs in {took} s, {covered} branches reached",
           f"each read or refused with DataError, within 5 s; at most {memory} MB for the process")  # fmt: skip


# What it lets in

CODE_RUNS = {"pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "ctypes.dlopen"}
watching: list[str] | None = None


def watch_for_code(event, arguments):
    if watching is not None and event in CODE_RUNS:
        watching.append(f"{event} {arguments}")


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


def test_no_file_makes_code_run(trained, small_folder, tmp_path, monkeypatch):
    directory, *_ = trained
    evil = tmp_path / "evil"
    evil.mkdir()
    content = pickle.dumps(Evil())
    for name in (*(f"{name}.gz" for name in input_data.FILES), "digit.png", "model.index", "model.data-00000-of-00001"):
        (evil / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    drawing = np.full((60, 40), 255, np.uint8)
    drawing[10:50, 18:22] = 0
    Image.fromarray(drawing).save(tmp_path / "digit.png")
    sys.addaudithook(watch_for_code)  # it stays for as long as Python runs
    monkeypatch.setitem(globals(), "watching", [])
    with resume_run(softmax(), str(directory)) as run:
        input_data.read_data_sets(str(small_folder))
        restore_model(run, save_model(run))
        predict_image(run, tmp_path / "digit.png")
        with pytest.raises(DataError):
            input_data.read_data_sets(str(evil))
        with pytest.raises(ValueError, match="model"):
            restore_model(run, str(evil / "model"))
        with pytest.raises(ImageError):
            predict_image(run, evil / "digit.png")
        for checkpoint in (directory / "checkpoints").glob("*.json"):
            checkpoint.write_bytes(content)
    with pytest.raises(ValueError, match="no whole checkpoint"):
        resume_run(softmax(), str(directory))
    assert watching == []
    pickle.loads(content)
    assert watching, "the hook sees what it is to see"


def test_notebooks_serve_nothing_to_the_outside(tmp_path):
    cell = (
        "import psutil\n"
        "kernel = psutil.Process()\n"
        "sockets = [s for p in (kernel, kernel.parent()) for s in p.net_connections() if s.status == 'LISTEN']\n"
        "print({socket.laddr.ip for socket in sockets})"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    run_notebook(notebook, tmp_path, tmp_path / "out.ipynb")
    assert notebook.cells[0].outputs[0].text == "{'127.0.0.1'}\n"


def test_tensorboard_is_bound_to_localhost_wherever_it_is_told():
    documents = [*ROOT.glob("*.md"), *(ROOT / "logs").glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]
    calls = [call for path in documents for call in re.findall(r"tensorboard --logdir[^`\\n]*", path.read_text())]
    assert calls and all("--host localhost" in call for call in calls), calls
