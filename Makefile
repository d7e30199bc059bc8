# Two commands for a fresh machine with only Python: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
EXTRAS := $(VENV)/.extras

.PHONY: demo test test-all clean

demo: $(READY)
	$(BIN)/python -m sbir_jax.main --config configs/toybox.py --workdir runs/toybox

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python -m pytest -rs --durations=25 --numprocesses auto --dist loadfile

# With the extras, slow tests too.
test-all: $(EXTRAS)
	$(BIN)/python -m pytest -rs --durations=25 -m 'not gpu' --numprocesses auto --dist loadfile

$(READY): setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

# What only some tests need; what cannot be had is skipped, and why is said.
$(EXTRAS): $(READY) tools/install_extras.sh
	BIN=$(BIN) tools/install_extras.sh
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .jax_cache
