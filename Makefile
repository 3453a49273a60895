# The targets need Python 3.11 or newer and make. They download everything else: uv from PyPI into .cache/, the environment into
# .venv/, and the sources of the control plane into the XDG cache. They install nothing into the system's Python.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help lint hooks format docs krew test e2e e2e-down demo demo-down kind-demo kind-demo-down bench bench-plot bench-profile benchmark-triggers simulate recall clean

PYTHON ?= python3
UV_VERSION := 0.13.9
UV := .cache/uv-$(UV_VERSION)/bin/uv
RUN := .venv/bin/python -m
PY_DIRS := operator plugin worker hack tests
# Tests mostly wait, so there are more workers than cores; each has an API server and a PostgreSQL of its own.
WORKERS ?= 3

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

$(UV):
	@echo "fetching uv $(UV_VERSION) from PyPI into .cache/"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": set PYTHON=...") if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv .cache/uv-$(UV_VERSION)
	@.cache/uv-$(UV_VERSION)/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

# Bytecode is compiled once: where Python may not write it, each start of a program would compile every package again.
.venv/.synced: $(UV) pyproject.toml uv.lock
	@echo "installing the environment, which takes one to two minutes the first time"
	@$(UV) sync --quiet --locked --all-extras --compile-bytecode --python $(PYTHON)
	@touch $@

lint: .venv/.synced ## Check formatting, lint rules, types and the directions of imports
	$(RUN) ruff format --check $(PY_DIRS)
	$(RUN) ruff check $(PY_DIRS)
	$(RUN) mypy $(PY_DIRS)
	.venv/bin/lint-imports

hooks: .venv/.synced ## Install the same checks to run before each commit (pre-commit)
	$(RUN) pre_commit install

format: .venv/.synced ## Format the code, apply automatic fixes, copy the CRDs into the chart, write the tables of values and metrics and the dashboard
	$(RUN) ruff format $(PY_DIRS)
	$(RUN) ruff check --fix $(PY_DIRS)
	cp crds/*.yaml charts/embedding-operator/files/crds/
	$(RUN) hack.release.chart_readme
	$(RUN) hack.release.metrics_page
	$(RUN) hack.dashboard

docs: .venv/.synced ## Build the pages of docs/ as a site into build/site, and fail if a link or an anchor is wrong
	@NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict
	@echo "build/site/index.html"

krew: $(UV) ## Write what krew installs into dist/: the archive of `kubectl embeddings`, and its manifest
	@$(PYTHON) -m hack.release.krew $(UV)

test: .venv/.synced ## Run all tests that need no pods: unit, chart, and integration with a real API server and a real PostgreSQL
	$(RUN) pytest --ignore=tests/e2e --numprocesses=$(WORKERS)

e2e: .venv/.synced ## Test the chart with real pods: on kind, or on a node that it creates on this machine (Linux, as root)
	$(RUN) pytest tests/e2e

e2e-down: .venv/.synced ## Remove what a killed `make e2e` left of its node
	@$(RUN) hack.node

demo: .venv/.synced ## Run the demo: a cluster, a database and 335 businesses whose rows become fresh (KEEP=1, PROVIDER=gemini)
	@$(RUN) hack.demo $(if $(KEEP),--keep) $(if $(PROVIDER),--provider=$(PROVIDER))

demo-down: .venv/.synced ## Stop what `make demo KEEP=1` left running
	@$(RUN) hack.demo --down

kind-demo: .venv/.synced ## Run the demo on kind, with the operator's image and chart; the cluster stays
	@$(RUN) hack.demo.on_kind

kind-demo-down: .venv/.synced ## Delete the cluster of `make kind-demo`
	@$(RUN) hack.demo.on_kind --down

bench: .venv/.synced ## Measure how fast the operator is, in about an hour (ONLY=backfill_rows_per_s, ROWS=20000, SHORT=1: counts only; docs/benchmarks.md)
	@$(RUN) hack.benchmarks $(if $(ONLY),--only=$(ONLY)) $(if $(ROWS),--rows=$(ROWS)) $(if $(SHORT),--short)

bench-plot: .venv/.synced ## Measure jobs/s and memory over window, rows and sources, in about eight minutes, and draw docs/benchmarks.svg (SMALL=1, DRAW=1)
	@$(RUN) hack.benchmarks.plot $(if $(SMALL),--small) $(if $(DRAW),--draw)

bench-profile: .venv/.synced ## Show where the operator's processor time of a job goes, by py-spy, in about two minutes (ROWS=2000)
	@$(RUN) hack.benchmarks.job_profile $(if $(ROWS),--rows=$(ROWS))

benchmark-triggers: .venv/.synced ## Measure what each form of the trigger costs an application (docs/database.md)
	@$(RUN) hack.benchmarks.trigger_cost

simulate: .venv/.synced ## Simulate a day of provider failures over 100,000 rows, on a virtual clock (SEED=2)
	@$(RUN) hack.simulation $(if $(SEED),--seed=$(SEED))

recall: .venv/.synced ## Measure how well, how fast and with how much memory the local model finds businesses, in about two minutes (ONLY=local)
	@$(RUN) hack.recall $(if $(ONLY),--only=$(ONLY))

clean: ## Remove what the targets created here (the caches outside of the repository stay)
	@[ ! -d .run ] || [ -z "$$(find .run -name '*.json' -print -quit)" ] || \
		{ echo "make clean: a demo or a cluster is still up: make demo-down, make kind-demo-down, hack/cluster down" >&2; exit 2; }
	rm -rf .venv .cache .run build dist .import_linter_cache .pytest_cache .mypy_cache .ruff_cache
