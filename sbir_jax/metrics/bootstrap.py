"""How sure a figure is, given the test set that it was measured on.

The bootstrap over groups (Efron, 1979; groups as in Field and Welsh, 2007): sketches of
one class, or of one photo, are no independent draws, so whole groups are drawn again.
"""

import numpy as np
from jaxtyping import Float, Shaped

DRAWS, LEVEL = 2000, 0.95


def interval(
    values: Float[np.ndarray, " q"],
    groups: Shaped[np.ndarray, " n"],
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of the mean of `values`, drawing groups with replacement.

    For two models on the same queries the values are their differences: the interval is
    then paired, and a difference is shown where 0 lies outside of it.

    Args:
      values: a metric of each query.
      groups: which class, or which photo, each query belongs to.
      draws: how often as many groups as there are get drawn.
      level: the share of the draws inside of the interval.
    Returns: the lower and the upper end, in the metric's unit.
    Raises: ValueError without values, for arrays of unlike length, for a single group,
      which says nothing of others, and for a level outside of 0 to 1.
    """
    if not len(values) or len(values) != len(groups):
        raise ValueError(
            f"there are {len(values)} values and {len(groups)} groups; give one group "
            "for each of one value or more"
        )
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; give a share between 0 and 1")
    names, rows = np.unique(groups, return_inverse=True)
    count = len(names)
    if count < 2:
        raise ValueError(
            "all values are of one group: an interval needs two groups or more"
        )
    sums, sizes = np.bincount(rows, values, count), np.bincount(rows, minlength=count)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=draws)
    means = (drawn @ sums) / (drawn @ sizes)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
