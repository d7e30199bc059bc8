"""Metrics of which text belongs to which image. Pure numpy.

Scores are of one question a row; the right candidate comes first, and places without a
candidate hold -inf. A tie is no hit, as in Winoground (Thrush et al., 2022).
"""

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from sbir_jax.types import Metric

DEFINITIONS = {
    "Acc": "share of questions whose right candidate scores above all others",
    "Acc ({kind})": "as Acc against the candidate of this kind alone",
    "Acc (kinds)": "mean of Acc over the kinds of candidates, each against the right "
    "one alone",
    "R@{k}": "share of questions with fewer than {k} others that score as much as the "
    "right candidate",
    "text score": "share of examples where each image scores higher with its own text",
    "image score": "share of examples where each text scores higher with its own image",
    "group score": "share of examples with both",
}


def metric(name: str) -> Metric:
    """A metric of this module by its name, for example "R@5".

    Raises: ValueError for a name nothing here computes.
    """
    if name in DEFINITIONS:
        return Metric(name, DEFINITIONS[name])
    if name.startswith("R@") and name[2:].isdigit():
        return Metric(name, DEFINITIONS["R@{k}"].replace("{k}", name[2:]))
    if name.startswith("Acc (") and name.endswith(")"):
        return Metric(name, DEFINITIONS["Acc ({kind})"])
    raise ValueError(f"unknown metric {name!r}; known: {', '.join(DEFINITIONS)}")


def ranks(scores: Float[np.ndarray, "q c"]) -> Int[np.ndarray, " q"]:
    """Of the right candidate, from 1; others that score as much come before it.

    Raises: ValueError where a score is not a number, or the right one is missing.
    """
    if not np.isfinite(scores[:, 0]).all() or np.isnan(scores).any():
        raise ValueError("scores are not finite: nothing can be ranked by them")
    return 1 + (scores[:, 1:] >= scores[:, :1]).sum(1)


def hits(scores: Float[np.ndarray, "q c"], k: int = 1) -> Bool[np.ndarray, " q"]:
    """Whether the right candidate is among the first k: R@k, and Acc for 1."""
    return ranks(scores) <= k


def beaten(scores: Float[np.ndarray, "q c"]) -> Bool[np.ndarray, "q o"]:
    """Whether the right candidate scores above each of the others, o = c - 1."""
    ranks(scores)
    return scores[:, :1] > scores[:, 1:]


def winoground(
    scores: Float[np.ndarray, "q 2 2"],
) -> dict[str, Bool[np.ndarray, " q"]]:
    """Text, image and group score of each example; image i with text j, 0 with 0 and 1
    with 1 being right."""
    s = scores
    text = (s[:, 0, 0] > s[:, 0, 1]) & (s[:, 1, 1] > s[:, 1, 0])
    image = (s[:, 0, 0] > s[:, 1, 0]) & (s[:, 1, 1] > s[:, 0, 1])
    return {"text score": text, "image score": image, "group score": text & image}


def standard_error(
    values: Shaped[np.ndarray, " n"], groups: Shaped[np.ndarray, " n"]
) -> float:
    """Of the mean, where values of one group are no independent draws (cluster-robust,
    Liang and Zeger, 1986). NaN for a single group.

    For groups of one it is the standard deviation over the root of n.
    """
    values = np.asarray(values, np.float64)
    _, rows = np.unique(groups, return_inverse=True)
    count = rows.max() + 1
    if count < 2:
        return float("nan")
    sums = np.bincount(rows, values - values.mean())
    return float(np.sqrt(np.square(sums).sum() * count / (count - 1)) / len(values))
