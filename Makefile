# Everything works from a fresh clone with Python 3.11 or newer; nothing has to come before it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

SYNE := tests/bench/.venv-syne

.PHONY: help install run test slow fuzz chaos lab known-results check fix pictures ui clean
.PHONY: bench bench-answer bench-search bench-trial bench-slots bench-scale bench-storage
.PHONY: bench-many bench-cluster

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 15

$(INSTALLED): pyproject.toml cluster/constraints.txt
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (PyTorch, Ray, MLflow: a minute or two) ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c cluster/constraints.txt -e '.[dev]'
	@touch $@

install: $(INSTALLED)  ## make .venv with the pinned versions

run: $(INSTALLED)  ## the main job: search the optimizer for a small U-Net on handwritten digits
	@$(BIN)/diffsweep run search/specs/digits.yaml

test: $(INSTALLED)  ## all tests but the slow ones
	@$(BIN)/python -m pytest -q -m "not slow" -n 2 --dist loadgroup

slow: $(INSTALLED)  ## whole searches that fail, wait, or change hosts (minutes each)
	@$(BIN)/python -m pytest -q -m slow

fuzz: $(INSTALLED)  ## wild specs, --set, and files with bytes changed and cut (ten minutes)
	@FUZZ_SECONDS=35 $(BIN)/python -m pytest -q -s --timeout=0 tests/test_fuzz.py

FROM := 0
COUNT := 3
MINUTES := 15

chaos: $(INSTALLED)  ## strike at random: FROM=0 COUNT=3 seeds, each a search struck 30 times (20 minutes)
	@$(BIN)/python tests/chaos/campaign.py --from $(FROM) --count $(COUNT) --minutes $(MINUTES) --table chaos.jsonl

known-results: $(INSTALLED)  ## whole searches that should find what is published
	@KNOWN_RESULTS=1 $(BIN)/python -m pytest -q -s tests/search/test_known_results.py

lab: $(INSTALLED)  ## several hosts, Slurm, the image, and outages of every service; needs root
	@$(BIN)/python -m pytest -q tests/lab

check: $(INSTALLED)  ## lint, format and types, without changing anything
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

fix: $(INSTALLED)  ## let ruff mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: bench-search bench-trial bench-slots bench-scale bench-storage bench-many  ## every benchmark

$(SYNE)/installed: tests/bench/syne-requirements.txt cluster/constraints.txt
	@test -d $(SYNE) || $(PYTHON) -m venv $(SYNE)
	@echo "Installing Syne Tune into $(SYNE) (400 MB) ..."
	@$(SYNE)/bin/python -m pip install -q --disable-pip-version-check -c cluster/constraints.txt -r $<
	@$(SYNE)/bin/python -m pip install -q --disable-pip-version-check --no-deps syne-tune==0.16.0
	@touch $@

bench-search: $(INSTALLED) $(SYNE)/installed  ## the search engine against other tools (an hour)
	@$(BIN)/python tests/bench/bench_search.py

bench-trial: $(INSTALLED)  ## samples per second of a trial against hand-written loops
	@$(BIN)/python tests/bench/bench_trial.py

bench-slots: $(INSTALLED)  ## the share of a search's time that goes into training (20 minutes)
	@$(BIN)/python tests/bench/bench_slots.py
	@$(BIN)/python tests/bench/bench_slots.py --steps 640

bench-scale: $(INSTALLED)  ## what thousands of trials cost the driver (ten minutes)
	@$(BIN)/python tests/bench/bench_scale.py

bench-answer: $(INSTALLED)  ## how often the words of a report are wrong, by simulation (ten minutes)
	@$(BIN)/python tests/bench/bench_answer.py

bench-storage: $(INSTALLED)  ## what thousands of trials leave in S3, and what reading it takes (ten minutes)
	@$(BIN)/python tests/bench/bench_storage.py

bench-many: $(INSTALLED)  ## a thousand trials of a second, recorded (three minutes)
	@$(BIN)/python tests/bench/bench_many.py

bench-cluster: $(INSTALLED)  ## a thousand GPUs in virtual time: what breaks first (an hour)
	@$(BIN)/python tests/bench/bench_cluster.py

pictures: $(INSTALLED)  ## the pictures of the README, from the newest search of `make run`; needs Chromium
	@$(BIN)/python tests/pictures/take.py

ui: $(INSTALLED)  ## the MLflow UI on what `make run` recorded
	@$(BIN)/diffsweep ui

clean:  ## remove the environment and the caches, but no search
	rm -rf $(VENV) $(SYNE) .mypy_cache .ruff_cache .pytest_cache *.egg-info dist
