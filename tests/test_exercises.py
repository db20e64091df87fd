"""The exercises: networks, solutions, committed results, the document, and the cells in the notebooks."""

import json
import re
import shutil

import nbformat
import numpy as np
import pytest
import write_tables
from conftest import ROOT
from nbconvert.filters import markdown2html

import lenet_lab
from lenet_lab import build_classifier, build_lenet5_dropout, count_parameters, input_data, start_run, tf, training
from lenet_lab.beyond.augmentation import Strength
from lenet_lab.beyond.experiments import compare, read_experiments
from lenet_lab.course import exercises, networks, solutions
from lenet_lab.course.exercises import EXERCISES, Exercise, filled, run_exercises, update_results
from lenet_lab.data import standin
from lenet_lab.data.idx import DataError
from lenet_lab.notebooks import NOTEBOOKS
from lenet_lab.paths import FIRST_NOTEBOOK, LabError

COMMITTED = json.loads((ROOT / exercises.FILE).read_text())
DOCUMENT = (ROOT / exercises.DOCUMENT).read_text("utf-8")
TRAINED = [name for name in EXERCISES if not EXERCISES[name].reads_results]
READ = [name for name in EXERCISES if EXERCISES[name].reads_results]


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory):
    return standin.make(tmp_path_factory.mktemp("data") / "tiny", {"validation": 200, "train": 1000, "test": 100})


@pytest.fixture
def tiny(tiny_folder, monkeypatch):
    """Data so small that an epoch of the plain loop takes no time. (Building the fast loop takes seconds.)"""
    monkeypatch.setenv("LENET_LAB_DATA", str(tiny_folder))
    monkeypatch.setattr(training, "choose_loop", lambda *arguments: training.PLAIN)
    return input_data.read_data_sets("unused", one_hot=True, validation_size=200)


@pytest.fixture(scope="module")
def results():
    return read_experiments(ROOT / "experiments" / "results.json")


def rows(name):
    return COMMITTED["exercises"][name]["rows"]


@pytest.mark.parametrize(
    "build, parameters",
    [
        (lambda x: networks.build_softmax_random(x, 0.1), 784 * 10 + 10),
        (lambda x: networks.build_lenet5_kernel(x, 3), 60 + 880 + (6 * 6 * 16 + 1) * 120 + 10_164 + 850),
        (lambda x: networks.build_lenet5_kernel(x, 5), 61_706),
        (lambda x: networks.build_lenet5_kernel(x, 7), 300 + 4_720 + (4 * 4 * 16 + 1) * 120 + 10_164 + 850),
        (networks.build_lenet5_1998, 61_706 + 2 * 6 + 2 * 16),
        (networks.build_deeper, 60 + 330 + 880 + 2_320 + 48_120 + 10_164 + 850),
        (networks.build_lenet5_late_dropout, 61_706),
    ],
)
def test_a_network_has_the_parameters_that_one_counts_by_hand(build, parameters):
    classifier = build_classifier(build, tf.train.GradientDescentOptimizer(0.1))
    assert count_parameters(classifier.graph) == parameters
    assert classifier.logits.shape.as_list() == [None, 10]


def test_late_dropout_is_off_unless_it_is_fed_and_drops_in_both_layers(tiny, tmp_path):
    classifier = build_classifier(networks.build_lenet5_late_dropout, tf.train.GradientDescentOptimizer(0.1))
    kinds = [op.name for op in classifier.graph.get_operations() if op.type.startswith("StatelessRandomUniform")]
    assert len(kinds) == 2
    with start_run(classifier, str(tmp_path / "run_%02d"), seed=1) as run:
        same = {classifier.x: tiny.test.images[[0, 0, 0]]}
        off = run.session.run(classifier.logits, same)
        on = run.session.run(classifier.logits, same | {classifier.keep_prob: 0.5})
    np.testing.assert_array_equal(off, off[[0, 0, 0]])
    assert len(np.unique(on[:, 0])) == 3


