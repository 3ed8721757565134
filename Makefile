.PHONY: help demo test test-slow check types docs stress clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
HASH := $(shell $(PYTHON) -c "import hashlib,sys;print(hashlib.sha256(open('pyproject.toml','rb').read()+sys.version.encode()).hexdigest()[:16])")
BASE := $(VENV)/base-$(HASH)
FULL := $(VENV)/full-$(HASH)
# Compiled modules and tests are kept, and not beside the sources, whatever the shell has set.
export PYTHONPYCACHEPREFIX := $(CURDIR)/$(VENV)/pycache
export PYTHONDONTWRITEBYTECODE :=

help:  ## List these targets
	@sed -n 's/^\([a-z-]*\):[^#]*##/\1\t/p' Makefile | expand -t 12

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(BASE): | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(FULL): | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[all,test]'
	touch $@ $(BASE)

demo: $(BASE)  ## Load 170 support tickets, search them, and leave the database for you
	@$(BIN)/python examples/demo.py

test: $(FULL)  ## Run all tests but the slow ones; ARGS='-k mirror -x' goes to pytest
	$(BIN)/python -m pytest -n 2 -m 'not slow' $(ARGS)

test-slow: $(FULL)  ## Run the slow tests
	$(BIN)/python -m pytest -n 2 -m slow $(ARGS)

check: $(FULL)  ## Run ruff and mypy, and try a wheel in an empty environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/smoke_wheel.py

types: $(FULL)  ## Verify that the public names are typed completely (pyright, which needs Node.js)
	$(BIN)/python tools/smoke_wheel.py --types

docs: $(FULL)  ## Build the documentation site into build/site; a warning is an error
	$(BIN)/python tools/build_site.py

stress: $(FULL)  ## Measure and break it for ten minutes (python -m stress has the long runs)
	$(BIN)/python -m stress insert --rows 2000
	$(BIN)/python -m stress search --rows 2000
	$(BIN)/python -m stress server --rows 2000
	$(BIN)/python -m stress commit
	$(BIN)/python -m stress startup --rows 1000
	$(BIN)/python -m stress sessions --rows 500
	$(BIN)/python -m stress crash --rounds 14
	$(BIN)/python -m stress concurrency --rows 2000 --seconds 20
	$(BIN)/python -m stress hostile --backend sqlite --rounds 1

clean:  ## Delete the environment, builds, caches and the databases of the demo
	rm -rf $(VENV) .cache build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis demo.db* museum.db*
