# One front door for every command. `make` alone lists them.
# Everything is set up by the targets themselves: python3 (3.11 or later), make and a compiler are enough.

PYTHON ?= python3
UV := .tools/bin/uv
UV_VERSION := 0.13.8
BIN := .venv/bin
export UV_PYTHON_DOWNLOADS := never
# Tests start many Pythons, which would each compile what they import.
export UV_COMPILE_BYTECODE := 1
export PYTHONDONTWRITEBYTECODE := 1

SOURCES := $(shell find src -name '*.py') src/aldis/py.typed pyproject.toml README.md LICENSE

# The Pythons to test on: the main one, and those of the others that are installed.
MAIN := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
PYTHONS := $(shell sh tools/pythons.sh $(PYTHON))
MISSING := $(filter-out $(notdir $(PYTHONS)) $(MAIN),3.11 3.12 3.13)

.PHONY: help
help: ## List the commands.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

# Setting up

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Aldis needs Python 3.11 or later; set PYTHON=/path/to/it")'
	$(PYTHON) -m venv .tools
	.tools/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.venv/.ready: pyproject.toml uv.lock | $(UV)
	$(UV) sync --quiet --frozen --all-groups --python $(PYTHON)
	@touch $@

dist/.ready: $(SOURCES) | $(UV)
	@rm -rf dist
	$(UV) build --quiet --wheel
	@touch $@

# Each Python gets an environment with the built wheel in it; `core` has nothing in it that is optional.
.venvs/%/.ready: pyproject.toml uv.lock dist/.ready | $(UV)
	@UV_PROJECT_ENVIRONMENT=.venvs/$* $(UV) sync --quiet --frozen --no-install-project --no-default-groups \
		--group $(if $(filter core,$*),core,test) \
		--python $(if $(filter core $(MAIN),$*),$(PYTHON),$$(sh tools/pythons.sh $(PYTHON) $*))
	@$(UV) pip install --quiet --python .venvs/$*/bin/python --no-deps --reinstall dist/*.whl
	@touch $@

.PHONY: setup
setup: .venv/.ready ## Make the development environment, .venv.

# Using it

.PHONY: demo
demo: .venvs/$(MAIN)/.ready ## Visit the shop, and show its signals. SERVE=1 stays up.
	@SERVE=$(SERVE) .venvs/$(MAIN)/bin/python examples/shop/demo.py

.PHONY: bench
bench: .venv/.ready ## Measure Aldis beside its peers, and write docs/benchmarks.md. ARGS=--quick is faster.
	$(BIN)/python -m benchmarks engine $(or $(ARGS),--write)

.PHONY: bench-relay
bench-relay: .venv/.ready ## Measure the relay beside its peers, and write docs/benchmarks-relay.md. ARGS=--quick is faster.
	$(BIN)/python -m benchmarks relay $(or $(ARGS),--write)

# Checking

# What runs at the same time. Each of it uses one core.
JOBS ?= 2

.PHONY: test
test: ## Everything that CI checks.
	@$(MAKE) --no-print-directory --jobs=$(JOBS) --output-sync=target lint core relay types docs $(PYTHONS:%=test-%)
	@echo "Tested on Python $(PYTHONS)$(if $(OTHERS),; whole programs and browsers on $(MAIN) only)."
	@$(if $(MISSING),echo "Not tested on Python $(MISSING): not installed here.")

.PHONY: lint
lint: .venv/.ready ## Style and import contracts.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo

.PHONY: types
types: mypy pyright complete-types typing ## mypy, pyright, and that all that is public has a type.

.PHONY: mypy pyright complete-types typing
mypy: .venv/.ready
	$(BIN)/mypy

pyright: .venv/.ready
	$(BIN)/pyright

complete-types: .venv/.ready .venvs/$(MAIN)/.ready
	PATH="$(CURDIR)/.venvs/$(MAIN)/bin:$$PATH" $(BIN)/pyright --ignoreexternal --verifytypes aldis

typing: .venv/.ready .venvs/$(MAIN)/.ready
	$(BIN)/python tests/typing/check.py .venvs/$(MAIN)/bin/python

.PHONY: core
core: .venvs/core/.ready ## The core's tests, with no optional package installed.
	.venvs/core/bin/python -m pytest $(PYTEST) --cov=aldis --cov-branch --cov-report= tests/core

# Beside the others of the main Python, for these wait more than they work. Its coverage is in a folder of its own, where
# nobody takes it for a part of theirs.
.PHONY: relay
relay: .venvs/$(MAIN)/.ready .venv/.ready programs ## The relay's tests.
	@mkdir -p .coverages
	COVERAGE_FILE=$(CURDIR)/.coverages/relay .venvs/$(MAIN)/bin/python -m pytest $(PYTEST) --cov=aldis --cov-branch --cov-report= tests/relay

test-%: .venvs/%/.ready .venv/.ready programs
	.venvs/$*/bin/python -m pytest $(PYTEST) $(EXAMPLES) $(if $(filter $(MAIN),$*),$(REST),tests $(OTHERS))
	$(if $(filter $(MAIN),$*),$(COVERED))

# Its coverage is added to that of the two.
test-$(MAIN): core relay

# What some tests run, and Debian has.
.PHONY: programs
programs:
	@sh tools/debian.sh chromium "The tests of the live page in a browser"
	@sh tools/debian.sh pgbouncer "The tests behind PgBouncer"

# README, docs and docstrings are tests too: see conftest.py.
EXAMPLES := README.md docs src
PYTEST := -q --no-header

# Whole programs and browsers take half of the time, and the tests of their parts run everywhere.
OTHERS := -m "not program"

# On the main Python, `core` and `relay` have run theirs already; together the three cover every branch.
REST := tests --ignore=tests/core --ignore=tests/relay --cov=aldis --cov-branch --cov-append --cov-report=
COVERED = .venvs/$(MAIN)/bin/python -m coverage combine --quiet --keep --append .coverages/relay && \
	.venvs/$(MAIN)/bin/python -m coverage report --show-missing --skip-covered --fail-under=100

.PHONY: docs
docs: .venv/.ready ## Build the documentation; warnings are errors.
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

.PHONY: test-everywhere
test-everywhere: ## As test, with whole programs and browsers on each Python.
	@$(MAKE) --no-print-directory test OTHERS=

.PHONY: test-long
test-long: .venvs/$(MAIN)/.ready ## The state machine and the thread tests for much longer.
	HYPOTHESIS_PROFILE=long .venvs/$(MAIN)/bin/python -m pytest -q tests/core

.PHONY: mutants
mutants: .venv/.ready ## Break the engine line by line, and see that each break is noticed.
	$(BIN)/python tools/mutate.py

.PHONY: chaos
chaos: .venv/.ready ## Kill the relay's senders and workers a thousand times, and count. ARGS=--kills=100 is faster.
	$(BIN)/python -m tools.chaos $(ARGS)

.PHONY: downstream
downstream: dist/.ready ## Run the test suites of Blinker, Flask and extensions on Blinker and on Aldis.
	$(PYTHON) -m tools.downstream

.PHONY: format
format: .venv/.ready ## Format and sort what can be.
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: lock
lock: $(UV) ## Take the newest versions into uv.lock.
	$(UV) lock --upgrade

.PHONY: clean
clean: ## Remove all that the targets made.
	rm -rf .tools .venv .venvs build dist docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
