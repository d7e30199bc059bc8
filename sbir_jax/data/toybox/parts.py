"""Parts of Toybox objects: one row of numbers describes any primitive.

A row holds a rigid pose, an optional mirror image and a linear row of copies, and
the sizes of one of three families: a block (box, cylinder, cone, prism, tube, cup),
an ellipsoid (ball, egg, dome, shell) and a ring (torus, arc, horn). Rows are what the
ray-marcher reads; everything in this file is numpy and runs on the host.

Axes: x to the right, y up, z towards the viewer. Lengths are in object units.
"""

import numpy as np
from jaxtyping import Float

FIELDS = (
    "cx cy cz r00 r01 r02 r10 r11 r12 r20 r21 r22 kind mx mz "
    "vx vy vz wx wy wz copies a h b rc re tx tz wall floor lo hi lip bx by bz br"
).split()
INDEX = {name: position for position, name in enumerate(FIELDS)}
MAX_PARTS = 16
BLOCK, ELLIPSOID, RING = 0, 1, 2
SOLID = 50.0  # a wall thicker than any object: not hollow

# Colour slots. The first two are coloured by the instance, the others by nature.
MAIN, ACCENT, DARK, LIGHT, STEEL, WOOD, LEAF, GLASS, GOLD, TAN = range(10)

_LENGTHS = [INDEX[n] for n in "cx cy cz vx vy vz a h wall floor lo hi".split()]
_LENGTHS += [INDEX[n] for n in "bx by bz br".split()]
_SPHERE = np.array(
    [
        (x, y, z)
        for x in (-1, 0, 1)
        for y in (-1, 0, 1)
        for z in (-1, 0, 1)
        if (x, y, z) != (0, 0, 0)
    ],
    np.float64,
)
_SPHERE /= np.linalg.norm(_SPHERE, axis=1, keepdims=True)
_TURNS = np.stack(
    [np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], -1
)


