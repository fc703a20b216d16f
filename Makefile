# Every target sets up what it needs: a virtual environment in .venv, made with venv and pip.
# PIP_ARGS goes to pip, for example to choose where torch comes from (see README, "CPU or CUDA").

PYTHON ?= python3
PIP_ARGS ?=
BIN := .venv/bin
PEERS := .bench/peers/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_ARGS)
# Two at a time, in the order and the groups of tests/conftest.py; browsers and processes run after them, alone:
# with them in the same run one test in 4,900 failed each time (a Steer run, a killed job), and none alone.
PAIRED = -n 2 --dist loadfile --no-loadscope-reorder
PYTEST = OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest
export PYTHONUTF8 = 1

.PHONY: demo test test-slow lint format figures bench bench-peers demo-train tour clean

demo: .venv/installed  ## Harvest the embedded demo and open it in the browser.
	$(BIN)/saefari demo

test: .venv/installed-dev  ## Every test but the slow ones.
	$(PYTEST) $(PAIRED) -m "not (slow or gpu or browser or process)"
	$(PYTEST) -m "(browser or process) and not (slow or gpu)"

test-slow: .venv/installed-dev  ## The tests that take minutes: laws over many seeds, real models.
	$(PYTEST) -m "slow and not gpu" --timeout 3600

lint: .venv/installed-dev  ## Format, lint and types.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --warnings

format: .venv/installed-dev  ## Format and mend what can be mended.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

figures: .venv/installed-dev  ## How readable names and docstrings are, against the values kept.
	$(BIN)/python -m tests.house_figures

bench: .venv/installed  ## The figures of docs/performance.md.
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.run

bench-peers: .venv/installed .bench/peers/installed  ## SAEDashboard beside Saefari, same features and tokens.
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.peers --peer-python $(PEERS)/python

demo-train: .venv/installed  ## Rebuild the demo's weights (see docs/demo.md).
	OMP_NUM_THREADS=1 $(BIN)/python -m backend.demo.train

tour: .venv/installed-dev  ## Screenshots of the pages for the docs.
	$(BIN)/python -m docs.screenshots

clean:
	rm -rf .venv .demo .bench

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Saefari needs Python 3.11 or newer.") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) torch
	$(INSTALL) -e .
	touch $@

.venv/installed-dev: .venv/installed pyproject.toml constraints.txt
	$(INSTALL) -e '.[dev]'
	touch $@

.bench/peers/installed: benchmarks/peers-requirements.txt
	$(PYTHON) -m venv .bench/peers
	$(PEERS)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -r $<
	touch $@
