# make demo   which method is better on generated CT? three minutes on two cores
# make test   the quick tests;  make slow  the long ones
# make lint   ruff and mypy
# make docs   the documentation as a site, into site/; fails at what is dead or undocumented
# Each makes .venv first when it is missing or older than setup.cfg.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: install demo test slow lint docs format clean

install: $(INSTALLED)

$(INSTALLED): setup.cfg
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "Installing into .venv; PyTorch is large, this takes a few minutes."
	$(BIN)/python -m pip install --quiet --editable ".[test,lint,docs]"
	@touch $@

demo: $(INSTALLED)
	$(BIN)/python -m benchmarks.run --preset demo --seeds 10 --workers 2 --out runs/demo
	$(BIN)/python -m benchmarks.run --preset demo-network --seeds 1 --out runs/demo
	$(BIN)/python -m benchmarks.report runs/demo

# the tensors of tests are small: threads would only wait for one another
test: export OMP_NUM_THREADS := 1
test: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --dist worksteal

slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: export NO_MKDOCS_2_WARNING := 1
docs: $(INSTALLED)
	$(BIN)/mkdocs build
	@echo "To read it: $(BIN)/mkdocs serve, or site/index.html, where searching does not work."

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build site *.egg-info .pytest_cache .mypy_cache .ruff_cache
