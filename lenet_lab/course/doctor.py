"""Examine what the lab needs, one line each, and say what to do about what fails.

`python -m lenet_lab doctor` imports TensorFlow before it comes here. Where TensorFlow is broken, run this file itself,
`python lenet_lab/course/doctor.py`: it needs only the standard library, of any Python from 3.7. Every check runs in a
process of its own, so one that hangs or crashes does not stop the others.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import http.client
import io
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

LIMIT = 16  # seconds for all checks together
OLDEST, NEWEST = (3, 10), (3, 13)  # the Pythons in pyproject.toml
TENSORFLOW = "2.21"  # the version in pyproject.toml
MEMORY = 1.3e9  # bytes: what a training takes on MNIST (benchmarks/README.md)
DISK = 0.2e9  # bytes: the data, and the runs and figures of all notebooks (about 0.1 GB)
PORT = 6006  # TensorBoard's own
FIRST_NOTEBOOK = Path("notebooks", "1_tensorflow_101.ipynb")  # as in lenet_lab.paths, which can't be imported here
TOO_LATE = "no answer in time; a first start may take longer, so try again"
THIS_FILE = os.path.abspath(__file__)


class Finding(NamedTuple):
    """One line of the report."""

    state: str  # "ok"; "note" for what does not stop the lab; "fails"
    name: str
    text: str


def examine() -> int:
    """Print a line for each finding.

    Returns
    -------
    int
        The exit status: 1 if something fails that stops the lab, otherwise 0.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a folder's name may have letters that this output can't show
        sys.stdout.reconfigure(errors="backslashreplace")
    # What `python -m lenet_lab doctor` took to import TensorFlow counts too.
    deadline = time.monotonic() + LIMIT - min(time.process_time(), 6)
    scratch = tempfile.mkdtemp()
    children = {}
    states = []
    try:
        for check in CHECKS:
            children[check] = _start(check.__name__, scratch)
        for check, child in children.items():
            for finding in _findings(CHECKS[check], child, deadline):
                print(f"{finding.state:<7} {finding.name:<12} {' '.join(finding.text.split())}", flush=True)
                states.append(finding.state)
    finally:
        for child in children.values():
            _end(child)
        shutil.rmtree(scratch, ignore_errors=True)
    failed = states.count("fails")
    print(f"\n{failed} of {len(states)} checks failed; see above." if failed else "\nNothing stops the lab.")
    return 1 if failed else 0


def python() -> list[Finding]:
    """Examine the version of Python, and whether it is the one that `make lab` installed into."""
    text = f"{platform.python_version()}, {sys.executable}"
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        advice = "make lab PYTHON=python3.12" if _is_own_python() else _repair()
        needs = "the lab needs {}.{} to {}.{}".format(*OLDEST, *NEWEST)
        return [Finding("fails", "Python", f"{text}; {needs}: {advice}")]
    if not _is_own_python():
        return [Finding("note", "Python", f"{text}; {_repair()}")]
    return [Finding("ok", "Python", text)]


def memory() -> list[Finding]:
    """Examine the memory that programs can still take."""
    try:
        import psutil  # type: ignore[import-untyped]
    except ImportError:
        return [Finding("note", "memory", f"unknown without psutil; a training takes {MEMORY / 1e9:.1f} GB")]
    now = psutil.virtual_memory()
    text = f"{now.available / 1e9:.1f} of {now.total / 1e9:.1f} GB free"
    if now.available < MEMORY:
        return [Finding("fails", "memory", f"{text}; a training takes {MEMORY / 1e9:.1f} GB: close other programs")]
    return [Finding("ok", "memory", text)]


def disk() -> list[Finding]:
    """Examine the room that is left in the lab's folder."""
    free = shutil.disk_usage(".").free
    if free < DISK:
        return [Finding("fails", "disk", f"{free / 1e9:.2f} GB free; the lab needs {DISK / 1e9:.1f} GB: make room")]
    return [Finding("ok", "disk", f"{free / 1e9:.1f} GB free")]


def folder() -> list[Finding]:
    """Examine whether the working directory is the lab's folder and can be written to."""
    here = Path.cwd()
    for place in (here, here / "logs"):
        try:
            if os.path.lexists(place):
                with tempfile.TemporaryFile(dir=place) as file:
                    file.write(b"a byte")
        except OSError as error:
            advice = "make it a folder that you may write to, or put the lab elsewhere"
            return [Finding("fails", "folder", f"{place} can't be written to ({error.strerror}); {advice}")]
    if not FIRST_NOTEBOOK.is_file():
        text = f"{here} is not the lab's: no {FIRST_NOTEBOOK} here or above; for make lab, cd to the lab's folder"
        return [Finding("note", "folder", text)]
    return [Finding("ok", "folder", f"{here} can be written to")]


