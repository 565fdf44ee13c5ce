# `make help` lists the targets; scripts/setup.sh explains the variables PYTHON, TORCH and TORCH_INDEX.
SHELL := /bin/bash
BIN := .venv/bin
export PYTHON TORCH TORCH_INDEX

# Tests that do not mind another beside them; the others start ranks and watch clocks. Of the folders whose tests mostly
# do, the files that do not stand here by name. Files that take long come first, so that none is left at the end.
UNHURRIED := $(patsubst %,tests/faults/test_%_faults.py,checkpoint configuration host host_start model save scheduler) \
  $(filter-out %/test_tune.py %/test_scaling_command.py,$(wildcard tests/pipeline/test_*.py))
SIDE_BY_SIDE := tests/hosts $(UNHURRIED) tests/docs tests/openfoam tests/unit tests/physics

.DEFAULT_GOAL := help
.PHONY: help install demo test test-side-by-side test-ranks lint bench closures fuzz faults hosts openfoam clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

install:  ## set everything up in .venv, without root
	@bash scripts/setup.sh

demo: install  ## from turbulence to a closure in a coarse solver: about ten minutes, ends with a report
	$(BIN)/hpcsurrogate run configs/demo.yaml

lint: install  ## style (ruff) and which room may import which (import-linter)
	$(BIN)/ruff check .
	$(BIN)/lint-imports

test: lint  ## the whole test suite, MPI and SLURM included; as root it installs what the tests need (apt-get)
	@bash scripts/test_system.sh
	@$(MAKE) --no-print-directory --jobs=2 test-side-by-side test-ranks

# In the gaps that the ranks leave, which wait more than they compute: its output comes as a whole at the end.
test-side-by-side:
	@log=$$(mktemp) && trap 'rm -f "$$log"' EXIT; \
	nice $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(SIDE_BY_SIDE) >"$$log" 2>&1; code=$$?; cat "$$log"; exit $$code

test-ranks:
	$(BIN)/python -m pytest $(addprefix --ignore=,$(SIDE_BY_SIDE))

bench: install  ## solver beside exponax and jax-cfd, loader beside pread, training beside torch, hosts beside LibTorch, dumps beside ASE
	$(BIN)/python -m pip install --quiet -c constraints.txt -c .venv/torch.txt --no-build-isolation -e ".[bench]"
	$(BIN)/python scripts/bench_solver.py
	$(BIN)/python scripts/bench_loader.py
	$(BIN)/python scripts/bench_training.py
	$(BIN)/python scripts/bench_embed.py
	$(BIN)/python scripts/bench_lammps.py

closures: install  ## learned closures beside the best classical ways, in two and three dimensions: about three hours
	@mkdir -p runs
	$(BIN)/python scripts/bench_closures.py --json runs/closures.json

fuzz: install  ## 100,000 random damages to shards and catalogue: refused or harmless, about 20 minutes
	$(BIN)/python scripts/fuzz_shards.py

faults: install  ## every fault injected for real, then 100 kills at random moments; the tables go to runs/
	@bash scripts/test_system.sh
	@mkdir -p runs
	$(BIN)/python -m pytest tests/faults --fault-table runs/faults.md
	$(BIN)/python scripts/fault_campaign.py --kills 100 --json runs/faults.json

hosts: install  ## a million random inputs under floating-point traps, sanitizers, all hosts at length: a quarter of an hour
	@bash scripts/test_system.sh
	$(BIN)/python -m pytest tests/hosts --long

openfoam: install  ## the library that gives OpenFOAM our closures, in build/openfoam: about a minute
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash hpcsurrogate/embed/native/openfoam/build.sh build/openfoam

clean:  ## remove .venv and what tools left; runs/ stays
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
