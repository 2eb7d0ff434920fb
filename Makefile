# make run: train on embedded data.  make test: run every check.  make test-fast: what to run while writing code.
# make docs: build the documentation into site/.  Each first puts into .venv what it needs and is not there yet.
# make system: as root on Debian or Ubuntu, what some tests look for outside of .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := chromium dataset-fashion-mnist
# Where it is set, every process compiles torch and all that it imports anew, which takes longer than most of the tests.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run lint test test-fast docs system
.NOTPARALLEL:
.DEFAULT_GOAL := run

run: $(VENV)/.run-complete
	$(BIN)/python train.py experiment=quickstart

test: lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-fast: $(VENV)/.test-complete
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not slow'

lint: $(VENV)/.test-complete
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(VENV)/.docs-complete
	$(BIN)/zensical build --clean --strict

# uv takes a fraction of pip's time, but knows nothing of how pip is configured (an index, a certificate): then pip does it.
INSTALL = { $(BIN)/python -m pip install --quiet --constraint constraints.txt uv && \
  $(BIN)/uv pip install --python $(BIN)/python --constraint constraints.txt --editable '$(1)'; } || \
  { echo 'uv could not install it; pip does it now, which takes longer' >&2; \
  $(BIN)/python -m pip install --constraint constraints.txt --editable '$(1)'; }

$(VENV)/.run-complete: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or newer is needed, found $$($(PYTHON) --version); use make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@$(call INSTALL,.)
	@touch $@

$(VENV)/.test-complete: $(VENV)/.run-complete
	@$(call INSTALL,.[dev])
	@touch $@

$(VENV)/.docs-complete: $(VENV)/.run-complete
	@$(call INSTALL,.[docs])
	@touch $@

system:
	dpkg -s $(PACKAGES) >/dev/null 2>&1 || \
	  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $(PACKAGES); }
