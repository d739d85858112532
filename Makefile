# Each target is one line of work; `make` or `make help` lists them.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PY := $(BIN)/python
ROWS ?= 10000000
PROTOS := $(wildcard proto/flagledger/v1/*.proto proto/flagledger/internal/v1/*.proto)
# Plug-ins of the generator are found by name. Nothing else may depend on it: a terminal beside this one has no such path.
gen test test-slow lint check: export PATH := $(CURDIR)/$(BIN):$(PATH)
.DEFAULT_GOAL := help
.PHONY: help setup serve test test-slow test-grpc gen lint check bench bench-query bench-stores bench-transcoding release-contract

help: ## Lists the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/.installed: pyproject.toml
	$(PYTHON) -m venv .venv && $(PY) -m pip install --quiet --upgrade pip && $(PY) -m pip install --quiet --editable '.[test]' && touch $@

setup: $(BIN)/.installed ## Installs everything that a developer needs into .venv.

serve: setup ## Starts the service with a demo environment, on localhost.
	@$(BIN)/flagledger serve

test: setup ## Runs all tests that need nothing but PyPI.
	$(PY) -m pytest

test-slow: setup ## Runs faults and long properties.
	$(PY) -m pytest -m slow

test-grpc: setup ## Runs the blocking stub of pytest-grpc against the service, in an environment of its own.
	$(PYTHON) -m venv .venv-grpc && .venv-grpc/bin/python -m pip install --quiet --editable '.[test-grpc]' && .venv-grpc/bin/python -m pytest tests/grpc_stub -p no:randomly

gen: setup ## Generates gen/ from proto/.
	rm -rf gen/flagledger && mkdir -p gen && $(PY) -m grpc_tools.protoc -Iproto --python_out=gen --grpc_python_out=gen --mypy_out=quiet:gen --mypy_grpc_out=quiet:gen $(PROTOS) && $(PY) -m grpc_tools.protoc -Iproto --descriptor_set_out=gen/flagledger/v1/contract.binpb --include_source_info --include_imports $(PROTOS)

lint: setup ## Format, lint, types, contract.
	$(BIN)/ruff format --check && $(BIN)/ruff check && $(BIN)/mypy && $(BIN)/buf lint && $(BIN)/buf breaking proto --against proto/released.binpb

check: lint ## The same, and quick tests: some 10 minutes on two cores.
	$(PY) -m pytest -m 'not slow and not system' -q

bench: setup ## Measures what is promised, each figure beside its floor.
	$(PY) bench

bench-query: setup ## Measures questions over ROWS rows, each beside bare DuckDB; KEEP names a directory for them.
	$(PY) bench/query_main.py --rows $(ROWS) $(if $(KEEP),--keep $(KEEP))

bench-stores: setup ## Measures the stores beside one another, each figure as a ratio to DuckDB.
	PYTHONPATH=tests $(PY) bench/stores_main.py

bench-transcoding: setup ## Measures the transcoding layer, each part beside what it is promised against.
	$(PY) bench/transcoding_main.py

release-contract: setup ## Stores the contract as the one that the next release must not break.
	$(BIN)/buf build proto -o proto/released.binpb
