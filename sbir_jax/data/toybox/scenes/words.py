"""Texts about a scene: captions, referring expressions, hard negatives.

All are chosen among phrases of `grammar`, and their truth is asked before they are
said: a caption is true, an expression true of one thing alone, a negative false.
"""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from sbir_jax.data.toybox import looks, world
from sbir_jax.data.toybox.scenes import grammar
from sbir_jax.data.toybox.scenes.grammar import Noun, Statement, The
from sbir_jax.data.toybox.scenes.render import FLOOR, WALL
from sbir_jax.data.toybox.scenes.truth import FALSE, RELATIONS, TRUE, Truth

KINDS = ("name", "attribute", "place", "relation")
CHANGES = ("noun", "colour", "pattern", "relation", "swap")
# What photos show beside things, by the number in `render.Pictures.instances`.
BACKDROP = {"wall": WALL, "floor": FLOOR}
VOCABULARY = tuple(sorted({*world.VOCABULARY, *grammar.VOCABULARY, *BACKDROP}))


class Reference(NamedTuple):
    """A referring expression and the number of the thing it is true of."""

    text: str
    thing: int
    kind: str  # one of KINDS


class Negative(NamedTuple):
    """A false statement, and what was changed of the true one."""

    text: str
    change: str  # one of CHANGES


def nouns(truth: Truth, thing: int) -> list[Noun]:
    """What a thing can be called by its own attributes, the barest first."""
    name, a = truth.categories[thing], truth.attributes[thing]
    called = [Noun(name), Noun(name, a.colour)]
    if a.pattern != "plain":
        called += [Noun(name, None, a.pattern), Noun(name, a.colour, a.pattern)]
    if a.second:
        called.append(Noun(name, a.colour, a.pattern, a.second))
    return called


def _noun(truth: Truth, thing: int, rng: np.random.Generator) -> Noun:
    """One of them, seldom the bare name."""
    called = nouns(truth, thing)
    return called[0] if rng.random() < 0.15 else _pick(called[1:], rng)


def _pick(options, rng: np.random.Generator):
    return options[int(rng.integers(len(options)))]


def statement(truth: Truth, rng: np.random.Generator) -> Statement | None:
    """A true statement about things that are seen; None if nothing is.

    Where things stand in relations, three in four statements name one or two.
    """
    seen = np.flatnonzero(truth.seen).tolist()
    if not seen:
        return None
    holds = truth.relations
    subject = _pick(seen, rng)
    met = [
        (how, other)
        for other in seen
        for how in RELATIONS
        if other != subject and holds[how][subject, other] == TRUE
    ]
    rng.shuffle(met)
    if met and rng.random() < 0.75:
        one, *rest = met
        more = [two for two in rest if two[1] != one[1]]
        chosen = [one, *more[: rng.integers(2)]]
        others = [other for _, other in chosen]
        relations = tuple(how for how, _ in chosen)
    else:
        others = [other for other in seen if other != subject]
        rng.shuffle(others)
        others, relations = others[: rng.integers(len(others) + 1)], ()
    return Statement(
        tuple(_noun(truth, thing, rng) for thing in (subject, *others)), relations
    )


def as_written(said: Statement, drawn: bool) -> Statement:
    """A statement with what a caption writes of it: a drawing has no colours, of its
    things only the categories are named."""
    if not drawn:
        return said
    return replace(said, nouns=tuple(Noun(noun.category) for noun in said.nouns))


def caption(said: Statement | None, rng: np.random.Generator, drawn=False) -> str:
    """A statement as the caption of a photo, or of a sketch; no thing for None."""
    starts = looks.SKETCH if drawn else looks.PHOTO
    said = as_written(said, drawn) if said else None
    return f"{_pick(starts, rng)} {said.text if said else 'a thing'}"


def backdrop(rng: np.random.Generator) -> str:
    """What a caption of a photo says of wall and floor; of one in three it does."""
    named = [f" and a {word}" for word in BACKDROP if rng.random() < 0.2]
    rng.shuffle(named)
    return "".join(named)


def _candidates(truth: Truth, thing: int) -> Iterator[tuple[str, The]]:
    """Expressions of all kinds that might be meant for a thing."""
    bare, *more = nouns(truth, thing)
    anything = Noun()
    yield "name", The(bare)
    for noun in more:
        yield "attribute", The(noun)
        yield "attribute", The(replace(noun, category=None))
    for noun in (bare, anything, more[0]):
        for word in grammar.SUPERLATIVES:
            yield "place", The(noun, superlative=word)
        for side in grammar.SIDES:
            yield "place", The(noun, side=side)
    for noun, how in itertools.product((bare, anything, more[0]), RELATIONS):
        for other in range(truth.number):
            if other != thing:
                for called in nouns(truth, other)[:2]:
                    yield "relation", The(noun, relation=(how, called))


def refer(truth: Truth, rng: np.random.Generator) -> list[Reference]:
    """For each thing one expression of every kind that there is for it.

    A place or a relation counts only where the noun alone would not do: "the leftmost
    mug" is said of several.
    """
    said = []
    for thing in np.flatnonzero(truth.seen).tolist():
        enough = {
            noun
            for noun in (Noun(), *nouns(truth, thing))
            if The(noun).target(truth) == thing
        }
        by_kind: dict[str, list[The]] = {kind: [] for kind in KINDS}
        for kind, the in _candidates(truth, thing):
            if kind not in ("place", "relation") or the.noun not in enough:
                by_kind[kind].append(the)
        for kind, options in by_kind.items():
            the = _first(options, lambda the: the.target(truth) == thing, rng)  # noqa: B023
            if the:
                said.append(Reference(the.text, thing, kind))
    return said


def _first(options, wanted, rng: np.random.Generator):
    """One of the options that are wanted, each as likely; None if none is."""
    order = rng.permutation(len(options))
    return next((options[i] for i in order if wanted(options[i])), None)


def changed(said: Statement, change: str) -> Iterator[Statement]:
    """All statements that differ from this one by one change of this kind."""
    if change == "swap":
        if said.relations:
            second, *rest = said.nouns[1:]
            yield replace(said, nouns=(second, said.nouns[0], *rest))
        return
    if change == "relation":
        for i, how in itertools.product(range(len(said.relations)), RELATIONS):
            if how != said.relations[i]:
                relations = (*said.relations[:i], how, *said.relations[i + 1 :])
                yield replace(said, relations=relations)
        return
    for i, noun in enumerate(said.nouns):
        for other in _renamed(noun, change):
            yield replace(said, nouns=(*said.nouns[:i], other, *said.nouns[i + 1 :]))


def _renamed(noun: Noun, change: str) -> list[Noun]:
    if change == "noun":
        others = [name for name in world.CATEGORIES if name != noun.category]
        return [replace(noun, category=name) for name in others]
    if change == "colour" and noun.colour:
        others = [c for c in looks.COLOURS if c not in (noun.colour, noun.second)]
        return [replace(noun, colour=colour) for colour in others]
    if change == "pattern" and noun.pattern in looks.PATTERNS:
        others = [pattern for pattern in looks.PATTERNS if pattern != noun.pattern]
        return [replace(noun, pattern=pattern) for pattern in others]
    return []


def negatives(
    truth: Truth, said: Statement, rng: np.random.Generator
) -> list[Negative]:
    """One false statement by every change that makes one."""
    found = []
    for change in CHANGES:
        options = list(changed(said, change))
        false = _first(options, lambda other: other.holds(truth) == FALSE, rng)
        if false:
            found.append(Negative(false.text, change))
    return found
