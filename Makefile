# `make demo` and `make test` need nothing but Python 3.11+, make and a reachable package index:
# they build .venv themselves, once, and again when pyproject.toml or constraints.txt change.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
SETUP := pyproject.toml setup.py constraints.txt $(wildcard integrations/*/__init__.py)

# A stamp is touched only after its whole recipe went through, so an interrupted set-up runs again.
CREATED := $(VENV)/.created
CORE := $(VENV)/.core-installed
DEV := $(VENV)/.dev-installed

# Nerfstudio needs torchvision, so a torch of its own, and so an environment of its own.
NERFSTUDIO := .venv-nerfstudio
NERFSTUDIO_INSTALLED := $(NERFSTUDIO)/.installed

.PHONY: demo test test-nerfstudio lint format clean help

help:  ## Show this list.
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 26

demo: $(CORE)  ## Run the main job on a demo clip, or on your own video: make demo SOURCE=my.mp4
	$(BIN)/mem3r demo $(if $(SOURCE),--source "$(SOURCE)")

test: $(DEV)  ## Run the tests on two processes; PYTEST_ARGS adds options.
	$(BIN)/python -m pytest -n 2 $(PYTEST_ARGS)

test-nerfstudio: $(NERFSTUDIO_INSTALLED)  ## Run the tests that need nerfstudio, in their own environment (8 GB).
	$(NERFSTUDIO)/bin/python -m pytest -n 2 tests/integrations/nerfstudio tests/integrations/gsplat tests/integrations/check \
	  tests/integrations/test_nerfstudio_export.py $(PYTEST_ARGS)

lint: $(DEV)  ## Check style, formatting and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DEV)  ## Repair style and formatting.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove .venv, the demo's output, caches and build leftovers.
	rm -rf $(VENV) $(NERFSTUDIO) demo_output build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(CREATED):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: $(PYTHON) is missing or older than 3.11; name another one: make PYTHON=python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "make: $(PYTHON) cannot create virtual environments; on Debian: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(CORE): $(CREATED) $(SETUP)
	@echo "Installing into $(VENV); the first time takes a few minutes ..."
	@$(INSTALL) -e .
	@touch $@

$(DEV): $(CREATED) $(SETUP)
	@echo "Installing into $(VENV) with the development tools; the first time takes a few minutes ..."
	@$(INSTALL) -e ".[dev]"
	@touch $(CORE) $@

$(NERFSTUDIO_INSTALLED): $(CREATED) $(SETUP) constraints-nerfstudio.txt
	@echo "Installing nerfstudio into $(NERFSTUDIO); the first time takes some minutes ..."
	@$(PYTHON) -m venv $(NERFSTUDIO)
	@$(NERFSTUDIO)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-nerfstudio.txt \
	  -e ".[nerfstudio,gsplat]" torchvision pytest pytest-xdist hypothesis
	@touch $@
