# Every command of the project's own work. `make` lists them.
# All paths are relative and quoted, so that a checkout may lie in a path with spaces.

SHELL := /bin/sh
.DEFAULT_GOAL := help
PYTHON := .venv/bin/python
SOURCES = tasker tests $(wildcard benchmarks examples scripts)
FAST_TESTS = $(wildcard tests/unit tests/properties tests/architecture)
# AFTER_CHECK=1: without the fast tests, which `make check` has run.
TESTS = $(if $(AFTER_CHECK),$(filter-out $(FAST_TESTS),$(patsubst %/,%,$(wildcard tests/*/))),tests)
# More arguments for pytest, as in: make test PYTEST_ARGS='-x -k embedded'
PYTEST_ARGS ?=
# Processes that tests run in. A file stays in one of them; servers are shared. TEST_JOBS=0: one process, for a debugger.
# Fast tests compute. Those on real servers wait for almost half of the time, as for leases and drains: one more process.
FAST_JOBS = -n $(or $(TEST_JOBS),2) --dist loadfile
JOBS = -n $(or $(TEST_JOBS),3) --dist loadfile

# Tests start hundreds of processes: each would compile every module that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' Makefile

.PHONY: setup
setup: .venv/.project-stamp ## make .venv from requirements.lock (with uv when present, else venv and pip)

# The environment follows the lock in place, so that a running program keeps its files.
.venv/.lock-stamp: requirements.lock scripts/make-venv
	@sh scripts/make-venv lock
	@touch .venv/.lock-stamp

.venv/.project-stamp: .venv/.lock-stamp pyproject.toml
	@sh scripts/make-venv project
	@touch .venv/.project-stamp

.PHONY: check
check: setup format-check lint types imports fast-tests ## format, lint, types, import contracts, fast tests

.PHONY: format
format: setup ## format the code and apply safe fixes
	@$(PYTHON) -m ruff format .
	@$(PYTHON) -m ruff check --fix .

.PHONY: format-check
format-check: setup
	@$(PYTHON) -m ruff format --check .

.PHONY: lint
lint: setup
	@$(PYTHON) -m ruff check .

.PHONY: types
types: setup
	@$(PYTHON) -m mypy $(SOURCES)

.PHONY: imports
imports: setup
	@.venv/bin/lint-imports

.PHONY: fast-tests
fast-tests: setup
	@$(PYTHON) -m pytest $(FAST_TESTS) $(FAST_JOBS) $(PYTEST_ARGS)

.PHONY: test
test: setup ## every test, on real PostgreSQL and NATS
	@$(PYTHON) -m pytest $(TESTS) $(JOBS) $(PYTEST_ARGS)

.PHONY: faults
faults: setup ## only the tests that kill real processes, several rounds with new seeds
	@TASKER_FAULT_ROUNDS="$${TASKER_FAULT_ROUNDS:-4}" $(PYTHON) -m pytest tests -m faults $(PYTEST_ARGS)

.PHONY: fuzz
fuzz: setup ## many examples a property, then bad bytes through every decoder; about 20 minutes, FUZZ_S a decoder
	@$(PYTHON) -c "import atheris" 2>/dev/null || $(PYTHON) -m pip install --quiet "atheris>=3" || true
	@$(PYTHON) -m tests.properties.fuzz

.PHONY: machines
machines: setup ## the state machines over a whole service with MACHINE_EXAMPLES (200) each, and walks; about 8 minutes
	@TASKER_MACHINE_EXAMPLES="$${MACHINE_EXAMPLES:-200}" $(PYTHON) -m pytest tests/simulation/test_machine.py \
		tests/simulation/test_limits_machine.py -o timeout=3600 $(FAST_JOBS) $(PYTEST_ARGS)
	@TASKER_SIMULATION_SEEDS="$${SIMULATION_SEEDS:-0-200}" $(PYTHON) -m pytest tests/simulation/test_offers_walk.py \
		$(FAST_JOBS) $(PYTEST_ARGS)

.PHONY: deploy-try
deploy-try: setup ## follow the pages of deploy/ for real; needs root, mmdebstrap and systemd-nspawn, or a Docker with compose
	@TASKER_DEPLOY_TRY=1 $(PYTHON) -m pytest tests/deploy/test_started_units.py tests/deploy/test_started_containers.py $(PYTEST_ARGS)

.PHONY: demo
demo: setup ## the main job, from nothing to a verified log; KEEP=1 stays up
	@KEEP="$(KEEP)" $(PYTHON) -m examples.orders.demo

.PHONY: bench
bench: setup ## the service against its floor, into benchmarks/results
	@$(PYTHON) -m benchmarks $(BENCH_ARGS)

# Peers have an environment of their own: nothing of the project needs them.
.venv-peers/.stamp: benchmarks/peers/requirements.txt
	@$(PYTHON) -m venv --clear .venv-peers
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers/requirements.txt
	@touch .venv-peers/.stamp

.PHONY: bench-peers
bench-peers: setup .venv-peers/.stamp ## the service beside DBOS Transact and the floor, in one run
	@$(PYTHON) -m benchmarks.peers $(BENCH_ARGS)

.PHONY: soak
soak: setup ## half load for SOAK_MINUTES (60): do memory, descriptors and lag stay flat? SOAK_RATE tasks a second
	@$(PYTHON) -m benchmarks.soak $(SOAK_ARGS)

.PHONY: docs
docs: setup ## build the site into build/site; a link that leads nowhere is an error
	@$(PYTHON) scripts/build_site.py

.PHONY: docs-test
docs-test: setup ## follow every page as a reader would
	@$(PYTHON) -m pytest tests/docs $(PYTEST_ARGS)

.PHONY: generate
generate: setup ## write what is made from the code: the sync client, reference pages, locks of deploy/
	@$(PYTHON) -m scripts.generate_sync_client
	@$(PYTHON) -m scripts.generate_reference
	@$(PYTHON) scripts/generate_deploy_locks.py

.PHONY: lock
lock: ## write requirements.lock anew from pyproject.toml (needs uv); then make generate
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-annotate --no-header --upgrade --extra embedded --group dev \
		--output-file requirements.lock pyproject.toml

.PHONY: clean
clean: ## remove the environment, caches and build results
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .fuzz .import_linter_cache dist build
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
