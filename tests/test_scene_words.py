"""Texts about scenes: what is said is so, and a brute-force reader agrees."""

from collections import Counter

import numpy as np
import pytest

from sbir_jax.data.toybox import looks, world
from sbir_jax.data.toybox.looks import Attributes
from sbir_jax.data.toybox.scenes import words
from sbir_jax.data.toybox.scenes.grammar import Noun, Statement, The
from sbir_jax.data.toybox.scenes.truth import (
    FALSE,
    RELATIONS,
    TRUE,
    UNDECIDED,
    Truth,
    _relations,
    _sides,
)
from tools import check_scenes
from tools.scene_reader import Reader

RED = Attributes("red", "plain", None, "green")
STRIPED = Attributes("blue", "striped", "white", "black")


def told(*things, on=None, visible=None) -> Truth:
    """The truth about things: category, attributes, middles across and away, size."""
    names, attributes, x, z, size = zip(*things, strict=True)
    k = len(things)
    on = np.array(on or [-1] * k)
    across = np.array(x)[:, None] + [-0.1, 0.1]
    away = np.array(z)[:, None] + [-0.5, 0.5]
    size = np.array(size, float)
    return Truth(
        names, attributes, (frozenset(),) * k, on, size, across, away,
        np.ones(k, bool), np.array(visible or [1.0] * k), np.zeros((k, 4), int),
        _relations(on, size, across, away), _sides(across),
        np.zeros((4, 4), np.uint8), np.ones((4, 4), np.float32),
    )  # fmt: skip


MUGS = told(
    ("mug", RED, -0.6, 8.0, 1.0),
    ("mug", STRIPED, 0.5, 8.0, 1.5),
    ("hat", RED, 0.0, 5.0, 1.1),
)


@pytest.mark.parametrize(
    "noun, text, holds",
    [
        (Noun("mug"), "mug", (1, 1, -1)),
        (Noun(), "thing", (1, 1, 1)),
        (Noun(None, "red"), "red thing", (1, -1, 1)),
        # Its accent is green: nobody would swear that it is not a green mug.
        (Noun("mug", "green"), "green mug", (0, -1, -1)),
        # Orange and red may be taken for each other; the white is the stripes'.
        (Noun("mug", "orange"), "orange mug", (0, -1, -1)),
        (Noun("mug", "white"), "white mug", (-1, 0, -1)),
        (Noun("mug", None, "striped"), "striped mug", (-1, 1, -1)),
        (Noun("mug", "blue", "striped"), "striped blue mug", (-1, 1, -1)),
        (
            Noun("mug", "blue", "striped", "white"),
            "blue mug with white stripes",
            (-1, 1, -1),
        ),
        (Noun("mug", "blue", "wooden"), "blue wooden mug", (-1, -1, -1)),
    ],
)
def test_nouns(noun, text, holds):
    assert noun.text == text
    assert tuple(noun.holds(MUGS)) == holds


@pytest.mark.parametrize(
    "the, text, target",
    [
        (The(Noun("mug")), "the mug", None),
        (The(Noun("hat")), "the hat", 2),
        (The(Noun("mug"), superlative="leftmost"), "the leftmost mug", 0),
        (The(Noun(), superlative="nearest"), "the nearest thing", 2),
        # The two mugs are equally far.
        (The(Noun("mug"), superlative="nearest"), "the nearest mug", None),
        (The(Noun("mug"), superlative="largest"), "the largest mug", 1),
        (The(Noun("mug"), side="right"), "the mug on the right", 1),
        (
            The(Noun("mug"), relation=("left of", Noun("hat"))),
            "the mug left of a hat",
            0,
        ),
        (
            The(Noun("mug"), relation=("behind", Noun("hat"))),
            "the mug behind a hat",
            None,
        ),
        (
            The(Noun(), relation=("in front of", Noun("mug", "red"))),
            "the thing in front of a red mug",
            None,  # the other mug is about level with it
        ),
        (
            The(Noun("hat"), relation=("in front of", Noun("mug", "red"))),
            "the hat in front of a red mug",
            2,
        ),
    ],
)
def test_referring_expressions(the, text, target):
    assert the.text == text
    assert the.target(MUGS) == target
    if target is not None:
        for strict in (True, False):
            assert Reader(MUGS, strict).things(text) == [target]