def port() -> list[Finding]:
    """Examine who uses TensorBoard's port."""
    name = f"port {PORT}"
    if _is_free(PORT):
        return [Finding("ok", name, "free")]
    other = next(number for number in range(PORT + 1, 65536) if _is_free(number))
    board = _ask_tensorboard(PORT)
    if board:
        text = (
            f"a TensorBoard already shows {board['data_location']} at http://localhost:{PORT}; start another one with"
        )
    else:
        text = "used by another program; start TensorBoard with"
    return [Finding("note", name, f"{text} --port {other}")]


def jupyter() -> list[Finding]:
    """Examine whether Jupyter's kernel `python3` starts this Python, by asking the Python that it starts."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    from jupyter_client.manager import KernelManager

    try:
        spec = KernelSpecManager().get_kernel_spec("python3")
    except NoSuchKernel:
        return [Finding("fails", "Jupyter", f"has no kernel python3; {_repair()}")]
    command = KernelManager(kernel_name="python3").format_kernel_cmd()
    starts = command[: command.index("-m")] if "-m" in command else command[:1]
    question = [*starts, "-c", "import ipykernel, sys; print(ascii(sys.prefix))"]
    started = f"the kernel in {spec.resource_dir} starts {' '.join(starts)}"
    try:
        answer = subprocess.run(
            question,
            env={**os.environ, **spec.env},
            capture_output=True,
            errors="replace",
            timeout=LIMIT - 3,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return [Finding("fails", "Jupyter", f"{started}, which fails: {error}; delete that folder")]
    if answer.returncode:
        return [Finding("fails", "Jupyter", f"{started}, which fails: {_error(answer.stderr)}; {_repair()}")]
    if answer.stdout.strip() != ascii(sys.prefix):
        return [Finding("fails", "Jupyter", f"{started}, not {sys.executable}; delete that folder")]
    return [Finding("ok", "Jupyter", "its kernel python3 starts this Python")]


def tensorboard() -> list[Finding]:
    """Start TensorBoard on an empty folder, wait until it answers, and end it."""
    command = shutil.which("tensorboard", path=sysconfig.get_path("scripts"))
    if not command:
        return [Finding("fails", "TensorBoard", f"not installed for this Python; {_repair()}")]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as logs, tempfile.TemporaryFile("w+", errors="replace") as output:
        arguments = [command, "--logdir", logs, "--host", "127.0.0.1", "--port", str(number)]
        started, board = time.monotonic(), None
        try:
            process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        except OSError as error:  # the first line of the file `tensorboard` names a Python that is not there
            text = f"{command} can't be started ({error.strerror}); was the lab's folder moved? {_repair()}"
            return [Finding("fails", "TensorBoard", text)]
        try:
            while not board and process.poll() is None and time.monotonic() < started + LIMIT - 3:
                time.sleep(0.1)
                board = None if _is_free(number) else _ask_tensorboard(number)
            ended = process.poll() is not None
        finally:
            process.kill()
            process.wait()
        output.seek(0)
        last_words = output.read()
    if board:
        text = f"{board['version']} answers {time.monotonic() - started:.1f} s after its start"
        return [Finding("ok", "TensorBoard", text)]
    if ended:
        return [Finding("fails", "TensorBoard", f"ends instead of starting: {_error(last_words)}; {_repair()}")]
    return [Finding("fails", "TensorBoard", TOO_LATE)]


def tensorflow() -> list[Finding]:
    """Import the lab, and with it TensorFlow, and look for MNIST."""
    import lenet_lab
    from lenet_lab import compat

    version = compat.tf.VERSION
    findings = [Finding("ok", "TensorFlow", version)]
    if not version.startswith(TENSORFLOW + "."):
        findings = [Finding("note", "TensorFlow", f"{version}; the lab was tested with {TENSORFLOW}; {_repair()}")]
    if compat._runs_without_onednn():
        text = "off, so training is several times slower; TF_ENABLE_ONEDNN_OPTS is 0, or the processor is not known"
        findings.append(Finding("note", "oneDNN", text))
    else:
        findings.append(Finding("ok", "oneDNN", "on"))
    source = Path(lenet_lab.__file__).parent.parent
    if FIRST_NOTEBOOK.is_file() and not source.samefile("."):
        text = (
            f"{lenet_lab.__version__} of {source}, not of this folder; here, run {sys.executable} -m pip install -e ."
        )
        findings.append(Finding("note", "lenet_lab", text))
    else:
        findings.append(Finding("ok", "lenet_lab", f"{lenet_lab.__version__}, {source}"))
    return [*findings, mnist()]


def mnist() -> Finding:
    """Look for MNIST where the lab does, and read it if its four files are there."""
    from lenet_lab import input_data
    from lenet_lab.compat import tf
    from lenet_lab.paths import LabError

    given = os.environ.get("LENET_LAB_DATA")
    wrong = ""
    if given and not Path(given).is_dir():
        wrong = f"LENET_LAB_DATA is {given}, which {'is a file' if Path(given).exists() else 'does not exist'}; "
    places = [place for place in (given, "MNIST_data") if place]
    complete = [place for place in places if all(Path(place, name + ".gz").exists() for name in input_data.FILES)]
    if not complete:
        text = (
            f"{wrong}not in {' or '.join(places)}; the first notebook downloads it (11 MB), "
            "or offline takes stand-in digits. To have MNIST "
            "offline, put its four .gz files there, or set LENET_LAB_DATA to their folder"
        )
        return Finding("note", "MNIST", text)
    try:
        name = input_data.read_data_sets("MNIST_data", dtype=tf.uint8, fallback=False).name
    except LabError as error:
        return Finding("fails", "MNIST", str(error))
    if name != "MNIST":
        return Finding(
            "note", "MNIST", f"{complete[0]} holds other data ({name}); set LENET_LAB_DATA to MNIST's folder"
        )
    return Finding("note" if wrong else "ok", "MNIST", f"{wrong}in {complete[0]}, complete and unchanged")


# Each check with the names of its lines. The fast ones come first.
CHECKS = {
    python: ("Python",),
    memory: ("memory",),
    disk: ("disk",),
    folder: ("folder",),
    port: (f"port {PORT}",),
    jupyter: ("Jupyter",),
    tensorflow: ("TensorFlow", "oneDNN", "lenet_lab", "MNIST"),
    tensorboard: ("TensorBoard",),
}


def _start(check: str, scratch: str) -> subprocess.Popen[str]:
    """Start a process for a check, with the lab's folder as its working directory and all files that it makes aside."""
    aside = dict.fromkeys(("TMPDIR", "TEMP", "TMP", "MPLCONFIGDIR", "KERAS_HOME", "IPYTHONDIR"), scratch)
    return subprocess.Popen(
        [sys.executable, THIS_FILE, "--check", check],
        cwd=_lab(), env={**os.environ, **aside, "PYTHONDONTWRITEBYTECODE": "1"}, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", errors="replace",
    )  # fmt: skip


