# Every chore is one word, the same here and in CI. `make demo` and `make test` set up what they need by themselves.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.PHONY: demo test setup fmt lint types pytest lock clean

demo: .venv/.demo-ready  ## two workload accounts, one workspace, all on this computer
	@$(BIN)/trunkline demo $(ARGS)

test: .venv/.dev-ready lint types pytest  ## everything CI checks

setup: .venv/.dev-ready  ## the virtual environment and Prometheus, for working on Trunkline

pytest: .venv/.dev-ready
	@$(BIN)/pytest $(ARGS)

fmt: .venv/.dev-ready
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix-only .

lint: .venv/.dev-ready
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: .venv/.dev-ready
	@$(BIN)/mypy

lock:  ## pin every dependency anew, with hashes and without naming a registry
	@scripts/lock $(BIN)

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/.demo-ready: scripts/setup requirements/demo.txt pyproject.toml
	@PYTHON=$(PYTHON) scripts/setup demo

.venv/.dev-ready: scripts/setup requirements/dev.txt pyproject.toml
	@PYTHON=$(PYTHON) scripts/setup dev
