"""What the README and the other documents say is borne out by files, and what they point to exists."""

import json
import math
import os
import platform
import re
import shlex
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, entry_points
from importlib.util import find_spec
from pathlib import Path

import pytest
import write_tables

from lenet_lab import build_classifier, build_lenet5, count_parameters, tf
from lenet_lab.beyond.experiments import CONFIGURATIONS, accuracies, compare, read_experiments
from lenet_lab.notebooks import EXTRA_NOTEBOOKS, NOTEBOOKS
from lenet_lab.paths import EXPERIMENTS

ROOT = Path(__file__).parent.parent
SEEDS = Path(os.environ.get("LENET_LAB_SEEDS", "nowhere"))
DOCUMENTS = (
    "README.md", "CONTRIBUTING.md", "benchmarks/README.md", "logs/README.md", "student/README.md",
    *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
)  # fmt: skip
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def text_of(name):
    return (ROOT / name).read_text("utf-8")


def found(name, pattern):
    """What a pattern finds in a file: its groups, or its only group."""
    match = re.search(pattern, text_of(name), re.MULTILINE)
    assert match, f"{name} does not match {pattern}"
    return match[1] if match.re.groups == 1 else match.groups()


def found_in(text, pattern):
    return re.search(pattern, text)[1]


def row_of(name, title):
    """The cells of a row in a document's table, after its first one."""
    return [cell.strip() for cell in found(name, rf"^\| {re.escape(title)} +\|(.*)\|$").split("|")]


# Where the numbers come from

experiments = cache(lambda: read_experiments(ROOT / EXPERIMENTS))
lenet5 = cache(lambda: build_classifier(build_lenet5, tf.train.AdamOptimizer(0.001)))
opening = cache(lambda number: write_tables.read_notebook(NOTEBOOKS[number - 1]).cells[0].source)
made = cache(write_tables.tables)


def pythons():
    """The oldest Python and the newest one, from `>=3.10,<3.14`."""
    oldest, major, above = found("pyproject.toml", r'^requires-python = ">=([\d.]+),<(\d+)\.(\d+)"')
    return oldest, f"{major}.{int(above) - 1}"


def minutes():
    """How long the notebooks run: as each says that it does, and without AVX-512, as measured for notebooks 1 to 4."""

    def seconds(time):
        number, unit = time.split()
        return int(number) * (60 if unit.startswith("minute") else 1)

    runs = [seconds(write_tables.times(name)[1]) for name in NOTEBOOKS]
    slow = [int(part) for part in found("benchmarks/README.md", r"notebooks 1 to 4 in .* (\d+) min (\d+) s")]
    return str(round(sum(runs) / 60)), str(math.ceil((60 * slow[0] + slow[1] + sum(runs[4:])) / 60))


def cores():
    """The number of cores that the notebooks' times are for."""
    return found_in(opening(1), r"to run on (\w+) cores")


def seeds():
    """How many seeds each experiment had."""
    counts = {len(runs) for runs in experiments()["runs"].values()}
    assert len(counts) == 1
    return WORDS[counts.pop()]


def mean(name):
    return f"{accuracies(experiments(), name).mean():.2%}"


def programs():
    """How many old programs were tried, how many ran, to their end or until stopped, and after how many seconds."""
    tried = json.loads(text_of("docs/tf1_programs.json"))["programs"]
    ran = [program["result"] for program in tried if program["ran"]]
    stopped = [int(found_in(result, r"stopped after (\d+) s$")) for result in ran if result != "ran to its end"]
    return tuple(map(str, (len(tried), len(ran), len(ran) - len(stopped), len(stopped), min(stopped), max(stopped))))


def timing(title):
    """A row of the benchmark's table, which tests/test_benchmarks.py holds to benchmarks/results.json."""
    return row_of("benchmarks/README.md", title)


def fidelity():
    """How far LeNet-5's losses on MNIST are from TensorFlow 1.15.5's, and the number of steps."""
    steps, largest, *_ = row_of("docs/fidelity.md", "lenet5-gd, MNIST")
    return f"{float(largest):.6f}", steps


def measured_on():
    """The benchmark's number of training images, the time of an epoch, and the machine."""
    outcome = json.loads(text_of("benchmarks/results.json"))
    return f"{outcome['examples']:,}", timing("lenet_lab")[0], WORDS[outcome["cores"]], outcome["processor"]


