# Everything that people and CI run. `make help` lists it.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PROTO_STAMP := build/protos.stamp
PROTOS := $(shell find protos clients/python/mekiki/_async -name '*.proto' -o -path '*_async*' -name '*.py' 2>/dev/null)

# uv trusts what the machine trusts, such as a company's own CA.
export UV_SYSTEM_CERTS := 1
export PYTHONPATH := $(CURDIR):$(CURDIR)/clients/python

.DEFAULT_GOAL := help
.PHONY: help setup protos demo test lint format bench lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 10

setup: $(STAMP) ## create .venv with the pinned dependencies
$(STAMP): requirements.lock
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "Install Python 3.11 with venv first: apt-get install python3.11-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(sed -n 's/^\(uv==[^ ]*\).*/\1/p' requirements.lock)"
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	@touch $@

protos: $(PROTO_STAMP) ## generate Python from the contract, and the sync client from the async one
$(PROTO_STAMP): $(STAMP) $(PROTOS) clients/python/generate.py
	$(BIN)/python clients/python/generate.py
	@mkdir -p $(@D) && touch $@

lock: $(STAMP) ## pin what pyproject.toml asks for
	$(BIN)/uv pip compile pyproject.toml --group client --group codec --group saliency --group boxfit --group anomaly --group dev \
	  --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet --output-file requirements.lock

clean: ## remove what was built, but not .venv
	rm -rf build .mypy_cache .ruff_cache clients/python/mekiki/_sync clients/python/mekiki/*/v1
