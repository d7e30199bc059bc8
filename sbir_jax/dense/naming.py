"""Names for segments, from heat maps of nouns, as DiffSeg gives them."""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int

By = Literal["mean", "vote"]


def name_segments(
    segments: Int[np.ndarray, "h w"],
    heat: Float[np.ndarray, "h w n"],
    by: By = "mean",
) -> Int[np.ndarray, "h w"]:
    """For each pixel the number of the noun that its segment is called.

    Args:
      heat: of each noun, not negative; each map is first brought to length 1, so that
        no noun is louder than others.
      by: the largest mean over the segment, or what most of its pixels are hottest in.
    """
    length = np.sqrt((heat**2).sum((0, 1), keepdims=True))
    heat = heat / np.maximum(length, 1e-12)
    hottest, found = heat.argmax(-1), np.zeros(segments.shape, int)
    for number in np.unique(segments):
        where = segments == number
        if by == "mean":
            found[where] = heat[where].mean(0).argmax()
        else:
            found[where] = np.bincount(
                hottest[where], minlength=heat.shape[-1]
            ).argmax()
    return found
