"""Maintainers' tool: try public TensorFlow 1 programs with `lenet_lab.tf1` and record which ones ran.

    python tools/tally_tf1_programs.py LIST SECONDS

LIST has one line for each program: the repository, the path of its checkout, and the program's path in it, with
tabs between them. A program is stopped after SECONDS. If it was still training then, without an error, it counts
as having run.

The results go into `docs/tf1_programs.json`, which `python -m lenet_lab.tf1.fidelity` includes in its document.
Programs in that file that are not in LIST keep their results. `LENET_LAB_DATA` must name a folder of data; with a
small one this takes less time.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm


def try_program(checkout: str, program: str, seconds: float) -> tuple[bool, str]:
    """Run a program: did it work, and how did it end?"""
    path = Path(checkout, program)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "lenet_lab.tf1", path.name],
            cwd=path.parent, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL,
            env=os.environ | {"PYTHONWARNINGS": "ignore", "TQDM_DISABLE": "1"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return True, f"ran; stopped after {seconds:.0f} s"
    if done.returncode == 0:
        return True, "ran to its end"
    return False, "no: " + reason(done.stderr)


def reason(stderr: str) -> str:
    """The line of a traceback that names the error."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    kinds = ("Error", "Missing", "Exception")
    named = [line for line in lines if line.split(":")[0].rpartition(".")[2].endswith(kinds)]
    return (named or lines or ["no message"])[-1].replace("|", "/")[:200]


def main(file: str, seconds: str) -> None:
    entries = [line.split("\t") for line in Path(file).read_text().splitlines()]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        tried = pool.map(lambda entry: try_program(entry[1], entry[2], float(seconds)), entries)
        results = list(tqdm(tried, total=len(entries)))
    record = Path("docs/tf1_programs.json")
    known = json.loads(record.read_text())["programs"] if record.exists() else []
    programs = {(program["from"], program["program"]): program for program in known}
    for (source, _, program), (ran, result) in zip(entries, results, strict=True):
        programs[source, program] = {"program": program, "from": source, "ran": ran, "result": result}
    how = (
        "These are public TensorFlow 1 programs for MNIST. `python -m lenet_lab.tf1` ran each of them unchanged, on "
        f"stand-in digits, and a program that was still training after {seconds} seconds was stopped."
    )
    record.parent.mkdir(exist_ok=True)
    record.write_text(json.dumps({"how": how, "programs": list(programs.values())}, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
