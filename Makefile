# One command per job. `make` or `make help` lists them; every job sets up what it needs first.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV ?= .venv
PY := $(VENV)/bin/python
# Where `make run` listens; every one can be given on the command line.
PROXY ?= 127.0.0.1:8000
ADMIN ?= 127.0.0.1:5000
DEMO_PORT ?= 9080
# Test processes: most tests wait for processes and timers, so more than one for each of two cores pays.
JOBS ?= 3
# The crate's Python feature needs an interpreter to build against.
export PYO3_PYTHON := $(abspath $(PY))
# Builds run without isolation and start the environment's maturin.
export PATH := $(abspath $(VENV))/bin:$(PATH)

NATIVE := $(shell find rust/src cext -type f ! -name '*.pyc' 2>/dev/null) rust/Cargo.toml rust/Cargo.lock
LINTED := python tests bench loadtest demo cext scripts
BUILT := $(VENV)/.built

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  \033[1m%-10s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(BUILT) ## Create .venv with all dependencies and build the native modules (installs missing system packages as root)

$(BUILT): pyproject.toml scripts/setup $(NATIVE)
	VENV=$(VENV) scripts/setup
	@touch $@

.PHONY: run
run: setup ## Start gateway (proxy :8000, admin 127.0.0.1:5000) and a demo backend; Ctrl-C stops both
	@$(PY) -m demo --proxy $(PROXY) --admin $(ADMIN) --backend-port $(DEMO_PORT)

.PHONY: check
check: setup ## Lint, format check, types and stubs of Python; clippy and rustfmt of Rust
	$(PY) -m ruff check $(LINTED)
	$(PY) -m ruff format --check $(LINTED)
	$(PY) -m mypy --strict
	$(PY) -m mypy --strict bench demo
	$(PY) -m mypy --strict -p scripts.dashboards -p scripts.prometheusrule
	$(PY) scripts/stubtest.py
	cd rust && cargo fmt --check
	cd rust && cargo clippy --all-targets -- -D warnings
	cd rust && cargo clippy --features python -- -D warnings

.PHONY: test
test: setup ## Run every test: cargo test, then pytest (TESTS="tests/x -k y" for a part; COVERED=85 fails below 85 %)
	cd rust && cargo test --profile quick
	$(PY) -m pytest -n $(JOBS) --dist loadfile $(if $(COVERED),--cov=hotswap_proxy --cov-report=term:skip-covered --cov-fail-under=$(COVERED)) $(TESTS)

.PHONY: coverage
coverage: setup ## Run pytest with line coverage of the Python package
	$(PY) -m pytest --cov=hotswap_proxy --cov-report=term-missing:skip-covered $(TESTS)

.PHONY: bench
bench: setup ## Measure beside nginx and HAProxy, write docs/performance.md (QUICK=1: two minutes, writes nothing)
	$(if $(wildcard bench/micro),$(PY) -m pytest bench/micro -p no:cacheprovider --benchmark-only --benchmark-columns=min,median,ops)
	$(PY) -m bench $(if $(QUICK),--quick) $(BENCH)

.PHONY: load
load: setup ## Mixed workload with configuration changes for a minute; fails on any unexpected error
	$(PY) -m loadtest $(LOAD)

.PHONY: fuzz
fuzz: setup ## Fuzz both codecs, h11 beside them, and a live worker (SECONDS=300); a finding is kept in tests/http/corpus
	PYTHONPATH=tests:tests/http $(PY) tests/http/fuzz.py --seconds $(or $(SECONDS),300)

.PHONY: soak
soak: setup ## Mixed traffic and changes through a node for MINUTES=20; fails on growth, lost requests, unexpected errors
	$(PY) -m loadtest.soak --minutes $(or $(MINUTES),20) $(SOAK)

.PHONY: chaos
chaos: setup ## Kill, stop and starve processes and backends under load for five minutes (CHAOS="--seconds 60")
	$(PY) -m pytest tests/chaos $(or $(CHAOS),--seconds 300)

.PHONY: generate
generate: setup ## Write anew what is made from code: dashboards, PrometheusRule, the API and configuration reference
	$(PY) -m scripts.dashboards
	$(PY) -m scripts.prometheusrule
	$(PY) scripts/api_reference.py

.PHONY: wheel
wheel: setup ## Build the wheel and try it in an empty environment
	rm -rf dist && $(PY) -m pip wheel -q --no-deps --no-build-isolation --wheel-dir dist .
	$(PY) scripts/smoke_wheel.py dist

.PHONY: sdist
sdist: setup ## Build the source distribution
	$(PY) -c 'import sys; sys.path.insert(0, "cext"); import build_backend; print(build_backend.build_sdist("dist"))'

.PHONY: format
format: setup ## Format Python and Rust in place
	$(PY) -m ruff check --fix $(LINTED)
	$(PY) -m ruff format $(LINTED)
	cd rust && cargo fmt

.PHONY: clean
clean: ## Remove what was built (keeps .venv and data)
	rm -rf dist build rust/target python/hotswap_proxy/*.so $(BUILT)
