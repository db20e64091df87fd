"""The examples in the docstrings of all public names run and print what the docstrings show."""

import doctest

import pytest

import lenet_lab
from lenet_lab import build_classifier, build_softmax_regression, input_data, start_run, tf

PUBLIC = {name: getattr(lenet_lab, name) for name in lenet_lab.__all__ if name not in ("tf", "input_data")}
PUBLIC |= {"input_data.DataSet": input_data.DataSet, "input_data.read_data_sets": input_data.read_data_sets}


@pytest.mark.parametrize("name", PUBLIC)
def test_the_example_in_a_docstring_prints_what_it_shows(name, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    optimizer = tf.train.GradientDescentOptimizer(0.01)
    classifier = build_classifier(build_softmax_regression, optimizer)
    finder = doctest.DocTestFinder(recurse=False)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    with start_run(classifier, str(tmp_path / "example_%02d"), seed=1) as run:
        # Names that an example may use without defining them.
        given = {"mnist": small, "optimizer": optimizer, "classifier": classifier, "run": run, "folder": str(tmp_path)}
        examples = finder.find(PUBLIC[name], name, globs=vars(lenet_lab) | given)
        for example in examples:
            runner.run(example)
    results = runner.summarize(verbose=False)
    assert results.attempted and not results.failed
