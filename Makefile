# Needs nothing but make and a Python of 3.11 or newer with its venv module. Whatever else there is comes from the locks.

BIN := .venv/bin
READY := .venv/.ready
PYTHONS := $(PYTHON) python3.13 python3.12 python3.11 python3
COMPILE := $(BIN)/pip-compile --quiet --strip-extras --generate-hashes --allow-unsafe --no-header --no-annotate \
	--no-emit-options --no-emit-index-url --no-emit-find-links --no-emit-trusted-host $(if $(UPGRADE),--upgrade)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast test-airflow simulate simulate-night mutations prometheus dashboards lint faults screenshot bench lock lock-peers clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: $(READY) ## Make .venv with the towpath command (the other targets do so by themselves)

demo: $(READY) ## Send real orders through the flow on a real Kafka, and watch: make demo ORDERS=20000 RATE=500 FAULTS=1 TRACES=1 KEEP=1
	@$(BIN)/towpath demo $(if $(ORDERS),--orders $(ORDERS)) $(if $(RATE),--rate $(RATE)) $(if $(FAULTS),--faults) \
	    $(if $(TRACES),--traces) $(if $(KEEP),--keep)

JOBS ?= 3

test: $(READY) ## Run every test, also against a real Kafka, three files at a time (they mostly wait): make test JOBS=1
	@$(BIN)/python -m pytest tests/faults # alone: three brokers, twelve stages and their deaths are enough for a machine
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --ignore tests/faults

test-fast: $(READY) ## Run the tests that need no Kafka
	@$(BIN)/python -m pytest tests/unit tests/property tests/hostile

test-airflow: $(READY) ## Run the DAG in a real Airflow, which gets an environment of its own: .airflow
	@test -x .airflow/bin/airflow || { $(BIN)/python -m venv .airflow && \
	    .airflow/bin/python -m pip install --quiet --disable-pip-version-check --no-input -r deploy/airflow/requirements.txt; }
	@$(BIN)/python -m pytest tests/integration/test_airflow.py

SEEDS ?= 2000
FROM ?= 0

simulate: $(READY) ## Simulate the order flow, with everything going wrong that can (3 minutes): make simulate SEEDS=2000 FROM=0 MINUTES=10
	@$(BIN)/towpath simulate topologies.orders --from $(FROM) $(if $(MINUTES),--minutes $(MINUTES),--seeds $(SEEDS))

simulate-night: $(READY) ## The same for a night, with seeds that nobody has played yet: make simulate-night MINUTES=480
	@$(BIN)/towpath simulate topologies.orders --from $$(date +%s)000 --minutes $(or $(MINUTES),480)

mutations: $(READY) ## Put in bugs, one at a time, and count the seeds until the simulator finds each (a few minutes)
	@$(BIN)/python -m tests.simulation

prometheus: ## Fetch Prometheus and Alertmanager, which some tests need, from Debian's packages into Towpath's cache
	@deploy/prometheus/fetch

dashboards: $(READY) ## Write Grafana's dashboards anew from their code: deploy/grafana/json
	@cd deploy/grafana && ../../$(BIN)/python -m dashboards

lint: $(READY) ## Check style, format, types and who imports whom
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

faults: $(READY) ## Let faults happen to the order flow on three brokers (30 minutes): make faults FAULT=broker-kill
	@$(BIN)/python -m tests.faults $(FAULT)

screenshot: $(READY) ## Take docs/top.svg anew, from a demo with faults (two minutes)
	@$(BIN)/python -m tests.support.screenshot

bench: $(READY) ## Measure Towpath beside its peers (25 minutes): make bench ONLY="peers flame" QUICK=1 LEAK=60 (minutes of load)
	@$(MAKE) --no-print-directory .peers/.ready || echo "Going on without the peers and without plots." >&2
	@LEAK=$(LEAK) $(BIN)/python -m tests.bench $(ONLY) $(if $(QUICK),--quick)

.peers/.ready: tests/bench/peers/requirements.lock | $(READY)
	@echo "Setting up .peers with what Towpath is measured beside; this takes about a minute, once." >&2
	@$(BIN)/python -m venv .peers
	@.peers/bin/python -m pip install --quiet --disable-pip-version-check --no-input --require-hashes -r $< || { \
	    echo "The peers of tests/bench/peers/requirements.lock cannot be installed (network, proxy, pip's own settings)." >&2; \
	    exit 1; }
	@touch $@

lock: $(READY) ## Write the locks anew after a change of dependencies (UPGRADE=1: to the newest versions)
	@$(BIN)/python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb')); \
	    open('.venv/runtime.in', 'w').write('\n'.join(p['project']['dependencies'])); \
	    open('.venv/dev.in', 'w').write('\n'.join(p['dependency-groups']['dev']))"
	@$(COMPILE) -o requirements.lock .venv/runtime.in
	@$(COMPILE) -c requirements.lock -o requirements-dev.lock .venv/runtime.in .venv/dev.in
	@$(BIN)/python -m streams.jars > .venv/jars.lock && mv .venv/jars.lock streams/jars.lock

lock-peers: $(READY) ## Write the lock of the benchmarks' peers anew (UPGRADE=1: to the newest versions)
	@$(COMPILE) -o tests/bench/peers/requirements.lock tests/bench/peers/requirements.in

clean: ## Remove .venv, caches and builds (not .towpath: that is the local Kafka's data)
	@rm -rf .venv .peers build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml requirements-dev.lock
	@for python in $(PYTHONS) none; do \
	    $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	done; \
	if [ $$python = none ]; then \
	    echo "No Python of 3.11 or newer with its venv module is found. Install one (Debian: apt-get install python3-venv)," >&2; \
	    echo "or name it: make setup PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	echo "Setting up .venv with $$($$python --version); this takes about a minute, once." >&2; \
	$$python -m venv .venv
	@$(PIP) --require-hashes -r requirements-dev.lock || { \
	    echo "The packages of requirements-dev.lock cannot be installed. Check that the package registry can be reached" >&2; \
	    echo "(network, proxy, pip's own settings) and run make again." >&2; exit 1; }
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@
