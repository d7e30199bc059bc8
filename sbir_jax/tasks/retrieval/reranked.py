"""A ranking whose first photos are put in a new order by scores of pairs."""

import hashlib
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from sbir_jax.data.dataset import Dataset, Items
from sbir_jax.metrics import ranking
from sbir_jax.reranker import Reranker, mixed
from sbir_jax.runtime import row_cache
from sbir_jax.tasks.retrieval import evaluation
from sbir_jax.tasks.retrieval.evaluation import ScoreRows
from sbir_jax.tasks.retrieval.protocols import Protocol
from sbir_jax.tasks.retrieval.setup import Scoring

KEPT = np.dtype(np.float32)  # of pairs: in float16 many would tie


def rows(
    model: Reranker,
    dataset: Dataset,
    protocol: Protocol,
    own: ScoreRows,
    score: Scoring,
    folder: pathlib.Path,
) -> ScoreRows:
    """What `score.rerank` makes of a ranking."""
    order = first_photos(own, protocol, score.rerank)
    kept = Pairs(model, dataset, protocol, folder, "reranked")
    return reordered(own, order, kept.told(order), score.rerank_weight)


class Pairs:
    """Tokens of a protocol's queries and gallery, and scores of pairs of them, kept in
    a folder: a stopped run goes on where it was.

    Attributes:
      model: whose they are.
      queries, gallery: float16 [n, m, c], the retrieval token first.
    """

    def __init__(
        self,
        model: Reranker,
        dataset: Dataset,
        protocol: Protocol,
        folder: pathlib.Path,
        name: str,
    ):
        self.model, self._folder, self._name = model, folder, name
        data = f"{dataset.fingerprint}:{protocol.digest()}"
        self._whose = {"matcher": model.fingerprint, "data": data}
        self.queries = self._tokens(dataset.sketches, protocol.queries)
        self.gallery = self._tokens(dataset.photos, protocol.gallery)

    def _tokens(self, items: Items, picked: np.ndarray) -> np.ndarray:
        one = states(self.model, items, picked[:1])
        return row_cache.keep(
            self._folder / f"{self._name}_{items.modality}.bin",
            self._whose,
            (len(picked), *one.shape[1:]),
            lambda some: states(self.model, items, picked[some]),
            f"tokens {items.modality}",
        )

    def told(self, order: Int[np.ndarray, "q k"]) -> Float[np.ndarray, "q k"]:
        """Logits of relation scores of each query with these photos."""

        def make(some: slice) -> np.ndarray:
            pairs = zip(self.queries[some], order[some], strict=True)
            found = [self.model.logits(row, self.gallery[of]) for row, of in pairs]
            return np.stack(found)

        whose = {**self._whose, "order": hashlib.sha256(order.tobytes()).hexdigest()}
        path = self._folder / f"{self._name}_pairs.bin"
        return row_cache.keep(path, whose, order.shape, make, "relate", KEPT)


def states(
    model: Reranker, items: Items, picked: np.ndarray
) -> Float[np.ndarray, "n m c"]:
    """Tokens of some of a data set's items, all in memory."""
    modality: Any = items.modality
    return model.tokens(model.read(items.images(picked, model.size), modality)).states


def first_photos(
    own: ScoreRows, protocol: Protocol, first: int = 0
) -> Int[np.ndarray, "q k"]:
    """Gallery positions of each query's first photos, best first; 0 for all."""
    queries, most = len(protocol.queries), len(protocol.gallery)
    starts = range(0, queries, evaluation.CHUNK)
    chunks = [slice(i, min(i + evaluation.CHUNK, queries)) for i in starts]
    count = min(first or most, most)
    return np.concatenate([ranking.rank(own(some), count) for some in chunks])


def reordered(
    own: ScoreRows,
    order: Int[np.ndarray, "q k"],
    told: Float[np.ndarray, "q k"],
    weight: float,
) -> ScoreRows:
    """Scores that rank the photos of `order` by `told`, and all others after them as
    they were.

    Args:
      order: of `first_photos`. told: a score for each of them, larger is nearer.
      weight: of `told`, as of `mixed`; the rest is `own`.
    Returns: scores that mean nothing but an order.
    """

    def score(some: slice) -> np.ndarray:
        scores = own(some)
        shown = np.empty_like(scores, np.float32)
        for i, (row, chosen, said) in enumerate(
            zip(scores, order[some], told[some], strict=True)
        ):
            again = np.argsort(-mixed(said, row[chosen], weight), kind="stable")
            rest = row.copy()
            rest[chosen] = -np.inf
            after = ranking.rank(rest[None])[0][: len(row) - len(chosen)]
            shown[i, np.concatenate([chosen[again], after])] = -np.arange(len(row))
        return shown

    return score
