# Everything a developer, a physicist or an operator does with this project; `make` lists it.
# Each target sets up what it needs in .venv, once.

PYTHON ?= python3
BIN := .venv/bin

# What the shipped model is made of: seeds, so that anyone can make it again.
TRAIN_EVENTS := data/train.h5
TEST_EVENTS := data/test.h5
CALIBRATION_EVENTS := data/calibration.h5
RUN ?= runs/default
PRESET ?= substructure
RESUME = $(if $(wildcard $(RUN)/checkpoint.pt),--resume)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: serve
serve: .venv/service ## serve the shipped model on 127.0.0.1:8000 (PORT=, MODEL=, WORKERS= are passed on)
	@exec $(BIN)/python -m service $(if $(PORT),--port $(PORT)) $(if $(MODEL),--model $(MODEL)) $(if $(WORKERS),--workers $(WORKERS))

.PHONY: test
test: .venv/everything ## run the tests
	$(BIN)/python -m pytest

.PHONY: check
check: .venv/everything ## lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: format
format: .venv/everything ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: train
train: .venv/everything ## train on EVENTS= (default: the simulated training sample) into RUN=, from PRESET=
	$(if $(EVENTS),,$(MAKE) $(TRAIN_EVENTS))
	$(BIN)/python -m training train $(or $(EVENTS),$(TRAIN_EVENTS)) --out $(RUN) --preset $(PRESET) $(RESUME)

.PHONY: model
model: .venv/everything $(TRAIN_EVENTS) $(CALIBRATION_EVENTS) $(TEST_EVENTS) ## make the shipped model again from nothing, about an hour on 2 cores (REAL= adds events to its card)
	$(BIN)/python -m training train $(TRAIN_EVENTS) --out $(RUN) --preset $(PRESET) $(RESUME)
	$(BIN)/python -m training export $(RUN) --out exported/autoencoder.onnx --calibration $(CALIBRATION_EVENTS)
	$(BIN)/python -m training evaluate exported/autoencoder.onnx $(TEST_EVENTS) $(REAL) --out exported

$(TRAIN_EVENTS): | .venv/everything
	mkdir -p data
	$(BIN)/python -m training simulate --background 350000 --signal 0 --seed 1 $@

$(TEST_EVENTS): | .venv/everything
	mkdir -p data
	$(BIN)/python -m training simulate --background 50000 --signal 20000 --seed 2 $@

$(CALIBRATION_EVENTS): | .venv/everything
	mkdir -p data
	$(BIN)/python -m training simulate --background 100000 --signal 0 --seed 4 $@

exported/sample.h5: | .venv/everything
	$(BIN)/python -m training simulate --background 3000 --signal 300 --seed 3 $@

.PHONY: load
load: .venv/everything ## locust against a service that it starts, every answer checked (SECONDS=, USERS=)
	$(BIN)/python -m benchmarks.load $(if $(SECONDS),--seconds $(SECONDS)) $(if $(USERS),--users $(USERS)) $(if $(MODEL),--model $(MODEL))

.PHONY: bench
bench: .venv/everything ## events/s over HTTP beside the scorer's own, into benchmarks/results/
	$(BIN)/python -m benchmarks.throughput $(if $(MODEL),--model $(MODEL))

.PHONY: clean
clean: ## remove the environment and caches; data and runs stay
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache

# A stamp is newer than pyproject.toml when the environment has what it asks for.
.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/service: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/everything: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[train,simulate,bench,dev]'
	@touch $@ .venv/service