def rounds():
    """How often the benchmark timed each contender."""
    return WORDS[len(json.loads(text_of("benchmarks/results.json"))["lenet5"]["lenet_lab"]["seconds"])]


def clear_steps():
    """How many of notebook 6's five steps have an interval above zero."""
    steps = write_tables.parameters_of(write_tables.read_notebook(NOTEBOOKS[5]))["steps"][:5]
    return WORDS[sum(compare(experiments(), *pair).low > 0 for pair in steps)].capitalize()


def elastic_interval():
    """The end of an interval that the table rounds to zero, as the table prints it."""
    low = compare(experiments(), "elastic", "affine").low
    assert low < 0
    return f"{round(low, 4) + 0.0:+.2%}"


def samples():
    """How many samples of the test images an interval is made from."""
    return f"{int(found('lenet_lab/beyond/experiments.py', 'n_resamples=([0-9]+)')):,}"


def notebook_row(number):
    """A notebook's name, as the notebooks' list of the series has it, and its times."""
    return found_in(opening(number), rf"\*\*({number}\. [^*]+)\*\*"), *write_tables.times(NOTEBOOKS[number - 1])


# Each sentence that has a number, with `{}` in its place, and where the number comes from.

REPORTED = r"\| {} \| ([\d.%]+) \|"  # in the table that opens notebook 6
CLAIMS = {
    "README.md": [
        ("in {} notebooks", lambda: WORDS[len(NOTEBOOKS)]),
        ("The network is LeNet-5 of {}", lambda: found_in(opening(2), r"Document Recognition\*, (\d+)")),
        ("each of the {} classes", lambda: WORDS[lenet5().logits.shape.as_list()[1]]),
        ("Python {} to {}", pythons),
        ("about {} GB of disk", lambda: found("Makefile", r"about (\d+) GB, some minutes")),
        ("takes {} to {} minutes on {} cores", lambda: (*minutes(), cores())),
        ("deviation of {} trainings", seeds),
        *(
            (f"[{{}}](notebooks/{name}) | {{}} | {{}} |", lambda number=number: notebook_row(number))
            for number, name in enumerate(NOTEBOOKS, 1)
        ),
        ("its {} parameters", lambda: f"{count_parameters(lenet5().graph):,}"),
        ("step by step, to {}", lambda: mean("beyond")),
        ("notebook {}", lambda: str(NOTEBOOKS.index("6_beyond_99.ipynb") + 1)),
        (
            "MNIST, {} ran: {} to their end, and {} until they were stopped after {} to {} seconds.",
            lambda: programs()[1:],
        ),
        ("Of {} public programs for MNIST,", lambda: programs()[0]),
        ("AdamOptimizer({})", lambda: str(CONFIGURATIONS["adam"].rate)),
        ("batch_size={})", lambda: str(CONFIGURATIONS["adam"].batch_size)),
        ("grpc://localhost:{}", lambda: found("lenet_lab/cluster/commands.py", r'default=\["localhost:(\d+)"\]')),
        ("[Notebook {}](notebooks/7_", lambda: EXTRA_NOTEBOOKS[0][0]),
        ("An epoch of LeNet-5, all {} training images, takes {} s on {} cores of an {}.", measured_on),
        ("takes {} times as long in the usual loop", lambda: timing("lab's loop, oneDNN on")[1]),
        ("{} times as long in Keras", lambda: timing("Keras fit")[1]),
        ("{} in PyTorch", lambda: timing("PyTorch eager")[1]),
        ("{} in JAX", lambda: timing("JAX jit")[1]),
        ("{} in TensorFlow", lambda: timing("lab's loop, TensorFlow 1.15.5")[1]),
        ("medians over {} rounds", rounds),
        ("TensorFlow {}", lambda: found("docs/fidelity.md", r"^# .* TensorFlow ([\d.]+)\?")),
        ("they differ by at most {} in {} steps", fidelity),
        ("{} kills", lambda: found("docs/reliability.md", r"\| (\d+) kills")),
        ("rests on {} seeds", seeds),
    ],
    "docs/results.md": [
        ("MNIST's {} test images", lambda: f"{experiments()['runs']['adam']['1']['test']['images']:,}"),
        ("## {} seeds", lambda: seeds().capitalize()),
        ("deviation of {} seeds", seeds),
        ("training on {} cores", lambda: WORDS[experiments()["runs"]["adam"]["1"]["cores"]]),
        ("ours has {} cores", lambda: str(WORDS.index(cores()))),
        ("(seed {})", lambda: str(write_tables.parameters_of(write_tables.read_notebook(NOTEBOOKS[0]))["seed"])),
        ("notebooks {} to {}", lambda: ("1", str(len(write_tables.TITLES)))),
        ("## Beyond {}", lambda: found_in(opening(6), r"^# 6\. Beyond (\S+)")),
        ("asks for more than {}", lambda: found("docs/lab.md", r"^### Goal: more than (\S+)")),
        ("just gets there ({})", lambda: mean("adam")),
        ("[Notebook 6](../notebooks/6_beyond_99.ipynb) goes to {}", lambda: mean("beyond")),
        ("in {} steps", lambda: found_in(sixth(), r"We add (\w+) things")),
        ("{} clearly help", clear_steps),
        ("printed as {}, is just below zero", elastic_interval),
        ("Document Recognition*, {}", lambda: found_in(sixth(), r"Document Recognition\*, (\d+)")),
        ("Visual Document Analysis*, {}", lambda: found_in(sixth(), r"Visual Document Analysis\*, (\d+)")),
        ("*{}% interval*", lambda: found("docs/results.md", r"\| by +\| (\d+)% interval")),
        ("holds {}% of the differences", lambda: found("docs/results.md", r"\| by +\| (\d+)% interval")),
        ("{} samples of these images", samples),
        ("distortions, reached {}.", lambda: found_in(sixth(), REPORTED.format(r".*elastic distortions, \d+"))),
        ("that we found reached {},", lambda: found_in(sixth(), REPORTED.format(".*that we found, .*"))),
        ("[Notebook {}](../notebooks/5_", lambda: str(NOTEBOOKS.index("5_honest_figures.ipynb") + 1)),
        ("[Notebook {}](../notebooks/6_", lambda: str(NOTEBOOKS.index("6_beyond_99.ipynb") + 1)),
    ],
}


