# Everything happens in a virtual environment that each target makes for itself.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
ARGS ?=
# ASYNC124 wants functions that do not wait to be sync; Quart runs sync handlers in threads.
# ASYNC91x want a checkpoint in every async function, cheap or not: too strict for tests and handlers.
FLAKE8_ASYNC = --disable ASYNC124,ASYNC910,ASYNC911,ASYNC912,ASYNC913 \
    --startable-in-context-manager serve_http,serve_exchange,watch,follow

# It takes a quarter of a second a file.
EACH_CORE = xargs -P "$$(getconf _NPROCESSORS_ONLN)" -n 50

# Each process of a worker may hold an embedded engine and two servers: about 1 GB.
WORKERS = --numprocesses auto --maxprocesses 8 --dist worksteal

# Python files that differ from where main is, or was when this branch began; new ones count.
CHANGED = { git diff --name-only --diff-filter=d $$(git merge-base HEAD main 2>/dev/null || echo HEAD); \
    git ls-files --others --exclude-standard; } | grep '\.py$$' | sort -u
QUICK = $(addprefix tests/, \
    api config core docs exchange fleet series storage/memory storage/spool twin test_arrows.py)

# Tests start hundreds of processes, and each would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test quick lint clients bench bench-coverage picture clean

demo: $(VENV)/run
	$(BIN)/klineagent demo $(ARGS)

test: lint
	$(BIN)/python -m pytest $(WORKERS) $(ARGS)

# Leaves out whatever needs a database or a browser, starts programs, proves, or simulates days.
quick: $(VENV)/dev
	$(CHANGED) | xargs -r $(BIN)/ruff check
	$(CHANGED) | xargs -r $(BIN)/ruff format --check
	$(CHANGED) | xargs -r $(BIN)/flake8-async $(FLAKE8_ASYNC)
	$(BIN)/mypy
	$(BIN)/python -m pytest $(WORKERS) -m 'not slow and not browser' --hypothesis-profile quick $(QUICK) $(ARGS)

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	git grep -lE 'async|trio' -- '*.py' | $(EACH_CORE) $(BIN)/flake8-async $(FLAKE8_ASYNC)
	$(BIN)/mypy

# The one client that wants an environment of its own, where the tests look for it.
clients: $(VENV)/dev .venv-freqtrade/made
	$(BIN)/python -m pytest tests/examples $(ARGS)

bench: $(VENV)/dev
	$(BIN)/python -m tests.bench_control

bench-coverage: $(VENV)/dev
	$(BIN)/python -m tests.bench_coverage $(ARGS)

# README's picture, of the demo.
picture: $(VENV)/dev
	$(BIN)/python -m tests.dashboard.picture

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# pip of Python 3.11's venv knows no dependency groups yet.
$(VENV)/run: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable '.[embedded]'
	touch $@

$(VENV)/dev: $(VENV)/run
	$(BIN)/python -m pip install --quiet --group dev
	touch $@

.venv-freqtrade/made:
	$(PYTHON) -m venv .venv-freqtrade
	.venv-freqtrade/bin/python -m pip install --quiet 'freqtrade==2026.9'
	touch $@

clean:
	rm -rf $(VENV) .venv-freqtrade build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
