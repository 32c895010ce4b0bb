# Everything that people and CI run. `make help` lists it.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OUT ?= build/demo
JOBS ?= 2

# uv trusts what the machine trusts, such as a company's own CA.
export UV_SYSTEM_CERTS := 1
export PYTHONPATH := $(CURDIR):$(CURDIR)/clients/python

.DEFAULT_GOAL := help
.PHONY: help setup protos demo test lint breaking format bench chart images up down e2e lock clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 10

setup: $(STAMP) ## create .venv with the pinned dependencies
$(STAMP): requirements.lock
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "Install Python 3.11 with venv first: apt-get install python3.11-venv" >&2; exit 1; }
	@command -v c++ >/dev/null || { echo "Install a C++ compiler first, which the dense CRF is built with: apt-get install g++ python3.11-dev" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(sed -n 's/^\(uv==[^ ]*\).*/\1/p' requirements.lock)"
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable clients/python
	@touch $@

protos: $(STAMP) ## generate Python from the contract, and the sync client from the async one
	@$(BIN)/python clients/python/generate.py

chart: $(STAMP) ## make the chart's schema and its table of keys from its values.yaml
	@$(BIN)/python deploy/describe_values.py

demo: protos ## the main job on sample parts, or on DATA=folder; writes build/demo/report.html
	$(BIN)/mekiki demo --out $(OUT) $(if $(DATA),--data $(DATA))

# What does not answer even to pytest's own limit (600 s a test) is killed and named, instead of the whole run by CI.
test: protos ## all tests, in parallel
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -o faulthandler_timeout=900 -o faulthandler_exit_on_timeout=true

lint: protos ## formatting, lint, types, imports, dependencies, the contract
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy services clients/python/mekiki
	$(BIN)/lint-imports
	$(BIN)/deptry services clients/python/mekiki
	cd protos && ../$(BIN)/buf lint
	cd protos && ../$(BIN)/buf format --diff --exit-code --path mekiki
	@$(MAKE) --no-print-directory breaking

breaking: $(STAMP)
	@base=$$(git describe --tags --abbrev=0 2>/dev/null || git rev-parse --verify --quiet origin/main || git rev-parse --verify --quiet main) && \
	  git ls-tree -d "$$base" protos | grep -q . || { echo "breaking: nothing to compare with"; exit 0; } && \
	  cd protos && ../$(BIN)/buf breaking --against "../.git#ref=$$base,subdir=protos"

format: $(STAMP) ## let the formatter and the linter repair what they can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	cd protos && ../$(BIN)/buf format --write --path mekiki

bench: protos ## every benchmark, or ONLY="boxfit serving"; writes build/bench/<name>.json
	$(BIN)/python -m tests.bench $(ONLY)

COMPILE := $(BIN)/uv pip compile --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet
GROUPS := client codec saliency boxfit anomaly dev

images: ## build the four container images (see docker/images.sh for a proxy, a base image, other builds of torch)
	docker/images.sh

up: ## the four services as containers, with an object store, Prometheus and Grafana; waits until all is healthy
	docker/compose.sh up

down: ## take that down again; the data stay, unless WIPE=1
	docker/compose.sh $(if $(filter 1,$(WIPE)),wipe,down)

e2e: protos ## the main job on a real Kubernetes: that of KUBECONFIG, or one of its own (root, Go; see tests/cluster)
	MEKIKI_E2E=1 $(BIN)/python -m pytest -s tests/cluster

lock: $(STAMP) ## pin what pyproject.toml asks for, as a whole and for each image
	$(COMPILE) pyproject.toml $(GROUPS:%=--group %) --output-file requirements.lock
	$(BIN)/python docker/lock.py "$(COMPILE)"

clean: ## remove what was built, but not .venv
	rm -rf build .mypy_cache .ruff_cache clients/python/mekiki/_sync clients/python/mekiki/*/v1
