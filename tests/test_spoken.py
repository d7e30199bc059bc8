"""Which words of a caption speak of which things."""

from unittest import mock

import numpy as np
import pytest

from sbir_jax.data.toybox import looks, world
from sbir_jax.data.toybox.scenes import spoken, words
from sbir_jax.data.toybox.scenes.grammar import Noun, Statement
from sbir_jax.data.toybox.scenes.render import FLOOR, WALL, render_scenes
from sbir_jax.data.toybox.scenes.scene import MOST, draw_scene
from sbir_jax.data.toybox.scenes.spoken import OF_THINGS
from sbir_jax.data.toybox.scenes.truth import FALSE, TRUE, truths


@pytest.fixture(scope="module")
def some():
    """Truths of a few scenes; two of a kind are among them."""
    scenes = [draw_scene(i) for i in range(24)]
    found = truths(scenes, render_scenes(scenes, 32, looks=()))
    assert any(len(set(t.categories)) < t.number for t in found)
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a photo of a red mug", ["red mug"]),
        (
            "a sketch of a chair and a striped blue train",
            ["chair", "striped blue train"],
        ),
        (
            "a photo of a red mug with blue stripes left of a chair and on a bed",
            ["red mug blue stripes", "chair", "bed"],
        ),
        ("a picture of a striped red and blue mug", ["striped red blue mug"]),
        ("a photo of a brown wooden bed", ["brown wooden bed"]),
        ("a drawing of a thing", []),
        ("a photo of a red mug and a blue hat", ["red mug", "blue hat"]),
    ],
)
def test_phrases_hold_their_words(text, expected):
    split = text.split()
    found = [
        " ".join(split[i] for i in sorted((phrase.category, *phrase.attributes)))
        for phrase in spoken.phrases(text)
    ]
    assert found == expected


def test_every_caption_has_the_phrases_of_its_statement(some):
    rng = np.random.default_rng(0)
    for truth in some:
        said = words.statement(truth, rng)
        if said is None:
            continue
        for drawn in (False, True):
            written = words.as_written(said, drawn)
            text = words.caption(said, rng, drawn)
            found, split = spoken.phrases(text), text.split()
            assert len(found) == len(written.nouns)
            for phrase, noun in zip(found, written.nouns, strict=True):
                assert split[phrase.category] == noun.category
                named = {noun.colour, noun.second, noun.pattern} - {None}
                if noun.second:
                    named = {noun.colour, noun.second, looks.PATTERNS[noun.pattern]}
                assert {split[i] for i in phrase.attributes} == named


def test_words_speak_of_what_their_phrase_is_true_of(some):
    for truth in some:
        for thing in np.flatnonzero(truth.seen):
            for noun in words.nouns(truth, int(thing)):
                text = f"a photo of a {noun.text}"
                found = spoken.of_scene(text, Statement((noun,)), truth)
                true = noun.holds(truth) == TRUE
                bits = OF_THINGS | int((true << np.arange(truth.number)).sum())
                assert true[thing]
                for i, word in enumerate(text.split()):
                    expected = bits if i > 3 and word != "with" else 0
                    assert found.things[i] == expected


def test_a_false_colour_is_said_of_nothing_and_its_category_of_all_of_the_kind(some):
    truth = next(t for t in some if t.seen.any())
    thing = int(np.flatnonzero(truth.seen)[0])
    name = truth.categories[thing]
    wrong = next(
        c for c in looks.COLOURS if not (Noun(name, c).holds(truth) == TRUE).any()
    )
    said = Statement((Noun(name, wrong),))
    found = spoken.of_scene(f"a photo of a {wrong} {name}", said, truth)
    named = (Noun(name).holds(truth) == TRUE) << np.arange(truth.number)
    assert found.things[-2:] == (OF_THINGS, OF_THINGS | int(named.sum()))


def test_false_captions_change_one_noun_into_what_is_not_there(some):
    rng = np.random.default_rng(1)
    made, changes = 0, set()
    for truth in some * 3:
        said = words.statement(truth, rng)
        if said is None:
            continue
        write = mock.Mock(side_effect=lambda other: words.caption(other, rng))
        found = spoken.false_of_scene(said, truth, write, rng, world.SEEN)
        if found is None:
            continue
        made += 1
        (other,) = write.call_args.args
        pairs = zip(said.nouns, other.nouns, strict=True)
        ((old, new),) = [(a, b) for a, b in pairs if a != b]
        assert (new.holds(truth) == FALSE).all() and new.category in world.SEEN
        changes |= {
            part
            for part in ("category", "colour", "pattern")
            if getattr(old, part) != getattr(new, part)
        }
        # Some word of it speaks of things, and of none that is there.
        assert OF_THINGS in found.things
    assert made > 40 and changes == {"category", "colour", "pattern"}


def test_wall_and_floor_come_after_the_things(some):
    truth = some[0]
    text = "a photo of a thing and a floor and a wall"
    found = spoken.of_scene(text, None, truth)
    told = dict(zip(text.split(), found.things, strict=True))
    assert told.pop("wall") == OF_THINGS | 1 << MOST + WALL
    assert told.pop("floor") == OF_THINGS | 1 << MOST + FLOOR
    assert set(told.values()) == {0} and max(found.things) < 2**8
    rng = np.random.default_rng(0)
    said = [words.backdrop(rng) for _ in range(300)]
    assert {"", " and a wall", " and a floor and a wall"} < set(said)
    assert 0.25 < np.mean([bool(each) for each in said]) < 0.45


def test_single_things_are_told_by_the_same_rules():
    rng = np.random.default_rng(0)
    for name in ("mug", "anchor", "train"):
        for i in range(8):
            thing = world.instance(name, i)
            for text in (world.photo_caption(thing), world.sketch_caption(thing)):
                true = spoken.of_thing(text)
                assert true.things[text.split().index(name)] == OF_THINGS | 1
                assert set(true.things) == {0, OF_THINGS | 1}
                false = spoken.false_of_thing(text, rng, world.SEEN)
                assert name not in false.text.split()
                assert set(false.things) == {0, OF_THINGS}
                assert [x > 0 for x in false.things] == [x > 0 for x in true.things]
                (at,) = spoken.phrases(false.text)
                words_ = false.text.split()
                assert words_[at.category] in world.SEEN
                start = min((at.category, *at.attributes))
                vowel = words_[start][0] in "aeiou"
                assert words_[start - 1] == ("an" if vowel else "a")
