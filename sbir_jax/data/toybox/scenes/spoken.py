"""Which words of a caption speak of which things of its picture.

    a  red  mug  left  of  a  blue  chair
    -  0    0    -     -   -  1     1

A colour or a pattern speaks of the things of which its whole phrase is true. So does a
category, but where the phrase is true of nothing it speaks of all things that are
called so: in "a blue mug" of a picture with a red one "mug" does, and "blue" is said of
nothing.
"""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np

from sbir_jax.data.toybox import looks, world
from sbir_jax.data.toybox.scenes import words
from sbir_jax.data.toybox.scenes.grammar import Noun, Statement
from sbir_jax.data.toybox.scenes.scene import MOST
from sbir_jax.data.toybox.scenes.truth import FALSE, TRUE, Truth

OF_THINGS = 1 << 7  # set in a word that speaks of things, be it of none that is shown
CHANGES = ("noun", "colour", "pattern")  # of `words.CHANGES`: those that words show
# Bits of what is behind the things, after those of things.
_BEHIND = {
    word: OF_THINGS | 1 << MOST << number for word, number in words.BACKDROP.items()
}
_CATEGORIES = frozenset(world.CATEGORIES)
_BEFORE = frozenset({*looks.COLOURS, *looks.PATTERNS, "wooden"})
_AFTER = frozenset({*looks.COLOURS, *looks.PATTERNS.values()})


class Phrase(NamedTuple):
    """Where in a text a thing is named."""

    category: int  # number of a word
    attributes: tuple[int, ...]


class Spoken(NamedTuple):
    """A caption and for each of its words, apart by blanks, bit k for thing k; those
    of wall and floor come after MOST things."""

    text: str
    things: tuple[int, ...]


def phrases(text: str) -> list[Phrase]:
    """The phrases of a caption of scenes, or of single things, in their order."""
    found: list[Phrase] = []
    waiting: list[int] = []  # attributes whose thing is still to come
    follows = False  # whether colours are those of the pattern of the last thing
    for i, word in enumerate(text.split()):
        if word in _CATEGORIES:
            found.append(Phrase(i, tuple(waiting)))
            waiting = []
        elif found and (word == "with" or (follows and word in _AFTER)):
            if word != "with":
                found[-1] = Phrase(found[-1].category, (*found[-1].attributes, i))
            follows = word not in looks.PATTERNS.values()
            continue
        elif word in _BEFORE:
            waiting.append(i)
        follows = False
    return found


def said_of(text: str, meant: Sequence[tuple[int, int]]) -> Spoken:
    """A caption with the things of its phrases.

    Args:
      meant: of each phrase, as bits: the things of its attributes and of its category.
    Raises: ValueError if these are more or fewer than the phrases.
    """
    bits = [_BEHIND.get(word, 0) for word in text.split()]
    for phrase, (whole, named) in zip(phrases(text), meant, strict=True):
        bits[phrase.category] = named | OF_THINGS
        for i in phrase.attributes:
            bits[i] = whole | OF_THINGS
    return Spoken(text, tuple(bits))


def of_scene(text: str, said: Statement | None, truth: Truth) -> Spoken:
    """A caption whose phrases are the nouns of a statement, true or not."""

    def bits(noun: Noun) -> int:
        return sum(1 << int(k) for k in np.flatnonzero(noun.holds(truth) == TRUE))

    meant = []
    for noun in said.nouns if said else ():
        whole = bits(noun)
        meant.append((whole, whole or bits(Noun(noun.category))))
    return said_of(text, meant)


def false_of_scene(
    said: Statement,
    truth: Truth,
    write: Callable[[Statement], str],
    rng: np.random.Generator,
    categories: Collection[str] = world.CATEGORIES,
) -> Spoken | None:
    """A caption that names a thing which is not there; None where none can be made.

    Args:
      said: what is true; one word of one of its nouns is changed.
      write: gives the caption of a statement.
      categories: what may be named.
    """

    def wrong(other: Statement) -> bool:
        new = set(other.nouns) - set(said.nouns)
        known = bool(new) and all(noun.category in categories for noun in new)
        return known and all((noun.holds(truth) == FALSE).all() for noun in new)

    for change in rng.permutation(CHANGES):
        options = [other for other in words.changed(said, str(change)) if wrong(other)]
        if options:
            other = options[int(rng.integers(len(options)))]
            return of_scene(write(other), other, truth)
    return None


def of_thing(text: str) -> Spoken:
    """The true caption of a picture of one thing."""
    return said_of(text, [(1, 1)] * len(phrases(text)))


def false_of_thing(
    text: str,
    rng: np.random.Generator,
    categories: Collection[str] = world.CATEGORIES,
) -> Spoken:
    """The caption of a picture of one thing with another of these categories in it."""
    split = text.split()
    (named,) = phrases(text)
    others = [name for name in categories if name != split[named.category]]
    name = others[int(rng.integers(len(others)))]
    # The article is the first word of the phrase.
    start = min((named.category, *named.attributes)) - 1
    split[named.category] = name
    split[start] = looks.with_article(split[start + 1]).split()[0]
    return said_of(" ".join(split), [(0, 0)])
