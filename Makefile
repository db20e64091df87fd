# make lab    the whole lab: install, run the notebooks, print the results (EPOCHS=1 for a quick look)
# make test   install, then the tests
PYTHON ?= python3
VENV := .venv
IN := $(VENV)/bin

.PHONY: lab test reliability experiments benchmark notebooks screenshots pins clean

lab: $(VENV)/installed
	$(IN)/python -m lenet_lab lab $(if $(EPOCHS),--epochs $(EPOCHS))

test: $(VENV)/installed
	$(IN)/python -m pytest $(TESTS)

# The long form of the tests of crashes, bad data and crowds: about 25 minutes; writes the table of docs/reliability.md.
reliability: $(VENV)/installed .venv-fuzz/installed
	$(IN)/python -m pytest -n 0 --long tests/test_reliability.py

.venv-fuzz/installed:
	$(PYTHON) -m venv .venv-fuzz
	.venv-fuzz/bin/python -m pip install --quiet atheris numpy
	@touch $@

# Trains every configuration with five seeds on MNIST, hours; stopped and called again, it goes on. NAMES=adam for one.
# FILE names the results' file; KEEP=beyond keeps that one's best network for `python -m lenet_lab predict`.
experiments: $(VENV)/installed
	$(IN)/python -m lenet_lab experiments $(NAMES) $(if $(FILE),--file $(FILE)) $(if $(KEEP),--keep $(KEEP))

# Times the lab against other ways to run it; installs these first, about 6 GB.
benchmark: $(VENV)/installed
	$(IN)/python benchmarks/compare.py

# For maintainers: re-execute the committed notebooks on MNIST (NAMES=5_honest_figures.ipynb for one);
# photograph TensorBoard; choose exact versions anew.
notebooks: $(VENV)/installed
	$(IN)/python -m lenet_lab notebooks $(NAMES)

screenshots: $(VENV)/installed
	$(IN)/python tests/browser.py

pins:
	uv pip compile pyproject.toml --extra test --universal --python-version 3.10 --generate-hashes \
	    --no-annotate --no-emit-index-url --upgrade --custom-compile-command "make pins" -o requirements.txt

# The stamp is newer than what it was installed from, so a change of either installs again.
$(VENV)/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 13) else "This lab needs Python 3.10 to 3.13; $(PYTHON) is %d.%d. Name another: make PYTHON=python3.12" % v)'
	@$(PYTHON) -m venv $(VENV) || { echo "No virtual environment could be made; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "Installing TensorFlow, Jupyter and the rest into $(VENV): about 2 GB, some minutes the first time."
	$(IN)/python -m pip install --quiet --require-hashes -r requirements.txt
	$(IN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

clean:
	rm -rf $(VENV) .venv-fuzz executed .pytest_cache *.egg-info
