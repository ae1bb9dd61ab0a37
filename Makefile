# make demo   which method is better on generated CT? three minutes on two cores
# make test   the quick tests;  make slow  the long ones
# make fuzz   files made to reach further into the parsers; twenty minutes
# make browser   the rest of the tests of the annotator's page
# make lint   ruff and mypy
# make docs   the documentation as a site, into site/; fails at what is dead or undocumented
# make test-lowest   the quick tests with the lowest versions that setup.cfg allows
# make test-all   the quick tests on Python 3.10 and 3.12
# make lock   requirements.lock anew, after a change of setup.cfg; UPGRADE=--upgrade: the newest of all
# make audit   which of the locked versions have known holes
# make clients   other people's programs drive the environment; writes the table of docs/clients.md
# make annotate   the annotator's page on generated CT
# Each makes .venv first when it is missing or older than setup.cfg and requirements.lock, with the
# versions of the latter.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
UV := .venv-tools/bin/uv
LOWEST_TESTS := tests/al_gym tests/agents

.PHONY: install demo annotate test browser slow fuzz lint docs clients format clean force
.PHONY: test-lowest test-all lock audit

install: $(INSTALLED)

$(INSTALLED): setup.cfg requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "Installing into .venv; PyTorch is large, this takes a few minutes."
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

demo: $(INSTALLED)
	$(BIN)/python -m benchmarks.run --preset demo --seeds 10 --workers 2 --out runs/demo
	$(BIN)/python -m benchmarks.run --preset demo-network --seeds 1 --out runs/demo
	$(BIN)/python -m benchmarks.report runs/demo

annotate: $(INSTALLED)
	$(BIN)/python -m al_gym.annotate --demo --project runs/annotate

# the tensors of tests are small: threads would only wait for one another
test: export OMP_NUM_THREADS := 1
test: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --dist worksteal

browser: export OMP_NUM_THREADS := 1
browser: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --dist worksteal -m slow tests/al_gym/annotate

slow: export OMP_NUM_THREADS := 1
slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

fuzz: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --editable ".[fuzz]"
	$(BIN)/python -m tests.al_gym.data.guided

# other versions than .venv's, which warn of what the newest have no longer
test-lowest: export OMP_NUM_THREADS := 1
test-lowest: .venv-tools/.installed
	$(UV) venv --quiet --clear --python $(PYTHON) .venv-lowest
	$(UV) pip install --quiet --python .venv-lowest --resolution lowest-direct --editable ".[test]"
	.venv-lowest/bin/python -m pytest -n auto --dist worksteal -W ignore $(LOWEST_TESTS)

# pyenv: PYENV_VERSION=3.10.x:3.12.x make test-all
test-all: test-3.10 test-3.12

test-3.%: export OMP_NUM_THREADS := 1
test-3.%: .venv-tools/.installed
	$(UV) venv --quiet --clear --python 3.$* .venv-3.$*
	$(UV) pip install --quiet --python .venv-3.$* --require-hashes --requirement requirements.lock
	$(UV) pip install --quiet --python .venv-3.$* --no-deps --editable .
	.venv-3.$*/bin/python -m pytest -n auto --dist worksteal

# versions stay as they are where they can
lock: .venv-tools/.installed
	$(UV) pip compile --quiet setup.cfg --extra test --extra lint --extra docs --universal \
	    --python-version 3.10 --generate-hashes --no-annotate --custom-compile-command "make lock" \
	    $(UPGRADE) --output-file requirements.lock

# fails where a hole is known, and where PyPI does not say
audit: .venv-tools/.installed
	.venv-tools/bin/pip-audit --strict --requirement requirements.lock --require-hashes --disable-pip

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

# the newest of all; what RLlib asks for; the lowest of Gymnasium and Stable-Baselines3, and d3rlpy
CLIENTS := newest rllib oldest
newest_PACKAGES := --editable ".[clients]"
rllib_PACKAGES := --editable . "ray[rllib]"
oldest_PACKAGES := --editable . gymnasium==1.0.0 stable-baselines3==2.5.0 sb3-contrib==2.5.0 d3rlpy \
    minari[create,hdf5]
tools_PACKAGES := uv pip-audit
newest_TESTS := tests/clients
rllib_TESTS := tests/clients/test_rllib.py tests/clients/test_page.py
oldest_TESTS := tests/clients

.PRECIOUS: .venv-%/.installed
.venv-%/.installed: setup.cfg
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --upgrade pip
	.venv-$*/bin/python -m pip install --quiet pytest $($*_PACKAGES)
	@touch $@

# what fails stands in the table, which then says so
runs/clients/%.json: .venv-%/.installed force
	-.venv-$*/bin/python -m pytest -m slow $($*_TESTS) --record $@

clients: export OMP_NUM_THREADS := 1
clients: $(CLIENTS:%=runs/clients/%.json)
	.venv-newest/bin/python -m tests.clients.table $^

clean:
	rm -rf .venv .venv-* build site *.egg-info .pytest_cache .mypy_cache .ruff_cache
