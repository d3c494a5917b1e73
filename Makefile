# One command for the demo, one for the tests; each sets up what it needs in .venv.
# Another build of torch:  make demo TORCH="torch --index-url URL_OF_A_CUDA_BUILD"

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin
PYTEST_ARGS ?=

.PHONY: demo test test-slow lint

demo: $(VENV)/app
	$(BIN)/imunity-demo demo

test: $(VENV)/test lint
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-slow: $(VENV)/test
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(VENV)/app: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q $(TORCH)
	$(BIN)/pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/test: $(VENV)/app
	$(BIN)/pip install -q -c constraints.txt -e '.[test]'
	touch $@
