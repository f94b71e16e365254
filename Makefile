# Every target runs with the Python of PYTHON=..., else of the active environment (venv or conda), else of .venv, which
# is made on first use. Dependencies are installed once, and again only when setup.cfg or pyproject.toml change.

ifneq ($(origin PYTHON),undefined)
  CHOSEN := $(PYTHON)
else ifneq ($(VIRTUAL_ENV),)
  CHOSEN := $(VIRTUAL_ENV)/bin/python
else ifneq ($(CONDA_PREFIX),)
  CHOSEN := $(CONDA_PREFIX)/bin/python
endif

ifdef CHOSEN
  RUN := $(CHOSEN)
  STAMP := .cache/setup$(subst /,-,$(CHOSEN))
  USER_STAMP := .cache/quickstart$(subst /,-,$(CHOSEN))
else
  RUN := .venv/bin/python
  STAMP := .venv/.setup
  USER_STAMP := .venv/.quickstart
endif

.DEFAULT_GOAL := help
.PHONY: help setup quickstart hint camvid evidence tables publish ledger sweep benchmark check lint test test-long docs release clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-24s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## install everything, tools for tests included, into .venv (or PYTHON=..., or the active environment)

$(STAMP): EXTRAS := dev,quickstart
$(USER_STAMP): EXTRAS := quickstart

$(STAMP) $(USER_STAMP): setup.cfg pyproject.toml
ifndef CHOSEN
	test -x .venv/bin/python || python3 -m venv .venv
endif
	@$(RUN) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python 3.11 or newer is needed, found {sys.version}")'
	$(RUN) -m pip install --disable-pip-version-check -e '.[$(EXTRAS)]'
	@mkdir -p $(dir $@) && touch $@ $(USER_STAMP)  # whoever has the tools for tests has all that a user needs

quickstart: $(USER_STAMP) ## frozen against adapted on generated scenes: table, pictures, verdict; 5 minutes on 2 cores
	$(RUN) -m src study experiments/studies/quickstart.yaml
	@$(MAKE) --no-print-directory hint

hint: # the next command, with the activation that it needs
	@if [ "$$(command -v glare)" -ef "$(dir $(RUN))glare" ]; then activation=; \
	elif [ -f "$(dir $(RUN))activate" ]; then activation="source $(dir $(RUN))activate && "; \
	else activation="PATH=$(dir $(RUN)):\$$PATH "; fi; \
	printf '\nnext, on your own images:\n\n    %sglare adapt my/images --out runs/mine\n\n' "$$activation"

camvid: $(USER_STAMP) ## the same study on CamVid, real road scenes: make camvid DATA_ROOT=folder-that-holds-camvid
	@test -d "$(DATA_ROOT)/camvid" || { echo "no folder '$(DATA_ROOT)/camvid': give DATA_ROOT=, the folder that holds camvid/"; exit 2; }
	DATA_ROOT="$(DATA_ROOT)" $(RUN) -m src study experiments/studies/camvid.yaml

# The tables of experiments/studies/: SCALE=mini checks the plumbing on 2 cores in minutes, SCALE=paper is the real thing.
# ARGS= goes to the command, such as ARGS="--dry-run --only glare"; see python -m src study --help.
SCALE ?= mini
TABLES := main losses adapters patch-augmentation regions inits classification efficiency

$(TABLES:%=table-%): table-%: $(USER_STAMP)
	$(RUN) -m src study experiments/studies/$*.yaml --scale $(SCALE) $(ARGS)

table-main: ## frozen, the baselines and GLARE, by data set: make table-main SCALE=mini|paper ARGS=--dry-run
table-losses: ## GLARE minus each level of the loss; targets, momentum, local views, anchors
table-adapters: ## each kind of adapter, rank and placement
table-patch-augmentation: ## each patch-level augmentation
table-regions: ## region samplers, R and w
table-inits: ## frozen against GLARE from DINO, iBOT, UDI, DINOv2, DINOv3
table-classification: ## 20-NN and linear classification of whole images
table-efficiency: ## trained parameters, speed, memory and time of each kind of adapter

tables: $(TABLES:%=table-%) ## all of them

evidence: $(USER_STAMP) ## frozen, GLARE and calibrated on your weights: make evidence WEIGHTS=hub|hf://…|FILE DATA=folder|camvid
	@test -n "$(WEIGHTS)" -a -n "$(DATA)" || { echo "give WEIGHTS=hub, hf://org/name or a file, DATA=a folder with masks or a data set's name (and BACKBONE=a timm name)"; exit 2; }
	$(RUN) -m src evidence "$(DATA)" --weights "$(WEIGHTS)" $(if $(BACKBONE),--backbone "$(BACKBONE)") $(ARGS)

publish: $(USER_STAMP) ## copy a study's tables and numbers to results/: make publish STUDY=main-paper
	@test -n "$(STUDY)" || { echo "which study? make publish STUDY=folder-under-runs"; exit 2; }
	$(RUN) -m src publish $(STUDY) $(ARGS)

ledger: $(STAMP) ## every result in README and docs is what results/ says
	$(RUN) -m src ledger

sweep: $(STAMP) ## create a wandb sweep and start an agent: make sweep SWEEP=glare-lr (ARGS=--local: without a server)
	@test -f "experiments/sweeps/$(SWEEP).yaml" || { echo "no experiments/sweeps/$(SWEEP).yaml: give SWEEP=, one of: $(basename $(notdir $(wildcard experiments/sweeps/*.yaml)))"; exit 2; }
	$(RUN) -m src sweep "experiments/sweeps/$(SWEEP).yaml" $(ARGS)

LIGHTLY ?= .cache/benchmark/lightly-train

benchmark: $(STAMP) ## ratios in one table, against lightly-train in an environment of its own: make benchmark ARGS="--commit 570062c --udi FOLDER"
ifneq ($(LIGHTLY),)
	test -x $(LIGHTLY)/bin/python || $(RUN) -m venv $(LIGHTLY)
	$(LIGHTLY)/bin/python -m pip install --disable-pip-version-check -q 'lightly-train>=0.18,<0.19'
endif
	$(RUN) benchmarks/ratios.py $(if $(LIGHTLY),--lightly $(LIGHTLY)/bin/python) $(ARGS)

lint: $(STAMP) ## formatting, lint and types
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy

check: lint ledger ## the gate before a commit, a minute or two: lint, types, published numbers, the floor plan
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto tests/test_imports.py tests/test_style.py tests/test_packaging.py

test: $(STAMP) ## the tests that continuous integration runs
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto -m "not slow"

test-long: $(STAMP) ## all tests: an empty environment, kills, notebooks, pages in a browser, whole studies, every yaml
	$(RUN) -m pip install --disable-pip-version-check -q -e '.[docs]'
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto

docs: $(STAMP) ## build the documentation site into site/; warnings are errors
	$(RUN) -m pip install --disable-pip-version-check -q -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

release: $(STAMP) ## build sdist and wheel into dist/, and check them; nothing is uploaded (REPOSITORY=https://… for links)
	@$(RUN) .ci/release.py
	$(RUN) -m pytest -m "not slow" tests/test_release.py
	rm -rf dist
	$(RUN) .ci/release.py dist $(REPOSITORY)
	$(RUN) -m twine check --strict dist/*

clean: ## remove caches and .venv; runs/ and results/ stay
	rm -rf .venv .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist site *.egg-info
	find src datamodules tests -name __pycache__ -type d -prune -exec rm -rf {} +
