"""The first photos of a search put in a new order: by words, with a matcher, or by the
drawing, token by token.

A descriptor says little of what is red; a matcher reads the photo together with the
words, and a re-ranker together with the drawing. Either costs passes of the network for
each photo, so it is for the first few.
"""

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float

from sbir_jax.reranker import WEIGHT, mixed

MOST = 200  # photos that one search re-scores


@runtime_checkable
class Scores(Protocol):
    """What is needed of a matcher; `tasks.matching.matcher.Matcher` is one."""

    def score(self, images: Any, texts: Sequence[str]) -> np.ndarray: ...


H = TypeVar("H", bound=Any)  # a hit: a named tuple with `path` and `score`


def rerank(
    hits: Sequence[H], text: str, matcher: Scores, first: int, weight: float = 1.0
) -> list[H]:
    """The first hits in a new order, best first, the others after them as they were.

    Scores of a search and of a matcher have other scales, so both are taken in standard
    deviations from their mean over these photos, and mixed.

    Args:
      text: what the photos show.
      first: how many to re-score.
      weight: of the words, 0 to 1; the rest is the search's own score.
    Returns: hits whose `score` is the mixed one for those that were re-scored, in
      standard deviations; the others keep theirs.
    Raises: BadImage for a photo that is gone or damaged; ValueError for another number,
      or no words.
    """
    if not 1 <= first <= MOST:
        raise ValueError(f"rerank_text is {first}; give 1 to {MOST} photos")
    if not text.strip():
        raise ValueError("rerank_text needs words: give a text")
    paths = [hit.path for hit in hits[:first]]
    told = matcher.score(paths, [text])[:, 0] if paths else np.zeros(0)
    return _reordered(hits, told, weight)


@runtime_checkable
class Relates(Protocol):
    """What is needed of a re-ranker; `sbir_jax.reranker.Reranker` is one."""

    def score(self, sketch: Any, photos: Sequence[Any]) -> np.ndarray: ...


def rerank_drawing(
    hits: Sequence[H],
    sketch: Any,
    reranker: Relates,
    first: int,
    weight: float = WEIGHT,
) -> list[H]:
    """As `rerank`, by what a re-ranker says of the drawing with each photo.

    Args:
      sketch: as it was searched with.
      weight: of what it says.
    """
    if not 1 <= first <= MOST:
        raise ValueError(f"rerank is {first}; give 1 to {MOST} photos")
    paths = [hit.path for hit in hits[:first]]
    told = reranker.score(sketch, paths) if paths else np.zeros(0)
    return _reordered(hits, told, weight)


def _reordered(
    hits: Sequence[H], told: Float[np.ndarray, " n"], weight: float
) -> list[H]:
    """The first hits by `told` and their own scores, then the rest."""
    chosen: list[Any] = list(hits[: len(told)])
    own = np.array([hit.score for hit in chosen], np.float64)
    scores = mixed(told, own, weight)
    order = np.argsort(-scores, kind="stable")
    again = [chosen[i]._replace(score=float(scores[i])) for i in order]
    return again + list(hits[len(told) :])


def check_drawing(sketch: Any, reranker: Any) -> None:
    """Raises: ValueError without a drawing or without a re-ranker."""
    if sketch is None or reranker is None:
        raise ValueError(
            "rerank orders photos by a drawing, with a re-ranker: give a drawing, and "
            "Index.open(..., reranker=RUN)"
        )
