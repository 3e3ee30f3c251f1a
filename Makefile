# Everything a newcomer needs; `make help` lists it. Python, git and make are all it takes.

SHELL := /bin/bash
.DEFAULT_GOAL := help
FITS := 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'
PYTHON := $(shell for p in python3.13 python3.12 python3.11 python3 python; do $$p -c $(FITS) >/dev/null 2>&1 && { echo $$p; exit; }; done; echo python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=
WORKERS ?= auto

.PHONY: help docs setup train test test-full test-gpu test-browser convergence soak lint types contracts sweeps reports check lock benchmarks clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv and install what requirements.lock pins (2 to 5 minutes, 5.5 GB, once)

$(READY): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON): there is no such program; Paperzoo needs Python 3.11, 3.12 or 3.13"; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else "Python %d.%d: Paperzoo needs 3.11, 3.12 or 3.13; name one with make PYTHON=python3.12" % v)'
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) has no venv module; install it (Debian: apt-get install python3-venv)"; exit 1; }
	@test -x $(BIN)/python || { echo "making $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing what requirements.lock pins into $(VENV)"
	@$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m pip check --disable-pip-version-check
	@touch $@

train: $(READY) ## train SCNet on the embedded data; make train ARGS="model=res2net trainer.max_epochs=3"
	@$(BIN)/python src/train.py $(if $(findstring model=,$(ARGS))$(findstring experiment=,$(ARGS)),,model=scnet) $(ARGS)

test: $(READY) ## run the fast tests, which cover every paper and promise; make test ARGS="tests/data -k crop"
	@$(BIN)/python -m pytest -n $(WORKERS) -m "not full" $(ARGS)

test-full: $(READY) ## run all tests
	@$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

test-gpu: $(READY) ## what must be looked at on GPUs; each test is skipped where there is none
	@$(BIN)/python -m pytest -n 0 tests/gpu $(ARGS)

test-browser: $(READY) ## test the pages of reports in headless Chromium, installing it (Debian) where it is missing
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || .ci/chromium
	@$(BIN)/python -m pytest tests/browser $(ARGS)

convergence: $(READY) ## three recipes must still learn what their recorded seeds learned (about 90 s)
	@$(BIN)/python tests/convergence/gate.py

soak: $(READY) ## kill and resume runs 200 times on one rank and on two, and compare (about 20 minutes)
	@$(BIN)/python tests/runs/soak.py trials=200 ranks=1 && $(BIN)/python tests/runs/soak.py trials=200 ranks=2 norm=sync_batch

check: lint types contracts sweeps ## lint, types, import contracts, sweep files

lint: $(READY) ## ruff: lint and format
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(READY) ## mypy on the package
	@$(BIN)/mypy

sweeps: $(READY) ## check the sweep files for what W&B or Hydra would misunderstand
	@$(BIN)/python -m paperzoo.sweeps.lint

contracts: $(READY) ## import contracts: no cycles, papers import what they build on, shared code no paper
	@$(BIN)/python -m pytest -q -n 0 tests/test_architecture.py

reports: $(READY) ## derive every published report from its records; fails if a byte differs
	@test ! -d reports || $(BIN)/python src/reproduce.py reports

docs: $(READY) docs/requirements.lock ## build the documentation with reports and cards into build/site/site (MkDocs, in an environment of its own)
	@test -x .venv-docs/bin/mkdocs || { $(PYTHON) -m venv .venv-docs && .venv-docs/bin/pip install --quiet --disable-pip-version-check --require-hashes -r docs/requirements.lock; }
	@$(BIN)/python -m paperzoo.pages.site build/site
	@.venv-docs/bin/mkdocs build --quiet --strict -f build/site/mkdocs.yml && echo "build/site/site/index.html"

lock: $(READY) ## resolve requirements.lock anew from pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --extra dev -o requirements.lock pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 -o docs/requirements.lock docs/requirements.in

benchmarks: $(READY) ## measure what the documentation claims (about 40 minutes)
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

clean: ## remove the virtual environments and caches; runs/ stays
	@rm -rf $(VENV) .venv-docs build .pytest_cache .mypy_cache .ruff_cache
