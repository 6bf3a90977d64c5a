# Two commands set everything up: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROTO := handcounter/ratelimit/v1/rate_limit.proto
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test coverage lint types imports proto-lint check proto reference docs lock torch clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST) | sort

demo: $(VENV)/run ## three cameras, live limits, a summary table (about a minute; KEEP=1: until Ctrl-C, with the console)
	@$(BIN)/hand-counter demo $(if $(KEEP),--keep) $(ARGS)

# Most tests wait for servers, so more of them run at once than there are processors. They begin in the order of
# tests/conftest.py, which puts the longest files first. If one of the processes dies, the run ends and names the test:
# pytest-xdist can wait for ever for what a process that replaces it was given.
JOBS ?= 8
PARALLEL := --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0
# Without bytecode, each of the processes that the tests start would compile this tree again.
unexport PYTHONDONTWRITEBYTECODE
test: $(VENV)/dev ## the whole test suite (ARGS=... go to pytest)
	$(BIN)/pytest $(PARALLEL) $(ARGS)

# The tracer takes half as much time again, so the suite runs without it, and the slow tests don't run with it.
COVERAGE := $(VENV)/coverage
coverage: $(VENV)/dev ## do the tests cover as much as pyproject.toml demands?
	rm -rf $(COVERAGE) && mkdir -p $(COVERAGE)
	COVERAGE_FILE=$(CURDIR)/$(COVERAGE)/data $(BIN)/pytest $(PARALLEL) -m "not slow or measured" \
	  --ignore tests/deploy --cov --cov-report json:$(COVERAGE)/report.json $(ARGS)
	$(BIN)/python ci/coverage_gate.py $(COVERAGE)/report.json

lint: $(VENV)/dev ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev ## mypy --strict; installs torch, which HaMeR's modules subclass
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(MAKE) --no-print-directory torch
	$(BIN)/mypy

imports: $(VENV)/dev ## which package may import which
	PYTHONPATH=.:proto $(BIN)/lint-imports

proto-lint: $(VENV)/dev ## buf: style and format of the contract; whether the generated code is current
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	rm -rf $(VENV)/generated && mkdir -p $(VENV)/generated
	$(call generate,$(VENV)/generated)
	diff -r $(VENV)/generated/handcounter proto/handcounter -x '*.proto' -x py.typed -x __pycache__

check: lint types imports proto-lint ## all static checks

proto: $(VENV)/dev ## generate the contract's code
	$(call generate,proto)

reference: $(VENV)/dev ## write docs/reference from the code
	PYTHONPATH=.:proto $(BIN)/python ci/reference.py docs/reference

docs: $(VENV)/site/stamp ## the site of docs/ in out/site; every link and anchor is checked
	@# Not --quiet: it silences the warnings that --strict counts.
	NO_MKDOCS_2_WARNING=1 $(VENV)/site/bin/mkdocs build --strict

lock: $(VENV)/dev ## write the locks again (requirements/*.txt); pinned versions stay (ARGS=--upgrade)
	$(BIN)/pip install --quiet uv
	cd requirements && ../$(BIN)/uv pip compile --quiet $(LOCK) $(ARGS) -c constraints.txt --extra dev ../pyproject.toml -o dev.txt
	cd requirements && ../$(BIN)/uv pip compile --quiet $(LOCK) $(ARGS) -c dev.txt --extra demo ../pyproject.toml -o run.txt
	cd requirements && ../$(BIN)/uv pip compile --quiet $(LOCK) $(ARGS) -c dev.txt --extra worker --extra ctl --extra mqtt --extra sql ../pyproject.toml -o worker.txt
	cd requirements && ../$(BIN)/uv pip compile --quiet $(LOCK) $(ARGS) -c dev.txt --extra sidecar --extra ctl --extra console ../pyproject.toml -o sidecar.txt
	cd requirements && ../$(BIN)/uv pip compile --quiet $(LOCK) $(ARGS) build.in -o build.txt
	cd requirements && ../$(BIN)/uv pip compile --quiet $(LOCK) $(ARGS) ship.in -o ship.txt
	cd requirements && ../$(BIN)/uv pip compile --quiet $(LOCK) $(ARGS) -c dev.txt mutants.in -o mutants.txt
	cd requirements && ../$(BIN)/uv pip compile --quiet $(LOCK) $(ARGS) -c dev.txt browser.in -o browser.txt
	cd requirements && ../$(BIN)/uv pip compile --quiet $(LOCK) $(ARGS) -c dev.txt docs.in -o docs.txt
LOCK := --universal --generate-hashes --python-version 3.11 --no-header --no-annotate

torch: $(VENV)/dev ## install torch for HaMeR (not in the hashed locks, because its CPU and CUDA files differ)
	$(BIN)/pip install --quiet torch==2.13.0

clean: ## remove the virtual environment
	rm -rf $(VENV)

# Long trials, and images and packages; `make help` lists their targets too.
include hard.mk ci/ship.mk

define generate
	$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=$(1) --pyi_out=$(1) --grpc_python_out=$(1) \
	  --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc --mypy_grpc_out=quiet:$(1) $(PROTO)
endef

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version) if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)

# The stamps keep the virtual environment in step with its lock. The lock of the tests includes that of the demo.
$(VENV)/run: requirements/run.txt pyproject.toml | $(BIN)/python
	@echo "Setting up the virtual environment: about 500 MB, once ..."
	$(BIN)/pip install --quiet --require-hashes -r requirements/run.txt
	$(BIN)/pip install --quiet --no-deps --editable .
	@touch $@

$(VENV)/dev: requirements/dev.txt pyproject.toml | $(BIN)/python
	@echo "Setting up the virtual environment with the tools of the tests: about 600 MB, once ..."
	$(BIN)/pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/pip install --quiet --no-deps --editable .
	@touch $@ $(VENV)/run

# The generator of the site is in a virtual environment of its own.
$(VENV)/site/stamp: requirements/docs.txt | $(BIN)/python
	$(BIN)/python -m venv $(VENV)/site
	$(VENV)/site/bin/pip install --quiet --require-hashes -r requirements/docs.txt
	@touch $@
