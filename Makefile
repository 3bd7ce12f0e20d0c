# Every chore is one word, the same here and in CI. `make demo` and `make test` set up what they need by themselves.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
BUILD := pyproject.toml setup.py $(wildcard src/trunkline/wire/_*.h src/trunkline/wire/*.pyx)

.PHONY: demo test bench faults soak setup fmt lint types pytest docs fuzz sanitize lock clean

demo: .venv/.demo-ready  ## two workload accounts, one workspace, all on this computer
	@$(BIN)/trunkline demo $(ARGS)

test: .venv/.dev-ready lint types pytest  ## everything CI checks

bench: .venv/.dev-ready  ## the collector beside its peers; never fails on a number
	@$(BIN)/python -m bench $(ARGS)

faults: .venv/.dev-ready  ## what is lost when things go wrong, into docs/reliability.md; say with ARGS='--quick' or '--only down'
	@$(BIN)/python -m faults $(ARGS)

soak: .venv/.dev-ready  ## faults at random under 50,000 samples/s for an hour; say with ARGS='--for 20m --seed 17'
	@$(BIN)/python -m faults.soak $(ARGS)

setup: .venv/.dev-ready  ## the virtual environment and Prometheus, for working on Trunkline

# Where there is a C compiler a kernel that did not load is an error, not a slower run.
pytest: .venv/.dev-ready
	@TRUNKLINE_KERNEL=$$(test -f .venv/.compiler && echo compiled) $(BIN)/pytest -n 2 --dist loadgroup $(ARGS)

fmt: .venv/.dev-ready
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix-only .

lint: .venv/.dev-ready
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: .venv/.dev-ready
	@$(BIN)/mypy

docs: .venv/.dev-ready  ## what is generated in docs/, after a setting or a known difference has changed
	@$(BIN)/python -m tests.differential.documented
	@$(BIN)/python -m trunkline.fleet.reference docs/fleet.md
	@$(BIN)/trunkline fleet schema > examples/fleet.schema.json

fuzz: .venv/.fuzz-ready  ## look for inputs nobody thought of, say with ARGS='--target exposition --for 60s'
	@$(BIN)/python -m fuzz $(ARGS)

sanitize: .venv/.dev-ready  ## the tests of wire/ with the address and undefined-behaviour sanitizers; ARGS are pytest's
	@$(BIN)/python -m fuzz.sanitize $(ARGS)

lock:  ## pin every dependency anew, with hashes and without naming a registry
	@scripts/lock $(BIN)

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f src/trunkline/wire/_kernel.c src/trunkline/wire/*.so

.venv/.demo-ready: scripts/setup requirements/demo.txt $(BUILD)
	@PYTHON=$(PYTHON) scripts/setup demo

.venv/.dev-ready: scripts/setup requirements/dev.txt $(BUILD)
	@PYTHON=$(PYTHON) scripts/setup dev

# On top of .dev-ready: atheris is not to be had for every machine.
.venv/.fuzz-ready: .venv/.dev-ready requirements/fuzz.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/fuzz.txt
	@touch $@
