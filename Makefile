# Every target is safe to repeat. Downloads and builds go to $SOMA_CACHE (default ~/.cache/soma), never into the tree.
SHELL := /bin/sh
.DEFAULT_GOAL := help
PY := hack/py
PROFILE ?= node
NAME ?= $(PROFILE)
RUNS ?= 100
SEED ?= 1
SOAK_MINUTES ?= 120
DATA ?= ../shared/data/locomo

.PHONY: help demo demo-down test test-unit test-integration test-e2e lint format types cluster-up cluster-down cluster-status \
        images wheels crds protos kernel lock bench torture soak clean

help: ## Show this list
	@echo 'Soma Memory Operator: what make can do here'
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo 'Variables: PROFILE=node|api|kwok NAME=… CLUSTER=current DEMO_INPUT=FILE RUNS=… SEED=… SOAK_MINUTES=… SOMA_CACHE=…'

demo: ## From an empty machine to a recalled memory on a real cluster (cold about 15 min, warm about 2)
	@$(PY) -m hack.demo

demo-down: ## Remove the demo's cluster
	@$(PY) -m hack.cluster down --name node

test: ## All tests: unit, integration (real API server), end to end (real node) (cold about 30 min, warm about 15)
	@hack/test all

test-unit: ## Only what needs no other process (about a minute)
	@hack/test unit

test-integration: ## Only what needs real processes on loopback (a few minutes)
	@hack/test integration

test-e2e: ## Only what needs a real node (a few minutes)
	@hack/test e2e

lint: ## ruff, mypy strict, the layers, generated files fresh (about a minute)
	@hack/lint

format: ## Format the Python sources
	@$(PY) -m ruff format . && $(PY) -m ruff check --fix-only --quiet .

cluster-up: ## A real cluster: PROFILE=node (all of it), api (control plane), kwok (fake nodes) (warm < 60 s)
	@$(PY) -m hack.cluster up --profile $(PROFILE) --name $(NAME)

cluster-down: ## Remove everything that cluster-up made for NAME, and nothing else (seconds)
	@$(PY) -m hack.cluster down --name $(NAME)

cluster-status: ## What runs, where, and how to reach it
	@$(PY) -m hack.cluster status

wheels: ## Build our wheel and collect the locked ones for the images' Python (a minute, then seconds)
	@$(PY) -m hack.images wheels

images: ## Build both images, with docker or with buildah on a debootstrap base (4 min, then seconds)
	@$(PY) -m hack.images build

crds: ## Write crds/ from the pydantic models (seconds)
	@$(PY) -m soma_operator.crdgen

protos: ## Write the gRPC stubs from the protos (seconds)
	@$(PY) -m hack.protos

kernel: ## Build the optional scan kernel for this checkout (seconds)
	@$(PY) -m hack.kernel

lock: ## Write hack/locks/ from pyproject.toml (seconds)
	@hack/lock

bench: ## The benchmarks with their peers (about 20 min; hack/bench/NAME --help for one)
	@hack/bench/all --data $(DATA)

torture: ## Harm a memory during load, RUNS times, and check every answer (about a second a run)
	@hack/torture --runs $(RUNS) --seed $(SEED) --json

soak: ## Harm a memory, a fleet, and a fleet with its events, for SOAK_MINUTES in all, with random seeds (two hours)
	@hack/torture --runs 1000000 --minutes $$(($(SOAK_MINUTES) / 2)) --quiet --json
	@hack/torture --fleet --runs 1000000 --minutes $$(($(SOAK_MINUTES) / 4)) --quiet --json
	@hack/torture --fleet --events --runs 1000000 --minutes $$(($(SOAK_MINUTES) / 4)) --quiet --json

clean: ## Remove what tests and tools left in the tree (never the cache)
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +; rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .grimp_cache
