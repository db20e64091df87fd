"""The doctor, run as a program where all is well, broken, hanging or crashing; it leaves nothing behind."""

import ast
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from lenet_lab import __main__, __version__, compat, paths
from lenet_lab.course import doctor

pytestmark = pytest.mark.network  # the doctor asks servers on loopback

ROOT = Path(__file__).parent.parent
DOCTOR = [sys.executable, doctor.__file__]
NAMES = [name for names in doctor.CHECKS.values() for name in names]
HANGS = "import time\ntime.sleep(60)\n"


class Machine:
    """A lab's folder, a home, a folder for temporary files, and fake modules that Python finds before all others."""

    def __init__(self, folder):
        self.lab, self.home, self.temporary, self.fakes = (folder / name for name in ("lab", "home", "tmp", "fakes"))
        for new in (self.home, self.temporary, self.fakes, self.lab / "logs", self.lab / "notebooks"):
            new.mkdir(parents=True)
        (self.lab / doctor.FIRST_NOTEBOOK).touch()
        self.kernel = folder / "jupyter" / "kernels" / "python3"
        self.environment = os.environ | {
            "HOME": str(self.home), "TMPDIR": str(self.temporary), "PYTHONPATH": str(self.fakes),
            "JUPYTER_PATH": str(folder / "jupyter"),
        }  # fmt: skip

    def fake(self, **sources):
        """Put packages with this source in the place of installed ones."""
        for name, source in sources.items():
            (self.fakes / name).mkdir()
            (self.fakes / name / "__init__.py").write_text(source)

    def fake_kernel(self, script):
        """Have Jupyter's kernel `python3` start a shell script."""
        self.kernel.mkdir(parents=True)
        (self.kernel / "python").write_text(f"#!/bin/sh\n{script}\n")
        (self.kernel / "python").chmod(0o755)
        argv = [str(self.kernel / "python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec = {"argv": argv, "display_name": "a fake", "language": "python"}
        (self.kernel / "kernel.json").write_text(json.dumps(spec))

    def doctor_with(self, **constants):
        """The command for a copy of the doctor with other constants, such as a port that nobody else uses."""
        source = Path(doctor.__file__).read_text("utf-8")
        for name, value in constants.items():
            source, found = re.subn(rf"^{name} = \S+", f"{name} = {value}", source, flags=re.MULTILINE)
            assert found == 1
        copy = self.fakes / "doctor.py"
        copy.write_text(source, "utf-8")
        return [sys.executable, str(copy)]

    def start(self, command, cwd=None):
        self.before = self.files()
        return subprocess.Popen(
            command,
            cwd=cwd or self.lab,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, process):
        """Wait for the doctor's report, and check that it left nothing behind."""
        output, errors = process.communicate(timeout=60)
        assert errors == ""
        assert self.files() == self.before
        self.wait_for_processes(1)
        return Report(output, process.returncode)

    def files(self):
        return sorted(path for folder in (self.lab, self.home, self.temporary) for path in folder.rglob("*"))

    def wait_for_processes(self, seconds):
        """Wait until all that was started here has ended. Its environment names this machine's temporary folder."""
        deadline = time.monotonic() + seconds
        while left := [process for process in psutil.process_iter() if str(self.temporary) in temporary(process)]:
            assert time.monotonic() < deadline, f"still there: {left}"
            time.sleep(0.05)


class Report:
    """What the doctor said: `state: text` by the names of its lines, the verdict, and the exit status."""

    def __init__(self, output, status):
        *lines, empty, self.verdict = output.splitlines()
        parts = [re.fullmatch(r"(ok|note|fails) +(port \d+|\S+) +(.+)", line).groups() for line in lines]
        self.lines = {name: f"{state}: {text}" for state, name, text in parts}
        self.status = status
        assert empty == ""
        assert {len(line) - len(text) for line, (_, _, text) in zip(lines, parts)} == {21}, "the lines are not aligned"

    def failing(self):
        return {name for name, line in self.lines.items() if line.startswith("fails: ")}


def temporary(process):
    try:
        return process.environ().get("TMPDIR", "")
    except (psutil.Error, OSError):  # it has ended, or is someone else's
        return ""


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@contextmanager
def served(answer=b""):
    """A server that sends these bytes on every connection and then keeps it open; yields its port."""
    connections = []

    def serve():
        with suppress(OSError):  # the server was closed
            while True:
                connections.append(server.accept()[0])
                connections[-1].sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in connections:
                connection.close()


def http_answer(body):
    return f"HTTP/1.0 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def test_the_report_is_there_in_time_where_all_is_well(machine, small_folder):
    machine.environment["LENET_LAB_DATA"] = str(small_folder)
    started = time.monotonic()
    report = machine.end(machine.start(DOCTOR, cwd=ROOT))
    assert time.monotonic() < started + 20
    assert list(report.lines) == NAMES
    port_name = f"port {doctor.PORT}"  # whoever runs the tests may have a TensorBoard there
    assert {name: line for name, line in report.lines.items() if not line.startswith("ok: ")}.keys() <= {
        port_name,
        "MNIST",
    }
    assert report.lines["Python"] == f"ok: {sys.version.split()[0]}, {sys.executable}"
    assert report.lines["folder"] == f"ok: {ROOT} can be written to"
    assert report.lines["MNIST"].startswith(f"note: {small_folder} holds other data (stand-in digits); ")
    assert re.fullmatch(r"ok: 2\.\d+\.\d+ answers \d+\.\d s after its start", report.lines["TensorBoard"])
    assert (report.status, report.verdict) == (0, "Nothing stops the lab.")


def test_a_folder_is_named_where_the_output_has_no_such_letters(machine, tmp_path):
    machine.fake(tensorflow="raise ImportError('broken')\n", tensorboard="import os\nos._exit(0)\n")
    lab = machine.lab.rename(tmp_path / "Übung")
    machine.lab = lab
    machine.environment |= {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    report = machine.end(machine.start(DOCTOR))
    assert re.fullmatch(r"ok: \S+/(\\xdc|\\udcc3\\udc9c)bung can be written to", report.lines["folder"])
    assert report.lines["Jupyter"] == "ok: its kernel python3 starts this Python"


def test_what_hangs_does_not_hold_up_the_rest(machine):
    machine.fake(tensorflow=HANGS, tensorboard=HANGS)
    machine.fake_kernel("sleep 60")
    with served(b"HTTP/1.0 200 OK\r\n") as port:  # and nothing more
        started = time.monotonic()
        report = machine.end(machine.start(machine.doctor_with(PORT=port, LIMIT=5)))
        assert time.monotonic() < started + 8
    assert report.failing() == {"Jupyter", "TensorFlow", "TensorBoard"}
    assert report.lines[f"port {port}"].startswith("note: used by another program; start TensorBoard with --port ")
    assert "which fails: Command" in report.lines["Jupyter"]
    assert "timed out after 2 seconds; delete that folder" in report.lines["Jupyter"]
    assert report.lines["TensorFlow"].startswith("fails: no answer in time; ")
    assert report.lines["TensorBoard"].startswith("fails: no answer in time; ")
    assert report.status == 1


def test_on_a_broken_machine_each_line_says_what_to_do(machine):
    (machine.lab / "logs").rmdir()
    (machine.lab / "logs").touch()
    (machine.lab / ".venv").mkdir()
    machine.fake(
        psutil="class virtual_memory:\n    available, total = 0.5e9, 2e9\n",
        sitecustomize="import shutil\nshutil.disk_usage = lambda path: shutil._ntuple_diskusage(9, 8, 10_000_000)\n",
        tensorflow="raise ImportError('libtensorflow.so: file too short\\nAsk someone.')\n",
        tensorboard="raise ImportError('no TensorBoard')\n",
    )
    machine.fake_kernel("echo /another/environment")
    with served(http_answer("[]")) as port:
        report = machine.end(machine.start(machine.doctor_with(PORT=port)))
    own = f"use the lab's own Python, in {machine.lab}/.venv"
    free = re.search(r"\d+$", report.lines[f"port {port}"])[0]
    assert int(free) > port
    assert report.lines == {
        "Python": f"note: {sys.version.split()[0]}, {sys.executable}; {own}",
        "memory": "fails: 0.5 of 2.0 GB free; a training takes 1.3 GB: close other programs",
        "disk": "fails: 0.01 GB free; the lab needs 0.2 GB: make room",
        "folder": f"fails: {machine.lab}/logs can't be written to (Not a directory); "
        "make it a folder that you may write to, or put the lab elsewhere",
        f"port {port}": f"note: used by another program; start TensorBoard with --port {free}",
        "Jupyter": f"fails: the kernel in {machine.kernel} starts {machine.kernel}/python, not {sys.executable}; "
        "delete that folder",
        "TensorFlow": f"fails: ImportError: libtensorflow.so: file too short; {own}",
        "oneDNN": "note: not examined, since TensorFlow failed",
        "lenet_lab": "note: not examined, since TensorFlow failed",
        "MNIST": "note: not examined, since TensorFlow failed",
        "TensorBoard": f"fails: ends instead of starting: ImportError: no TensorBoard; {own}",
    }
    assert (report.status, report.verdict) == (1, "6 of 11 checks failed; see above.")


def test_a_crash_is_named_and_a_tensorboard_is_recognized(machine):
    (machine.lab / doctor.FIRST_NOTEBOOK).unlink()
    machine.fake(
        tensorflow="import os\nos.write(2, b'AVX is missing')\nos.abort()\n",
        ipykernel="raise ImportError('broken')\n",
        tensorboard="import os\nos._exit(0)\n",
    )
    board = http_answer(json.dumps({"version": "2.0", "data_location": "/their/logs"}))
    with served(board) as port:
        report = machine.end(machine.start(machine.doctor_with(PORT=port)))
    repair = "to install everything again, delete .venv and run make lab"
    assert report.lines["folder"].startswith(f"note: {machine.lab} is not the lab's: no {doctor.FIRST_NOTEBOOK} here")
    assert report.lines[f"port {port}"].startswith(
        f"note: a TensorBoard already shows /their/logs at http://localhost:{port}; start another one with --port "
    )
    assert re.fullmatch(
        rf"fails: the kernel in \S+ starts \S+, which fails: ImportError: broken; {repair}", report.lines["Jupyter"]
    )
    assert report.lines["TensorFlow"] == f"fails: ended by SIGABRT: AVX is missing; {repair}"
    assert report.lines["TensorBoard"] == f"fails: ends instead of starting: no error message; {repair}"


@pytest.mark.skipif(
    any(Path(place, "share/jupyter/kernels").exists() for place in ("/usr", "/usr/local")),
    reason="this machine has kernels for everyone",
)
def test_a_python_without_a_kernel_whose_folder_was_moved(machine, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    board = tmp_path / "bare" / "bin" / "tensorboard"
    board.write_text("#!/gone/python\n")
    board.chmod(0o755)
    broken = "raise ImportError('broken')\n"
    machine.fake(ipykernel=broken, tensorflow=broken)
    machine.environment["PYTHONPATH"] += os.pathsep + sysconfig.get_path("purelib")
    report = machine.end(machine.start([tmp_path / "bare" / "bin" / "python", doctor.__file__]))
    assert report.lines["Jupyter"].startswith("fails: has no kernel python3; ")
    assert report.lines["TensorBoard"].startswith(
        f"fails: {board} can't be started (No such file or directory); was the"
    )


def test_a_kernel_whose_python_is_gone(machine, monkeypatch):
    machine.fake_kernel("")
    (machine.kernel / "python").unlink()
    monkeypatch.setenv("JUPYTER_PATH", machine.environment["JUPYTER_PATH"])
    (finding,) = doctor.jupyter()
    assert finding.state == "fails"
    assert finding.text.endswith(
        f"which fails: [Errno 2] No such file or directory: '{machine.kernel}/python'; delete that folder"
    )


def test_ctrl_c_ends_everything(machine):
    machine.fake(tensorflow=HANGS, tensorboard=HANGS)
    process = machine.start(DOCTOR)
    assert process.stdout.readline().startswith("ok      Python ")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=10)[1] == ""
    assert process.returncode == 130
    assert machine.files() == machine.before
    machine.wait_for_processes(1)


def test_checks_that_hang_end_even_if_the_doctor_was_killed(machine):
    machine.fake(tensorflow=HANGS, tensorboard=HANGS)
    process = machine.start(machine.doctor_with(LIMIT=0))
    assert process.stdout.readline()
    process.kill()
    process.communicate(timeout=10)
    machine.wait_for_processes(8)


def damaged(small_folder, folder):
    shutil.copytree(small_folder, folder)
    file = folder / "train-labels-idx1-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-20])


@pytest.mark.parametrize(
    "make, expected",
    [
        (
            lambda small, folder: None,
            "note: LENET_LAB_DATA is /nowhere, which does not exist; not in /nowhere or MNIST_data; the first ",
        ),
        (lambda small, folder: folder.mkdir(), "note: LENET_LAB_DATA is /nowhere, which does not exist; not in "),
        (damaged, "fails: MNIST_data/train-labels-idx1-ubyte.gz: truncated or corrupt gzip file"),
    ],
    ids=["no folder", "an empty folder", "a damaged file"],
)
def test_mnist_is_missed_or_damaged(small_folder, tmp_path, monkeypatch, make, expected):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LENET_LAB_DATA", "/nowhere")
    make(small_folder, tmp_path / "MNIST_data")
    before = sorted(tmp_path.rglob("*"))
    finding = doctor.mnist()
    assert f"{finding.state}: {finding.text}".startswith(expected)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_given_as_mnists_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.touch()
    monkeypatch.setenv("LENET_LAB_DATA", str(file))
    assert doctor.mnist().text.startswith(f"LENET_LAB_DATA is {file}, which is a file; not in {file} or MNIST_data; ")


def test_mnist_is_found(real_folder, monkeypatch):
    monkeypatch.setenv("LENET_LAB_DATA", real_folder)
    assert doctor.mnist() == ("ok", "MNIST", f"in {real_folder}, complete and unchanged")


def test_another_tensorflow_no_onednn_and_another_copy_of_the_lab_are_noted(machine, monkeypatch):
    monkeypatch.chdir(machine.lab)
    monkeypatch.setattr(compat.tf, "VERSION", "2.99.0")
    monkeypatch.setattr(compat, "_runs_without_onednn", lambda: True)
    findings = {finding.name: f"{finding.state}: {finding.text}" for finding in doctor.tensorflow()}
    assert findings["TensorFlow"].startswith("note: 2.99.0; the lab was tested with 2.21; ")
    assert findings["oneDNN"].startswith("note: off, so training is several times slower; ")
    assert findings["lenet_lab"].startswith(f"note: {__version__} of {ROOT}, not of this folder; ")


def test_a_wrong_python_is_told_which_ones_are_right(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    (finding,) = doctor.python()
    assert finding.state == "fails"
    assert finding.text.endswith("; the lab needs 3.10 to 3.13: make lab PYTHON=python3.12")


def test_the_doctor_runs_on_old_pythons_and_needs_only_the_standard_library():
    tree = ast.parse(Path(doctor.__file__).read_text("utf-8"), feature_version=(3, 7))
    imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {getattr(node, "module", None) or node.names[0].name for node in imports}
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


def test_the_doctor_knows_what_the_lab_knows():
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    (_, oldest), (_, newest) = doctor.OLDEST, doctor.NEWEST
    assert f'requires-python = ">=3.{oldest},<3.{newest + 1}"' in project
    assert f'"tensorflow>={doctor.TENSORFLOW},<' in project
    assert doctor.FIRST_NOTEBOOK == paths.FIRST_NOTEBOOK


@pytest.mark.parametrize("status", [0, 1])
def test_the_command_ends_with_the_doctors_exit_status(monkeypatch, status):
    monkeypatch.setattr(doctor, "examine", lambda: status)
    assert __main__.main(["doctor"]) == status
