# Every target is one line of its own work; `make help` lists them.
PY := .venv/bin/python
PYTHON ?= python3.11
.DEFAULT_GOAL := help

help: ## Lists the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/.installed: pyproject.toml
	$(PYTHON) -m venv .venv && $(PY) -m pip install --quiet --upgrade pip && $(PY) -m pip install --quiet --editable '.[test]' && touch $@

setup: .venv/.installed ## Installs everything that a developer needs into .venv, from PyPI alone.
.PHONY: help setup
