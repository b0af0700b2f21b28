# Everything is done through these targets, here and in CI. Each one sets .venv up first (once; a
# second call finds nothing to do), so a fresh clone needs nothing but a Python >= 3.12 and make.

SHELL := /bin/sh
.DEFAULT_GOAL := help
PY := .venv/bin/python

# The suites that need a real part (a database, a cluster, a browser, ...): each is a pytest marker,
# declared in pyproject.toml, and a target `test-NAME`. `make test` leaves them out.
MARKERS := postgres or cluster or browser or monitoring or chart or image
# Those that exist; `make test-all` and .ci/run run every one named here.
REAL_PARTS :=

SOURCES := $(wildcard vishwamai service trainer tests scripts bench)
# Two: the machine this runs on has two cores, and each JAX test uses what it gets.
WORKERS ?= 2
# More for pytest, such as  make test ARGS="-k resolve -x"
ARGS ?=

LOCK := .venv/bin/uv pip compile --quiet --universal --python-version 3.12 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-annotate --no-header $(if $(UPGRADE),--upgrade)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: setup
setup: ## make .venv, or bring it up to date
	@scripts/setup.sh

.PHONY: run
run: setup ## start the control plane, train a small model on this machine, show how it went
	@$(PY) scripts/run_demo.py

.PHONY: serve
serve: setup ## start the control plane and leave it running
	@.venv/bin/vishwamai serve

.PHONY: test
test: setup ## run every test that needs only Python packages
	@$(PY) -m pytest -n $(WORKERS) --dist worksteal -m "not ($(MARKERS))" $(ARGS)

.PHONY: test-all
test-all: test test-rest ## run test, check and every suite that needs a real part

# What .ci/run does after `make test`.
REST := check $(REAL_PARTS:%=test-%)
.PHONY: test-rest list-rest
test-rest: $(REST)
list-rest:
	@echo $(REST)

.PHONY: $(REAL_PARTS:%=test-%)
$(REAL_PARTS:%=test-%): test-%: setup
	@$(PY) -m pytest -m $* $(ARGS)

# make -k check  goes on after a failure, and so shows everything there is to repair.
CHECKS := check-format check-lint check-types check-walls check-repository
.PHONY: check $(CHECKS)
check: $(CHECKS) ## formatting, lint, types, import walls, what may be committed
$(CHECKS): setup
check-format:
	@.venv/bin/ruff format --check
check-lint:
	@.venv/bin/ruff check
check-types:
	@.venv/bin/mypy $(SOURCES)
check-walls:
	@.venv/bin/lint-imports
check-repository:
	@$(PY) scripts/check_repository.py

.PHONY: fix
fix: setup ## format, and repair what lint can repair
	@.venv/bin/ruff check --fix-only --exit-zero
	@.venv/bin/ruff format

.PHONY: bench
bench: setup ## measure against the peers: speed, memory, compile time (ARGS="step S" for one)
	@$(PY) -m bench $(ARGS)

.PHONY: lock
lock: setup ## write the locked requirements anew (UPGRADE=1: to the newest allowed versions)
	@$(LOCK) --group bootstrap --output-file requirements/bootstrap.txt
	@$(LOCK) pyproject.toml --extra service --output-file requirements/service.txt
	@$(LOCK) pyproject.toml --extra trainer --output-file requirements/trainer.txt
	@$(LOCK) pyproject.toml --extra service --extra trainer --extra plan --extra dev --output-file requirements/dev.txt
	@$(PY) scripts/check_repository.py

.PHONY: clean
clean: ## remove .venv and every cache
	rm -rf .venv .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
