"""Figures of depth, each of one picture and then the mean over pictures.

Eigen et al., "Depth Map Prediction from a Single Image" (2014).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from sbir_jax.types import Metric

LEAST = 1e-3  # depths below it count as unknown, and none is found to be less


def metrics(unit: str) -> dict[str, Metric]:
    """Their meanings; p is what was found and g the truth.

    Args:
      unit: of depth, such as "m".
    """

    def lower(name: str, meaning: str, unit: str = "") -> Metric:
        return Metric(name, meaning, "lower", unit)

    known = [
        lower("RMSE", "root of the mean of (p - g)^2", unit),
        lower("AbsRel", "mean of |p - g| / g"),
        lower("SqRel", "mean of (p - g)^2 / g", unit),
        lower("RMSElog", "root of the mean of (ln p - ln g)^2"),
        lower("log10", "mean of |log10 p - log10 g|"),
        lower("SILog", "100 times the standard deviation of ln p - ln g"),
        *(
            Metric(f"delta {k}", f"share of pixels with max(p/g, g/p) < 1.25^{k}")
            for k in (1, 2, 3)
        ),
    ]
    return {metric.name: metric for metric in known}


def figures(
    truth: Float[np.ndarray, "h w"],
    found: Float[np.ndarray, "h w"],
    most: float,
    counted: Bool[np.ndarray, "h w"] | None = None,
) -> dict[str, float] | None:
    """Figures of one picture; None where no pixel of it counts.

    Args:
      most: pixels with a truth at or beyond it, or at `LEAST` or below, do not count.
      counted: which pixels count, for a crop.
    """
    valid = (truth > LEAST) & (truth < most)
    if counted is not None:
        valid &= counted
    if not valid.any():
        return None
    g = truth[valid].astype(np.float64)
    p = np.clip(found[valid].astype(np.float64), LEAST, most)
    log, ratio = np.log(p) - np.log(g), np.maximum(p / g, g / p)
    return {
        "RMSE": float(np.sqrt(np.mean((p - g) ** 2))),
        "AbsRel": float(np.mean(np.abs(p - g) / g)),
        "SqRel": float(np.mean((p - g) ** 2 / g)),
        "RMSElog": float(np.sqrt(np.mean(log**2))),
        "log10": float(np.mean(np.abs(log)) / np.log(10)),
        "SILog": float(100 * np.sqrt(max(np.mean(log**2) - np.mean(log) ** 2, 0.0))),
        **{f"delta {k}": float(np.mean(ratio < 1.25**k)) for k in (1, 2, 3)},
    }


def mean(rows: Sequence[dict[str, float] | None]) -> dict[str, float]:
    """The mean over pictures, those without a pixel left out.

    Raises: ValueError where none is left.
    """
    there = [row for row in rows if row is not None]
    if not there:
        raise ValueError("no picture has a pixel of known depth")
    return {name: float(np.mean([row[name] for row in there])) for name in there[0]}


def eigen_crop(height: int, width: int) -> Bool[np.ndarray, "{height} {width}"]:
    """The part of NYUv2's 480 x 640 pictures that counts: rows 45 to 470, columns 41 to
    600. In pictures of another size the same shares (ours)."""
    found = np.zeros((height, width), bool)
    rows = [round(edge * height / 480) for edge in (45, 471)]
    columns = [round(edge * width / 640) for edge in (41, 601)]
    found[slice(*rows), slice(*columns)] = True
    return found