def test_shifted_images_move_by_whole_pixels_and_lose_what_leaves_them():
    image = np.zeros((1, 28, 28))
    image[0, 5, 27], image[0, 10, 10] = 1, 2
    moved = solutions.shifted(image.reshape(1, 784), down=2, right=1).reshape(28, 28)
    assert moved[12, 11] == 2 and moved.sum() == 2
    np.testing.assert_array_equal(solutions.shifted(image.reshape(1, 784), 0, 0), image.reshape(1, 784))


def reduced(settings):
    """One epoch, and the first value of each list of numbers."""
    short = {key: value[:1] if isinstance(value, list) and key != "names" else value for key, value in settings.items()}
    return short | {"epochs": 1} if "epochs" in settings else short


@pytest.mark.parametrize("name", TRAINED)
def test_a_solution_that_trains_gives_the_columns_of_the_committed_table(name, tiny):
    computed = EXERCISES[name].compute(tiny, **reduced(EXERCISES[name].settings))
    assert [list(row) for row in computed] == [list(rows(name)[0])] * len(computed) and computed
    assert json.loads(json.dumps(computed)) == computed


@pytest.mark.parametrize("name", READ)
def test_a_solution_that_reads_results_gives_the_committed_rows(name, results):
    computed = EXERCISES[name].compute(results, **EXERCISES[name].settings)
    assert [list(row) for row in computed] == [list(row) for row in rows(name)]
    for row, committed in zip(computed, rows(name)):
        for column, value in row.items():
            assert committed[column] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-6))


def test_the_committed_results_are_complete_on_mnist_and_made_with_todays_settings():
    assert COMMITTED["data"] == "MNIST"
    assert {name: entry["settings"] for name, entry in COMMITTED["exercises"].items()} == {
        name: exercise.settings for name, exercise in EXERCISES.items()
    }


def test_mcnemar_by_hand_is_the_notebooks_test(results):
    assert [row["p"] for row in rows("mcnemar_by_hand")] == pytest.approx(compare(results, "dropout", "adam").p_values)


def test_exercises_that_were_stopped_go_on_and_changed_settings_compute_again(tiny, tmp_path, monkeypatch):
    computed = []

    def compute(mnist, number):
        computed.append(number)
        if number == 2 and len(computed) == 2:
            raise KeyboardInterrupt
        return [{"number": number, "validation accuracy": 0.5}]

    fakes = {f"fake_{number}": Exercise(1, compute, {"number": number}) for number in (1, 2, 3)}
    monkeypatch.setattr(exercises, "EXERCISES", fakes)
    file = tmp_path / "new" / "exercises.json"
    with pytest.raises(KeyboardInterrupt):
        update_results(list(fakes), tiny, file)
    assert list(json.loads(file.read_text())["exercises"]) == ["fake_1"]
    results = update_results(list(fakes), tiny, file)
    assert computed == [1, 2, 2, 3] and results == json.loads(file.read_text())
    fakes["fake_2"] = fakes["fake_2"]._replace(settings={"number": 5})
    assert update_results(list(fakes), tiny, file)["exercises"]["fake_2"]["rows"][0]["number"] == 5
    assert computed == [1, 2, 2, 3, 5]


def test_results_on_other_data_than_mnist_are_refused(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / FIRST_NOTEBOOK).touch()
    with pytest.raises(DataError, match="expected MNIST"):
        run_exercises(["first_step"])
    assert not (tmp_path / "experiments").exists()
    file = tmp_path / "exercises.json"
    file.write_text(json.dumps(COMMITTED))
    with pytest.raises(ValueError, match="on MNIST, not on stand-in digits"):
        update_results(["first_step"], small, file)
    with pytest.raises(ValueError, match="no exercise 'nonsense'; choose from softmax_rates, "):
        update_results(["nonsense"], small, file)
    assert json.loads(file.read_text()) == COMMITTED