def sixth():
    """The prose of notebook 6."""
    cells = write_tables.read_notebook(NOTEBOOKS[5]).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


# What looks like a number, and what only seems to be one.
NUMBER = re.compile(rf"\b\d(?:[\d,.]*\d)?\b|\b(?:{'|'.join(WORDS[2:])}|twice|half|dozen)\b", re.IGNORECASE)
NO_NUMBER = re.compile(
    r"LeNet-5|TensorFlow 1(?![\d.])|AVX-512"  # names
    r"|\]\([^)\s]*\)|<img [^>]*>"  # places, tested below
    r"|<!-- badges -->.*?<!-- /badges -->"
    r"|^```python\n.*?^```$",  # run below
    re.DOTALL | re.MULTILINE,
)


def filled_in(claim):
    """A sentence as it should be, and the spans of its numbers."""
    pieces, values = claim[0].split("{}"), claim[1]()
    values = [values] if isinstance(values, str) else list(values)
    assert len(values) == len(pieces) - 1, f"{claim[0]!r} has places for other than {values}"
    sentence, spans = pieces[0], []
    for value, piece in zip(values, pieces[1:]):
        spans.append((len(sentence), len(sentence) + len(value)))
        sentence += value + piece
    return sentence, spans


CASES = [pytest.param(name, claim, id=f"{name}: {claim[0]}") for name, claims in CLAIMS.items() for claim in claims]


@pytest.mark.parametrize("name, claim", CASES)
def test_a_number_is_that_of_its_source(name, claim):
    sentence, _ = filled_in(claim)
    assert sentence in text_of(name), f"{name} should say: {sentence}"


@pytest.mark.parametrize("name", [*CLAIMS, "docs/cluster.md"])
def test_the_tables_are_made_from_the_results(name):
    text = text_of(name)
    assert [table for table in made()[name] if table not in text] == [], "call tools/write_tables.py"
    assert write_tables.with_times(text) == text, "call tools/write_tables.py"


@pytest.mark.parametrize("name", CLAIMS)
def test_every_number_has_a_source(name):
    text = text_of(name)
    with_source = [match.span() for match in NO_NUMBER.finditer(text)]
    for claim in [*CLAIMS[name], *(("{}", lambda table=table: table) for table in made()[name])]:
        sentence, spans = filled_in(claim)
        for match in re.finditer(re.escape(sentence), text):
            with_source += [(match.start() + start, match.start() + end) for start, end in spans]
    without = [
        f"{number[0]} in {text[max(0, number.start() - 40) : number.end() + 20]!r}"
        for number in NUMBER.finditer(text)
        if not any(start <= number.start() and number.end() <= end for start, end in with_source)
    ]
    assert without == []


