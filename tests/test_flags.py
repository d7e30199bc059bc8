"""Flags that another one, or the lack of it, would make void."""

import shlex

import pytest

from sbir_jax.search import cli, commands


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("search I a.png --rerank-first 5", "--rerank RUN orders: give that too"),
        ("search I --text 'a cup' --rerank-first 5", "--rerank RUN orders: give that"),
        ("search I a.png --rerank R --rerank-first 0", "give 1 or more photos"),
        ("search I --text 'a cup' --rerank R", "by a drawing: give one"),
        ("search I a.png --text ' '", "--text is blank"),
        ("search I a.png --text ' ' --text-weight 0.3", "--text is blank"),
        ("search I a.png --matcher R", "--matcher is for --rerank-text"),
        ("search I a.png --imagined-weight 0.3", "--imagine RUN makes: give that too"),
        ("explain I a.png b.jpg --rerank R --model M", "explains without it: give one"),
        ("imagine a.png --run R --guidance 5", "--guidance is by words: give --text"),
        ("segment p --words cup --run R --encoder tiny", "R says itself which one"),
    ],
)
def test_a_flag_that_would_be_ignored_is_an_error(command, told, capsys):
    """Before anything is opened: none of these files is there."""
    assert cli.main(shlex.split(command)) == 2
    err = capsys.readouterr().err
    assert told in err and err.startswith("sbir: error: --") and err.count("\n") == 1


class Opened:
    """An index that only tells what it is asked."""

    def __init__(self):
        self.asked = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    @property
    def embedder(self):
        raise AssertionError("no picture is asked for")

    def search(self, sketch, **asks):
        self.asked.append(asks["rerank"])
        return []


def test_what_is_not_given_has_its_default(monkeypatch, capsys):
    opened = Opened()
    monkeypatch.setattr(commands, "_drawing", lambda args: args.sketch)
    monkeypatch.setattr(commands, "_open", lambda args: opened)
    monkeypatch.setattr(commands, "_keep_programs", lambda: None)
    for flags in ("", "--rerank R", "--rerank R --rerank-first 7"):
        assert cli.main(shlex.split(f"search I a.png {flags} --json")) == 0
    assert opened.asked == [0, 20, 7]
