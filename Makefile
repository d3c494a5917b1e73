# One command for the demo, one for the tests; each sets up what it needs in .venv.
# Another build of torch:  make demo TORCH="torch --index-url URL_OF_A_CUDA_BUILD"

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin
PYTEST_ARGS ?=

# Of `make bundle`: folders ds002748 and ds000011 of OpenNeuro, where to work, and where the bundle goes.
DATA ?= ../shared/data
BUNDLE ?= bundle
SHIP ?= imunity_bids/data/imunity
PERSONS ?=
TRAINING ?= --steps 12000 --every 1000 --visits 8000 --precision bfloat16 --jobs 3
HELD_OUT = ds002748/sub-4[1357]/*/* ds000011/sub-0[456]/*/*

.PHONY: demo test test-slow lint bundle scores

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

# The weights that ship, from nothing (hours; an interrupted one goes on), and their figures on persons left out.
bundle: $(VENV)/test
	for site in ds002748 ds000011; do $(BIN)/imunity $(DATA)/$$site $(BUNDLE)/$$site participant $(PERSONS) || exit 1; done
	cd $(BUNDLE) && $(abspath $(BIN))/imunity-train harmonizer ds002748 ds000011 run --name imunity \
		--bundle-version 0.7 --license Apache-2.0 --default-site ds000011 \
		--exclude $(foreach pattern,$(HELD_OUT),'$(pattern)') $(TRAINING)
	mkdir -p $(SHIP) && rm -f $(SHIP)/scores.json
	cp $(BUNDLE)/run/bundle/* $(SHIP)/

scores:
	$(BIN)/imunity-evaluate travelers $(BUNDLE)/judge --brains $(BUNDLE) --model $(SHIP) --sources 2 --jobs 2 \
		--include $(foreach pattern,$(HELD_OUT),'$(pattern)')
	cp $(BUNDLE)/judge/travelers.json $(SHIP)/scores.json
