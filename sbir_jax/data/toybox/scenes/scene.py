"""What stands where in a scene, before anything is drawn.

A scene is things of the world with a place, a turn and a size each, seen by one camera
under one lamp in one room. It follows from an index and a seed by draws on the host.
x runs to the right, y up, z towards the viewer; the floor is y = 0.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from jaxtyping import Float

from sbir_jax.data.toybox import world
from sbir_jax.data.toybox.parts import Dice, rotation
from sbir_jax.data.toybox.scenes import placing
from sbir_jax.data.toybox.world import Instance

MOST = 4  # things in a scene
ASPECTS = {"1:1": Fraction(1), "4:3": Fraction(3, 4), "16:9": Fraction(9, 16)}
GAP = 0.08  # between footprints
_TRIES = 8
SCALES = (0.5, 1.0)
# Things of scenes are none of those that have pictures of their own.
BENCHMARK_START, PRETRAINING_START = 2**30, 2**29
_STREAMS = {"place": 16, "camera": 17, "room": 18, "hand": 19, "words": 20, "false": 21}


@dataclass(frozen=True)
class Placed:
    """A thing of the world in a scene."""

    thing: Instance
    origin: tuple[float, float, float]  # of the thing's frame
    yaw: float  # degrees about the vertical; 0 faces the viewer
    scale: float  # scene units per unit of the thing; its longest side is twice that
    on: int | None = None  # the thing that it stands on; None for the floor

    @property
    def turn(self) -> Float[np.ndarray, "3 3"]:
        return rotation(0, self.yaw, 0)

    @property
    def points(self) -> Float[np.ndarray, "n 3"]:
        """Surface points in scene units."""
        own = placing.body(self.thing).points
        return self.scale * own @ self.turn.T + np.array(self.origin)


@dataclass(frozen=True)
class Scene:
    """Things in a room; all that is not a field follows from `seed` and `index`.

    `look` dresses all things and the room anew and leaves the geometry alone. `zoom`
    above 1 brings the camera nearer than what frames all things.
    """

    things: tuple[Placed, ...]
    index: int
    seed: int = 0
    aspect: str = "1:1"
    look: int = 0
    zoom: float = 1.0

    def rng(self, stream: str, *more: int) -> np.random.Generator:
        """The random source of one aspect, the same at every call."""
        return np.random.default_rng([_STREAMS[stream], self.seed, self.index, *more])

    def dressed(self, look: int) -> "Scene":
        """The same things in the same places with other surfaces."""
        things = tuple(
            replace(placed, thing=replace(placed.thing, look=look))
            for placed in self.things
        )
        return replace(self, things=things, look=look)

    def shape(self, size: int) -> tuple[int, int]:
        """Height and width of a picture whose longer side is `size`.

        Raises: ValueError if the size is no multiple of 16.
        """
        if size < 16 or size % 16:
            raise ValueError(f"size must be a multiple of 16 pixels, got {size}")
        return int(size * ASPECTS[self.aspect]), size

    @property
    def points(self) -> Float[np.ndarray, "n 3"]:
        return np.concatenate([placed.points for placed in self.things])

    @property
    def radius(self) -> float:
        """Of the circle around the middle of the floor that holds all things."""
        return float(np.hypot(*self.points[:, [0, 2]].T).max())

    @property
    def wall(self) -> float:
        """Radius of the round wall about the middle of the floor."""
        return self.radius + float(self.rng("room", 0).uniform(3.0, 7.0))

    def camera(self) -> dict[str, np.ndarray]:
        """What `render.trace` wants to know: it looks along -z, a little down."""
        d = Dice(self.rng("camera"))
        pose = 0.0, d.u(13, 30), 0.0, d.u(2.6, 3.6)
        tall = float(ASPECTS[self.aspect])
        camera = world.frame(self.points, pose, d, tall)
        return {**camera, "focal": camera["focal"] * self.zoom}


def draw_scene(
    index: int,
    seed: int = 0,
    categories: Sequence[str] = world.CATEGORIES,
    aspect: str = "1:1",
    start: int = BENCHMARK_START,
) -> Scene:
    """Scene number `index`: one to MOST things of these categories.

    Args:
      aspect: one of ASPECTS, width to height.
      start: the things' own numbers are drawn from here on.
    Raises: ValueError for an unknown category or aspect or a negative index.
    """
    if aspect not in ASPECTS:
        raise ValueError(f"aspect {aspect!r}; choose from {', '.join(ASPECTS)}")
    if index < 0:
        raise ValueError(f"index must not be negative, got {index}")
    among = zlib.crc32("\0".join(categories).encode())
    d = Dice(np.random.default_rng([_STREAMS["place"], seed, index, start, among]))
    wanted = d.pick(1, 2, 2, 2, 3, 3, 3, 4, 4, 4)
    stack = wanted > 1 and d.p(0.35)  # something will stand on the first thing

    def another(placed: list[Placed]) -> Instance:
        name = d.pick(*categories)
        if placed and d.p(0.25):
            name = d.pick(*(p.thing.category for p in placed))  # two of a kind
        return world.instance(name, start + int(d.rng.integers(2**29)), seed)

    first = another([])
    for _ in range(_TRIES if stack else 0):
        if placing.body(first).tops:
            break
        first = another([])
    placed = [_on_floor([], first, d)]
    for _ in range(_TRIES if stack else 0):
        stands = _on_top(placed, another(placed), d)
        if stands:
            placed.append(stands)
            break
    while len(placed) < wanted:
        placed.append(_on_floor(placed, another(placed), d))
    return Scene(_centred(placed), index, seed, aspect)


def _yaw(thing: Instance, d: Dice) -> float:
    """Turned from the viewer no further than in the thing's own pictures."""
    around = world.pose_ranges(thing.category)[0]
    return d.u(-around, around)


