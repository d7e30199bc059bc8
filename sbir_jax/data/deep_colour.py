"""Colours of 16 bits a channel, of which Pillow keeps the upper byte alone.

That is enough where all 16 are used. Cameras and microscopes store 10, 12 or 14 bits in
16, and rarely say so: then most of the picture is in the lower byte.
"""

import contextlib
import sys
from typing import Any

import numpy as np
from PIL import Image

# Bits of samples that are stored in 16, and the largest value of each.
TOPS = [2**bits - 1 for bits in (8, 10, 12, 14, 16)]

# Read in the other order of bytes, the lower one takes the place of the upper.
_OTHER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_BAND_PIXELS = 1_000_000  # at a time


def is_deep(image: Image.Image) -> bool:
    """Whether a file that is not decoded yet has colours of 16 bits a channel."""
    tiles = getattr(image, "tile", ())
    deep = any(";16" in str(tile[3]) for tile in tiles)
    return deep and image.mode in ("RGB", "RGBA")


def top_of(highest: float | int) -> int:
    """The value that is white: that of the least usual depth that holds all values."""
    return next(top for top in TOPS if highest <= top)


def own_white(image: Image.Image, file: Any) -> Image.Image:
    """A deep image in 8 bits, its colours scaled by the white of their own depth.

    Args:
      image: decoded from `file`; it stays as it is.
    Raises: OSError for a file that cannot be read again.
    """
    highest: Any = image.getextrema()
    if max(high for _, high in highest[:3]) > TOPS[-2] >> 8:
        return image  # all 16 bits
    low = _lower_bytes(type(image), file)
    white = np.zeros(len(highest))
    for _, samples in _samples(image, low):
        white = np.maximum(white, samples.max((0, 1)))
    white[:3] = white[:3].max()  # of one depth; the transparency has its own
    scale = 255 / np.array([top_of(value) for value in white], np.float32)
    for start, samples in _samples(image, low):
        shown = np.rint(samples * scale).astype(np.uint8)
        low.paste(Image.fromarray(shown), (0, start))
    return low


def _lower_bytes(kind: Any, file: Any) -> Image.Image:
    # Pillow has closed a file that it opened itself.
    known = contextlib.nullcontext(file)
    with open(file.name, "rb") if file.closed else known as again:
        again.seek(0)
        image = kind(again)
        image.tile = [tile._replace(args=_swapped(tile.args)) for tile in image.tile]
        image.load()
    return image


def _swapped(args: Any) -> Any:
    """What a decoder is told, with the raw mode (RGB;16B) in the other order."""
    raw, *more = (args,) if isinstance(args, str) else args
    swapped = raw[:-1] + _OTHER[raw[-1]]
    return (swapped, *more) if more else swapped


def _samples(image: Image.Image, low: Image.Image):
    """Bands of rows: the first one's number, and its samples of 16 bits."""
    width, height = image.size
    rows = max(1, _BAND_PIXELS // width)
    for start in range(0, height, rows):
        box = (0, start, width, min(start + rows, height))
        upper, lower = (np.asarray(part.crop(box)) for part in (image, low))
        yield start, upper.astype(np.uint16) << 8 | lower
