# Two commands for a fresh machine with only Python: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
EXTRAS := $(VENV)/.extras

# What depends most on the releases of JAX, NumPy and Python.
SOME := $(addprefix tests/test_,attention.py checkpoint.py embedder.py features.py \
	flags.py hardware.py main.py samplers.py search_index.py token_networks.py toy_task.py)

.PHONY: demo test test-some test-all clean

demo: $(READY)
	$(BIN)/python -m sbir_jax.main --config configs/toybox.py --workdir runs/toybox

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python -m pytest -rs --durations=25 --numprocesses auto --dist loadfile

test-some: $(READY)
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile $(SOME)

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
	rm -rf $(VENV) .newest build *.egg-info .pytest_cache .ruff_cache .jax_cache
