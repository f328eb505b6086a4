VENV := .venv
PYTHON := $(VENV)/bin/python
PAGE := demo.png
# Any Python from 3.11 on: make demo BOOTSTRAP=python3.12
BOOTSTRAP ?= python3

# The runtime's dependencies as pyproject.toml has them, with their oldest versions where the argument is "==".
DEPENDENCIES = import sys, tomllib; \
	print(*(d.replace(">=", sys.argv[1]) for d in tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]))

.PHONY: demo test web oldest lint clean

demo: $(VENV)/runtime.stamp  ## a page of new digits, from the shipped model
	@$(PYTHON) cli.py generate --dataset MNIST --output $(PAGE)

test: $(VENV)/test.stamp  ## all tests
	$(PYTHON) -m pytest

web: $(VENV)/test.stamp  ## the same graphs in Node and Chromium; needs npm
	ONNXRUNTIME_NODE_INSTALL=skip npm install --prefix tests/web --no-package-lock --no-audit --no-fund --loglevel=error
	$(PYTHON) -m pytest -rs tests/web

oldest: | $(PYTHON)  ## every shipped model with the oldest versions that pyproject.toml allows; these have no wheels for Python 3.13
	$(PYTHON) -m venv $(VENV)/oldest
	$(VENV)/oldest/bin/python -m pip install --quiet --disable-pip-version-check $$($(PYTHON) -c '$(DEPENDENCIES)' ==)
	PYTHONPATH=. $(VENV)/oldest/bin/python tests/oldest.py

lint: $(VENV)/dev.stamp  ## linter, type checker, import contracts
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	PYTHONPATH=. $(VENV)/bin/lint-imports

clean:
	rm -rf $(VENV) build *.egg-info $(PAGE)

$(PYTHON):
	$(BOOTSTRAP) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make BOOTSTRAP=...")'
	$(BOOTSTRAP) -m venv $(VENV)

$(VENV)/runtime.stamp: pyproject.toml | $(PYTHON)
	@echo "Installing numpy, onnxruntime, pillow and click into $(VENV)"
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check $$($(PYTHON) -c '$(DEPENDENCIES)' ">=")
	@touch $@

$(VENV)/%.stamp: pyproject.toml | $(PYTHON)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@