@pytest.mark.parametrize("name", ["docs/running.md", "CONTRIBUTING.md"])
def test_other_documents_repeat_the_readmes_figures(name):
    text = re.sub(r"```.*?```", "", text_of(name), flags=re.DOTALL)
    figures = {
        r"Python (\d\.\d+) to (\d\.\d+)": pythons(),
        r"takes? (\d+) to (\d+) minutes": minutes(),
        r"bout (\d+) GB of disk()": (found("Makefile", r"about (\d+) GB, some minutes"), ""),
    }
    said = {(pattern, figure) for pattern in figures for figure in re.findall(pattern, text)}
    assert said and said <= set(figures.items())


@pytest.mark.skipif((sys.platform, platform.machine()) != ("linux", "x86_64"), reason="other sizes elsewhere")
def test_what_is_installed_takes_as_much_disk_as_the_makefile_says():
    size = 0
    for name in set(re.findall(r"^([\w.-]+)==", text_of("requirements.txt"), re.MULTILINE)):
        try:
            size += sum(file.size or 0 for file in distribution(name).files or [])
        except PackageNotFoundError:  # only for other systems
            continue
    assert found("Makefile", r"about (\d+) GB, some minutes") == f"{size / 1e9:.0f}"


# What the two documents that the lab began with report

ORIGINAL = {  # as the original notebook prints them
    "Accuracy on test-set: 9.8%": "9.8%",
    "Epoch:  01   =====> Loss = 1.176319": "1.176319",
    "Accuracy on test-set: 95.4%": "95.4%",
    "|        99.8%          |": "99.8%",
    "18min39": "18 min 39 s",
    "18min52": "18 min 52 s",
    "99.2 %": "99.2%",
}
WRITE_UP = {
    "Accuracy on test-set: 9.8%": "9.8%",
    "Epoch:  01   =====> Loss = 1.177169": "1.177169",
    "Epoch:  50   =====> Loss = 0.303337": "0.303337",
    "Accuracy on test-set: 91.9%": "91.9%",
    r"$95.7\%$": "95.7%",
    r"$99.0\%$": "99.0%",
    "$819 s$": "819 s",
    "$806 s$": "806 s",
    "=====> Test Acc: 98.8%": "98.8%",
}


@pytest.mark.parametrize("column, printed", [(1, ORIGINAL), (2, WRITE_UP)], ids=["original notebook", "write-up"])
def test_the_tables_give_the_figures_of_the_documents(column, printed):
    made = [write_tables.means_table(experiments()), write_tables.single_runs_table()]
    given = {row[column].split(",")[0] for table in made for row in write_tables.cells(table)[1:]} - {""}
    assert given == set(printed.values())


@pytest.mark.parametrize("seed, printed", [("000_62a9d7499578dd96", ORIGINAL), ("001_4c15d90ce040330e", WRITE_UP)])
def test_the_documents_print_these_figures(seed, printed):
    if not (SEEDS / f"{seed}.txt").exists():
        pytest.skip("the lab's documents are not here: set LENET_LAB_SEEDS to their folder")
    document = (SEEDS / f"{seed}.txt").read_text()
    assert [phrase for phrase in printed if phrase not in document] == []


# The tables


def test_a_table_takes_the_place_of_the_one_with_its_heading():
    table = "| a | b |\n|---|---|\n| 1 | 3 |"
    old = "# A\n\n|  a|b |\n|--|--|\n|1|2|\n|2|2|\n\n| a | c |\n|---|---|\n| 1 | 2 |\n"
    assert write_tables.with_table(old, table) == f"# A\n\n{table}\n\n| a | c |\n|---|---|\n| 1 | 2 |\n"
    for wrong in ("", old + "\n" + table + "\n"):
        with pytest.raises(SystemExit, match="tables with this heading, expected one"):
            write_tables.with_table(wrong, table)


def test_the_tables_are_those_of_the_notebooks():
    shown = [text for name in NOTEBOOKS[4:] for text in write_tables.shown(name)]
    rows = [row for table in shown for row in write_tables.cells(table)[1:]]
    results = made()["docs/results.md"]
    for table in (results[1], results[4], results[5]):  # every seed, each step, the comparisons
        assert [row for row in write_tables.cells(table)[1:] if row not in rows] == []


