"""Ranks a gallery for every query in chunks, scores the ranking, returns plain numbers.

Protocols: `category` (a photo is right if it shows the query's class) and
`fine_grained` (only the photo the sketch was drawn from is right), both zero-shot: the
queries and the gallery are of classes the prompts were not trained on. Generalised
zero-shot puts seen classes among them, by one of two published rules (`GENERALISED`).
"""

import dataclasses
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sbir_jax.data import Dataset
from sbir_jax.features import Task
from sbir_jax.metrics import ranking

# Given a slice of queries, their scores [q, g] against the whole gallery.
ScoreRows = Callable[[slice], np.ndarray]
CHUNK = 256  # queries ranked at a time
WHOLE = " (whole gallery)"

GENERALISED = {
    "": "zero-shot: unseen classes only",
    "gallery": "all photos of seen classes join the gallery; queries stay unseen",
    "sampled": "seen sketches join the queries and seen photos the gallery, a random "
    "20 % of the unseen ones' numbers (SEM-PCYC, CVPR 2019)",
}
SAMPLED_SHARE = 0.2


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Which items are queries, which the gallery, and what counts as right.

    Attributes:
      queries, gallery: indices into the data set's sketches and photos.
      query_labels, gallery_labels: class indices; query_instances,
        gallery_instances: instance ids, -1 where there is none.
      left_out: sketches with nothing to find in the gallery, so never asked.
    """

    task: Task
    queries: Int[np.ndarray, " q"]
    gallery: Int[np.ndarray, " g"]
    query_labels: Int[np.ndarray, " q"]
    gallery_labels: Int[np.ndarray, " g"]
    query_instances: Int[np.ndarray, " q"]
    gallery_instances: Int[np.ndarray, " g"]
    left_out: int
    cutoffs: tuple[int, ...]

    @property
    def primary(self) -> str:
        """The figure to look at first."""
        return "mAP@all" if self.task == "category" else "Acc@1"

    def right(self, rows: slice) -> np.ndarray:
        """Which photos are right for these queries, bool [q, g]."""
        if self.task == "category":
            return self.query_labels[rows, None] == self.gallery_labels[None]
        return self.query_instances[rows, None] == self.gallery_instances[None]

    def same_class(self, rows: slice) -> np.ndarray:
        return self.query_labels[rows, None] == self.gallery_labels[None]

    def summary(self) -> dict:
        return {
            "task": self.task,
            "queries": len(self.queries),
            "gallery": len(self.gallery),
            "classes": len(np.unique(self.gallery_labels)),
            "left_out": self.left_out,
        }


def make_protocol(
    dataset: Dataset,
    class_names: tuple[str, ...],
    task: Task,
    cutoffs=(100, 200),
    generalised: str = "",
) -> Protocol:
    """The protocol over these classes of a data set.

    Args:
      generalised: a key of `GENERALISED`.
    Raises: ValueError where no sketch has anything to find, for another rule, or for a
      cut-off below 1.
    """
    if any(k < 1 for k in cutoffs):
        raise ValueError(f"cutoffs are {tuple(cutoffs)}; give whole numbers from 1")
    if generalised not in GENERALISED:
        rules = "; ".join(f"{key!r} ({rule})" for key, rule in GENERALISED.items())
        raise ValueError(f"generalised is {generalised!r}; give one of {rules}")
    sketches, photos = dataset.sketches, dataset.photos
    wanted = [dataset.classes.index(name) for name in class_names]
    queries = np.flatnonzero(np.isin(sketches.labels, wanted))
    gallery = np.flatnonzero(np.isin(photos.labels, wanted))
    seen = [dataset.classes.index(name) for name in dataset.seen + dataset.val]
    seen_photos = np.flatnonzero(np.isin(photos.labels, seen))
    if generalised == "gallery":
        gallery = np.union1d(gallery, seen_photos)
    elif generalised == "sampled":
        seen_sketches = np.flatnonzero(np.isin(sketches.labels, seen))
        queries = _with_share(queries, seen_sketches, 0)
        gallery = _with_share(gallery, seen_photos, 1)
    if task == "category":
        findable = np.isin(sketches.labels[queries], photos.labels[gallery])
    else:
        instances = sketches.instances[queries]
        findable = (instances >= 0) & np.isin(instances, photos.instances[gallery])
    if not findable.any():
        remedy = {
            "category": "give classes that have both",
            "fine_grained": "name sketches after their photo (<photo>-1.png beside "
            "<photo>.jpg), or give task=category",
        }[task]
        raise ValueError(
            f"task {task}: none of the {len(queries)} sketches of the {len(wanted)} "
            f"classes to score has a right one among the {len(gallery)} photos; "
            + remedy
        )
    left_out = int(np.sum(~findable))
    queries = queries[findable]
    return Protocol(
        task,
        queries,
        gallery,
        sketches.labels[queries],
        photos.labels[gallery],
        sketches.instances[queries],
        photos.instances[gallery],
        left_out,
        tuple(cutoffs),
    )


def _with_share(unseen: np.ndarray, seen: np.ndarray, seed: int) -> np.ndarray:
    """`unseen` and a random draw of `seen`, sorted."""
    count = min(len(seen), round(SAMPLED_SHARE * len(unseen)))
    drawn = np.random.default_rng(seed).choice(seen, count, replace=False)
    return np.union1d(unseen, drawn)


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
    """Ranks and scores, a chunk of queries at a time.

    Returns:
      the metrics by name, means over all queries with equal weight;
      the primary metric's mean for each class index.
    """
    values: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(protocol.queries), CHUNK):
        rows = slice(start, min(start + CHUNK, len(protocol.queries)))
        for name, value in _score_chunk(protocol, score_rows(rows), rows).items():
            values.setdefault(name, []).append(value)
    joined = {name: np.concatenate(parts) for name, parts in values.items()}
    primary = joined[protocol.primary]
    per_class = {
        int(label): float(primary[protocol.query_labels == label].mean())
        for label in np.unique(protocol.query_labels)
    }
    means = {name: float(value.mean()) for name, value in joined.items()}
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


def subsample(protocol: Protocol, limit: int) -> Protocol:
    """At most `limit` queries and `limit` photos, evenly spaced; for training curves.

    By instance the queries' own photos come on top. Queries whose right photos all fell
    out are dropped with them.
    """

    def spread(n: int) -> np.ndarray:
        return np.unique(np.linspace(0, n - 1, min(limit, n)).astype(int))

    photos = spread(len(protocol.gallery))
    if protocol.task == "fine_grained":
        # The pairs come first: a gallery without its sketches' own photos is no test.
        asked = protocol.query_instances[spread(len(protocol.queries))]
        paired = np.flatnonzero(np.isin(protocol.gallery_instances, asked))
        photos = np.union1d(paired, photos)
    labels, instances = (
        protocol.gallery_labels[photos],
        protocol.gallery_instances[photos],
    )
    queries = spread(len(protocol.queries))
    kept = (
        np.isin(protocol.query_labels[queries], labels)
        if protocol.task == "category"
        else np.isin(protocol.query_instances[queries], instances)
    )
    queries = queries[kept]
    return dataclasses.replace(
        protocol,
        queries=protocol.queries[queries],
        gallery=protocol.gallery[photos],
        query_labels=protocol.query_labels[queries],
        gallery_labels=labels,
        query_instances=protocol.query_instances[queries],
        gallery_instances=instances,
        left_out=protocol.left_out + int(np.sum(~kept)),
    )
