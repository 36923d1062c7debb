# SPDX-License-Identifier: Apache-2.0
# Everything a developer runs. `make` alone lists the targets.

PYTHON ?= /usr/bin/python3
VENV := .venv/bin
HOST ?= node1
SETUP := $(PYTHON) -m devstack.setup
LAB := $(VENV)/python -m devstack.lab
# The functional tests wait more than they compute: two labs at a time, each with half of them.
LABS ?= 2
ON_LABS := $(VENV)/pytest -q --durations=10 -n $(LABS) --dist loadfile tests/functional

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-embedded test test-unit test-functional lint bench chaos chaos-nova \
        fuzz gate simulate lab-up lab-down lab-status lab-shell sample sample-report docs picture clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' Makefile

setup: ## Install Debian packages and build .venv, as far as they are missing
	@$(SETUP)

demo: ## Move a guest there and back on real RabbitMQ, Ceph and libvirt (root)
	@$(SETUP) build lab
	@$(VENV)/python -m devstack.demo

demo-embedded: ## A simulated move in one process, without root
	@$(SETUP) --embedded
	@$(VENV)/python -m devstack.demo_embedded

test: setup ## All tests, those on the labs too; LABS=1 for one lab instead of two (root)
	@$(VENV)/pytest -q -n auto tests/unit tests/simulation $(ARGS)
	@$(ON_LABS) $(ARGS)

test-unit: ## Tests that need no lab and no root
	@$(SETUP) --embedded
	@$(VENV)/pytest -q -n auto tests/unit $(ARGS)
	@# in processes of its own: what a test left behind there would be in every schedule
	@$(VENV)/pytest -q -n auto tests/simulation $(ARGS)

test-functional: setup ## Tests on the labs (root)
	@$(ON_LABS) $(ARGS)

lint: ## ruff and mypy --strict
	@$(SETUP) build
	@$(VENV)/ruff check .
	@$(VENV)/mypy rbd_worker rpcapi devstack/lab devstack/setup devstack/gate doc/_ext/manual

bench: ## Compare with rsync, tar, a bare consumer and more; ARGS="prepare tap --json FILE" (root)
	@$(SETUP) build lab test gate
	@# what cannot be built is not compared with, which the results then tell
	@$(VENV)/python -m devstack.gate build || true
	@$(VENV)/python -m tests.benchmarks $(ARGS)

chaos: setup ## Break parts at random moments while guests move; ARGS="--rounds 20 --seed 1" (root)
	@$(VENV)/python -m tests.chaos $(ARGS)

chaos-nova: ## The same beside an unmodified Nova 34, whose parts are broken, too (root)
	@$(SETUP) build lab test gate
	@$(VENV)/python -m devstack.gate build
	@$(VENV)/python -m tests.chaos.beside_nova $(ARGS)

fuzz: setup ## Hostile input, guided by coverage; TARGET=cast SECONDS=600 (or RUNS=1000000) JOBS=2
	@$(VENV)/pip install -q --disable-pip-version-check --no-deps -r tests/fuzz/constraints.txt
	@$(VENV)/python -m tests.fuzz $(if $(SECONDS),--seconds $(SECONDS)) $(if $(RUNS),--runs $(RUNS)) \
	    $(if $(JOBS),--jobs $(JOBS)) $(TARGET) $(ARGS)

simulate: ## Schedules of everything that can go wrong: N=1000000, or SEED=4711 again
	@$(SETUP) --embedded
	@$(VENV)/python -m tests.simulation $(if $(N),--number $(N)) $(if $(FIRST),--first $(FIRST)) \
	    $(if $(SEED),--seed $(SEED)) $(if $(KEEP),--keep $(KEEP)) $(ARGS)

gate: ## Live migrations by an unmodified Nova 34 with workers beside its computes (root)
	@# without CI what is missing is a reason to skip, which the tests then tell
	@$(SETUP) build lab test gate || test -z "$$CI"
	@$(VENV)/python -m devstack.gate build || test -z "$$CI"
	@$(VENV)/pytest -q tests/gate $(ARGS)

lab-up: ## Start the lab, or say that it runs (root)
	@$(SETUP) build lab
	@$(LAB) up

lab-down: ## End the lab without a trace
	@$(PYTHON) -m devstack.lab down

lab-status: ## Say what runs in the lab
	@$(PYTHON) -m devstack.lab status

lab-shell: ## Open a shell on a host of the lab: make lab-shell HOST=node2
	@$(PYTHON) -m devstack.lab shell $(HOST)

sample: ## Write the sample configuration into etc/
	@$(SETUP) --embedded
	@$(VENV)/oslo-config-generator --config-file etc/config-generator.conf

sample-report: ## Write a report on three simulated hosts into build/report.html
	@$(SETUP) --embedded
	@mkdir -p build
	@$(VENV)/python -m tests.sample_report build/report.html 2>build/report.log

docs: ## Build the manual into build/docs; a warning is an error
	@$(SETUP) --embedded
	@$(VENV)/sphinx-build -W --keep-going -q -b html doc build/docs
	@echo "the manual: build/docs/index.html"

picture: ## Record the manual's pictures of terminals anew, from a run of the demo (root)
	@$(SETUP) build lab
	@$(VENV)/python -m devstack.demo --record doc/images

clean: lab-down ## End the lab; remove .venv and everything that was built
	@rm -rf .venv .venv-nova build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
