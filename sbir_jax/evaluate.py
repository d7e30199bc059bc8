"""Ranks a gallery for every query in chunks, scores the ranking, returns plain numbers.

Protocols: `category` (a photo is right if it shows the query's class) and
`fine_grained` (only the photo the sketch was drawn from is right), both zero-shot: the
queries and the gallery are of classes the prompts were not trained on.
"""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Float, Int

from sbir_jax import metrics
from sbir_jax.data import Dataset
from sbir_jax.features import Task

# Given a slice of queries, their scores [q, g] against the whole gallery.
ScoreRows = Callable[[slice], np.ndarray]
CHUNK = 256  # queries ranked at a time
WHOLE = " (whole gallery)"


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
    dataset: Dataset, class_names: tuple[str, ...], task: Task, cutoffs=(100, 200)
) -> Protocol:
    """The protocol over these classes of a data set.

    Raises: ValueError where no sketch has anything to find.
    """
    wanted = [dataset.classes.index(name) for name in class_names]
    queries = np.flatnonzero(np.isin(dataset.sketches.labels, wanted))
    gallery = np.flatnonzero(np.isin(dataset.photos.labels, wanted))
    sketches, photos = dataset.sketches, dataset.photos
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


def similarity(
    queries: Float[np.ndarray, "q d"], gallery: Float[np.ndarray, "g d"]
) -> ScoreRows:
    """Cosine similarity of unit descriptors, in float32."""
    gallery = gallery.astype(np.float32)
    return lambda rows: queries[rows].astype(np.float32) @ gallery.T


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
        ranks = metrics.relevant_ranks(scores, right)
        table = metrics.category_metrics(protocol.cutoffs)
        return {name: metric(ranks) for name, metric in table.items()}
    found = {}
    for shown, suffix in ((within(protocol, scores, rows), ""), (scores, WHOLE)):
        ranks = metrics.relevant_ranks(shown, right)
        for k in (1, 5, 10):
            found[f"Acc@{k}{suffix}"] = metrics.accuracy_at(ranks, k)
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
        found.append(metrics.rank(scores, k)[0])
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

    Queries whose right photos all fell out are dropped with them.
    """

    def spread(n: int) -> np.ndarray:
        return np.unique(np.linspace(0, n - 1, min(limit, n)).astype(int))

    photos = spread(len(protocol.gallery))
    if protocol.task == "fine_grained":
        # The pairs come first: a gallery without its sketches' own photos is no test.
        asked = protocol.query_instances[spread(len(protocol.queries))]
        paired = np.flatnonzero(np.isin(protocol.gallery_instances, asked))
        photos = np.unique(np.concatenate([paired, photos]))[: 2 * limit]
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
