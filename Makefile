# `make demo` on a fresh clone is all there is to set up: every target first makes `.venv`,
# from pyproject.toml with the exact versions of constraints.txt, and again only when one of the two has changed.

PYTHON ?= python3
LAB_OPTIONS ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# The engine's environment is kept here between test runs; nothing else of tritonnb's home is.
TEST_HOME := $(CURDIR)/build/test-home

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo lab test check bench notebooks screenshots compare-nvidia lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## Serve a real model and classify three pictures
	@$(BIN)/python -m tritonnb.demo

lab: $(INSTALLED) ## Open the quickstart notebook in JupyterLab (LAB_OPTIONS="--no-browser ...")
	@$(BIN)/jupyter lab $(LAB_OPTIONS) notebooks/01-quickstart.ipynb

test: $(INSTALLED) ## Run all tests and, strictly, all notebooks
	@TRITONNB_TEST_HOME=$(TEST_HOME) $(BIN)/python -m pytest

check: $(INSTALLED) ## Lint, format, types, layers, and the notebooks as they are saved
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest -q tests/test_notebooks.py

bench: $(INSTALLED) ## Measure what tritonnb adds; results under bench-results/
	@missed=0; for script in tests/benchmarks/bench_*.py; do \
		TRITONNB_HOME=$(TEST_HOME) $(BIN)/python $$script || missed=1; done; exit $$missed

notebooks: $(INSTALLED) ## Execute the notebooks again and save their outputs
	@TRITONNB_HOME=$(TEST_HOME) $(BIN)/python tests/execute_notebooks.py notebooks/*.ipynb

screenshots: $(INSTALLED) ## Take pictures of the dashboard in both themes, into build/screenshots (needs chromium)
	@TRITONNB_HOME=$(TEST_HOME) $(BIN)/python tests/take_screenshots.py build/screenshots

compare-nvidia: $(INSTALLED) ## Compare NVIDIA's image with the embedded engine (IMAGE=... GPUS=all PULL=1)
	@TRITONNB_HOME=$(TEST_HOME) $(BIN)/python tests/compare_nvidia.py \
		$(if $(IMAGE),--image $(IMAGE)) $(if $(GPUS),--gpus $(GPUS)) $(if $(PULL),--pull)

lock: ## Make constraints.txt again with the newest versions, for all platforms and Pythons
	@$(PYTHON) -m venv build/lock
	@build/lock/bin/python -m pip install --quiet uv
	@build/lock/bin/uv pip compile pyproject.toml --all-extras --group dev --universal --upgrade --quiet \
		--custom-compile-command "make lock" --output-file constraints.txt
	@rm -rf build/lock

clean: ## Remove all that make has made
	rm -rf $(VENV) build dist bench-results .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "tritonnb needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/pip || { echo "Making $(VENV) with $$($(PYTHON) --version) ..."; $(PYTHON) -m venv --clear $(VENV); } || \
		{ echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "Installing tritonnb and its tools into $(VENV) (a minute or two; again only when the versions change) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt pip
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--editable '.[samples,lab]' --group dev
	@touch $@
