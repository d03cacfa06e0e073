# Every target installs what it needs into .venv first, once. Another Python: make PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
EXTRAS := test,lint

.PHONY: help install demo test lint bench study clean

help:  ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

install: $(INSTALLED)  ## make .venv with everything the other targets need

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt hatchling editables
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-build-isolation -e '.[$(EXTRAS)]'
	touch $@

demo: $(INSTALLED)  ## train, save, reload and compare aggregators on a small task; writes out/demo
	$(BIN)/lcm-graph demo --out out/demo

test: lint  ## lint, then run all tests, by two processes of one thread each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

lint: $(INSTALLED)  ## ruff, mypy and codespell
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/codespell

bench: $(INSTALLED)  ## measure against PyG; writes benchmarks/results (LCM_DATA=… for the large graph)
	$(BIN)/python -m benchmarks.agreement
	$(BIN)/python -m benchmarks.invariance
	$(BIN)/python -m benchmarks.aggregators
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.closed_forms

study: $(INSTALLED)  ## hours: all that docs/unbounded_sets.md tells; goes on after a kill
	for name in far16 table2 far full; do \
		$(BIN)/lcm-graph study --config $$name --out docs/study/$$name || exit 1; \
	done
	$(BIN)/python -m benchmarks.unbounded_sets

clean:  ## remove what the other targets made
	rm -rf .venv build dist out .mypy_cache .pytest_cache .ruff_cache .hypothesis