# The form


def test_the_readme_is_short_and_begins_with_what_it_is():
    lines = text_of("README.md").splitlines()
    assert len(lines) <= 120
    assert lines[0] == "# lenet_lab"
    assert lines.index("    make lab") < 30


def test_every_page_is_in_the_index_of_the_documents():
    index = {target for target in links(text_of("docs/README.md")) if "/" not in target}
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"} <= index


# Links and commands


def links(text):
    """The targets of a document's links and images."""
    prose = without_blocks(text)
    return re.findall(r"\]\(([^)\s]+)\)", prose) + re.findall(r'<img [^>]*src="([^"]+)"', prose)


def without_blocks(text):
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text):
    """The anchors that GitHub makes from a document's headings."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(text), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_place_that_a_link_names_exists(name):
    missing = []
    for target in links(text_of(name)):
        if re.match(r"https?://", target):
            continue
        place, _, anchor = target.partition("#")
        path = (ROOT / name).parent / place if place else ROOT / name
        if not path.exists() or (anchor and anchor not in anchors(path.read_text("utf-8"))):
            missing.append(target)
    assert missing == []


def commands(text):
    """The commands in a document: the lines of indented blocks, and code inside sentences."""
    prose = without_blocks(text)
    lines = re.findall(r"^ {4}(\S.*)$", prose, re.MULTILINE) + re.findall(r"`([^`\n]+)`", prose)
    command = r"make( |$)|\.venv[/\\]\w+[/\\]\w|python -m "
    return [line.split(" #")[0].strip() for line in lines if re.match(command, line)]


def is_known(command):
    """Whether the Makefile, the package or the environment knows a command."""
    program, *arguments = shlex.split(command.replace("\\", "/"))
    if program == "make":
        makefile = text_of("Makefile")
        targets = re.findall(r"^([\w-]+):", makefile, re.MULTILINE)
        settings = re.findall(r"\$\((\w+)\)|^(\w+) [:?]?=", makefile, re.MULTILINE)
        names = {name for pair in settings for name in pair}
        return all(word.split("=")[0] in (names if "=" in word else targets) for word in arguments)
    if Path(program).name == "python" and arguments[0] == "-m":
        module, *rest = arguments[1:]
        own = {"lab", "notebooks"} | {entry.name for entry in entry_points(group="lenet_lab.commands")}
        return find_spec(module) is not None and (module != "lenet_lab" or not rest or rest[0] in own)
    if Path(program).name == "python":
        return (ROOT / arguments[0]).exists()
    return (Path(sys.executable).parent / Path(program).name).exists()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_command_exists(name):
    named = commands(text_of(name))
    assert [command for command in named if not is_known(command)] == []
    assert named or name != "README.md"


@pytest.mark.parametrize(
    "command",
    ["make lub", "make lab EPOCS=1", "python -m lenet_lab teach", "python -m lenet_lub", ".venv/bin/jupiter lab",
     ".venv/bin/python tools/write_table.py"],
)  # fmt: skip
def test_an_unknown_command_is_noticed(command):
    assert not is_known(command)


def test_the_map_of_the_original_lab_names_sections_that_exist():
    headings = {
        number: re.findall(r"^#+ (?:\d\. )?(.+)$", "\n".join(cell.source for cell in notebook.cells), re.MULTILINE)
        for number, notebook in enumerate(map(write_tables.read_notebook, NOTEBOOKS), 1)
    }
    named = re.findall(r'(?:\| |; |"|\[notebook )([1-6]), ([A-Z][^|;"\]]*[^|;"\] ])', text_of("docs/lab.md"))
    assert len(named) > 50
    assert [place for place in named if place[1] not in headings[int(place[0])]] == []


@pytest.mark.parametrize("name", ["README.md", "docs/package.md"])
def test_the_example_runs(name, small_folder, tmp_path, monkeypatch, capsys):
    (example,) = re.findall(r"^```python\n(.*?)^```$", text_of(name), re.DOTALL | re.MULTILINE)
    monkeypatch.setenv("LENET_LAB_DATA", str(small_folder))
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    assert re.search(r"^Epoch:  01 .*^Accuracy on test-set: ", capsys.readouterr().out, re.DOTALL | re.MULTILINE)
    assert (tmp_path / "logs/lenet5/run_01").is_dir()