def _findings(names: tuple[str, ...], child: subprocess.Popen[str], deadline: float) -> list[Finding]:
    """Wait for a check's findings; without any, say what became of its process."""
    try:
        output, errors = child.communicate(timeout=max(deadline - time.monotonic(), 0.2))
        if child.returncode == 0 and output:
            return [Finding(*finding) for finding in json.loads(output.splitlines()[-1])]
        text = f"{_error(errors)}; {_repair()}"
        if child.returncode < 0:
            text = f"ended by {signal.Signals(-child.returncode).name}: {text}"
    except subprocess.TimeoutExpired:
        text = TOO_LATE
    others = [Finding("note", name, f"not examined, since {names[0]} failed") for name in names[1:]]
    return [Finding("fails", names[0], text), *others]


def _end(child: subprocess.Popen[str]) -> None:
    """End a check's process, if it still runs, and what it started."""
    with child, contextlib.suppress(OSError):  # all have ended
        if os.name == "posix":
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()


def _lab() -> Path:
    """The lab's folder, as `lenet_lab.enter_lab` finds it; elsewhere the working directory."""
    here = Path.cwd()
    return next((place for place in (here, *here.parents) if (place / FIRST_NOTEBOOK).is_file()), here)


def _is_own_python() -> bool:
    """Whether this Python is that of the lab's virtual environment, or there is none."""
    own = _lab() / ".venv"
    return not own.is_dir() or own.samefile(sys.prefix)


def _repair() -> str:
    """What to do if a package is missing or broken."""
    if not _is_own_python():
        return f"use the lab's own Python, in {_lab() / '.venv'}"
    return "to install everything again, delete .venv and run make lab"


def _is_free(number: int) -> bool:
    """Whether a server could take a port of this machine now."""
    with socket.socket() as server:
        if os.name == "posix":  # without this, connections that ended a minute ago count
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(("127.0.0.1", number))
        except OSError:
            return False
    return True


def _ask_tensorboard(number: int) -> dict[str, Any] | None:
    """What the TensorBoard at a port says about itself, or None if it is no TensorBoard."""
    connection = http.client.HTTPConnection("127.0.0.1", number, timeout=2)
    try:
        connection.request("GET", "/data/environment")
        answer = json.loads(connection.getresponse().read(1 << 20))
        return answer if isinstance(answer, dict) and {"data_location", "version"} <= set(answer) else None
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _error(text: str) -> str:
    """The line that says why a program failed: the first error, from which later ones follow, or else the last line."""
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
    return (errors[:1] or lines[-1:] or ["no error message"])[0]


def main() -> None:
    """Run as a program: examine everything, or, as a process of the report, run one check."""
    parser = argparse.ArgumentParser(description="Examine what the lab needs, and say what to do about what fails.")
    parser.add_argument("--check", help=argparse.SUPPRESS)
    name = parser.parse_args().check
    if name:
        faulthandler.dump_traceback_later(LIMIT + 3, exit=True)  # ends this process even if the report is gone
        with contextlib.redirect_stdout(sys.stderr):
            findings = next(check for check in CHECKS if check.__name__ == name)()
        print(json.dumps(findings))
        return
    try:
        sys.exit(examine())
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:  # no working directory, or no room for a temporary file
        sys.exit(str(error))


if __name__ == "__main__":
    main()
