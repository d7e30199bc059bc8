"""A ranking whose first photos are put in a new order by scores of pairs."""

import numpy as np
from jaxtyping import Float, Int

from sbir_jax.metrics import ranking
from sbir_jax.reranker import mixed
from sbir_jax.tasks.retrieval import evaluation
from sbir_jax.tasks.retrieval.evaluation import ScoreRows


def first_photos(own: ScoreRows, queries: int, count: int) -> Int[np.ndarray, "q k"]:
    """Gallery positions of each query's first photos, best first."""
    starts = range(0, queries, evaluation.CHUNK)
    rows = [slice(i, min(i + evaluation.CHUNK, queries)) for i in starts]
    return np.concatenate([ranking.rank(own(some), count) for some in rows])


def reordered(
    own: ScoreRows,
    order: Int[np.ndarray, "q k"],
    told: Float[np.ndarray, "q k"],
    share: float,
) -> ScoreRows:
    """Scores that rank the photos of `order` by `told`, and all others after them as
    they were.

    Args:
      order: of `first_photos`. told: a score for each of them, larger is nearer.
      share: of `told`, as of `mixed`.
    Returns: scores that mean nothing but an order.
    """

    def rows_of(rows: slice) -> np.ndarray:
        scores = own(rows)
        shown = np.empty_like(scores, np.float32)
        for i, (row, chosen, said) in enumerate(
            zip(scores, order[rows], told[rows], strict=True)
        ):
            again = np.argsort(-mixed(said, row[chosen], share), kind="stable")
            rest = row.copy()
            rest[chosen] = -np.inf
            after = ranking.rank(rest[None])[0][: len(row) - len(chosen)]
            shown[i, np.concatenate([chosen[again], after])] = -np.arange(len(row))
        return shown

    return rows_of


def enough(found: dict[int, float], share: float = 0.99) -> int:
    """The least k at which re-ranking reaches this share of what the largest k does.

    Args:
      found: the primary metric by k.
    """
    most = found[max(found)]
    return min(k for k, value in found.items() if value >= share * most)
