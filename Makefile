# tallygate: what a fresh machine needs is Python >= 3.11 with venv, pip and a registry.
#
#   make demo   the gateway in front of a small backend, with a key to try (PORT, ADMIN_PORT)
#   make test   lint, types and every test
#   make chaos  servers killed, frozen, emptied, cut off under load: the long form, some 28 minutes
#   make acceptance   what the reference systems promise, and whether it holds
#   make bench  CPU per request beside nginx+Lua, Caddy and others

PORT ?= 8080
ADMIN_PORT ?= 8081
CONFIG ?= config/gateway.yaml
VENV ?= .venv
# The first interpreter that is new enough and can make a virtual environment.
PYTHON ?= $(shell for python in python3.14 python3.13 python3.12 python3.11 python3 python; do \
	"$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
	2>/dev/null && { echo "$$python"; break; }; done)

BIN := $(VENV)/bin
# One file per set of installed packages: a second run installs nothing.
INSTALLED := $(VENV)/.installed
INSTALLED_TEST := $(VENV)/.installed-test

.PHONY: help demo check test test-units test-servers chaos acceptance lint format bench clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^#   //p' Makefile

demo: $(INSTALLED)
	@exec $(BIN)/tallygate demo --port $(PORT) --admin-port $(ADMIN_PORT) --config $(CONFIG)

check: $(INSTALLED)
	@$(BIN)/tallygate check $(CONFIG)

# Two halves at once: the one with servers waits much, the other one counts much.
test: lint
	@echo "two halves at once; each is printed when it is done, in some fourteen minutes"
	@$(MAKE) --no-print-directory -j 2 --output-sync=target test-units test-servers

test-units: $(INSTALLED_TEST)
	$(BIN)/pytest --slow --ignore tests/e2e --ignore tests/chaos
	$(BIN)/pytest --quiet --slow tests/e2e/test_forward*.py
	$(BIN)/pytest --quiet --store postgres tests/api
	$(BIN)/pytest --quiet --store fleet tests/api
	$(BIN)/pytest --quiet --store cluster tests/api

test-servers: $(INSTALLED_TEST)
	$(BIN)/pytest --slow --ignore-glob '*/test_forward*' tests/e2e tests/chaos

chaos: $(INSTALLED_TEST)
	$(BIN)/pytest --chaos-long tests/chaos

acceptance: $(INSTALLED_TEST)
	$(BIN)/pytest -q tests/acceptance

lint: $(INSTALLED_TEST)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict gateway

format: $(INSTALLED_TEST)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED)
	$(BIN)/python -m bench.run
	$(BIN)/python -m bench.measured

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "tallygate needs Python 3.11 or newer with its venv module" \
	"(Debian: apt-get install python3 python3-venv), or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(INSTALLED_TEST): $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@ $(INSTALLED)
