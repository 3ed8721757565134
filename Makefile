.PHONY: demo test check stress clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
HASH := $(shell $(PYTHON) -c "import hashlib,sys;print(hashlib.sha256(open('pyproject.toml','rb').read()+sys.version.encode()).hexdigest()[:16])")
BASE := $(VENV)/base-$(HASH)
FULL := $(VENV)/full-$(HASH)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(BASE): | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(FULL): | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[all,test]'
	touch $@ $(BASE)

demo: $(BASE)
	@$(BIN)/python examples/demo.py

test: $(FULL)
	$(BIN)/python -m pytest -n 2 $(ARGS)

check: $(FULL)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

stress: $(FULL)
	$(BIN)/python -m stress insert --rows 2000
	$(BIN)/python -m stress search --rows 2000
	$(BIN)/python -m stress commit
	$(BIN)/python -m stress startup --rows 1000
	$(BIN)/python -m stress sessions --rows 500
	$(BIN)/python -m stress crash --rounds 14
	$(BIN)/python -m stress concurrency --rows 2000 --seconds 20
	$(BIN)/python -m stress hostile --backend sqlite --rounds 1

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis demo.db*
