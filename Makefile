# One front door for every command. `make` alone lists them.
# The targets set up everything that they need. You need python3 (3.11 or later), make and a compiler.

PYTHON ?= python3
UV := .tools/bin/uv
UV_VERSION := 0.13.8
BIN := .venv/bin
export UV_PYTHON_DOWNLOADS := never
# Tests start many Python processes. Without a cache, each of them would compile the modules that it imports.
export UV_COMPILE_BYTECODE := 1
export PYTHONDONTWRITEBYTECODE := 1

SOURCES := $(shell find src -name '*.py') src/aldis/py.typed pyproject.toml README.md LICENSE

# The Pythons to test on: the main one, and the other ones that are installed.
MAIN := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
PYTHONS := $(shell sh tools/pythons.sh $(PYTHON))
OTHERS := $(filter-out $(MAIN),$(PYTHONS))
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

# Each Python has an environment with the built wheel. `core` has no optional package.
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
demo: .venvs/$(MAIN)/.ready ## Visit the example shop, and show its signals. SERVE=1 keeps the shop running.
	@SERVE=$(SERVE) .venvs/$(MAIN)/bin/python examples/shop/demo.py

.PHONY: bench
bench: .venv/.ready ## Compare Aldis with similar libraries, and write docs/benchmarks.md. ARGS=--quick is faster.
	$(BIN)/python -m benchmarks engine $(or $(ARGS),--write)

.PHONY: bench-relay
bench-relay: .venv/.ready ## Compare the relay with similar libraries, and write docs/benchmarks-relay.md. ARGS=--quick is faster.
	$(BIN)/python -m benchmarks relay $(or $(ARGS),--write)

# Checking

# How many targets run at the same time. Each of them uses one core.
JOBS ?= 2

# All targets of `make test`, the longest first. So no long target starts late and runs alone at the end.
CHECKS := relay shop $(OTHERS:%=test-%) flask rest stress pyright mypy docs core typing complete-types lint coverage

# The programs that some targets need. `make test` installs them first: make would begin a target that waits for another
# one last, and these are the longest.
PROGRAMS := programs

.PHONY: test
test: ## Run everything that CI checks.
	@$(MAKE) --no-print-directory programs
	@$(MAKE) --no-print-directory --jobs=$(JOBS) --output-sync=target $(CHECKS) PROGRAMS=
	@echo "Tested on Python $(PYTHONS)$(if $(OTHERS),; examples, whole programs and browsers on $(MAIN) only)."
	@$(if $(MISSING),echo "Not tested on Python $(MISSING): not installed here.")

.PHONY: lint
lint: .venv/.ready ## Check style and import contracts.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo

.PHONY: types
types: mypy pyright complete-types typing ## Check types with mypy and pyright, and that each public name has a type.

.PHONY: mypy pyright complete-types typing
mypy: .venv/.ready
	$(BIN)/mypy

pyright: .venv/.ready
	$(BIN)/pyright

complete-types: .venv/.ready .venvs/$(MAIN)/.ready
	PATH="$(CURDIR)/.venvs/$(MAIN)/bin:$$PATH" $(BIN)/pyright --ignoreexternal --verifytypes aldis

typing: .venv/.ready .venvs/$(MAIN)/.ready
	$(BIN)/python tests/typing/check.py .venvs/$(MAIN)/bin/python

# The tests on the main Python are several targets, so that they can run at the same time. Together, the targets with `--cov`
# run every branch of the source, and `coverage` checks this. Each of them has its own data file in .coverages.
PYTEST := -m pytest -q --no-header
COVERED := relay core flask rest
WITH_COVERAGE = @mkdir -p .coverages; COVERAGE_FILE=$(CURDIR)/.coverages/$@ .venvs/$(if $(filter core,$@),core,$(MAIN))/bin/python $(PYTEST) \
	--cov=aldis --cov-branch --cov-report=

# The folders whose tests need only the standard library.
CORE := tests/core tests/aio tests/delivery tests/observe
FLASK := tests/flask tests/quart
SHOP := tests/examples

# README, docs and docstrings are tests too: see conftest.py.
EXAMPLES := README.md docs src

.PHONY: core
core: .venvs/core/.ready ## Run the core's tests, with no optional package installed.
	$(WITH_COVERAGE) -m "not stress" $(CORE)

