# make lab    the whole lab: installs, runs the notebooks, prints the results (EPOCHS=1 for a quick look)
# make draw   installs, then opens a page on which LeNet-5 reads what you draw
# make test   installs, then runs the tests (TESTS=tests/test_paths.py for some of them)
# make check  installs, then checks style, types, the order of imports and docstrings
# make doctor installs, then looks for what keeps the lab from running on this machine
PYTHON ?= python3
VENV := .venv
IN := $(VENV)/bin

.PHONY: lab draw test check doctor reliability experiments exercises benchmark notebooks student screenshots pins clean

lab: $(VENV)/installed
	@$(IN)/python -m lenet_lab lab $(if $(EPOCHS),--epochs $(EPOCHS)) || { status=$$?; \
	    $(IN)/python -c 'import lenet_lab' 2>/dev/null || echo "make doctor looks for the cause on this machine." >&2; \
	    exit $$status; }

draw: $(VENV)/installed
	@$(IN)/python -m lenet_lab draw $(if $(MODEL),--model $(MODEL))

test: $(VENV)/installed
	$(IN)/python -m pytest $(TESTS)
	$(if $(TESTS),,$(IN)/python -m pytest -n 0 -m alone)

# Each of these reads its settings from pyproject.toml. `ruff format .` and `ruff check --fix .` mend what they can.
check: $(VENV)/installed
	$(IN)/ruff check .
	$(IN)/ruff format --check .
	$(IN)/mypy
	$(IN)/lint-imports
	$(IN)/python tools/check_docstrings.py

doctor: $(VENV)/installed
	$(IN)/python lenet_lab/course/doctor.py

# The long form of the tests of crashes, bad data and many processes at once. It takes about 25 minutes and writes the
# table in docs/reliability.md.
reliability: $(VENV)/installed .venv-fuzz/installed
	$(IN)/python -m pytest -n 0 --long tests/test_reliability.py tests/test_cluster.py tests/test_sweep.py

.venv-fuzz/installed:
	$(PYTHON) -m venv .venv-fuzz
	.venv-fuzz/bin/python -m pip install --quiet atheris numpy
	@touch $@

# Trains every configuration with five seeds on MNIST, which takes hours. Call it again after a stop, and it goes on.
# NAMES=adam trains one configuration only; FILE names the file of results; KEEP=beyond keeps the best network of that
# configuration for `python -m lenet_lab predict`. WORKERS=4 trains in four processes; SCHEDULER=tcp://host:8786 trains
# on a Dask cluster.
experiments: $(VENV)/installed
	$(IN)/python -m lenet_lab experiments $(NAMES) $(if $(FILE),--file $(FILE)) $(if $(KEEP),--keep $(KEEP)) \
	    $(if $(WORKERS),--workers $(WORKERS)) $(if $(SCHEDULER),--scheduler $(SCHEDULER))

# Runs the solutions of the notebooks' exercises again, on MNIST (NAMES for some of them).
exercises: $(VENV)/installed
	$(IN)/python -m lenet_lab exercises $(NAMES)

# Times the lab against other ways to run it. It installs these first, about 6 GB.
benchmark: $(VENV)/installed
	$(IN)/python benchmarks/compare.py

# For maintainers. `notebooks` runs the committed notebooks again on MNIST (NAMES=5_honest_figures.ipynb for one),
# `student` then writes the student edition (docs/teaching.md), `screenshots` photographs TensorBoard and the page of
# `draw`, `pins` chooses new exact versions. (With UPGRADE= in its call, `pins` keeps the versions that are there and
# only adds what is missing.)
notebooks: $(VENV)/installed
	$(IN)/python -m lenet_lab notebooks $(NAMES)

student: $(VENV)/installed
	$(IN)/python -m lenet_lab student

screenshots: $(VENV)/installed
	$(IN)/python tools/browser.py
	$(IN)/python tools/drawing.py

UPGRADE := --upgrade
pins:
	uv pip compile pyproject.toml --extra test --extra check --extra teach --extra cluster --universal --python-version 3.10 \
	    --generate-hashes --no-annotate --no-emit-index-url $(UPGRADE) --custom-compile-command "make pins" -o requirements.txt

# The stamp is newer than the files it was installed from, so a change to either of them installs again.
$(VENV)/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 13) else "This lab needs Python 3.10 to 3.13; $(PYTHON) is %d.%d. Name another: make PYTHON=python3.12" % v)'
	@$(PYTHON) -m venv $(VENV) || { echo "No virtual environment could be made; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "Installing TensorFlow, Jupyter and the rest into $(VENV): about 3 GB, some minutes the first time."
	$(IN)/python -m pip install --quiet --require-hashes -r requirements.txt
	$(IN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	-@$(IN)/jupyter trust notebooks/*.ipynb student/*.ipynb >/dev/null  # else Jupyter hides the committed curves
	@touch $@

clean:
	rm -rf $(VENV) .venv-fuzz benchmarks/.environments executed build *.egg-info
	rm -rf .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
