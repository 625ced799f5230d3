# make demo       from a fresh checkout to a picture from a sentence
# make test       everything CI runs: fast tests on two cores
# make test-slow  what takes minutes: trainings and full-size comparisons
# make check      style and types
# make bench      side by side with peers, about twenty minutes; wants a machine with nothing else to do
# make clean      remove what the above made, `.venv` included; `out` and `runs` are yours and stay

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SENTENCE ?= a fox to the left of a pizza
SEED ?= 7
WORKERS ?= 2

.PHONY: demo test test-slow check bench clean

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "HuggingVis needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true)."; \
	  echo "Install one, then name it: make demo PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The demo uses the package as users get it (built and installed), the tests use the checkout (editable):
# each installation takes the other's stamp away, so that neither runs on stale code.
$(VENV)/.demo: pyproject.toml constraints.txt $(shell find src -type f -not -path '*/__pycache__/*') | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt .
	@rm -f $(VENV)/.test && touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@rm -f $(VENV)/.demo && touch $@

demo: $(VENV)/.demo
	@start=$$(date +%s); mkdir -p out; touch out/.before; \
	$(BIN)/hvis generate "$(SENTENCE)" --seed $(SEED) -o out/ || { code=$$?; rm -f out/.before; exit $$code; }; \
	picture=$$(find out -name '*.png' -newer out/.before | sort | tail -n 1); rm -f out/.before; \
	echo "Your picture: $${picture:-in out/} (made in $$(( $$(date +%s) - start )) s, start of Python included)"

# Bytecode is kept even where the environment says otherwise: without it, every process compiles all it imports.
test: $(VENV)/.test
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --durations=20 --durations-min=5

test-slow: $(VENV)/.test
	$(BIN)/python -m pytest -m slow --record=benchmarks/test-slow.json

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The torchvision that a peer brings is built for CUDA: beside a torch without it, it does not load, and diffusers, which
# does without torchvision, stops where it finds one that is broken.
$(VENV)/.bench: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@$(BIN)/python -c 'import torchvision' 2>/dev/null || $(BIN)/python -m pip uninstall --quiet --yes torchvision
	@touch $@

bench: $(VENV)/.bench
	@for name in startup loop world picture stable_diffusion training_step families; do $(BIN)/python benchmarks/$$name.py || exit 1; done
	$(BIN)/python benchmarks/table.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
