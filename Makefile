# One command for the demo, one for the tests; each sets up what it needs in .venv.
# Tests run in JOBS processes, each file in one. Another build of torch:  make demo TORCH="torch --index-url URL_OF_A_CUDA_BUILD"

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin
JOBS ?= 2
PYTEST_ARGS ?=

# Of `make bundle` and `make bundle-paper`: folders ds002748 and ds000011 of OpenNeuro, where to work, and where the bundles go.
DATA ?= ../shared/data
BUNDLE ?= bundle
SHIP ?= imunity_bids/data
PERSONS ?=
TRAINING ?= --steps 12000 --every 1000 --visits 8000 --precision bfloat16 --jobs 3
PAPER_TRAINING ?= --steps 20000 --every 1000 --batch 4 --crop 80 --precision bfloat16 --jobs 3
HELD_OUT = ds002748/sub-4[1357]/*/* ds000011/sub-0[456]/*/*

.PHONY: demo test test-slow lint derivatives bundle bundle-paper scores

demo: $(VENV)/app
	$(BIN)/imunity-demo demo

test: $(VENV)/test lint
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(PYTEST_ARGS)

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
bundle: derivatives
	$(call train,run,imunity,0.7,$(TRAINING))
	rm -f $(SHIP)/imunity/scores.json

# The paper's own generator, the yardstick.
bundle-paper: derivatives
	$(call train,run-paper,imunity-paper,1,--paper $(PAPER_TRAINING))

# $(1) folder of the run, $(2) name, $(3) version, $(4) options
define train
	cd $(BUNDLE) && $(abspath $(BIN))/imunity-train harmonizer ds002748 ds000011 $(1) --name $(2) \
		--bundle-version $(3) --license Apache-2.0 --default-site ds000011 \
		--exclude $(foreach pattern,$(HELD_OUT),'$(pattern)') $(4)
	mkdir -p $(SHIP)/$(2) && cp $(BUNDLE)/$(1)/bundle/* $(SHIP)/$(2)/
endef

derivatives: $(VENV)/test
	for site in ds002748 ds000011; do $(BIN)/imunity $(DATA)/$$site $(BUNDLE)/$$site participant $(PERSONS) || exit 1; done

scores:
	$(BIN)/imunity-evaluate travelers $(BUNDLE)/judge --brains $(BUNDLE) --model $(SHIP)/imunity --sources 2 --jobs 2 \
		--include $(foreach pattern,$(HELD_OUT),'$(pattern)')
	cp $(BUNDLE)/judge/travelers.json $(SHIP)/imunity/scores.json
