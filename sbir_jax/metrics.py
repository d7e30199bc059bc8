"""Retrieval metrics, each under one name with one definition. Pure numpy.

The field's code disagrees on what mAP@200 or P@100 means, so every variant has a name
of its own. For one query: relevance r_1..r_N down the ranked gallery, R = relevant
photos in the whole gallery, h_i = hits among the first i, p(i) = h_i / i.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Num

Ranked = Bool[np.ndarray, "q n"]
PerQuery = Float[np.ndarray, " q"]

NOTATION = (
    "for each query: r_i is 1 where the photo at rank i is right, R how many right "
    "photos the gallery holds, h_i those among the first i, p(i) = h_i / i"
)
DEFINITIONS = {
    "mAP@all": "mean over queries of sum_i p(i) r_i / R, the whole gallery ranked",
    "mAP@all (envelope)": "as mAP@all with p(i) replaced by max of p(j) over j >= i",
    "mAP@{k}": "mean over queries of sum_(i<={k}) p(i) r_i / min({k}, R)",
    "mAP@{k} (over R)": "mean over queries of sum_(i<={k}) p(i) r_i / R",
    "mAP@{k} (over hits)": "mean over queries of sum_(i<={k}) p(i) r_i / h_{k}, or 0",
    "P@{k}": "mean over queries of h_{k} / {k}",
    "P@{k} (capped)": "mean over queries of h_m / m with m = min({k}, R)",
    "Acc@{k}": "share of sketches whose own photo is in the first {k} of its class",
    "Acc@{k} (whole gallery)": "share of sketches whose own photo is in the first {k}",
}


def definition(name: str) -> str:
    """The exact formula behind a metric's name, for example of "P@100".

    Raises: ValueError for a name nothing here computes.
    """
    head, at, tail = name.partition("@")
    number, space, rest = tail.partition(" ")
    generic = name if number == "all" else f"{head}{at}{{k}}{space}{rest}"
    if generic not in DEFINITIONS:
        raise ValueError(f"unknown metric {name!r}; known: {', '.join(DEFINITIONS)}")
    return DEFINITIONS[generic].replace("{k}", number)


def rank(
    scores: Float[np.ndarray, "q g"], k: int | None = None
) -> Num[np.ndarray, "q k"]:
    """Gallery indices by falling score; equal scores in the gallery's own order.

    Args:
      scores: larger is nearer; cosine similarity, unitless.
      k: how many to return; all by default.
    Raises: ValueError where a score is not a number.
    """
    if np.isnan(scores).any():
        raise ValueError("scores hold NaN: the descriptors are broken, not the ranking")
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def precision_at_each(ranked: Ranked) -> Float[np.ndarray, "q n"]:
    """p(i) for i = 1..n."""
    return np.cumsum(ranked, axis=1) / np.arange(1, ranked.shape[1] + 1)


def average_precision(
    ranked: Ranked,
    relevant: Num[np.ndarray, " q"],
    k: int | None = None,
    over: str = "min",
    envelope: bool = False,
) -> PerQuery:
    """Average precision of each query.

    Args:
      ranked: r_i, at least the first k columns.
      relevant: R, at least 1 for each query.
      k: cut-off; the whole of `ranked` by default.
      over: what the sum is divided by: "min" for min(k, R), "R", or "hits" for h_k.
      envelope: replace p(i) by the best precision at i or further down.
    Raises: ValueError for a query with nothing to find.
    """
    if np.any(relevant < 1):
        raise ValueError(
            f"{int(np.sum(relevant < 1))} queries have no relevant photo in the "
            "gallery; leave them out and say how many"
        )
    ranked = ranked[:, :k]
    precision = precision_at_each(ranked)
    if envelope:
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    total = np.sum(precision * ranked, axis=1)
    hits = ranked.sum(axis=1)
    # With no cut-off, min(k, R) is R: the gallery holds every relevant photo.
    limit = relevant if k is None else np.minimum(k, relevant)
    divisor = {"min": limit, "R": relevant, "hits": np.maximum(hits, 1)}[over]
    return np.asarray(total / divisor)


def precision_at(
    ranked: Ranked, relevant: Num[np.ndarray, " q"], k: int, capped: bool = False
) -> PerQuery:
    """h_k / k, or h_m / m with m = min(k, R) where `capped`.

    Where the gallery is smaller than k, it is k itself that divides, as defined.
    """
    if not capped:
        return np.asarray(ranked[:, :k].sum(axis=1) / k)
    depth = np.minimum(np.minimum(k, relevant), ranked.shape[1])
    hits = np.cumsum(ranked, axis=1)
    return np.asarray(hits[np.arange(len(ranked)), depth - 1] / depth)


def accuracy_at(ranked: Ranked, k: int) -> PerQuery:
    """1 where a relevant photo is among the first k, else 0."""
    return np.asarray(ranked[:, :k].any(axis=1), np.float64)


def category_metrics(cutoffs: tuple[int, ...]) -> dict[str, Callable]:
    """Every category-level metric by name, as functions of (ranked, relevant)."""
    table: dict[str, Callable] = {
        "mAP@all": average_precision,
        "mAP@all (envelope)": lambda r, n: average_precision(r, n, envelope=True),
    }
    for k in cutoffs:
        table |= {
            f"mAP@{k}": lambda r, n, k=k: average_precision(r, n, k),
            f"mAP@{k} (over R)": lambda r, n, k=k: average_precision(r, n, k, "R"),
            f"mAP@{k} (over hits)": lambda r, n, k=k: average_precision(
                r, n, k, "hits"
            ),
            f"P@{k}": lambda r, n, k=k: precision_at(r, n, k),
            f"P@{k} (capped)": lambda r, n, k=k: precision_at(r, n, k, capped=True),
        }
    return table
