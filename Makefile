# Everything starts here: `make run` for the service, `make test` for the proof.
# Both need python3 (3.11 or newer) and nothing else; what they install goes into .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
LOCK   := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --quiet \
          --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

.DEFAULT_GOAL := help
.PHONY: help install install-dev run test soak test-browser bench bench-model check fmt lock clean

help:  ## List every target
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed  ## Make the virtual environment and install what `make run` needs

install-dev: $(VENV)/.installed-dev  ## The same, and what tests and checks need

run: install  ## Start everything: PostgreSQL, Valkey, workers (Ctrl-C ends all of it)
	@exec $(BIN)/parley serve $(ARGS)

test: install-dev  ## Run the tests (about 10 minutes on 2 cores)
	$(BIN)/python -m pytest $(ARGS)

soak: install-dev  ## The same promises with the long counts
	$(BIN)/python -m pytest tests/soak -n 0 $(ARGS)

test-browser: install-dev  ## The widget in a browser; needs Debian's chromium, and playwright in .venv
	$(BIN)/python -m pytest tests/browser -n 0 $(ARGS)

bench: install-dev  ## Print exact figures as paired ratios
	$(BIN)/python -m tests.bench $(ARGS)

bench-model: install-dev  ## Tokens a second of our model client, the SDK's typed stream, and raw bytes
	$(BIN)/python -m tests.bench.model $(ARGS)

check: install-dev  ## Lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: install-dev  ## Format, and mend what can be mended
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

lock: install-dev  ## Renew the lock files (hashes, no hosts); ARGS=--upgrade takes newer versions
	$(LOCK) $(ARGS) --group build pyproject.toml -o requirements.lock
	$(LOCK) $(ARGS) --extra otel pyproject.toml -c requirements.lock -o requirements-otel.lock
	$(LOCK) $(ARGS) --group dev pyproject.toml -c requirements.lock -c requirements-otel.lock -o requirements-dev.lock

clean:  ## Remove the virtual environment and caches (never your data)
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Parley needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo "$(PYTHON) has no ensurepip, so it cannot make a virtual environment. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.lock pyproject.toml | $(BIN)/python
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@