class Dice:
    """Short names for the draws that shapes are made of."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng

    def u(self, low, high):
        """A uniform number."""
        return float(self.rng.uniform(low, high))

    def k(self, low, high):
        """A whole number, both ends included."""
        return int(self.rng.integers(low, high + 1))

    def p(self, chance=0.5):
        """True with this chance."""
        return bool(self.rng.random() < chance)

    def pick(self, *options):
        """One of the options."""
        return options[int(self.rng.integers(len(options)))]


class Part:
    """One primitive: its row, its colour slot and points on its surface."""

    def __init__(self, row, slot, points):
        self.row, self.slot, self.points = row, slot, points


def rotation(rx, ry, rz) -> Float[np.ndarray, "3 3"]:
    """Rotation by degrees about x, then y, then z."""
    (a, b, c), (s, t, u) = (f(np.radians((rx, ry, rz))) for f in (np.cos, np.sin))
    return np.array(
        [
            [b * c, s * t * c - a * u, a * t * c + s * u],
            [b * u, s * t * u + a * c, a * t * u - s * c],
            [-t, s * b, a * b],
        ]
    )


def _part(kind, centre, rot, slot, mirror, repeat, local, **sizes):
    turn = rotation(*rot) if np.ndim(rot) == 1 else rot
    values = {
        "kind": kind, "mx": "x" in mirror, "mz": "z" in mirror,
        "a": 1, "h": 1, "b": 1, "rc": 0, "re": 0, "tx": 1, "tz": 1, "wall": SOLID,
        "floor": 0, "lo": -SOLID, "hi": SOLID, "lip": 1, "copies": 0,
    }  # fmt: skip
    values.update(sizes)
    row = np.zeros(len(FIELDS))
    row[0:3], row[3:12] = centre, turn.T.ravel()
    for name, value in values.items():
        row[INDEX[name]] = value
    points = local @ turn.T + np.asarray(centre, np.float64)
    if repeat is not None:
        step, count = np.asarray(repeat[0], np.float64), int(repeat[1])
        row[15:18], row[18:21], row[21] = step, step / (step @ step), count - 1
        points = np.concatenate([points, points + step * (count - 1)])
    for axis, letter in ((0, "x"), (2, "z")):
        if letter in mirror:
            flip = points.copy()
            flip[:, axis] *= -1
            points = np.concatenate([points, flip])
    return Part(row, slot, points)


def block(
    centre, half, slot=MAIN, *, rot=(0, 0, 0), corner=0.0, edge=0.02, taper=(1, 1),
    wall=SOLID, floor=None, cut=(-SOLID, SOLID), mirror="", repeat=None,
):  # fmt: skip
    """A box or prism about the local y axis.

    Args:
      centre, half: position and half sizes along the local x, y and z.
      corner: radius of the upright edges; the smaller half size makes a cylinder.
      edge: rounding of top and bottom edges.
      taper: size of the top relative to the bottom along x and z; 0 is a ridge.
      wall: wall thickness of a cup open at the top; floor: its floor's thickness,
        negative for a tube open at both ends.
      cut: keep only these local heights.
      mirror: "x", "z" or "xz", copies reflected in the object's middle planes.
      repeat: (step vector, count), a straight row of copies.
    """
    a, h, b = half
    taper = np.maximum(taper, 1e-3)
    slope = max(a * abs(1 - taper[0]), b * abs(1 - taper[1])) / (2 * h)
    if corner > 0.5 * min(a, b):
        ring = _TURNS * (a, b)
    else:
        ring = np.array([(-a, -b), (-a, b), (a, -b), (a, b)], np.float64)
    low = np.insert(ring, 1, -h, axis=1)
    high = np.insert(ring * np.maximum(taper, 0.0), 1, h, axis=1)
    local = np.concatenate([low, high])
    local[:, 1] = np.clip(local[:, 1], *cut)
    widest = np.minimum(1, taper).min()
    edge = min(edge, 0.98 * h, 0.98 * min(a, b) * max(widest, 0.3))
    return _part(
        BLOCK, centre, rot, slot, mirror, repeat, local,
        a=a, h=h, b=b, rc=min(corner, a, b), re=edge, tx=taper[0], tz=taper[1],
        wall=wall, floor=wall if floor is None else floor, lo=cut[0], hi=cut[1],
        lip=1 / np.hypot(1, slope),
    )  # fmt: skip


def cylinder(centre, radius, height, slot=MAIN, *, top=None, **options):
    """An upright cylinder of half height `height`; `top`, its radius there."""
    scale = 1.0 if top is None else top / radius
    return block(
        centre, (radius, height, radius), slot, corner=radius, taper=(scale, scale),
        **options,
    )  # fmt: skip


def rod(start, end, radius, slot=MAIN, *, tip=None, **options):
    """A round bar between two points, of radius `tip` at its end."""
    start, end = np.asarray(start, np.float64), np.asarray(end, np.float64)
    way = end - start
    length = np.linalg.norm(way)
    y = way / length
    x = np.cross(y, (0, 0, 1) if abs(y[2]) < 0.9 else (1, 0, 0))
    x /= np.linalg.norm(x)
    turn = np.stack([x, y, np.cross(x, y)], axis=1)
    options.setdefault("edge", 0.8 * radius)
    return cylinder(
        (start + end) / 2, radius, length / 2, slot, top=tip, rot=turn, **options
    )


def ball(
    centre, radii, slot=MAIN, *, rot=(0, 0, 0), egg=1.0, wall=SOLID,
    cut=(-SOLID, SOLID), mirror="", repeat=None,
):  # fmt: skip
    """An ellipsoid; `egg` scales its top across, `wall` makes a shell, `cut` a dome."""
    radii = np.broadcast_to(np.asarray(radii, np.float64), (3,))
    local = _SPHERE * radii
    local[:, (0, 2)] *= (1 + (egg - 1) * (0.5 + 0.5 * _SPHERE[:, 1]))[:, None]
    local[:, 1] = np.clip(local[:, 1], *cut)
    slope = abs(1 - egg) * max(radii[0], radii[2]) / (2 * radii[1])
    return _part(
        ELLIPSOID, centre, rot, slot, mirror, repeat, local,
        a=radii[0], h=radii[1], b=radii[2], tx=egg, wall=wall, lo=cut[0], hi=cut[1],
        lip=0.95 / np.hypot(1, slope),
    )  # fmt: skip


def ring(
    centre, radius, tube, slot=MAIN, *, arc=360.0, tip=1.0, flat=1.0, rot=(0, 0, 0),
    mirror="", repeat=None,
):  # fmt: skip
    """A torus about the local z axis, or the `arc` degrees of it around local +y.

    `tip` scales the tube at the arc's ends, `flat` scales it along z.
    """
    half = np.radians(arc) / 2
    turns = np.linspace(-half, half, 9)
    reach = radius + tube * 0.8
    local = np.stack([reach * np.sin(turns), reach * np.cos(turns), 0 * turns], -1)
    local = np.concatenate([local, local * ((radius - tube) / reach, 1, 1)])
    local[:, 2] = tube * flat * np.resize((-1, 1), len(local))
    return _part(
        RING, centre, rot, slot, mirror, repeat, local,
        a=radius, h=tube, b=flat, rc=np.sin(half), re=np.cos(half), tx=tip,
        lip=0.9 * min(1, flat),
    )  # fmt: skip


def pack(
    parts: list[Part],
) -> tuple[Float[np.ndarray, "p f"], Float[np.ndarray, "n 3"], list[int]]:
    """Stand the parts on the floor y = 0, scale them to unit size and pad them.

    Returns: rows `[MAX_PARTS, fields]` (the pad is zeros and never read), surface
      points for framing, and the colour slot of each real part. The longest side of
      the bounding box becomes 2 units.
    Raises: ValueError if there are more than `MAX_PARTS` parts.
    """
    if len(parts) > MAX_PARTS:
        raise ValueError(f"{len(parts)} parts, at most {MAX_PARTS} are allowed")
    points = np.concatenate([part.points for part in parts])
    low, high = points.min(0), points.max(0)
    scale = 2.0 / (high - low).max()
    rows = np.zeros((MAX_PARTS, len(FIELDS)))
    for row, part in zip(rows, parts, strict=False):
        row[:] = part.row
        row[1] -= low[1]
        own = part.points - (0, low[1], 0)
        middle = (own.min(0) + own.max(0)) / 2
        row[-4:-1] = middle
        # Surface points are sparse: a margin keeps the sphere outside the part.
        row[-1] = 1.08 * np.linalg.norm(own - middle, axis=1).max() + 0.02
    rows[:, _LENGTHS] *= scale
    # Of a ring these are a ratio and the sine and cosine of its arc, not lengths.
    straight = rows[:, INDEX["kind"]] != RING
    for name in ("b", "rc", "re"):
        rows[straight, INDEX[name]] *= scale
    rows[:, 18:21] /= scale
    return rows, (points - (0, low[1], 0)) * scale, [part.slot for part in parts]
