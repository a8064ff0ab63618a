# Each target does what it needs first; none needs anything but Python 3.11, git and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: install quickstart check test soak bench docs clean

install: $(READY)

# torch comes first and pinned: any other way of naming it may bring gigabytes of CUDA to a machine without a GPU.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet -c constraints.txt -e '.[demo,dev]'
	touch $(READY)

quickstart: install
	$(BIN)/nertune quickstart

# Style, types, and the walls between the rooms.
check: install
	$(BIN)/ruff format --check src tests benchmarks docs
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python docs/make.py --check

test: check
	$(BIN)/pytest -m 'not soak'

soak: install
	$(BIN)/pytest -m soak

# samples/s of nertune and of the tutorial recipe, in one call. BASELINE is a script that trains the tutorial's way.
bench: install
	$(BIN)/python benchmarks/train.py

# docs/cli.md, from the command line's own help.
docs: install
	$(BIN)/python docs/make.py

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
