"""From scores of pairs to figures: every benchmark is a table of images and texts."""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sbir_jax.data.matching import MatchingSet
from sbir_jax.metrics import matching as metrics


class Pairs(NamedTuple):
    """All pairs that a benchmark's questions need, each once.

    `places` are rows of a table of scores with a dummy at its end: of each question,
    image and text; of a missing candidate it is the dummy.
    """

    images: Int[np.ndarray, " p"]
    texts: list[str]
    rows: Int[np.ndarray, " p"]  # into texts
    places: Int[np.ndarray, "q i t"]


@dataclasses.dataclass(frozen=True)
class Figure:
    """A metric's value, its standard error and over how many questions it is."""

    value: float
    error: float
    count: int


def pairs(questions: MatchingSet) -> Pairs:
    """The pairs of a benchmark, in the order of its images."""
    texts: dict[str, int] = {}
    numbers: dict[tuple[int, int], int] = {}
    most = [
        max(len(field) for field in fields)
        for fields in zip(
            *((item.images, item.texts) for item in questions.items), strict=True
        )
    ]
    places = np.full((len(questions.items), *most), -1)
    for q, item in enumerate(questions.items):
        for i, image in enumerate(item.images):
            for j, text in enumerate(item.texts):
                row = texts.setdefault(text, len(texts))
                pair = (image, row)
                places[q, i, j] = numbers.setdefault(pair, len(numbers))
    found = np.array(list(numbers), np.int64).reshape(-1, 2)
    return Pairs(found[:, 0], list(texts), found[:, 1], places)


def table(found: Pairs, scores: Float[np.ndarray, " p"]) -> Float[np.ndarray, "q i t"]:
    """The scores of each question; -inf for a missing candidate."""
    return np.append(scores, -np.inf)[found.places]


def figures(
    questions: MatchingSet, found: Pairs, scores: Float[np.ndarray, " p"]
) -> dict[str, Figure]:
    """Every metric of a benchmark by its name, the first one to be looked at first."""
    asked = table(found, scores)
    # Questions of one image, or of one text, are no independent draws.
    shown = [item.images[0] for item in questions.items]
    said = [item.texts[0] for item in questions.items]
    groups = np.unique(
        shown if questions.asks != "image" else said, return_inverse=True
    )
    group = groups[1]
    if questions.asks == "pairs":
        values = metrics.winoground(asked)
        order = ("group score", "text score", "image score")
        return {name: _figure(values[name], group) for name in order}
    asked = asked[:, 0] if questions.asks == "text" else asked[:, :, 0]
    made = {}
    if len(questions.kinds) > 1:
        made = _by_kind(questions, metrics.beaten(asked), group)
    made["Acc"] = _figure(metrics.hits(asked), group)
    for k in questions.recall:
        made[f"R@{k}"] = _figure(metrics.hits(asked, k), group)
    return made


def _by_kind(questions: MatchingSet, beaten, group) -> dict[str, Figure]:
    kinds = np.full(beaten.shape, "", object)
    for q, item in enumerate(questions.items):
        kinds[q, : len(item.kinds)] = item.kinds
    each, weights = {}, np.zeros(beaten.shape)
    for kind in questions.kinds:
        rows, columns = np.nonzero(kinds == kind)
        each[f"Acc ({kind})"] = _figure(beaten[rows, columns], group[rows])
        weights[rows, columns] = 1 / (len(rows) * len(questions.kinds))
    rows, columns = np.nonzero(weights)
    # A weighted mean as a plain one of values that are scaled.
    scaled = beaten[rows, columns] * weights[rows, columns] * len(rows)
    spread = (beaten[rows, columns] - _of(each, kinds[rows, columns])) * (
        weights[rows, columns] * len(rows)
    )
    error = metrics.standard_error(spread, group[rows])
    mean = Figure(float(scaled.mean()), error, len(rows))
    return {"Acc (kinds)": mean, **each}


def _of(each: dict[str, Figure], kinds: np.ndarray) -> np.ndarray:
    return np.array([each[f"Acc ({kind})"].value for kind in kinds])


def _figure(values: np.ndarray, group: np.ndarray) -> Figure:
    error = metrics.standard_error(values, group)
    return Figure(float(np.mean(values)), error, len(values))


def chance(questions: MatchingSet, found: Pairs) -> dict[str, float]:
    """What blind scores without ties are expected to get."""
    if questions.asks == "pairs":
        return {"group score": 1 / 6, "text score": 1 / 4, "image score": 1 / 4}
    there = (found.places >= 0).reshape(len(found.places), -1).sum(1)
    made: dict[str, float] = {}
    if len(questions.kinds) > 1:
        names = ["Acc (kinds)", *(f"Acc ({kind})" for kind in questions.kinds)]
        made = dict.fromkeys(names, 0.5)
    made["Acc"] = float((1 / there).mean())
    for k in questions.recall:
        made[f"R@{k}"] = float(np.minimum(k / there, 1).mean())
    return made


def evenly(count: int, of: int) -> Int[np.ndarray, " count"]:
    """`count` of so many columns, evenly spaced: fewer timesteps of those there are."""
    return np.floor((np.arange(count) + 0.5) * of / count).astype(int)


def counts(of: int) -> list[int]:
    """How many timesteps a curve is drawn at: 1, 2, 5, 10, 20, ..., and all."""
    some = [n * 10**power for power in range(5) for n in (1, 2, 5)]
    return [n for n in some if n < of] + [of]
