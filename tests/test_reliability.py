"""Nothing is lost: seeds give the same bits, runs survive kills and full disks, files run no code.

`make test` runs the short form. `make reliability` runs the long form and writes
the table in docs/reliability.md.
"""

import gzip
import json
import math
import os
import pickle
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
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
from victim import softmax_classifier

from lenet_lab import (
    build_classifier,
    build_lenet5,
    input_data,
    optimize,
    restore_model,
    resume_run,
    save_model,
    start_run,
    tf,
)
from lenet_lab.analysis.events import read_curve, read_events
from lenet_lab.analysis.inference import open_model, predict
from lenet_lab.analysis.pictures import ImageError, predict_image
from lenet_lab.beyond.kept import KEPT_MODEL
from lenet_lab.checkpoints import CheckpointError, resume_or_start
from lenet_lab.data.idx import DataError
from lenet_lab.notebooks import NOTEBOOKS, run_notebook

resource = pytest.importorskip("resource", reason="only Unix can limit the size of files")

ROOT = Path(__file__).parent.parent
BUSY = "while True: pass"


def loss_steps(directory):
    """The steps whose loss was recorded, in the order of their events."""
    return read_curve(directory, "Loss").steps.tolist()


# The same seed gives the same bits


@contextmanager
def busy_cores():
    """Keep every core busy with a process that loops."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(os.cpu_count())]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_a_seed_gives_the_same_bits_in_fresh_processes_under_load(tmp_path, long, report):
    def start(number):
        environment = os.environ | {"PYTHONHASHSEED": str(number)}
        command = [sys.executable, victim.__file__, str(tmp_path / str(number)), *([] if long else ["few"])]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)

    outputs = [process.communicate()[0] for process in [start(0), start(1)]]  # side by side
    for number in range(2, 10 if long else 2):
        with busy_cores():
            outputs.append(start(number).communicate()[0])
    kinds = len(victim.KINDS if long else victim.FEW)
    assert outputs[0].count(":") == kinds  # a line for each
    assert set(outputs) == {outputs[0]}
    report(
        "the same seed in fresh processes, side by side and with all cores busy",
        f"{len(outputs)} processes, {kinds} trainings each",
        "every loss and variable bit-identical",
    )


# Kills


class Trainer:
    """Starts trainings, one after another, each in a process of its own; see `victim.serve`."""

    def __init__(self):
        self.server = subprocess.Popen(
            [sys.executable, victim.__file__],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def start(self, folder):
        """Start a training; returns a file descriptor of its process."""
        folder.mkdir(exist_ok=True)
        print(folder, file=self.server.stdin, flush=True)
        return os.pidfd_open(int(self.server.stdout.readline()))

    def wait(self):
        """Wait until the training ends; returns its exit code, negative after a signal."""
        return int(self.server.stdout.readline())


@pytest.fixture(scope="module")
def trainer():
    trainer = Trainer()
    yield trainer
    trainer.server.stdin.close()
    trainer.server.wait(timeout=30)


@pytest.fixture(scope="module")
def undisturbed(trainer, tmp_path_factory):
    """The digest of a training that is not killed, and its duration in seconds."""
    folder = tmp_path_factory.mktemp("undisturbed")
    trainer.start(folder)
    began = time.monotonic()
    assert trainer.wait() == 0
    return (folder / "digest").read_text(), time.monotonic() - began


def newest_run(folder):
    """The run in training; earlier ones were killed before their first checkpoint."""
    return max(folder.glob("run_*"), default=folder)


def finished_checkpoints(folder):
    return sorted(int(path.stem[-4:]) for path in newest_run(folder).glob("checkpoints/epoch-*.json"))


def unfinished_files(folder):
    finished = [f"epoch-{epoch:04d}" for epoch in finished_checkpoints(folder)]
    return [path for path in newest_run(folder).glob("checkpoints/*") if path.name.partition(".")[0] not in finished]


def event_bytes(folder):
    return sum(path.stat().st_size for path in newest_run(folder).glob("events*"))


def wait_for(moment, folder, seconds, process):
    """Wait some seconds, and then until the process does what it is to be killed in."""
    time.sleep(seconds)
    size = event_bytes(folder)
    while is_running(process):
        if moment == "training" or (moment == "checkpoint" and unfinished_files(folder)):
            return
        if moment == "event write" and event_bytes(folder) != size:
            return


def is_running(process):
    return not select.select([process], [], [], 0)[0]


def last_event_is_incomplete(folder):
    newest = max(newest_run(folder).glob("events*"), key=lambda path: path.stat().st_mtime)
    try:
        list(tf.python_io.tf_record_iterator(str(newest)))
    except tf.errors.DataLossError:
        return True
    return False


def check_events(directory):
    """Check that both of TensorBoard's readers, the server's included, find each step and each epoch once."""
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


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="process file descriptors exist only on Linux")
def test_a_run_that_was_killed_and_resumed_ends_like_one_that_was_not(tmp_path, trainer, undisturbed, long, report):
    digest, seconds = undisturbed
    wanted = 60 if long else 3
    rng = random.Random(20)
    kills, half_checkpoints, half_events, most_lost = 0, 0, 0, 0
    directories = []
    while kills < wanted:
        folder = tmp_path / str(len(directories))
        while True:
            checkpoints = finished_checkpoints(folder)
            process = trainer.start(folder)
            if kills < wanted:
                moment = ("training", "checkpoint", "event write")[kills % 3]
                wait_for(moment, folder, rng.uniform(0.3, 0.7) * seconds, process)
                with suppress(ProcessLookupError):  # it may have ended already
                    signal.pidfd_send_signal(process, signal.SIGKILL)
            status = trainer.wait()
            if status == 0:
                break
            assert status == -signal.SIGKILL
            kills += 1
            half_checkpoints += bool(unfinished_files(folder))
            half_events += last_event_is_incomplete(folder)
            most_lost = max(most_lost, lost_epochs(folder))
        began_at = [int(line) for line in (folder / "began_at").read_text().split()]
        assert began_at[-1] == (checkpoints[-1] if checkpoints else 0)  # the last finished checkpoint was used
        assert (folder / "digest").read_text() == digest
        directories.append(newest_run(folder))
        check_events(directories[-1])
        assert not unfinished_files(folder) and len(finished_checkpoints(folder)) == 3
    assert most_lost <= victim.CHECKPOINT_EVERY
    if long:
        check_tensorboard(tmp_path, directories)
    report("SIGKILL in training, in a checkpoint, at an event write; resumed",
           f"{kills} kills ({half_checkpoints} left half a checkpoint, {half_events} half an event), "
           f"{len(directories)} trainings",
           f"variables and history bit-identical, every step once; at most {most_lost} epochs done again, with a "
           f"checkpoint every {victim.CHECKPOINT_EVERY}")  # fmt: skip


def check_tensorboard(logs, directories):
    """Check that TensorBoard's server sends a browser each step of each run once."""
    names = [str(directory.relative_to(logs)) for directory in directories]
    with browser.tensorboard(logs, names[-1]) as address:
        time.sleep(10)  # until the server has read all runs
        for name in names:
            query = urllib.parse.urlencode({"run": name, "tag": "Loss"})
            with urllib.request.urlopen(f"{address}/data/plugin/scalars/scalars?{query}") as response:
                steps = [step for _, step, _ in json.load(response)]
            assert steps == list(range(victim.EPOCHS * victim.BATCHES))