def test_names_and_the_folder_are_examined_before_mnist_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(exercises, "read_mnist", lambda folder: pytest.fail("looked for MNIST"))
    with pytest.raises(LabError, match="no exercise 'nonsense'; choose from softmax_rates, "):
        run_exercises(["first_step", "nonsense"])
    with pytest.raises(LabError, match="is not in the lab's folder; change to that folder first"):
        run_exercises(["first_step"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"data": "MNIST", "seed": 1, "exercises": {', '{"data": "MNIST", "seed": 1, "exercises": []}',
     '{"data": "MNIST", "seed": 1, "exercises": {"first_step": {}}}'],
)  # fmt: skip
def test_a_damaged_file_of_results_is_named_and_kept(text, tiny, tmp_path):
    file = tmp_path / "exercises.json"
    file.write_text(text)
    with pytest.raises(LabError, match=r"exercises\.json is damaged: .*; restore it with git, or delete it$"):
        update_results(["first_step"], tiny, file)
    assert file.read_text() == text


def test_tables_are_written_into_all_documents_or_none(tmp_path, monkeypatch):
    table = "| a | b |\n|---|---|\n| 1 | 2 |"
    old = {"first.md": table.replace("1", "0") + "\n", "second.md": "| a | another |\n|---|---|\n| 1 | 2 |\n"}
    for name, text in old.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(write_tables, "ROOT", tmp_path)
    monkeypatch.setattr(write_tables, "tables", lambda: {name: [table] for name in old})
    monkeypatch.setattr(write_tables, "with_times", lambda text: text)
    with pytest.raises(
        SystemExit, match=r"There are 0 tables with this heading, expected one in second\.md: '\| a \| b"
    ):
        write_tables.write_tables()
    assert {name: (tmp_path / name).read_text() for name in old} == old
    (tmp_path / "second.md").write_text(old["first.md"])
    write_tables.write_tables()
    assert {(tmp_path / name).read_text() for name in old} == {table + "\n"}


def test_the_command_prints_a_table_and_puts_it_into_the_document(real_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LENET_LAB_DATA", real_folder)
    monkeypatch.chdir(tmp_path)
    for folder in ("docs", "experiments", "notebooks"):
        (tmp_path / folder).mkdir()
    (tmp_path / FIRST_NOTEBOOK).touch()
    monkeypatch.chdir("docs")  # the lab's folder is found from below too
    shutil.copy(ROOT / "experiments" / "results.json", tmp_path / "experiments")
    (tmp_path / "docs" / "exercises.md").write_text("Before.\n\n<!-- answer: hard_digits --><!-- end -->\n\nAfter.\n")
    run_exercises(["hard_digits"])
    table = exercises.exercise_table(COMMITTED, "hard_digits")
    document = (tmp_path / "docs" / "exercises.md").read_text()
    assert table in document and table in capsys.readouterr().out
    assert document.startswith("Before.\n") and document.endswith("\nAfter.\n")


def test_the_document_shows_the_committed_results_of_every_exercise():
    assert filled(DOCUMENT, COMMITTED) == DOCUMENT
    assert re.findall(r"<!-- answer: (\w+) -->", DOCUMENT) == list(EXERCISES)


def sections():
    """The sections of the document, one for each exercise: its heading and its text."""
    return re.findall(r"^### (\d\.\d .*)\n((?:(?!##).*\n)*)", DOCUMENT, re.MULTILINE)


def test_every_figure_in_the_documents_prose_stands_in_the_table_beside_it():
    known = {"55,000", "10,000", "5,000", str(Strength().shift)}  # the sizes of the data sets; in 4.4
    assert len(sections()) == len(EXERCISES)
    for heading, text in sections():
        prose = re.sub(r"<!-- \w+: \w+ -->.*?<!-- end -->|exercise \d\.\d", "", text, flags=re.DOTALL)
        (shown,) = re.findall(r"<!-- answer: .*?<!-- end -->", text, re.DOTALL)
        for figure in set(re.findall(r"\d[\d,]*\.\d+%?|\d+%|\d{1,3}(?:,\d{3})+", prose)) - known:
            assert re.search(rf"(?<![\d.,]){re.escape(figure)}(?!\d)", shown), f"{heading}: {figure}"


def columns(name, *wanted):
    """Columns of a committed table, as lists."""
    return [[row[column] for row in rows(name)] for column in wanted]


def test_what_the_document_says_in_words_about_notebooks_1_and_2_holds():
    training, loss, accuracy = columns("softmax_rates", "training loss", "validation loss", "validation accuracy")
    assert np.argmin(loss) == 1 and np.argmin(training) == 2 and loss[3] > 3 * loss[2]
    assert abs(accuracy[3] - accuracy[2]) < 0.005
    without_ink, unchanged = columns("unchanged_weights", "without ink in all training images", "ten weights unchanged")
    assert without_ink == unchanged and min(unchanged) > 0
    (loss,) = columns("batch_sizes", "validation loss")
    assert loss[0] < loss[1] < loss[2] and loss[1] == pytest.approx(loss[3], rel=1e-3) == pytest.approx(
        loss[4], rel=1e-3
    )
    before, loss = columns("initial_weights", "accuracy before", "validation loss")
    assert loss[1] == pytest.approx(loss[0], rel=0.01) and loss[2] > 1.5 * loss[0] and before[1] == before[2]
    loss, most, alive = columns("lenet5_rates", "validation loss", "most frequent answer", "layer 4 above zero")
    assert np.argmin(loss) == 2 and most[3] == 1 and alive[3] == 0 and loss[3] == pytest.approx(np.log(10), abs=0.005)
    parameters, loss, accuracy = columns("kernel_sizes", "parameters", "validation loss", "validation accuracy")
    assert parameters == sorted(parameters, reverse=True) and loss == sorted(loss) and np.argmin(accuracy) == 2
    for name in ("as_in_1998", "deeper"):
        first, loss, accuracy = columns(name, "loss of epoch 1", "validation loss", "validation accuracy")
        assert first[1] > first[0] and loss[1] < loss[0] and accuracy[1] >= accuracy[0]


def test_what_the_document_says_in_words_about_notebooks_3_and_4_holds():
    first, accuracy = columns("optimizers", "loss of epoch 1", "validation accuracy")
    assert max(first) < 0.5 and first[1] == max(first) and accuracy[1] == min(accuracy)
    assert round(5000 * (accuracy[2] - accuracy[0])) == 7
    loss, most, alive = columns("adam_rates", "validation loss", "most frequent answer", "layer 4 above zero")
    assert most[2] == 1 and alive[2] == 0 and loss[2] == pytest.approx(np.log(10), abs=0.005)
    assert loss[1] > loss[0] and alive[1] < alive[0] / 2
    median, longest = columns("first_step", "median step", "longest step")
    assert longest[0] < median[1] / 20
    networks_, pairs = columns("confused_pairs", "network", "pair")
    assert pairs[networks_.index("softmax regression")] == "3 and 5"
    assert pairs[networks_.index("LeNet-5") :][:2] == ["7 and 9", "4 and 9"] and pairs.count("3 and 5") == 1
    training, loss, accuracy = columns("keep_probs", "training loss", "validation loss", "validation accuracy")
    assert training == sorted(training) and np.argmin(loss) == np.argmax(accuracy) == 2
    loss, accuracy = columns("dropout_places", "validation loss", "validation accuracy")
    assert np.argmax(accuracy) == 2 and loss[1] < loss[2] and round(5000 * (accuracy[2] - accuracy[1])) == 4
    (accuracy,) = columns("averaged_predictions", "validation accuracy")
    assert accuracy == sorted(accuracy) and accuracy[-1] - accuracy[0] > 0.01
    lab, beyond = columns("shifted_digits", "trained here", "notebook 6's network")
    assert lab[1] > 0.98 and lab[2] > 0.9 > lab[3] and lab[5] < 0.5 and beyond[4] > 0.9 > beyond[5]


def test_what_the_document_says_in_words_about_notebooks_5_and_6_holds():
    dropout, adam = columns("mcnemar_by_hand", "only dropout right", "only adam right")
    assert [a - b for a, b in zip(dropout, adam)][::4] == [40, 4] and dropout[1] - adam[1] == 4
    (over_seeds,) = columns("seeds_needed", "over the seeds")
    *_, five, last = rows("seeds_needed")
    assert over_seeds[3] < five["difference of the means"] and over_seeds[3] > five["over the images"]
    assert last["seeds"] == 16 and last["over the seeds"] <= five["over the seeds"] / 2
    mean, best, chosen = columns("best_of_five", "mean", "best on the test set", "best on the validation set")
    assert sum(a == b for a, b in zip(best, chosen)) == 3 and chosen[2] < mean[2]
    lowest, last, then, end = (
        row[:1] for row in columns("early_stopping", "lowest loss", "last loss", "accuracy then", "last accuracy")
    )
    assert last[0] / lowest[0] == pytest.approx(1.5, abs=0.05) and end > then
    training, loss, accuracy = columns(
        "augmentation_strengths", "training loss", "validation loss", "validation accuracy"
    )
    assert training == sorted(training) and set(np.argsort(loss)[:2]) == {1, 2}
    assert round(5000 * (accuracy[1] - accuracy[2])) == 4
    mean, vote = columns("vote_of_networks", "mean of the networks", "vote")
    gained = np.subtract(vote, mean)
    assert (gained > 0).all() and gained.argmax() == 0 and vote[0] == pytest.approx(mean[2], abs=0.0005)
    some, one = columns("hard_digits", "misread by at least one", "by exactly one")
    assert one[0] > some[0] / 2
    plain, beyond = columns("vote_of_shifts", "misread by Adam's network", "misread by notebook 6's")
    assert plain[0] - plain[1] == 1 and plain[2] > plain[0] and beyond == sorted(beyond)
    last, all_networks = rows("hard_digits")[3:]
    assert (last["by all"], last["by all as the same digit"]) == (17, 16)
    assert (all_networks["by all"], all_networks["networks"]) == (8, 20)


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_a_notebook_ends_with_the_exercises_of_the_document_and_folded_hints(notebook):
    cell = nbformat.read(ROOT / "notebooks" / notebook, 4).cells[-1]
    assert cell.cell_type == "markdown" and cell.source.startswith("## Exercises\n")
    titles = re.findall(r"^\*\*(\d)\. (.+?)\*\*", cell.source, re.MULTILINE)
    assert 3 <= len(titles) <= 5
    number = notebook[0]
    assert [f"{number}.{place} {title.rstrip('.')}" for place, title in titles] == [
        heading.rstrip() for heading, _ in sections() if heading.startswith(f"{number}.")
    ]
    hints = re.findall(r"^<details><summary>Hint</summary>\n\n(?:.+\n|\n)+?\n</details>$", cell.source, re.MULTILINE)
    assert len(hints) == len(titles)
    link = "Solutions, with what they gave here: [docs/exercises.md](../docs/exercises.md)"
    assert cell.source.rstrip().splitlines()[-1] == link
    html = markdown2html(cell.source)
    assert html.count("<details>") == html.count("</details>") == len(titles) and "```" not in html


@pytest.mark.parametrize("notebook, build", [(0, lenet_lab.build_softmax_regression), (3, build_lenet5_dropout)])
def test_the_code_in_the_hints_runs_after_the_notebook(notebook, build, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hints = nbformat.read(ROOT / "notebooks" / NOTEBOOKS[notebook], 4).cells[-1].source
    classifier = build_classifier(build, tf.train.GradientDescentOptimizer(0.01))
    with start_run(classifier, str(tmp_path / "run_%02d"), seed=1) as run:
        lenet_lab.save_model(run)
        given = {"mnist": tiny, "classifier": classifier, "run": run, "seed": 1, "batch_size": 100}
        blocks = re.findall(r"^```python\n(.*?)^```", hints, re.MULTILINE | re.DOTALL)
        assert blocks
        for block in blocks:
            exec(block, vars(lenet_lab) | given)
