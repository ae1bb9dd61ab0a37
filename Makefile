# make demo   active learning on images read from real files, about four minutes on two cores
# make test   the quick tests;  make slow  the long ones
# make lint   ruff and mypy
# Each makes .venv first when it is missing or older than setup.cfg.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: install demo test slow lint format clean

install: $(INSTALLED)

$(INSTALLED): setup.cfg
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "Installing into .venv; PyTorch is large, this takes a few minutes."
	$(BIN)/python -m pip install --quiet --editable ".[test,lint]"
	@touch $@

demo: $(INSTALLED)
	$(BIN)/python -m benchmarks.run --dataset chestCT --profile embedded \
		--methods random lc ms en fusion all --seeds 2 \
		--query-size 10 --budget 0.4 --out runs/demo

test: $(INSTALLED)
	$(BIN)/python -m pytest

slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache
