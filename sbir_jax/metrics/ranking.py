"""Retrieval metrics, each under one name with one definition. Pure numpy.

The field's code disagrees on what mAP@200 or P@100 means, so every variant has a name
of its own. For one query: relevance r_1..r_N down the ranked gallery, R = relevant
photos in the whole gallery, h_i = hits among the first i, p(i) = h_i / i.

Every metric here needs only the ranks of the relevant photos, so that is what they
take: one sort of scores a query, and no ranked gallery is ever kept.
"""

import concurrent.futures
import functools
import os
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from sbir_jax.types import Metric

# Ascending ranks of a query's relevant photos, from 1; inf where it has fewer.
Ranks = Float[np.ndarray, "q r"]
PerQuery = Float[np.ndarray, " q"]

NOTATION = (
    "for each query: r_i is 1 where the photo at rank i is right, R how many right "
    "photos the gallery holds, h_i those among the first i, p(i) = h_i / i"
)
DEFINITIONS = {
    "mAP@all": "mean over queries of sum_i p(i) r_i / R, the whole gallery ranked",
    "mAP@all (envelope)": "as mAP@all with p(i) replaced by max of p(j) over j >= i",
    "mAP@{k}": "mean over queries of sum_(i<={k}) p(i) r_i / min({k}, R)",
    "mAP@{k} (envelope)": "as mAP@{k} with p(i) replaced by max p(j), i <= j <= {k}",
    "mAP@{k} (over R)": "mean over queries of sum_(i<={k}) p(i) r_i / R",
    "mAP@{k} (over hits)": "mean over queries of sum_(i<={k}) p(i) r_i / h_{k}, or 0",
    "P@{k}": "mean over queries of h_{k} / {k}",
    "P@{k} (capped)": "mean over queries of h_m / m with m = min({k}, R)",
    "Acc@{k}": "share of sketches whose own photo is in the first {k} of its class",
    "Acc@{k} (whole gallery)": "share of sketches whose own photo is in the first {k}",
}


def metric(name: str) -> Metric:
    """A metric of this module by its name, for example "P@100".

    Raises: ValueError for a name nothing here computes.
    """
    head, at, tail = name.partition("@")
    number, space, rest = tail.partition(" ")
    generic = name if number == "all" else f"{head}{at}{{k}}{space}{rest}"
    if generic not in DEFINITIONS:
        raise ValueError(f"unknown metric {name!r}; known: {', '.join(DEFINITIONS)}")
    return Metric(name, DEFINITIONS[generic].replace("{k}", number))


def rank(
    scores: Float[np.ndarray, "q g"], k: int | None = None
) -> Num[np.ndarray, "q k"]:
    """Gallery indices by falling score; equal scores as `tie_order` has them.

    Args:
      scores: larger is nearer; cosine similarity, unitless.
      k: how many to return; all by default.
    Raises: ValueError where a score is not a number, where there is no photo, or for k
      below 1.
    """
    _refuse_unrankable(scores)
    if k is not None:
        _refuse_cutoff(k)
    ranked = np.empty(scores.shape, np.intp)
    for row, place in zip(scores, ranked, strict=True):
        place[:] = _falling(row)
    return ranked[:, :k]


def _falling(scores: np.ndarray) -> np.ndarray:
    """Indices by falling score, equal ones as in `tie_order`.

    Sixteen bits at a time, the lowest first: numpy's stable sort is a radix sort for
    these, and two of them take half of the time that sorting float32 values takes.
    """
    order = tie_order(len(scores))
    values = scores.take(order) + 0  # -0 is 0
    bits = values.view(f"<i{values.itemsize}")
    # As whole numbers the bits of negative values rise as the values fall; those of
    # positive ones, turned round, do too, and come first without a sign.
    sign = bits >> (8 * bits.itemsize - 1)
    keys = bits ^ (~sign & np.iinfo(bits.dtype).max)
    lowest, *higher = keys.view("<u2").reshape(len(keys), -1).T.copy()
    places = np.argsort(lowest, kind="stable")
    for digits in higher:
        places = places.take(np.argsort(digits.take(places), kind="stable"))
    return order.take(places)


@functools.cache
def tie_order(count: int) -> Int[np.ndarray, " g"]:
    """In what order photos of equal score stand: a fixed random one.

    Galleries lie sorted by class. In that order a model that scores all photos alike
    would get nearly twice the mAP of chance.
    """
    return np.random.default_rng(0).permutation(count)


def relevant_ranks(
    scores: Float[np.ndarray, "q g"], right: Bool[np.ndarray, "q g"]
) -> Ranks:
    """Where `rank` puts each query's right photos.

    Returns: r = the most right photos any of the queries has.
    Raises: ValueError where a score is not a number, there is no photo, or `right` has
      another shape than the scores.
    """
    _refuse_unrankable(scores)
    if right.shape != scores.shape:
        raise ValueError(
            f"scores are {scores.shape} and right is {right.shape} (queries, photos); "
            "give one value each for every pair"
        )
    out = np.full((len(right), right.sum(axis=1).max(initial=0)), np.inf)

    def fill(row: int) -> None:
        found = np.flatnonzero(right[row].take(_falling(scores[row])))
        out[row, : len(found)] = found + 1

    # numpy lets go of the interpreter while it sorts.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(fill, range(len(right)), chunksize=16))
    return out


def _refuse_unrankable(scores: np.ndarray) -> None:
    if scores.shape[1] == 0:
        raise ValueError(
            f"{len(scores)} queries and no photo: the gallery is empty; give one photo "
            "or more"
        )
    if np.isnan(scores).any():
        raise ValueError("scores hold NaN: the descriptors are broken, not the ranking")


def _refuse_cutoff(k: int) -> None:
    if k < 1:
        raise ValueError(f"k is {k}; give a whole number from 1")


def _relevant(ranks: Ranks) -> Int[np.ndarray, " q"]:
    """How many right photos each query has.

    Raises: ValueError for a query with nothing to find.
    """
    relevant = np.isfinite(ranks).sum(axis=1)
    if np.any(relevant < 1):
        raise ValueError(
            f"{int(np.sum(relevant < 1))} queries have no relevant photo in the "
            "gallery; leave them out and say how many"
        )
    return relevant


def average_precision(
    ranks: Ranks, k: int | None = None, over: str = "min", envelope: bool = False
) -> PerQuery:
    """Average precision of each query.

    Args:
      k: cut-off; the whole gallery by default.
      over: what the sum is divided by: "min" for min(k, R), "R", or "hits" for h_k.
      envelope: replace p(i) by the best precision at i or further down, up to k.
    Raises: ValueError for a query with nothing to find, or for k below 1.
    """
    relevant = _relevant(ranks)
    if k is not None:
        _refuse_cutoff(k)
    limit = np.inf if k is None else k
    ranks = ranks[:, :k]  # Ascending: no later one is among the first k.
    hit = np.isfinite(ranks) & (ranks <= limit)
    # The j-th right photo stands at rank_j, where j of the first rank_j are right.
    precision = np.where(hit, np.arange(1, ranks.shape[1] + 1) / ranks, 0.0)
    if envelope:
        # Precision falls between hits, so the best one further down is at a hit.
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    total = np.sum(precision * hit, axis=1)
    divisor = {
        "min": np.minimum(limit, relevant),
        "R": relevant,
        "hits": np.maximum(hit.sum(axis=1), 1),
    }[over]
    return np.asarray(total / divisor)


def precision_at(ranks: Ranks, k: int, capped: bool = False) -> PerQuery:
    """h_k / k, or h_m / m with m = min(k, R) where `capped`.

    Where the gallery is smaller than k, it is k itself that divides, as defined.

    Raises: ValueError for a query with nothing to find, or for k below 1.
    """
    _refuse_cutoff(k)
    relevant = _relevant(ranks)
    depth = np.minimum(k, relevant) if capped else np.full(len(ranks), k)
    return np.asarray(np.sum(ranks[:, :k] <= depth[:, None], axis=1) / depth)


def accuracy_at(ranks: Ranks, k: int) -> PerQuery:
    """1 where a relevant photo is among the first k, else 0.

    Raises: ValueError for a query with nothing to find, or for k below 1.
    """
    _refuse_cutoff(k)
    _relevant(ranks)
    return np.asarray((ranks[:, :1] <= k).any(axis=1), np.float64)


def category_metrics(
    cutoffs: tuple[int, ...],
) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Every category-level metric by name, as functions of the ranks."""
    table: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "mAP@all": average_precision,
        "mAP@all (envelope)": lambda r: average_precision(r, envelope=True),
    }
    for k in cutoffs:
        table |= {
            f"mAP@{k}": lambda r, k=k: average_precision(r, k),
            f"mAP@{k} (envelope)": lambda r, k=k: average_precision(
                r, k, envelope=True
            ),
            f"mAP@{k} (over R)": lambda r, k=k: average_precision(r, k, "R"),
            f"mAP@{k} (over hits)": lambda r, k=k: average_precision(r, k, "hits"),
            f"P@{k}": lambda r, k=k: precision_at(r, k),
            f"P@{k} (capped)": lambda r, k=k: precision_at(r, k, capped=True),
        }
    return table