@pytest.mark.parametrize(
    "said, text, holds",
    [
        (Statement((Noun("mug"), Noun("mug"))), "a mug and a mug", TRUE),
        (Statement((Noun("hat"), Noun("hat"))), "a hat and a hat", FALSE),
        (
            Statement((Noun("mug", "red"), Noun("hat")), ("left of",)),
            "a red mug left of a hat",
            TRUE,
        ),
        (
            Statement((Noun("hat"), Noun("mug"), Noun("mug")), ("right of", "left of")),
            "a hat right of a mug and left of a mug",
            TRUE,
        ),
        (
            Statement((Noun("mug", "red"), Noun("hat")), ("right of",)),
            "a red mug right of a hat",
            FALSE,
        ),
        (
            Statement((Noun("mug", "red"), Noun("hat")), ("larger than",)),
            "a red mug larger than a hat",
            UNDECIDED,
        ),
        (
            Statement((Noun("mug"), Noun("hat")), ("on",)),
            "a mug on a hat",
            FALSE,
        ),
    ],
)
def test_statements(said, text, holds):
    assert said.text == text
    assert said.holds(MUGS) == holds
    readings = {Reader(MUGS, strict).is_so(text) for strict in (True, False)}
    assert holds == UNDECIDED or readings == {holds == TRUE}


def test_what_stands_on_another_is_neither_beside_nor_before_it():
    stacked = told(("hat", RED, -0.2, 8, 1.0), ("table", RED, 0.3, 6, 2.0), on=[1, -1])
    values = {how: stacked.relations[how][0, 1] for how in RELATIONS}
    assert values == {
        "left of": UNDECIDED, "right of": UNDECIDED, "in front of": UNDECIDED,
        "behind": UNDECIDED, "on": TRUE, "larger than": FALSE, "smaller than": TRUE,
    }  # fmt: skip
    assert stacked.relations["on"][1, 0] == FALSE


def test_two_of_one_category_and_colour_are_told_apart_by_place_alone():
    twins = told(("mug", RED, -0.6, 8, 1.0), ("mug", RED, 0.6, 8, 1.0))
    kinds = Counter(r.kind for r in words.refer(twins, np.random.default_rng(0)))
    assert kinds == {"place": 2, "relation": 2}


def test_same_things_side_by_side_without_a_clear_place_get_no_expression():
    twins = told(("mug", RED, -0.02, 8, 1.0), ("mug", RED, 0.02, 8, 1.0))
    assert words.refer(twins, np.random.default_rng(0)) == []


def test_every_change_makes_its_own_difference():
    said = Statement(
        (Noun("mug", "blue", "striped"), Noun("mug", "red")), ("right of",)
    )
    assert said.holds(MUGS) == TRUE
    rng = np.random.default_rng(3)
    found = {n.change: n.text for n in words.negatives(MUGS, said, rng)}
    assert set(found) == set(words.CHANGES)
    own = said.text.split()
    for change in ("noun", "colour", "pattern"):
        new = found[change].split()
        pairs = [(a, b) for a, b in zip(own, new, strict=True) if a != b]
        pairs = [(a, b) for a, b in pairs if {a, b} != {"a", "an"}]
        (old, other) = pairs[0]
        kinds = {
            "noun": world.CATEGORIES, "colour": looks.COLOURS, "pattern": looks.PATTERNS
        }  # fmt: skip
        assert len(pairs) == 1 and {old, other} <= set(kinds[change])
    assert found["swap"] == "a red mug right of a striped blue mug"
    nouns = ("a striped blue mug ", " a red mug")
    how = found["relation"].removeprefix(nouns[0]).removesuffix(nouns[1])
    assert how in RELATIONS and how != "right of"


def test_reader_finds_faults():
    """A reader that agrees with everything would check nothing."""
    for strict in (True, False):
        reader = Reader(MUGS, strict)
        assert reader.things("the mug") == [0, 1]
        assert reader.things("the mug left of a mug") == [0]
        assert reader.things("the wooden mug") == []
        assert not reader.is_so("a photo of a blue hat")
    hidden = told(("mug", RED, 0, 5, 1.0), visible=[0.1])
    assert Reader(hidden, False).things("the mug") == [0]
    assert Reader(hidden, True).things("the mug") == []


def test_texts_of_drawn_scenes_are_read_as_they_are_meant():
    counts, faults = check_scenes.check(20_000, 48, 32)
    assert not faults
    for kind in words.KINDS:
        assert counts[f"referring by {kind}"] > 15
    for change in words.CHANGES:
        assert counts[f"negatives by {change}"] > 10
    assert all(counts[f"pairs {how}"] for how in RELATIONS)


def test_relational_words_are_in_the_vocabulary():
    said = {word for how in RELATIONS for word in how.split()}
    assert said <= set(words.VOCABULARY) and set(world.VOCABULARY) < set(
        words.VOCABULARY
    )
    assert {"leftmost", "nearest", "the", "thing"} <= set(words.VOCABULARY)
