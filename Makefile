# LlamaHome from a fresh clone: `make setup`, then `make demo`. Needs Python 3.11 or newer and nothing else.

ENV ?= development
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest
# FULL=1 runs the slow suites too (kill storms, cold trainers, the wheel in an environment of its own).
SELECT := $(if $(FULL),,-m "not slow")
# A new stamp for new requirements: what is ready already is never touched, so a second run needs no network.
REQUIREMENTS := $(shell cat pyproject.toml constraints.txt | sha256sum | cut -c1-12)
STAMP := $(VENV)/.ready-$(ENV)-$(REQUIREMENTS)

.PHONY: help setup demo run test test-unit test-integration test-performance check fix docs clean

help:
	@echo "make setup [ENV=development|production]   everything into $(VENV), torch included"
	@echo "make demo                                 a real fine-tune in about a minute"
	@echo "make run                                  the terminal application"
	@echo "make test [FULL=1]                        tests; FULL=1 runs the slow ones too"
	@echo "make test-unit | test-integration | test-performance"
	@echo "make check                                ruff, mypy, import contracts"
	@echo "make fix                                  what ruff can mend by itself"
	@echo "make docs                                 the pages that are made from the registry"
	@echo "make clean                                caches and build outputs"

setup: $(STAMP)

$(STAMP):
	@case "$(ENV)" in development|production) ;; *) echo "ENV is development or production, not $(ENV)" >&2; exit 2;; esac
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "LlamaHome needs Python 3.11 or newer; name one: make setup PYTHON=python3.12" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet -c constraints.txt hatchling
ifeq ($(ENV),production)
	$(PIP) install --quiet --no-build-isolation -c constraints.txt ".[train]"
else
	$(PIP) install --quiet --no-build-isolation -c constraints.txt -e ".[train,dev,peers]"
endif
	@rm -f $(VENV)/.ready-*
	@touch $@
	@echo "ready: $(BIN)/llamahome (make demo shows a fine-tune, make run opens the application)"

demo: setup
	$(BIN)/llamahome --batch demo

run: setup
	$(BIN)/llamahome

test: setup
	$(PYTEST) tests $(SELECT) $(ARGS)

test-unit: setup
	$(PYTEST) tests/unit $(wildcard tests/snapshots) $(SELECT) $(ARGS)

test-integration: setup
	$(PYTEST) tests/integration $(SELECT) $(ARGS)

test-performance: setup
	$(PYTEST) tests/performance -s $(ARGS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup
	$(BIN)/python scripts/parity.py
	$(BIN)/python scripts/importing.py

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis snapshot_report.html
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