def lost_epochs(folder):
    """How many epochs with recorded steps, whole or begun, are in no finished checkpoint."""
    events = read_events(newest_run(folder))
    recorded = [event.step for event in events.Scalars("Loss")] if "Loss" in events.Tags()["scalars"] else [-1]
    saved = (finished_checkpoints(folder) or [0])[-1]
    return math.ceil((recorded[-1] + 1) / victim.BATCHES) - saved


@pytest.fixture
def trained(tmp_path):
    """A run's directory with checkpoints at epochs 1 and 2, its data, and the digest that it has after epoch 3."""
    mnist = victim.digits()
    with start_run(softmax_classifier(), str(tmp_path / "uninterrupted_%d"), seed=1) as run:
        optimize(run, mnist, 3, 64)
        digest = victim.digest(run)
    with start_run(softmax_classifier(), str(tmp_path / "run_%d"), seed=1) as run:
        optimize(run, mnist, 2, 64, checkpoint_every=1)
    return Path(run.directory), mnist, digest


@pytest.mark.parametrize("file", ["data-00000-of-00001", "index", "json"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "missing"])
def test_a_damaged_checkpoint_is_skipped_and_the_one_before_is_used(trained, file, damage):
    directory, mnist, digest = trained
    path = directory / f"checkpoints/epoch-0002.{file}"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.unlink()
    if damage != "missing":
        path.write_bytes(content if damage == "flipped" else content[: len(content) // 2])
    (directory / "checkpoints/epoch-0003.index.tempstate12").touch()  # the saver leaves such a file when it is killed
    with resume_run(softmax_classifier(), str(directory)) as run:
        assert run.epoch == 1
        optimize(run, mnist, 2, 64, checkpoint_every=1)
        assert victim.digest(run) == digest
    assert {path.name.partition(".")[0] for path in (directory / "checkpoints").iterdir()} == {
        "epoch-0001", "epoch-0002", "epoch-0003"
    }  # fmt: skip


def test_a_half_written_event_is_skipped(trained):
    directory, mnist, _ = trained
    (events,) = directory.glob("events*")
    os.truncate(events, events.stat().st_size - 5)
    with open(events, "ab") as file:
        file.write(b"\0\0\0")
    with resume_run(softmax_classifier(), str(directory)) as run:
        optimize(run, mnist, 1, 64)
    assert loss_steps(directory) == list(range(30))


def test_a_run_that_cannot_be_resumed_stays_as_it_is(trained, tmp_path):
    directory, *_ = trained
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="no complete checkpoint"):
        resume_run(softmax_classifier(), str(tmp_path / "uninterrupted_1"))
    with pytest.raises(ValueError, match="nowhere has no complete checkpoint"):
        resume_run(softmax_classifier(), str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="another network"):
        resume_run(build_classifier(build_lenet5, tf.train.AdamOptimizer(0.001)), str(directory))
    assert before == {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_an_open_run_cannot_be_resumed(trained):
    directory, *_ = trained
    with resume_run(softmax_classifier(), str(directory)):
        with pytest.raises(OSError, match="open already"):
            resume_run(softmax_classifier(), str(directory))
    resume_run(softmax_classifier(), str(directory)).close()


def test_checkpoints_are_ordered_by_epoch_beyond_9999(trained):
    directory, mnist, _ = trained
    with resume_run(softmax_classifier(), str(directory)) as run:
        run.epoch = 9998
        optimize(run, mnist, 3, 64, checkpoint_every=1)
        assert run.epoch == 10001
    names = {path.stem for path in (directory / "checkpoints").glob("*.json")}
    assert names == {"epoch-9999", "epoch-10000", "epoch-10001"}
    with resume_run(softmax_classifier(), str(directory)) as run:
        assert run.epoch == 10001


def test_other_files_among_the_checkpoints_are_left_alone(trained):
    directory, mnist, _ = trained
    folder = directory / "checkpoints"
    for name in ("epoch-best.json", "epoch-0001 (copy).json"):
        (folder / name).write_text("{}")
    (folder / ".ipynb_checkpoints").mkdir()
    with resume_run(softmax_classifier(), str(directory)) as run:
        assert run.epoch == 2
        optimize(run, mnist, 1, 64, checkpoint_every=1)
    assert (folder / ".ipynb_checkpoints").is_dir()


def test_a_run_is_resumed_although_numbers_of_earlier_runs_are_missing(tmp_path):
    for number in (1, 2, 3, 5):
        (tmp_path / f"run_{number:02d}").mkdir()
    for epochs_done in (0, 1):
        with resume_or_start(softmax_classifier(), str(tmp_path / "run_%02d"), seed=1) as run:
            assert (Path(run.directory).name, run.epoch) == ("run_04", epochs_done)
            optimize(run, victim.digits(), 1, 64, checkpoint_every=1)
    assert len(list(tmp_path.iterdir())) == 5


def test_the_run_with_the_highest_number_is_resumed(tmp_path):
    pattern = str(tmp_path / "run_%d")
    for number in (9, 10):
        with start_run(softmax_classifier(), str(tmp_path / "new_%d"), seed=number) as run:
            optimize(run, victim.digits(), 1, 64, checkpoint_every=1)
        os.rename(run.directory, pattern % number)
    with resume_or_start(softmax_classifier(), pattern) as run:
        assert run.seed == 10


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused_before_a_directory_is_made(tmp_path, seed):
    with pytest.raises(ValueError, match=f"seed is {seed}, expected a whole number from 0"):
        start_run(softmax_classifier(), str(tmp_path / "run_%02d"), seed=seed)
    assert not list(tmp_path.iterdir())


def test_a_run_that_fails_to_open_frees_its_lock_and_closes_its_session(trained, tmp_path, monkeypatch):
    directory, *_ = trained
    sessions = []
    make_session = tf.Session

    def make_and_remember(*arguments, **options):
        sessions.append(make_session(*arguments, **options))
        return sessions[-1]

    def fail(*arguments, **options):
        raise OSError("no space")

    monkeypatch.setattr(tf, "Session", make_and_remember)
    with monkeypatch.context() as broken:
        broken.setattr(tf.summary, "FileWriter", fail)
        with pytest.raises(OSError, match="no space"):
            start_run(softmax_classifier(), str(tmp_path / "new_%d"))
        with pytest.raises(OSError, match="no space"):
            resume_run(softmax_classifier(), str(directory))
    with monkeypatch.context() as broken:
        broken.setattr(tf.summary.FileWriter, "add_session_log", fail)
        with pytest.raises(OSError, match="no space"):
            resume_run(softmax_classifier(), str(directory))
    assert len(sessions) == 3
    for session in sessions:
        with pytest.raises(RuntimeError, match="closed Session"):
            session.run([])
    resume_run(softmax_classifier(), str(directory)).close()  # the lock is free


def test_opening_a_saved_model_leaves_no_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    for _ in range(2):
        with open_model(KEPT_MODEL) as model:
            assert predict(model, np.zeros((1, 784), np.float32)).shape == (1, 10)
    assert not list(tmp_path.iterdir())


# Importing the package

FAILING_TENSORFLOW = {
    "an abort": "import os\nos.write(2, b'bad processor\\n')\nos.abort()",
    "an exception": "import os\nos.write(2, b'bad processor\\n')\nraise ImportError('broken')",
}


@pytest.mark.parametrize("failure", FAILING_TENSORFLOW)
def test_the_error_output_of_a_failed_tensorflow_import_is_shown(tmp_path, failure):
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text(FAILING_TENSORFLOW[failure])
    done = subprocess.run(
        [sys.executable, "-c", "import lenet_lab"], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
    )  # fmt: skip
    assert done.returncode != 0
    assert "bad processor" in done.stderr


QUIET = """
import os, sys
{before}
import lenet_lab
print("fine")
"""


@pytest.mark.parametrize("before", ["", "sys.stderr = None; os.close(2)"])
def test_the_import_prints_nothing_and_works_without_standard_error(before):
    done = subprocess.run([sys.executable, "-c", QUIET.format(before=before)], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "fine\n", done.stderr
    assert before or not done.stderr


MOVED = """
import sys
import tensorflow
for name in ("tensorflow.python.util._pywrap_util_port", "tensorflow.python.client.timeline"):
    sys.modules[name] = None
from lenet_lab.compat import chrome_trace
assert chrome_trace(None) is None
print("fine")
"""


def test_the_package_works_without_the_modules_that_tensorflow_may_move():
    done = subprocess.run([sys.executable, "-c", MOVED], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "fine\n", done.stderr


# Full disks, and losses that are not finite


@contextmanager
def file_size_limit(size):
    """Let no file grow beyond a size in bytes: writing then fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # in TensorFlow's own thread
@pytest.mark.parametrize(
    "size, kind, message",
    [
        (2_000, OSError, "events can't be written any more .*File too large"),
        # Softmax regression's variables take 31 kB; the events of an epoch take 20 kB.
        (30_000, CheckpointError, "File too large.* the last good checkpoint is .*epoch-0002"),
    ],
    ids=["events", "checkpoint"],
)
def test_a_full_disk_stops_training_with_one_error_and_the_run_can_be_resumed(trained, size, kind, message, report):
    directory, mnist, digest = trained
    run = resume_run(softmax_classifier(), str(directory))
    with file_size_limit(size), pytest.raises(kind, match=message):
        optimize(run, mnist, 1, 64, checkpoint_every=1)
    run.close()
    with resume_run(softmax_classifier(), str(directory)) as run:
        optimize(run, mnist, 1, 64, checkpoint_every=1)
        assert victim.digest(run) == digest
    assert loss_steps(directory) == list(range(30))
    what = "a checkpoint" if kind is CheckpointError else "events"
    report(f"file-size limit met by {what}", "1", "one error; the checkpoint before is good; goes on bit-identically")


def test_a_loss_that_is_not_finite_stops_training_with_the_step_and_the_rate(tmp_path):
    mnist = victim.digits()
    with start_run(softmax_classifier(1e36), str(tmp_path / "run_%d"), seed=1) as run:
        with pytest.raises(
            FloatingPointError, match=r"\(learning rate 1e\+36\).*there is no earlier checkpoint"
        ) as raised:
            optimize(run, mnist, 5, 64, checkpoint_every=1)
    step = int(re.search(r"step (\d+)", str(raised.value))[1])
    assert run.step == step == len(run.history.step_loss) and np.isfinite(run.history.step_loss).all()
    assert loss_steps(run.directory) == list(range(step))


def test_an_error_in_training_names_the_last_good_checkpoint(trained):
    directory, mnist, _ = trained
    with resume_run(softmax_classifier(1e36), str(directory)) as run:
        with pytest.raises(FloatingPointError, match=r"last good checkpoint is \S*epoch-0002"):
            optimize(run, mnist, 5, 64, checkpoint_every=5)


# Many processes at the same time


RUN_NOTEBOOK = """
import sys, pathlib, nbformat
from lenet_lab.notebooks import run_notebook, with_parameters
notebook = with_parameters(nbformat.read("notebooks/" + sys.argv[1], 4), {"epochs": 1})
run_notebook(notebook, pathlib.Path("notebooks"), pathlib.Path(sys.argv[2]))
"""


def test_ten_notebooks_can_run_in_one_folder_at_the_same_time(tmp_path, only_long, report):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    # There is no data, and none can be downloaded, so each notebook would make the stand-in.
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
    printed = {name: set() for name in NOTEBOOKS[:4]}
    for number in processes:
        lines = re.findall(r"=====> [^\\]*", (tmp_path / f"{number}.ipynb").read_text())
        assert lines
        printed[NOTEBOOKS[number % 4]].add(tuple(lines))
    assert {len(texts) for texts in printed.values()} == {1}  # all copies have the same seed
    figures = sorted(path for path in (tmp_path / "MNIST_figures").rglob("*.*"))
    assert len(figures) > 20 and {path.suffix for path in figures} == {".svg", ".png"}
    for path in figures:
        ElementTree.parse(path) if path.suffix == ".svg" else Image.open(path).load()
    assert [path.name for path in (tmp_path / "MNIST_data").iterdir() if path.name != ".download"] == ["stand-in"]
    results = list((tmp_path / "logs").rglob("result.json"))
    assert len({json.loads(path.read_text())["directory"] for path in results}) == len(results) >= 10
    report("ten notebooks at once in one folder, without data", f"{len(results)} trainings",
           "each notebook's printed figures the same in all its copies; every figure whole; one stand-in")  # fmt: skip


def test_fifty_runs_that_start_at_the_same_time_get_fifty_directories(tmp_path, only_long, report):
    command = [sys.executable, victim.__file__, str(tmp_path), "50"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    directories = sorted(done.stdout.split())
    assert directories == [f"{tmp_path}/run_{number:02d}" for number in range(1, 51)]
    for directory in directories:
        assert loss_steps(directory) == list(range(victim.BATCHES))
    report("50 processes start and train a run in one folder", "50", "50 directories, each with its own events")


# Damaged data


def test_coverage_guided_fuzzing_finds_no_input_that_breaks_the_idx_reader(tmp_path, only_long, report):
    python = ROOT / ".venv-fuzz" / "bin" / "python"
    if not python.exists():
        pytest.skip("Atheris is not installed; `make reliability` installs it")
    seconds = 660
    options = [f"-max_total_time={seconds}", "-timeout=5", "-rss_limit_mb=300", "-max_len=2000"]
    command = [str(python), str(ROOT / "tools" / "fuzz_idx.py"), str(tmp_path), *options]
    # In a shell that forks, since a process that becomes another program keeps its peak memory.
    in_shell = ["sh", "-c", '"$@"; exit $?', "sh", *command]
    done = subprocess.run(in_shell, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    runs, took = re.search(r"Done (\d+) runs in (\d+) second", done.stderr).groups()
    covered, memory = re.search(r"DONE +cov: (\d+) .* rss: (\d+)Mb", done.stderr).groups()
    report("IDX reader, coverage-guided fuzzing", f"{int(runs):,} inputs in {took} s, {covered} branches reached",
           f"each read or refused with DataError, within 5 s; at most {memory} MB for the process")  # fmt: skip


# Untrusted files, and the network

CODE_EVENTS = {"pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "ctypes.dlopen"}
code_events: list[str] | None = None  # a list while the hook below is to record


def record_code_events(event, arguments):
    """An audit hook: records each event in which a file could run code."""
    if code_events is not None and event in CODE_EVENTS:
        code_events.append(f"{event} {arguments}")


class Malicious:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, ("true",)


def test_no_file_that_the_lab_reads_can_run_code(trained, small_folder, tmp_path, monkeypatch):
    directory, *_ = trained
    folder = tmp_path / "malicious"
    folder.mkdir()
    content = pickle.dumps(Malicious())
    for name in (*(f"{name}.gz" for name in input_data.FILES), "digit.png", "model.index", "model.data-00000-of-00001"):
        (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    drawing = np.full((60, 40), 255, np.uint8)
    drawing[10:50, 18:22] = 0
    Image.fromarray(drawing).save(tmp_path / "digit.png")
    sys.addaudithook(record_code_events)  # a hook can't be removed again
    monkeypatch.setitem(globals(), "code_events", [])
    with resume_run(softmax_classifier(), str(directory)) as run:
        input_data.read_data_sets(str(small_folder))
        restore_model(run, save_model(run))
        predict_image(run, tmp_path / "digit.png")
        with pytest.raises(DataError):
            input_data.read_data_sets(str(folder))
        with pytest.raises(ValueError, match="model"):
            restore_model(run, str(folder / "model"))
        with pytest.raises(ImageError):
            predict_image(run, folder / "digit.png")
        for checkpoint in (directory / "checkpoints").glob("*.json"):
            checkpoint.write_bytes(content)
    with pytest.raises(ValueError, match="no complete checkpoint"):
        resume_run(softmax_classifier(), str(directory))
    assert code_events == []
    pickle.loads(content)
    assert code_events, "the hook does not work"


def test_a_notebooks_kernel_listens_on_the_loopback_interface_only(tmp_path):
    cell = (
        "import psutil\n"
        "kernel = psutil.Process()\n"
        "sockets = [s for p in (kernel, kernel.parent()) for s in p.net_connections() if s.status == 'LISTEN']\n"
        "print({socket.laddr.ip for socket in sockets})"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    run_notebook(notebook, tmp_path, tmp_path / "out.ipynb")
    assert notebook.cells[0].outputs[0].text == "{'127.0.0.1'}\n"


def test_every_tensorboard_command_in_the_lab_binds_to_localhost():
    patterns = ("*.md", "docs/*.md", "logs/*.md", "benchmarks/*.md", "notebooks/*.ipynb", "lenet_lab/**/*.py")
    documents = [path for pattern in patterns for path in ROOT.glob(pattern)]
    commands = [c for path in documents for c in re.findall(r'tensorboard --logdir[^`"\\\n]*', path.read_text())]
    assert commands and all("--host localhost" in command for command in commands), commands
