"""The language of scenes: every phrase makes its text and its truth.

A `Noun` names things by category, colour and pattern; `The` refers to one thing by a
noun and a place or a relation; a `Statement` says that things are there and how they
stand. Values are TRUE, UNDECIDED or FALSE as in `truth`.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int8

from sbir_jax.data.toybox import looks
from sbir_jax.data.toybox.scenes import truth as facts
from sbir_jax.data.toybox.scenes.truth import FALSE, RELATIONS, TRUE, Truth

# What comes first in which order: the relation that such a thing has to all others.
SUPERLATIVES = {
    "leftmost": "left of", "rightmost": "right of", "nearest": "in front of",
    "farthest": "behind", "largest": "larger than", "smallest": "smaller than",
}  # fmt: skip
SIDES = {"left": "on the left", "right": "on the right"}
VOCABULARY = tuple(
    sorted(
        {
            *"a and an the thing".split(),
            *SUPERLATIVES,
            *(word for text in (*RELATIONS, *SIDES.values()) for word in text.split()),
        }
    )
)


@dataclass(frozen=True)
class Noun:
    """Things by what they are: any thing without a category.

    `second` is the colour of the pattern, said only together with one of
    `looks.PATTERNS`.
    """

    category: str | None = None
    colour: str | None = None
    pattern: str | None = None
    second: str | None = None

    @property
    def text(self) -> str:
        name = self.category or "thing"
        if self.second:
            stripes = looks.PATTERNS[self.pattern or ""]
            return _joined(self.colour, name, "with", self.second, stripes)
        if self.pattern == "wooden":
            return _joined(self.colour, self.pattern, name)
        return _joined(self.pattern, self.colour, name)

    def holds(self, truth: Truth) -> Int8[np.ndarray, " k"]:
        """Of which things it is true; at most undecided of what hardly shows."""
        value = np.full(truth.number, TRUE, np.int8)
        if self.category:
            own = np.array([name == self.category for name in truth.categories])
            value = np.where(own, value, FALSE).astype(np.int8)
        if self.colour:
            value = np.minimum(value, facts.coloured(truth, self.colour))
        if self.pattern:
            value = np.minimum(value, facts.patterned(truth, self.pattern))
        if self.second:
            value = np.minimum(value, facts.coloured(truth, self.second, second=True))
        return np.minimum(value, truth.seen.astype(np.int8))


def _joined(*words: str | None) -> str:
    return " ".join(word for word in words if word)


@dataclass(frozen=True)
class The:
    """A referring expression: a noun, and at most one of the other three.

    `superlative` is one of SUPERLATIVES, `side` one of SIDES, `relation` a name of
    RELATIONS and the noun of the other thing.
    """

    noun: Noun
    superlative: str | None = None
    side: str | None = None
    relation: tuple[str, Noun] | None = None

    @property
    def text(self) -> str:
        words = ["the", self.superlative, self.noun.text]
        if self.side:
            words.append(SIDES[self.side])
        if self.relation:
            words += [self.relation[0], looks.with_article(self.relation[1].text)]
        return _joined(*words)

    def holds(self, truth: Truth) -> Int8[np.ndarray, " k"]:
        """Of which things it is true."""
        value = self.noun.holds(truth)
        if self.superlative:
            # Before all others of its noun: each is none of them, or comes after.
            before = truth.relations[SUPERLATIVES[self.superlative]].copy()
            np.fill_diagonal(before, TRUE)
            value = np.minimum(value, np.maximum(before, -value[None]).min(1))
        if self.side:
            value = np.minimum(value, truth.sides[self.side])
        if self.relation:
            holds, other = truth.relations[self.relation[0]], self.relation[1]
            met = np.minimum(holds, other.holds(truth)[None])
            value = np.minimum(value, met.max(1))
        return value

    def target(self, truth: Truth) -> int | None:
        """The one thing that it is true of, if it is false of all others."""
        value = self.holds(truth)
        ones = np.flatnonzero(value == TRUE)
        if len(ones) == 1 and (np.delete(value, ones) == FALSE).all():
            return int(ones[0])
        return None


@dataclass(frozen=True)
class Statement:
    """There are these things, all different, and the first stands so to others.

    `relations` are names of RELATIONS, the first thing's to the second, to the third
    and so on; without any the things are only listed.
    """

    nouns: tuple[Noun, ...]
    relations: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        names = [looks.with_article(noun.text) for noun in self.nouns]
        if not self.relations:
            return " and ".join(names)
        pairs = zip(self.relations, names[1:], strict=True)
        return f"{names[0]} {' and '.join(f'{how} {name}' for how, name in pairs)}"

    def holds(self, truth: Truth) -> int:
        """TRUE if some things of the scene are these and stand so."""
        values = [noun.holds(truth) for noun in self.nouns]
        holds = truth.relations
        best = FALSE
        for chosen in itertools.permutations(range(truth.number), len(self.nouns)):
            value = min(value[i] for value, i in zip(values, chosen, strict=True))
            for how, i in zip(self.relations, chosen[1:], strict=False):
                value = min(value, holds[how][chosen[0], i])
            best = max(best, int(value))
        return best
