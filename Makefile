# Two commands do all the set-up: `make demo` runs the main job, `make test` passes the tests.
# Both install what they need below this folder, and may be run again at any time.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

PYTHON ?= python3
VENV := .venv
CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR
LEPTON := $(CARGO_TARGET_DIR)/release/lepton
ONNXRUNTIME := .deps/onnxruntime
# Where the build folder is elsewhere, the binary does not find the library by itself.
export LEPTON_ONNXRUNTIME := $(CURDIR)/$(ONNXRUNTIME)/libonnxruntime.so
export ORT_DYLIB_PATH := $(LEPTON_ONNXRUNTIME)
DEMO_STAMP := $(VENV)/.demo-packages
TEST_STAMP := $(VENV)/.test-packages
# Two versions of MLflow, each with its own server: they cannot share an environment.
MLFLOW_STAMPS := .venv-mlflow3/.packages .venv-mlflow2/.packages

.PHONY: build demo test check format clippy tidy unit clients docs openapi bench clean help

help: ## Lists the targets.
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

build: $(ONNXRUNTIME)/.done ## Builds the binary with optimisation.
	@echo "== building the release binary (minutes the first time)"
	cargo build --release --locked --package lepton
	@echo "== built $(LEPTON)"

$(ONNXRUNTIME)/.done: scripts/fetch-onnxruntime
	@echo "== fetching ONNX Runtime's shared library from its Python wheel"
	scripts/fetch-onnxruntime $(ONNXRUNTIME)
	@cd $(ONNXRUNTIME) && ln -sf libonnxruntime.so.* libonnxruntime.so
	@touch $@

$(VENV)/.made:
	@echo "== making a Python environment in $(VENV)"
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(DEMO_STAMP): $(VENV)/.made examples/requirements.txt
	@echo "== installing the demo's Python packages"
	$(VENV)/bin/pip install --quiet --requirement examples/requirements.txt
	@touch $@

$(TEST_STAMP): $(VENV)/.made tests/clients/requirements.txt
	@echo "== installing the client tests' Python packages"
	$(VENV)/bin/pip install --quiet --requirement tests/clients/requirements.txt
	@touch $@

.venv-mlflow%/.packages: tests/clients/requirements-mlflow%.txt
	@echo "== installing MLflow $* and its server in .venv-mlflow$* (a minute or two)"
	$(PYTHON) -m venv .venv-mlflow$*
	.venv-mlflow$*/bin/pip install --quiet --requirement $<
	@touch $@

demo: build $(DEMO_STAMP) ## Trains, tracks, deploys and predicts on real data.
	LEPTON=$(LEPTON) $(VENV)/bin/python examples/demo.py

test: format clippy tidy unit clients docs ## Everything that must hold before a change lands.
	@echo "== all checks passed"

check: format clippy tidy ## The quick checks.

format:
	@echo "== format"
	cargo fmt --all --check

clippy:
	@echo "== clippy"
	cargo clippy --workspace --all-targets --locked --quiet -- --deny warnings

tidy:
	@echo "== tidy: crate layering, file sizes, licences, links"
	cargo xtask tidy

unit: $(ONNXRUNTIME)/.done
	@echo "== unit, property, conformance, simulation and crash tests"
	cargo test --workspace --locked --quiet

clients: $(ONNXRUNTIME)/.done $(TEST_STAMP) $(MLFLOW_STAMPS)
	@echo "== unmodified clients against a real server"
	cargo build --locked --quiet --package lepton --package lepton-ml --bins --examples
	LEPTON=$(CARGO_TARGET_DIR)/debug/lepton $(VENV)/bin/python -m pytest -q tests/clients

docs:
	@echo "== documentation"
	RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps --locked --quiet

openapi: ## Writes docs/openapi.json anew.
	UPDATE_OPENAPI=1 cargo test --quiet --package lepton-server openapi

bench: build $(TEST_STAMP) ## Runs the benchmarks of the spine; see benches/README.md for all.
	LEPTON=$(LEPTON) PYTHON=$(CURDIR)/$(VENV)/bin/python benches/run.sh

clean: ## Removes what was built and installed here.
	rm -rf $(CARGO_TARGET_DIR) $(VENV) .venv-mlflow3 .venv-mlflow2 .deps
