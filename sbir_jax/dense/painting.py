"""Masks and depth as pictures that one likes to look at."""

import colorsys
from collections.abc import Sequence

import matplotlib
import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8
from PIL import Image, ImageDraw

from sbir_jax.report.pictures import INK, clipped, sheet_font

Picture = UInt8[np.ndarray, "_ _ 3"]
GOLDEN = 0.61803398875  # neighbouring numbers get hues far apart
STRENGTH = 0.55  # of a colour over a picture
SMALL = 256  # pictures below it are enlarged before they are painted


def colour(number: int) -> tuple[int, int, int]:
    """A lasting colour for each number: its hue, and three lightnesses in turn."""
    hue = (0.08 + GOLDEN * number) % 1
    light, full = (0.56, 0.44, 0.68)[number % 3], (0.85, 0.75, 0.8)[number % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, light, full)
    return round(255 * red), round(255 * green), round(255 * blue)


def enlarged(picture: Picture, side: int = SMALL) -> Picture:
    """At least `side` pixels long, smoothly."""
    factor = side / max(picture.shape[:2])
    if factor <= 1:
        return picture
    height, width = (max(1, round(n * factor)) for n in picture.shape[:2])
    size = width, height
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def paint_labels(
    picture: Picture,
    labels: Integer[np.ndarray, "y x"],
    bare: Sequence[int] = (),
    strength: float = STRENGTH,
) -> Picture:
    """Each label's colour over the picture, and a line around each region.

    Args:
      labels: of any size; they are brought to the picture's.
      bare: labels that are left as they are, such as the background.
    """
    h, w = picture.shape[:2]
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * m / n).astype(int), m - 1)
        for n, m in zip((h, w), labels.shape, strict=True)
    )
    large = labels[rows[:, None], columns[None]].astype(int)
    numbers, where = np.unique(large, return_inverse=True)
    colours = np.array([colour(int(n)) for n in numbers], np.float32)
    shown = np.array([n not in bare for n in numbers])[where].reshape(h, w)
    over = colours[where].reshape(h, w, 3)
    weight = (strength * shown)[..., None]
    mixed = (1 - weight) * picture + weight * over
    line = edges(large) & shown
    mixed[line] = 0.4 * over[line] + 0.6 * 255
    return np.rint(mixed).astype(np.uint8)


def edges(labels: Integer[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Pixels whose right or lower neighbour is another label."""
    found = np.zeros(labels.shape, bool)
    found[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    found[:-1] |= labels[:-1] != labels[1:]
    return found


def paint_depth(
    depth: Float[np.ndarray, "h w"], low: float | None = None, high: float | None = None
) -> Picture:
    """Near is bright and far is dark; unknown depth, 0, is grey.

    Args:
      low, high: of the range; of the depth itself without them.
    """
    known = depth > 0
    there = depth[known] if known.any() else np.ones(1)
    low = float(there.min()) if low is None else low
    high = float(there.max()) if high is None else high
    share = np.clip((depth - low) / max(high - low, 1e-6), 0, 1)
    found = matplotlib.colormaps["magma_r"](share)[..., :3]
    found[~known] = 0.6
    return np.rint(255 * found).astype(np.uint8)


def legend(picture: Picture, names: Sequence[tuple[int, str]]) -> Picture:
    """The picture and below it a patch of each label's colour with its name."""
    if not names:
        return picture
    font, line, pad = sheet_font(14), 24, 8
    width = picture.shape[1]
    places, x, y = [], pad, pad
    for number, name in names:
        name = clipped(name, font, width - 40)
        wide = round(font.getlength(name)) + 34
        if x > pad and x + wide > width:
            x, y = pad, y + line
        places.append((x, y, number, name))
        x += wide
    strip = Image.new("RGB", (width, y + line + pad // 2), "white")
    draw = ImageDraw.Draw(strip)
    for x, y, number, name in places:
        draw.rounded_rectangle((x, y + 2, x + 14, y + 16), 3, fill=colour(number))
        draw.text((x + 20, y), name, INK, font)
    return np.concatenate([picture, np.asarray(strip)])
