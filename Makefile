# `make run`: the page. `make test`: everything that CI runs. Both install first; the second time is quick.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test fast pages trainings check fix bench install install-dev

run: install
	$(BIN)/python app.py

test: fast
	$(MAKE) --jobs=2 --output-sync pages trainings

fast: check
	$(BIN)/python -m pytest -n 2 -m "not true and not browser"

pages: install-dev
	$(BIN)/python -m pytest -m browser

# Two at a time, a core each; as nice as the trainings of the page, which are waited for in the browser and would starve.
trainings: install-dev
	OMP_NUM_THREADS=1 nice -n 10 $(BIN)/python -m pytest -n 2 -m "true and not browser"

check: install-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

fix: install-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install-dev
	$(BIN)/python bench/train.py
	$(BIN)/python bench/encoding.py
	$(BIN)/python bench/pollers.py

install: .venv/installed
	@$(BIN)/python -m ftui starter

install-dev: install .venv/installed-dev

.venv/installed: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv || { echo 'Python lacks venv: apt-get install python3-venv, then make again.'; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@bash tests/install_browser.sh $(BIN)
	touch $@
