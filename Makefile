# Everything a newcomer needs: `make demo`, `make test`. Nothing outside this folder is touched but modelmill's home.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test check clients clean wheel

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("modelmill needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	@echo 'Setting up .venv; the first time this takes some minutes.'
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[mill,lightgbm,dev]'
	@touch $@

# Outside clients have pins of their own, and so an environment of their own.
.venv-clients/ready: tests/clients.txt
	$(PYTHON) -m venv .venv-clients
	.venv-clients/bin/python -m pip install -qq --disable-pip-version-check -r tests/clients.txt
	@touch $@

# The core alone, as a wheel brings it: what serves must not need what builds.
.venv-core/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-core
	.venv-core/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt .
	@touch $@

clients: .venv-clients/ready .venv-core/ready

demo: setup
	@$(BIN)/python examples/demo.py

test: setup clients check
	$(BIN)/python -m pytest -n 2 -q

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

wheel: setup
	$(BIN)/python -m build --wheel

clean:
	rm -rf .venv .venv-clients .venv-core build dist *.egg-info
