"""Ranks a gallery for every query in chunks, and scores the ranking."""

from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sbir_jax.metrics import ranking
from sbir_jax.tasks.retrieval.protocols import Protocol

# Given a slice of queries, their scores [q, g] against the whole gallery.
ScoreRows = Callable[[slice], np.ndarray]
CHUNK = 256  # queries ranked at a time
WHOLE = " (whole gallery)"


def similarity(
    queries: Float[np.ndarray, "q d"], gallery: Float[np.ndarray, "g d"]
) -> ScoreRows:
    """Cosine similarity of unit descriptors, in float32.

    JAX multiplies, also on CPU: the threads of numpy's BLAS go on spinning for a while
    when they are done, and the ranking that follows would wait for a core.
    """
    placed = jax.device_put(gallery.astype(np.float32))
    return lambda rows: np.asarray(_products(queries[rows], placed))


@jax.jit
def _products(
    queries: Float[Array, "q d"], gallery: Float[Array, "g d"]
) -> Float[Array, "q g"]:
    queries = queries.astype(jnp.float32)
    return jnp.matmul(queries, gallery.T, precision=jax.lax.Precision.HIGHEST)


def score(
    protocol: Protocol, score_rows: ScoreRows
) -> tuple[dict[str, float], dict[int, float]]:
    """Ranks and scores; see `measure` and `summarise`."""
    return summarise(protocol, measure(protocol, score_rows))


def measure(
    protocol: Protocol, score_rows: ScoreRows
) -> dict[str, Float[np.ndarray, " q"]]:
    """Every metric's value for every query, ranked a chunk of queries at a time."""
    values: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(protocol.queries), CHUNK):
        rows = slice(start, min(start + CHUNK, len(protocol.queries)))
        for name, value in _score_chunk(protocol, score_rows(rows), rows).items():
            values.setdefault(name, []).append(value)
    return {name: np.concatenate(parts) for name, parts in values.items()}


def summarise(
    protocol: Protocol, values: dict[str, Float[np.ndarray, " q"]]
) -> tuple[dict[str, float], dict[int, float]]:
    """Means of what `measure` gave.

    Returns:
      the metrics by name, means over all queries with equal weight;
      the primary metric's mean for each class index.
    """
    primary = values[protocol.primary]
    per_class = {
        int(label): float(primary[protocol.query_labels == label].mean())
        for label in np.unique(protocol.query_labels)
    }
    means = {name: float(value.mean()) for name, value in values.items()}
    return means, per_class


def _score_chunk(
    protocol: Protocol, scores: np.ndarray, rows: slice
) -> dict[str, np.ndarray]:
    """Each metric's value per query."""
    right = protocol.right(rows)
    if protocol.task == "category":
        ranks = ranking.relevant_ranks(scores, right)
        table = ranking.category_metrics(protocol.cutoffs)
        return {name: metric(ranks) for name, metric in table.items()}
    found = {}
    for shown, suffix in ((within(protocol, scores, rows), ""), (scores, WHOLE)):
        ranks = ranking.relevant_ranks(shown, right)
        for k in (1, 5, 10):
            found[f"Acc@{k}{suffix}"] = ranking.accuracy_at(ranks, k)
    return found


def within(protocol: Protocol, scores: np.ndarray, rows: slice) -> np.ndarray:
    """Scores with the photos of other classes behind all of the query's own."""
    return np.where(protocol.same_class(rows), scores, -np.inf)


def top(
    protocol: Protocol, score_rows: ScoreRows, queries: Iterable[int], k: int
) -> Int[np.ndarray, "p k"]:
    """First gallery positions of some queries, in the order the primary metric has."""
    found = []
    for query in queries:
        rows = slice(query, query + 1)
        scores = score_rows(rows)
        if protocol.task == "fine_grained":
            scores = within(protocol, scores, rows)
        found.append(ranking.rank(scores, k)[0])
    return np.array(found)


def chance(protocol: Protocol, draws: int = 10) -> dict[str, float]:
    """What blind ranking gets, scored by the same code: the mean over random scores."""
    totals: dict[str, float] = {}
    for draw in range(draws):

        def random_rows(rows: slice, draw: int = draw) -> np.ndarray:
            shape = (rows.stop - rows.start, len(protocol.gallery))
            return np.random.default_rng((draw, rows.start)).random(shape, np.float32)

        found, _ = score(protocol, random_rows)
        for name, value in found.items():
            totals[name] = totals.get(name, 0.0) + value / draws
    return totals
