# The chores of this project. All of them work in .venv, which they make when it is missing.
#
#   make PYTHON=python3.12 test      another Python (3.11 or newer) for a new .venv
#   make test ARGS="-k retries"      arguments for pytest
#   make test ARGS="-n 0 --pdb"      one test after another, in one process
#   make bench ARGS=--quick          arguments for the benchmarks

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable

# A stamp says which extras are installed; it is made again when pyproject.toml changes.
DEMO := $(VENV)/demo.stamp
DEV := $(VENV)/dev.stamp

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint bench format clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(DEMO) ## compare several models in a pipeline, then show the recorded steps
	$(BIN)/python examples/01_model_comparison.py
	@echo
	$(BIN)/pipedeco show latest

test: $(DEV) ## run every test
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(DEV) ## check format, style, types and the direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(DEV) ## measure pipedeco beside its peers, in one table
	$(BIN)/python -m benchmarks $(ARGS)

format: $(DEV) ## format the code and repair what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove .venv, builds and caches; recorded runs (.pipedeco) stay
	rm -rf $(VENV) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A half-made .venv would look whole to the next call, so a failure takes it away.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("pipedeco needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(DEMO): pyproject.toml | $(BIN)/python
	$(INSTALL) '.[demo]'
	@touch $@

# What the tests need contains what the demo needs.
$(DEV): pyproject.toml | $(BIN)/python
	$(INSTALL) '.[dev]'
	@touch $(DEMO) $@
