"""What the research command shows between its bars."""

import logging as python_logging
import pathlib

import pytest
from absl import logging

import sbir_jax
from sbir_jax import main


@pytest.mark.parametrize(
    ("path", "level", "shown"),
    [
        ("site-packages/orbax/checkpoint.py", "INFO", False),
        ("site-packages/orbax/checkpoint.py", "WARNING", True),
        (pathlib.Path(sbir_jax.__file__).with_name("experiment.py"), "INFO", True),
    ],
)
def test_libraries_are_heard_from_warnings_on(path, level, shown):
    handler = logging.get_absl_handler()
    before = list(handler.filters)
    handler.filters.clear()  # another test may have run the command
    number = python_logging.getLevelName(level)
    line = python_logging.LogRecord("any", number, str(path), 1, "text", (), None)
    try:
        assert handler.filter(line)
        main.quiet_libraries()
        assert bool(handler.filter(line)) is shown
    finally:
        handler.filters[:] = before
