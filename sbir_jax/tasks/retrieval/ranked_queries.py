"""Some queries of an evaluation with the photos they find, for the report."""

import numpy as np

from sbir_jax.data import Dataset
from sbir_jax.report.pictures import Hit, Ranking
from sbir_jax.tasks.retrieval import evaluation
from sbir_jax.tasks.retrieval.protocols import Protocol

QUERIES = 24
PIXELS = 128
PHOTOS = 10  # a query


def ranked_queries(
    dataset: Dataset,
    protocol: Protocol,
    rankings: dict[str, evaluation.ScoreRows],
) -> list[Ranking]:
    """Queries, as many of each class as fit, with their first photos."""
    order = np.lexsort((np.arange(len(protocol.queries)), protocol.query_labels))
    spread = np.linspace(0, len(order) - 1, min(QUERIES, len(order)))
    picks = [int(query) for query in order[spread.astype(int)]]
    queries = dataset.sketches.pixels(protocol.queries[picks], PIXELS)
    tops = {
        name: evaluation.top(protocol, score_rows, picks, PHOTOS)
        for name, score_rows in rankings.items()
    }
    shown = []
    for i, (query, image) in enumerate(zip(picks, queries, strict=True)):
        right = protocol.right(slice(query, query + 1))[0]
        hits = {}
        for name, score_rows in rankings.items():
            top = tops[name][i]
            scores = score_rows(slice(query, query + 1))[0, top]
            photos = dataset.photos.pixels(protocol.gallery[top], PIXELS)
            hits[name] = [
                Hit(
                    photo,
                    dataset.classes[protocol.gallery_labels[position]],
                    bool(right[position]),
                    float(score),
                )
                for photo, position, score in zip(photos, top, scores, strict=True)
            ]
        label = dataset.classes[protocol.query_labels[query]]
        shown.append(Ranking(image, label, hits))
    return shown
