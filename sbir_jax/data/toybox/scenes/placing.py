"""Where things can stand: footprints on the floor, and flat tops of other things.

All on the host, in a thing's own frame and units as `parts.pack` sets them: floor at
y = 0, longest side of the box 2. Footprints are rectangles of the surface points that
frame a picture, so two things whose footprints are apart cannot meet at any height.
"""

import functools
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sbir_jax.data.toybox.parts import BLOCK, INDEX, SOLID, Dice, Part, rotation
from sbir_jax.data.toybox.shapes import SHAPES
from sbir_jax.data.toybox.world import Instance

LOW = 0.08  # what is lower than this touches the floor
LEVEL = 0.02  # what rises less than this above a top is part of it
SMALLEST_TOP = 0.18  # half sides of a top that is worth standing on
OVERHANG = 0.3  # of a side, on either end


class Top(NamedTuple):
    """A level rectangle that something can stand on."""

    height: float
    low: Float[np.ndarray, "2"]  # x, z
    high: Float[np.ndarray, "2"]


class Body(NamedTuple):
    """What placing needs to know of a shape."""

    points: Float[np.ndarray, "n 3"]
    boxes: Float[np.ndarray, "m 2 3"]  # low and high corners of all parts and images
    tops: tuple[Top, ...]


@functools.lru_cache(maxsize=256)
def body(thing: Instance) -> Body:
    """Surface points, boxes of the parts and flat tops of a thing."""
    if thing.look:
        return body(replace(thing, look=0))
    shape = SHAPES[thing.category](Dice(thing.rng("shape")))
    points = np.concatenate([part.points for part in shape])
    low, high = points.min(0), points.max(0)
    scale, ground = 2 / (high - low).max(), np.array([0, low[1], 0])
    boxes, tops = [], []
    for part in shape:
        for image in _images(part):
            image = (image - ground) * scale
            boxes.append((image.min(0), image.max(0)))
            if (half := _level_half(part)) is not None:
                middle = (image.min(0) + image.max(0))[[0, 2]] / 2
                half = (image.max(0) - image.min(0))[[0, 2]] / 2 - half * scale
                tops.append(Top(image[:, 1].max(), middle - half, middle + half))
    wide = [top for top in tops if (top.high - top.low).min() > 2 * SMALLEST_TOP]
    return Body((points - ground) * scale, np.array(boxes), tuple(wide))


def _images(part: Part) -> list[np.ndarray]:
    """The points of a part, those of each mirror image by themselves."""
    count = 2 ** int(part.row[INDEX["mx"]] + part.row[INDEX["mz"]])
    return np.split(part.points, count)


def _level_half(part: Part) -> Float[np.ndarray, "2"] | None:
    """What to cut off each side of a part's box for its flat top; None without one."""
    f = {name: part.row[position] for name, position in INDEX.items()}
    upright = f["r11"] > 0.999 and abs(f["r00"]) > 0.999
    whole = f["wall"] >= SOLID and f["hi"] >= f["h"]
    if f["kind"] != BLOCK or not upright or not whole:
        return None
    if f["copies"] and np.hypot(f["vx"], f["vz"]) > 2.2 * max(f["a"], f["b"]):
        return None  # a row with gaps
    half, shrunk = np.array([f["a"], f["b"]]), np.array([f["tx"], f["tz"]])
    cut = half * (1 - np.minimum(shrunk, 1)) + f["re"]
    # A round corner leaves the rectangle that touches its arc.
    return cut + 0.3 * f["rc"] * shrunk


def turned(points: np.ndarray, yaw: float) -> np.ndarray:
    """Points turned by `yaw` degrees about the vertical through their origin."""
    return points @ rotation(0, yaw, 0).T


def bounds(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Low and high corners of the footprint, x and z."""
    flat = points[:, [0, 2]]
    return flat.min(0), flat.max(0)


def corners(thing: Instance, yaw: float, scale: float, at) -> Float[np.ndarray, "4 2"]:
    """The footprint on the floor, at x and z `at`, corners in order."""
    (x0, z0), (x1, z1) = bounds(body(thing).points)
    rectangle = np.array([(x0, 0, z0), (x1, 0, z0), (x1, 0, z1), (x0, 0, z1)])
    return scale * turned(rectangle, yaw)[:, [0, 2]] + np.asarray(at)


def apart(one: np.ndarray, other: np.ndarray, gap: float) -> bool:
    """True if a straight lane of width `gap` runs between two rectangles."""
    for rectangle in (one, other):
        for side in (rectangle[1] - rectangle[0], rectangle[2] - rectangle[1]):
            across = side / np.linalg.norm(side)
            a, b = one @ across, other @ across
            if max(a.min() - b.max(), b.min() - a.max()) >= gap:
                return True
    return False


def spot_on(
    base: Instance, thing: Instance, yaw: float, scale: float, d: Dice
) -> Float[np.ndarray, "3"] | None:
    """A point of a flat top of `base`, in its frame, where `thing` can stand.

    What touches the top lies on it whole; the rest may hang over a little but meets
    no part.

    Args:
      yaw, scale: of the thing in the frame and the units of the base.
    """
    own = body(thing).points
    points = scale * turned(own, yaw)
    low, high = bounds(points)
    foot_low, foot_high = bounds(points[own[:, 1] < LOW])
    foot_low = np.minimum(foot_low, low + OVERHANG * (high - low))
    foot_high = np.maximum(foot_high, high - OVERHANG * (high - low))
    for _ in range(12):
        tops = body(base).tops
        if not tops:
            return None
        top = tops[int(d.rng.integers(len(tops)))]
        first, last = top.low - foot_low, top.high - foot_high
        if (first > last).any():
            continue
        at = d.rng.uniform(first, last)
        boxes = body(base).boxes
        higher = boxes[boxes[:, 1, 1] > top.height + LEVEL * scale][:, :, [0, 2]]
        if not ((higher[:, 0] < at + high) & (higher[:, 1] > at + low)).all(1).any():
            return np.array([at[0], top.height, at[1]])
    return None
