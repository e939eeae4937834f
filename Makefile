# Two commands for a newcomer: `make demo` and `make test`. Each makes .venv, installs into it, and runs.
# Needs Python 3.11 to 3.13 and make; choose one with `make demo PYTHON=python3.12`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
STAMP := $(shell date +%Y%m%d-%H%M%S)
DEMO := runs/demo-$(STAMP)
SMOKE := runs/smoke
SMOKE_TARGET := -s target.model=$(SMOKE)/model -s target.dtype=float32 -s draft.path=$(SMOKE)/train -s tree.nodes=4

.PHONY: help demo test test-foreign test-slow test-network test-gpu wheel-test smoke load docs lint format install clean

help:
	@echo "make demo       train a draft head, simulate a drive, train across devices (about ten minutes)"
	@echo "make test       the default tests: CPU, no network, no data sets"
	@echo "make smoke      every main command on tiny built-in inputs, no download (under two minutes)"
	@echo "make test-foreign  the default tests that compute, with the arithmetic of another processor"
	@echo "make test-slow  the slow tests, and those that need EDGEAI_DATA"
	@echo "make test-network  the tests on the real model, which download it once"
	@echo "make test-gpu   the tests that need a CUDA device"
	@echo "make wheel-test  build the wheel, install it into an empty environment, run one command per area (minutes)"
	@echo "make load       1, 4 and 16 clients at a server on the loopback, with and without speculation (minutes)"
	@echo "make docs       build the documentation site into site/"
	@echo "make lint       formatter, linter, types, import rules"
	@echo "make format     format the code"
	@echo "make clean      remove .venv and caches; runs/ stays"

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	    { echo "edgeai needs Python 3.11 to 3.13: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

demo: $(INSTALLED)
	$(BIN)/edgeai assets fetch smollm2-135m-instruct
	$(BIN)/edgeai spec train -c spec/smollm2-quick --out $(DEMO)
	$(BIN)/edgeai spec bench -c spec/bench -s draft.path=$(DEMO) -s max_prompts=8 --out $(DEMO)/bench
	$(BIN)/edgeai runs report $(DEMO)/bench
	$(BIN)/edgeai collab run -s shadow_cloud=false --out $(DEMO)-drive
	$(BIN)/edgeai runs report $(DEMO)-drive
	$(BIN)/edgeai fedsplit sim --out $(DEMO)-fedsplit
	$(BIN)/edgeai runs report $(DEMO)-fedsplit
	@echo
	@echo "Trained a small draft head and measured it in $(DEMO)/bench, simulated a drive in $(DEMO)-drive and five boards in"
	@echo "$(DEMO)-fedsplit, each with a page report.html. Next steps:"
	@echo "  $(BIN)/edgeai spec generate -s draft.path=$(DEMO) \"Why is the sky blue?\""
	@echo "  $(BIN)/edgeai spec train -c spec/smollm2    # a full head: about three hours on two cores"
	@echo "  $(BIN)/edgeai collab run -s strategy=edge-only    # the same drive without the cloud"
	@echo "  $(BIN)/edgeai fedsplit compare    # ten methods, three seeds: minutes"
	@echo "  $(BIN)/edgeai --help"

# two processes of one thread each: the tests are too small for two threads
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# the default tests that compute, with another processor's arithmetic, on which no test may depend
FOREIGN ?= ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=AVX2
test-foreign: $(INSTALLED)
	OMP_NUM_THREADS=1 $(FOREIGN) $(BIN)/python -m pytest -n 2 --dist loadfile tests/unit/collab tests/unit/fedsplit tests/unit/spec \
	    --ignore tests/unit/fedsplit/flower --ignore tests/unit/spec/serve

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m "(slow or data) and not gpu and not network"

test-network: $(INSTALLED)
	$(BIN)/python -m pytest -m "network and not gpu"

test-gpu: $(INSTALLED)
	$(BIN)/python -m pytest -m gpu -rs

wheel-test:
	$(PYTHON) tests/packaging/check_wheel.py

smoke: $(INSTALLED)
	rm -rf $(SMOKE)
	$(BIN)/edgeai --version
	$(BIN)/edgeai doctor
	$(BIN)/edgeai config list
	$(BIN)/edgeai assets list
	# spec: every verb on a tiny random model, in float32, where outputs must agree token for token
	$(BIN)/python -m edgeai.spec.tiny $(SMOKE)/model
	# a random model seldom writes a usable prompt of its own: give it some
	$(BIN)/edgeai spec train -c spec/smoke -s target.model=$(SMOKE)/model -s data.self_prompt=0 \
	    -s 'data.prompts=[src/edgeai/spec/data/prompts_builtin.txt]' --out $(SMOKE)/train
	$(BIN)/edgeai spec generate $(SMOKE_TARGET) -s max_tokens=32 --out $(SMOKE)/generate "Hello"
	$(BIN)/edgeai spec bench $(SMOKE_TARGET) -s max_tokens=32 -s max_prompts=2 -s repeats=1 --out $(SMOKE)/bench
	$(BIN)/edgeai spec export $(SMOKE)/train --format speculators --out $(SMOKE)/exported
	$(BIN)/edgeai spec import $(SMOKE)/exported --out $(SMOKE)/imported
	$(BIN)/edgeai spec load -s serve.target.model=$(SMOKE)/model -s serve.target.dtype=float32 \
	    -s serve.draft.path=$(SMOKE)/train -s serve.tree.nodes=4 -s 'clients=[1, 2]' -s requests=4 -s max_tokens=16 \
	    -s memory_requests=0 --out $(SMOKE)/load
	echo Hello | $(BIN)/edgeai spec chat $(SMOKE_TARGET) -s max_tokens=16 --out $(SMOKE)/chat
	$(BIN)/edgeai spec compare -c spec/compare-smoke -s train.target.model=$(SMOKE)/model -s train.data.self_prompt=0 \
	    -s 'train.data.prompts=[src/edgeai/spec/data/prompts_builtin.txt]' --out $(SMOKE)/compare
	# collab: every verb with untrained nets on a short drive
	$(BIN)/edgeai collab run -c collab/smoke --out $(SMOKE)/collab
	$(BIN)/edgeai collab compare -c collab/compare-smoke --out $(SMOKE)/collab-compare
	$(BIN)/edgeai collab pretrain edge -s steps=2 -s val_scenes=2 -s optim.batch=2 --out $(SMOKE)/pretrain-edge
	$(BIN)/edgeai collab pretrain cloud -s steps=2 -s val_scenes=2 -s optim.batch=2 --out $(SMOKE)/pretrain-cloud
	$(BIN)/edgeai collab pretrain sam -s steps=2 -s val_scenes=2 -s optim.batch=2 --out $(SMOKE)/pretrain-sam
	# fedsplit: every verb on a few digits
	$(BIN)/edgeai fedsplit sim -c fedsplit/smoke --out $(SMOKE)/fedsplit
	$(BIN)/edgeai fedsplit compare -c fedsplit/compare-smoke --out $(SMOKE)/fedsplit-compare
	$(BIN)/edgeai fedsplit advise --out $(SMOKE)/advise
	$(BIN)/edgeai fedsplit partition --page $(SMOKE)/partition.html
	$(BIN)/edgeai fedsplit verify
	$(BIN)/edgeai runs report $(SMOKE)/fedsplit
	$(BIN)/edgeai runs report $(SMOKE)/fedsplit-compare
	$(BIN)/edgeai runs report $(SMOKE)/advise
	$(BIN)/edgeai runs report $(SMOKE)/collab
	$(BIN)/edgeai runs report $(SMOKE)/collab-compare
	$(BIN)/edgeai runs list $(SMOKE)

load: $(INSTALLED)
	$(BIN)/edgeai spec load -c spec/load --out runs/load-$(STAMP)

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build dist site
