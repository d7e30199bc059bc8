"""A small part of the hammer; `python -m tools.hammer` is the whole."""

import random

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx2")

from tools import hammer, hammer_common


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        *[("images", 60), ("models", 12), ("prompts", 20), ("runs", 8)],
        *[("indexes", 40), ("requests", 80), ("kills", 1)],
    ],
)
@pytest.mark.filterwarnings("ignore")  # a foreign file may be warned about
def test_nothing_breaks(kind, count, tmp_path):
    watched = hammer.KINDS[kind](random.Random(f"7 {kind}"), count, tmp_path)
    assert not watched.broken
    assert sum(watched.counts.values()) >= count
    if kind not in ("kills", "runs"):  # the checkpoint before a damaged one is whole
        assert watched.counts["refused"] > count // 5


def test_the_hammer_sees_what_breaks():
    watched = hammer_common.Watched("case")
    watched.run("a.png", lambda: 1 / 0)
    watched.run("b.png", lambda: int("b"))
    watched.run("c.png", lambda: int("c.png"))
    assert watched.broken == [
        "case a.png: traceback: ZeroDivisionError",
        "case b.png: refused without its name",
    ]
    assert watched.counts["refused"] == 1
