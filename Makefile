# `make help` lists the targets. Everything runs in .venv, which is made once and reused until
# setup.cfg changes.
PYTHON ?= python3
RUN := .venv/bin/python
STAMP := .venv/.made-from

# Two workers of one thread each take half of the time of one with two, and lose little beside other
# work. A file's tests stay together: what is trained for them is trained once.
PYTEST := OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n auto --maxprocesses 4 --dist loadfile
# A CPU without AVX512 and bf16, on one that has them.
AVX2 := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2
# The theme advertises its successor otherwise.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs

.PHONY: help demo test test-avx2 test-all lint types bench torture read-benchmark docs site site-serve clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(STAMP): setup.cfg pyproject.toml
	@if [ ! -x $(RUN) ]; then $(PYTHON) -m venv .venv; fi
	@if ! cat setup.cfg pyproject.toml | cmp -s - $(STAMP); then \
	  echo "installing into .venv (about 6 GB the first time)"; \
	  $(RUN) -m pip install --quiet --upgrade-strategy only-if-needed --editable '.[dev]' \
	  && cat setup.cfg pyproject.toml > $(STAMP); fi
	@touch $(STAMP)

demo: $(STAMP) ## train the adder on add3x3 and print worked sums (5 minutes)
	$(RUN) main.py --agent seq2seq_adder --task add3x3

test: $(STAMP) ## the test suite (9 to 18 minutes; longer beside other work)
	$(PYTEST)

test-avx2: $(STAMP) ## the test suite as on a CPU without AVX512 and bf16
	$(AVX2) $(PYTEST)

test-all: $(STAMP) ## the test suite with its slow tests
	$(PYTEST) -m ""

lint: $(STAMP) ## ruff: rules and format
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: $(STAMP) ## mypy, strict
	$(RUN) -m mypy

bench: $(STAMP) ## speed beside Keras, Lightning and a bare loop (115 minutes)
	$(RUN) -m benchmarks all

torture: $(STAMP) ## faults on purpose, and the table of docs/reliability.md (hours)
	$(RUN) -m torture

read-benchmark: $(STAMP) ## readers and detectors beside kraken, one table (hours; DATA=FOLDER)
	$(RUN) -m benchmarks read $(if $(DATA),--data "$(DATA)")

docs: $(STAMP) ## make the pictures of docs/ again (over an hour if nothing is there; pages need Chromium)
	$(RUN) docs/make_pictures.py
	$(RUN) docs/look_inside.py
	$(RUN) docs/sequence_lab.py
	$(RUN) docs/text_cells.py
	$(RUN) docs/attention_table.py
	$(RUN) docs/modular_addition.py
	$(RUN) docs/sweeps.py
	$(RUN) docs/notes.py
	$(RUN) docs/sample_complexity.py
	$(RUN) docs/algorithms.py
	$(RUN) docs/convolutional.py
	$(RUN) docs/convolutional_notebook.py

site: $(STAMP) ## the pages of docs/ and the reference as a site, in build/site (half a minute)
	$(RUN) docs/house.py --check
	$(MKDOCS) build --strict

site-serve: $(STAMP) ## the site on this machine, made again whenever a page is changed
	$(MKDOCS) serve --strict

clean: ## remove the environments (.venv, .bench) and caches, never runs/
	rm -rf .venv .bench .mypy_cache .ruff_cache .pytest_cache *.egg-info
