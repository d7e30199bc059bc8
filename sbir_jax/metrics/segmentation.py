"""Figures of masks: mIoU of classes; oIoU, mIoU and P@X of expressions."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from sbir_jax.types import Metric

IGNORED = 255  # of labels: pixels that do not count
CUTS = (0.5, 0.6, 0.7, 0.8, 0.9)

METRICS = {
    metric.name: metric
    for metric in (
        Metric("mIoU", "mean over classes of intersection / union, over all pixels"),
        Metric("pixel accuracy", "share of pixels with the right class"),
        Metric("oIoU", "sum of intersections / sum of unions, over all expressions"),
        Metric(
            "mIoU of expressions",
            "mean over expressions of intersection / union, 0 for no union",
        ),
        *(
            Metric(f"P@{cut:g}", f"share of expressions with IoU of {cut:g} or more")
            for cut in CUTS
        ),
    )
}


def confusion(
    truth: Integer[np.ndarray, "*p"],
    found: Integer[np.ndarray, "*p"],
    classes: int,
) -> Int[np.ndarray, "{classes} {classes}"]:
    """How many pixels of each true class (rows) got each class (columns).

    Pixels whose truth is `IGNORED` do not count. They add up over pictures.

    Raises: ValueError for labels that are no class.
    """
    counted = truth != IGNORED
    truth, found = truth[counted].astype(np.int64), found[counted].astype(np.int64)
    for what, labels in (("truth", truth), ("found", found)):
        if labels.size and not 0 <= labels.min() <= labels.max() < classes:
            raise ValueError(
                f"{what} has labels {labels.min()} to {labels.max()}; with {classes} "
                f"classes they are 0 to {classes - 1}, or {IGNORED} for none"
            )
    pairs = np.bincount(classes * truth + found, minlength=classes**2)
    return pairs.reshape(classes, classes)


def class_ious(table: Int[np.ndarray, "n n"]) -> Float[np.ndarray, " n"]:
    """IoU of each class; not a number where it is neither there nor found."""
    right = np.diag(table).astype(np.float64)
    union = table.sum(0) + table.sum(1) - np.diag(table)
    return np.divide(right, union, out=np.full(len(table), np.nan), where=union > 0)


def class_figures(table: Int[np.ndarray, "n n"]) -> dict[str, float]:
    """mIoU over the classes that are there or found, and the pixel accuracy.

    Raises: ValueError for a table without pixels.
    """
    if not table.sum():
        raise ValueError("no pixel counts: every label is ignored, or none is there")
    return {
        "mIoU": float(np.nanmean(class_ious(table))),
        "pixel accuracy": float(np.trace(table) / table.sum()),
    }


def overlaps(
    truth: Bool[np.ndarray, "*p"], found: Bool[np.ndarray, "*p"]
) -> tuple[int, int]:
    """Pixels of the intersection and of the union of two masks."""
    return int((truth & found).sum()), int((truth | found).sum())


def referring_figures(pairs: Sequence[tuple[int, int]]) -> dict[str, float]:
    """Figures of (intersection, union) of each expression.

    Raises: ValueError without any.
    """
    if not len(pairs):
        raise ValueError("there is no expression to score")
    both, either = np.asarray(pairs, np.float64).T
    ious = np.divide(both, either, out=np.zeros(len(both)), where=either > 0)
    return {
        "oIoU": float(both.sum() / max(either.sum(), 1)),
        "mIoU of expressions": float(ious.mean()),
        **{f"P@{cut:g}": float((ious >= cut).mean()) for cut in CUTS},
    }
