"""A brute-force reader of texts about scenes, apart from the grammar that makes them.

It knows the words and the numbers of a `Truth` and tries every thing for every noun. A
`strict` reader asks for the margins that the truth is documented with; a generous one
takes any difference, any of a thing's colours and hidden things as well. What is said
must be so for both, and what is denied for neither.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from sbir_jax.data.toybox import looks, world
from sbir_jax.data.toybox.scenes.truth import Truth

STARTS = (*looks.PHOTO, *looks.SKETCH)
PATTERN_NOUNS = {noun: pattern for pattern, noun in looks.PATTERNS.items()}
RELATIONS = {
    ("left", "of"): "left", ("right", "of"): "right", ("in", "front", "of"): "front",
    ("behind",): "behind", ("on",): "on", ("larger", "than"): "larger",
    ("smaller", "than"): "smaller",
}  # fmt: skip
FIRST_OF = {
    "leftmost": "left", "rightmost": "right", "nearest": "front", "farthest": "behind",
    "largest": "larger", "smallest": "smaller",
}  # fmt: skip


@dataclass(frozen=True)
class Reader:
    """Reads texts about one scene."""

    truth: Truth
    strict: bool

    def things(self, text: str) -> list[int]:
        """The things that a referring expression is true of."""
        words = text.split()
        assert words.pop(0) == "the", text
        first = FIRST_OF[words.pop(0)] if words[0] in FIRST_OF else None
        noun, words = self._noun(words)
        found = [i for i in range(self.truth.number) if noun(i)]
        if first:
            found = [
                i for i in found
                if all(self.stands(first, i, j) for j in found if j != i)
            ]  # fmt: skip
        if words in (["on", "the", "left"], ["on", "the", "right"]):
            return [i for i in found if self._side(i, words[2])]
        if words:
            relation, words = self._relation(words)
            other, words = self._noun(words[1:])
            found = [
                i for i in found
                if any(
                    j != i and other(j) and self.stands(relation, i, j)
                    for j in range(self.truth.number)
                )
            ]  # fmt: skip
        assert not words, text
        return found

    def is_so(self, text: str) -> bool:
        """Whether a statement or a caption is true."""
        for start in STARTS:
            text = text.removeprefix(f"{start} ")
        words, nouns, relations = text.split(), [], []
        while words:
            if words[0] == "and":
                words.pop(0)
            if words[0] not in ("a", "an"):
                relation, words = self._relation(words)
                relations.append(relation)
            noun, words = self._noun(words[1:])
            nouns.append(noun)
        everything = range(self.truth.number)
        return any(
            all(noun(i) for noun, i in zip(nouns, chosen, strict=True))
            and all(
                self.stands(relation, chosen[0], i)
                for relation, i in zip(relations, chosen[1:], strict=False)
            )
            for chosen in itertools.permutations(everything, len(nouns))
        )

    def _noun(self, words: list[str]) -> tuple[Callable[[int], bool], list[str]]:
        """What the first words ask of a thing, and the other words."""
        tests: list[Callable[[int], bool]] = []
        words = list(words)
        while words[0] in looks.PATTERNS or words[0] in (*looks.COLOURS, "wooden"):
            word = words.pop(0)
            if word in looks.COLOURS:
                tests.append(lambda i, word=word: self._coloured(i, word))
            else:
                tests.append(lambda i, word=word: self._pattern(i) == word)
        name = words.pop(0)
        assert name == "thing" or name in world.CATEGORIES, name
        if name != "thing":
            tests.append(lambda i: self.truth.categories[i] == name)
        if words[:1] == ["with"]:
            _, colour, stripes, *words = words
            tests.append(lambda i: self._second(i, colour))
            tests.append(lambda i: self._pattern(i) == PATTERN_NOUNS[stripes])
        if self.strict:
            tests.append(lambda i: self.truth.visible[i] >= 0.4)
        return lambda i: all(test(i) for test in tests), words

    def _relation(self, words: list[str]) -> tuple[str, list[str]]:
        for text, name in RELATIONS.items():
            if tuple(words[: len(text)]) == text:
                return name, words[len(text) :]
        raise AssertionError(f"no relation: {' '.join(words)}")

    def _coloured(self, i: int, colour: str) -> bool:
        a = self.truth.attributes[i]
        own = (a.colour,) if self.strict else (a.colour, a.accent, a.second)
        return colour in own

    def _second(self, i: int, colour: str) -> bool:
        return self.truth.attributes[i].second == colour

    def _pattern(self, i: int) -> str:
        return self.truth.attributes[i].pattern

    def _side(self, i: int, side: str) -> bool:
        low, high = self.truth.across[i]
        middle = (low + high) / 2 * (1 if side == "right" else -1)
        return middle >= (0.35 if self.strict else 0.1)

    def stands(self, relation: str, i: int, j: int) -> bool:
        """Whether thing i stands so to thing j, by the coordinates alone."""
        if relation in ("right", "behind", "smaller"):
            turned = {"right": "left", "behind": "front", "smaller": "larger"}
            return self.stands(turned[relation], j, i)
        if relation == "on":
            return bool(self.truth.on[i] == j)
        if relation == "larger":
            ratio = self.truth.size[i] / self.truth.size[j]
            return ratio >= 1.25 if self.strict else ratio > 1
        spans = self.truth.across if relation == "left" else self.truth.away
        (a, b), (c, d) = spans[i], spans[j]
        margin = ((b - a) + (d - c)) / 4
        stacked = self.truth.on[i] == j or self.truth.on[j] == i
        if self.strict and stacked:
            return False
        return (c + d) / 2 - (a + b) / 2 >= (margin if self.strict else 1e-9)
