# make run    simulate users, teach a recommender, write the report: a few minutes on two cores
# make test   all tests
# make check  style, types, floors, examples in docstrings
# make bench  every stage beside its rivals, kept in benchmarks/results; make rivals builds RecTools' and
#             RecBole's own environments first, and BENCH=--rivals measures them, too
#
# Everything is installed in .venv, once; PYTHON=python3.12 make test picks another interpreter.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: run test check bench rivals

run: $(VENV)/.installed
	$(BIN)/rsir run --config examples/sparse_world.toml --out runs/quickstart

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest

check: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_floors.py
	$(BIN)/python -m pytest --doctest-modules --doctest-ignore-import-errors src/rsir

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/run.py $(BENCH)
	$(BIN)/python benchmarks/tables.py

RIVALS := benchmarks/rivals
rivals: $(RIVALS)/.venv/rectools/.installed $(RIVALS)/.venv/recbole/.installed

$(RIVALS)/.venv/%/.installed: $(RIVALS)/requirements-%.txt $(RIVALS)/constraints.txt
	$(PYTHON) -m venv $(RIVALS)/.venv/$*
	$(RIVALS)/.venv/$*/bin/python -m pip install --quiet --disable-pip-version-check \
		-c $(RIVALS)/constraints.txt -r $(RIVALS)/requirements-$*.txt
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[fast]'
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[dev]'
	touch $@
