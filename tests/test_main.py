"""What the research command shows between its bars."""

import logging as python_logging
import pathlib
import types

import pytest
from absl import logging

import sbir_jax
from sbir_jax import config, main
from sbir_jax.runtime import hardware


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


def test_an_error_shows_what_a_terminal_would_obey(monkeypatch, tmp_path):
    def fails(_):
        raise ValueError("no photo \x1b[31mred\x07\nbelow a line of ours")

    given = {"verbosity": 0, "workdir": str(tmp_path), "distributed": "", "config": 0}
    monkeypatch.setattr(main, "FLAGS", types.SimpleNamespace(**given))
    monkeypatch.setattr(main, "quiet_libraries", lambda: None)
    monkeypatch.setattr(hardware, "keep_programs", lambda: None)
    monkeypatch.setattr(config.Experiment, "from_config", fails)
    with pytest.raises(SystemExit) as caught:
        main.main(["sbir"])
    shown = "\nValueError: no photo \\x1b[31mred\\x07\nbelow a line of ours"
    assert caught.value.code == shown