# These tests repeat the same lines many times. Coverage would take two thirds of their time and add no branch.
.PHONY: stress
stress: .venvs/core/.ready ## Run the core's tests of threads, interruptions and random programs.
	.venvs/core/bin/python $(PYTEST) -m stress $(CORE)

.PHONY: relay
relay: .venvs/$(MAIN)/.ready .venv/.ready $(PROGRAMS) ## Run the relay's tests.
	$(WITH_COVERAGE) tests/relay

.PHONY: flask
flask: .venvs/$(MAIN)/.ready .venv/.ready $(PROGRAMS) ## Run the tests of the Flask and Quart rooms, with browsers.
	$(WITH_COVERAGE) $(FLASK)

# Whole programs run in other processes, without coverage. The tests of their parts cover their code.
.PHONY: shop
shop: .venvs/$(MAIN)/.ready ## Run the tests of the example shop and of its demo.
	.venvs/$(MAIN)/bin/python $(PYTEST) $(SHOP)

.PHONY: rest
rest: .venvs/$(MAIN)/.ready .venv/.ready ## Run all other tests, and the examples of README, docs and docstrings.
	$(WITH_COVERAGE) $(EXAMPLES) tests $(patsubst %,--ignore=%,tests/relay $(CORE) $(FLASK) $(SHOP))

.PHONY: coverage
coverage: $(COVERED)
	.venvs/$(MAIN)/bin/python -m coverage combine --quiet --keep $(COVERED:%=.coverages/%)
	.venvs/$(MAIN)/bin/python -m coverage report --show-missing --skip-covered --fail-under=100

.PHONY: test-$(MAIN)
test-$(MAIN): $(COVERED) coverage stress shop

# Another Python may run the same code in another way: it frees and collects objects and switches threads at other moments,
# traces other lines, and has another asyncio, inspect and import. So all tests of the source run there too. Examples, whole
# programs and browsers are left out, because they take long and prove the same as on the main Python. There are also
# fewer random programs and interruptions (see `brief` in tests/conftest.py).
ELSEWHERE := -m "not program" tests
test-%: export HYPOTHESIS_PROFILE ?= brief
test-%: .venvs/%/.ready .venv/.ready $(PROGRAMS)
	.venvs/$*/bin/python $(PYTEST) $(ELSEWHERE)

# Programs that some tests run. Debian has packages of them.
.PHONY: programs
programs:
	@sh tools/debian.sh chromium "The tests of the live page in a browser"
	@sh tools/debian.sh pgbouncer "The tests behind PgBouncer"

.PHONY: docs
docs: .venv/.ready ## Build the documentation. Warnings are errors.
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

.PHONY: test-everywhere
test-everywhere: ## Like test, with examples, whole programs and browsers on each Python.
	@HYPOTHESIS_PROFILE=default $(MAKE) --no-print-directory test ELSEWHERE="$(EXAMPLES) tests"

.PHONY: test-long
test-long: .venvs/$(MAIN)/.ready ## Run the state machine and the thread tests for much longer.
	HYPOTHESIS_PROFILE=long .venvs/$(MAIN)/bin/python -m pytest -q -m stress $(CORE)

.PHONY: test-steady
test-steady: .venvs/$(MAIN)/.ready .venv/.ready $(PROGRAMS) ## Run the tests of threads and processes 20 times on busy cores. ARGS="--runs=5 FILE" is faster.
	.venvs/$(MAIN)/bin/python tools/steady.py $(ARGS)

.PHONY: mutants
mutants: .venv/.ready ## Break the source on purpose, and check that a test notices each break. ARGS="--promise e01_order" is faster.
	$(BIN)/python -m tools.mutants --jobs $(JOBS) $(ARGS)

.PHONY: chaos
chaos: .venv/.ready ## Kill the relay's senders and workers a thousand times, and count what is lost or doubled. ARGS=--kills=100 is faster.
	$(BIN)/python -m tools.chaos $(ARGS)

.PHONY: downstream
downstream: dist/.ready ## Run the test suites of Blinker, Flask and extensions on Blinker and on Aldis.
	$(PYTHON) -m tools.downstream

.PHONY: format
format: .venv/.ready ## Format the code and sort its imports.
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: lock
lock: $(UV) ## Put the newest versions into uv.lock.
	$(UV) lock --upgrade

.PHONY: clean
clean: ## Delete everything that the targets made.
	rm -rf .tools .venv .venvs build dist docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverages .steady
