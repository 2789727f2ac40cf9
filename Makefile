# Everything happens inside this checkout: the tools live in .venv, the demo in demo-data.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test test-long test-real check bench fmt docs clean

help:  ## say what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[nats]' --group dev
	@$(BIN)/python -m compileall -q issue_core
	@touch $@

demo: $(READY)  ## TaskSpecs in, Markdown issues out: see it work
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh docs/demo/demo.sh demo-data

test: check  ## the checks and all tests but the long and the real ones
	$(BIN)/python -m pytest -n auto -m 'not long and not real' -q

test-long: $(READY)  ## the kill tests at full length
	$(BIN)/python -m pytest -n 2 -m long -q

test-real: $(READY)  ## a real, throw-away Redmine from Debian's packages; skipped where they are missing
	$(BIN)/python -m pytest -m real -q

check: $(READY)  ## lint, format, types, the house's import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

bench: $(READY)  ## each speed promise as a ratio against a baseline
	@$(BIN)/python -m compileall -q issue_core
	$(BIN)/python -m bench

fmt: $(READY)  ## format and mend what ruff can mend
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: $(READY)  ## write the generated reference pages again
	$(BIN)/python -m tests.support.reference

clean:  ## remove the tools and the demo's data
	rm -rf $(VENV) demo-data
