"""The first photos of a search put in order by words, with a matcher.

A descriptor says little of what is red; a matcher reads the photo together with the
words. It costs some passes of the network for each photo, so it is for the first few.
"""

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float

from sbir_jax.tasks.matching.scores import MatchRecipe

MOST = 200  # photos that one search re-scores
# Of the index's own backbone what descriptors need is loaded: its first layers.
RECIPE = MatchRecipe(layers=("down", "mid"))


@runtime_checkable
class Scores(Protocol):
    """What is needed of a matcher; `tasks.matching.matcher.Matcher` is one."""

    def score(self, images: Any, texts: Sequence[str]) -> np.ndarray: ...


H = TypeVar("H", bound=Any)  # a hit: a named tuple with `path` and `score`


def rerank(
    hits: Sequence[H], text: str, matcher: Scores, first: int, share: float = 1.0
) -> list[H]:
    """The first hits in a new order, best first, the others after them as they were.

    Scores of a search and of a matcher have other scales, so both are taken in standard
    deviations from their mean over these photos, and mixed.

    Args:
      text: what the photos show.
      first: how many to re-score.
      share: of the words, 0 to 1; the rest is the search's own score.
    Returns: hits whose `score` is the mixed one for those that were re-scored, in
      standard deviations; the others keep theirs.
    Raises: BadImage for a photo that is gone or damaged; ValueError for another number,
      or no words.
    """
    if not 1 <= first <= MOST:
        raise ValueError(f"rerank_text is {first}; give 1 to {MOST} photos")
    if not text.strip():
        raise ValueError("rerank_text needs words: give a text")
    chosen: list[Any] = list(hits[:first])
    rest = list(hits[first:])
    if not chosen:
        return rest
    told = matcher.score([hit.path for hit in chosen], [text])[:, 0]
    own = np.array([hit.score for hit in chosen], np.float64)
    mixed = share * standardised(told) + (1 - share) * standardised(own)
    order = np.argsort(-mixed, kind="stable")
    return [chosen[i]._replace(score=float(mixed[i])) for i in order] + rest


def standardised(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """In standard deviations from the mean; zeros where all are equal."""
    spread = values.std()
    return (values - values.mean()) / spread if spread > 0 else np.zeros(len(values))
