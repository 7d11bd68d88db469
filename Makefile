# Every target makes the environment that it needs; nothing has to be installed by hand.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
# One worker a core, each with one thread: faster on small models than two threads in one worker.
WORKERS ?= 2

.PHONY: demo test lint format tests benchmark clean

# The main job on a small model that is trained here in about a minute (no download): score, prune, evaluate.
demo: $(READY)
	$(BIN)/python scripts/build_example_model.py work/example
	rm -rf work/example-2
	$(BIN)/gatenorm score work/example
	$(BIN)/gatenorm prune work/example --layers 2 -o work/example-2
	$(BIN)/gatenorm eval work/example-2 --baseline work/example --data work/example/heldout.txt --limit 64

# All that CI runs.
test: lint tests

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

tests: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS)

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Takes minutes and 25 GB of disk; prints the tables of benchmarks/README.md.
benchmark: $(READY)
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/scoring.py
	$(BIN)/python benchmarks/pruning.py

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) work build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
