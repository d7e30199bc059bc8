"""Which size photos have for the networks: few shapes, each compiled once."""

import numpy as np
from jaxtyping import Float
from PIL import Image

LONGEST = 2  # times the shorter side; longer photos are squeezed to that


def network_size(height: int, width: int, side: int, stride: int) -> tuple[int, int]:
    """Rows and columns near a photo's shape: the shorter side is `side`, the longer one
    a multiple of `stride` up to twice that.

    Raises: ValueError for a photo without pixels.
    """
    if not height or not width:
        raise ValueError(f"a photo of {height} x {width} pixels has nothing to show")
    ratio = max(height, width) / min(height, width)
    long = stride * round(min(ratio, LONGEST) * side / stride)
    long = max(long, side)
    return (long, side) if height > width else (side, long)


def enlarge(values: Float[np.ndarray, "y x"], size: tuple[int, int]) -> np.ndarray:
    """One map at a photo's size, linear between pixel centres."""
    image = Image.fromarray(np.ascontiguousarray(values, np.float32))
    height, width = size
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