def _on_floor(placed: list[Placed], thing: Instance, d: Dice) -> Placed:
    """As near to the middle of the others as it can be apart from all of them."""
    yaw, scale = _yaw(thing, d), d.u(*SCALES)
    standing = [_footprint(p) for p in placed]
    if not standing:
        return Placed(thing, (0.0, 0.0, 0.0), yaw, scale)
    middle = np.concatenate(standing).mean(0)
    reach = 0.0
    while True:
        angle = d.u(0, 2 * np.pi)
        # Things in a row across the picture hide less of each other.
        at = middle + reach * np.array([np.cos(angle), 0.8 * np.sin(angle)])
        own = placing.corners(thing, yaw, scale, at)
        if all(placing.apart(own, other, GAP) for other in standing):
            return Placed(thing, (float(at[0]), 0.0, float(at[1])), yaw, scale)
        reach += 0.04


def _on_top(placed: list[Placed], thing: Instance, d: Dice) -> Placed | None:
    """On a flat top of the first; None where it finds no place there."""
    base, yaw = placed[0], _yaw(thing, d)
    scale = d.u(SCALES[0], 0.8 * SCALES[1])
    spot = placing.spot_on(base.thing, thing, yaw - base.yaw, scale / base.scale, d)
    if spot is None:
        return None
    x, y, z = (base.scale * base.turn @ spot + np.array(base.origin)).tolist()
    return Placed(thing, (x, y, z), yaw, scale, 0)


def _footprint(p: Placed) -> Float[np.ndarray, "4 2"]:
    return placing.corners(p.thing, p.yaw, p.scale, (p.origin[0], p.origin[2]))


def _centred(placed: list[Placed]) -> tuple[Placed, ...]:
    """Moved so that the middle of all things is over the middle of the floor."""
    low, high = placing.bounds(np.concatenate([p.points for p in placed]))
    x, z = ((low + high) / 2).tolist()
    return tuple(
        replace(p, origin=(p.origin[0] - x, p.origin[1], p.origin[2] - z))
        for p in placed
    )
