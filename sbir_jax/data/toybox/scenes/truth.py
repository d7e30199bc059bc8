"""What a scene's picture shows: numbers first, and what follows from them.

Whatever can be said of a scene is true (1), false (-1) or undecided (0): near a
boundary people would not agree. Undecided things are never said and never denied.
"and" is the minimum of two such values, "or" the maximum, "not" the negative (Kleene,
Introduction to Metamathematics, 1952, section 64).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Int8, UInt8

from sbir_jax.data.toybox import looks, world
from sbir_jax.data.toybox.looks import Attributes
from sbir_jax.data.toybox.scenes.render import FIRST, Pictures
from sbir_jax.data.toybox.scenes.scene import Scene

TRUE, UNDECIDED, FALSE = 1, 0, -1
RELATIONS = (
    "left of", "right of", "in front of", "behind", "on", "larger than", "smaller than",
)  # fmt: skip
SEEN_SHARE = 0.4  # a thing must show this share of itself to be spoken of
LARGER = 1.25  # ratio of sizes
CONFUSABLE = 0.45  # distance of two colours that light may make equal
SIDE = (0.1, 0.35)  # of the half width: nearer to the middle than the first is no side


class Truth(NamedTuple):
    """The exact truth about a picture of k things.

    `across` are the lowest and the highest image coordinate of a thing, in half widths,
    0 in the middle and to the right positive; `away` are its nearest and farthest
    distance from the eye along the viewing direction, in scene units. Both are of the
    whole thing, whatever hides it.
    """

    categories: tuple[str, ...]
    attributes: tuple[Attributes, ...]
    naturals: tuple[frozenset[str], ...]  # colours of parts that no look changes
    on: Int[np.ndarray, " k"]  # the thing that it stands on, -1 for the floor
    size: Float[np.ndarray, " k"]  # longest side in scene units
    across: Float[np.ndarray, "k 2"]
    away: Float[np.ndarray, "k 2"]
    inside: Bool[np.ndarray, " k"]  # whole in the frame
    visible: Float[np.ndarray, " k"]  # share of what is in the frame that nothing hides
    boxes: Int[
        np.ndarray, "k 4"
    ]  # x0, y0, x1, y1 of visible pixels; 0s if there are none
    relations: dict[str, Int8[np.ndarray, "k k"]]  # between thing i and thing j
    sides: dict[str, Int8[np.ndarray, " k"]]  # on the left, on the right
    instances: UInt8[np.ndarray, "h w"]  # see `render.Pictures`
    depth: Float[np.ndarray, "h w"]

    @property
    def number(self) -> int:
        return len(self.categories)

    @property
    def seen(self) -> Bool[np.ndarray, " k"]:
        """What can be spoken of."""
        return self.visible >= SEEN_SHARE

    @property
    def category_map(self) -> UInt8[np.ndarray, "h w"]:
        """0 wall, 1 floor, 2 + number of the category in `world.CATEGORIES`."""
        own = [FIRST + world.CATEGORIES.index(name) for name in self.categories]
        return np.array([*range(FIRST), *own], np.uint8)[self.instances]

    def masks(self) -> Bool[np.ndarray, "k h w"]:
        """Where each thing is seen."""
        numbers = FIRST + np.arange(self.number)[:, None, None]
        return self.instances[None] == numbers


def truths(scenes: Sequence[Scene], pictures: Pictures) -> list[Truth]:
    """The truth of each scene in its looks of its own; `dress` changes them."""
    return [
        _truth(scene, pictures.instances[i], pictures.depth[i], pictures.visible[i])
        for i, scene in enumerate(scenes)
    ]


def _truth(scene: Scene, instances, depth, visible) -> Truth:
    camera = scene.camera()
    tall = instances.shape[0] / instances.shape[1]
    across, away, inside = [], [], []
    for placed in scene.things:
        x, y, forward = camera["axes"] @ (placed.points - camera["eye"]).T
        u = camera["focal"] * x / forward + camera["shift"][0]
        v = -camera["focal"] * y / forward + camera["shift"][1]
        across.append((u.min(), u.max()))
        away.append((forward.min(), forward.max()))
        inside.append(np.abs(u).max() <= 1 and np.abs(v).max() <= tall)
    things = [placed.thing for placed in scene.things]
    k = len(things)
    on = np.array([-1 if p.on is None else p.on for p in scene.things])
    size = np.array([2 * placed.scale for placed in scene.things])
    across, away = np.array(across), np.array(away)
    return Truth(
        categories=tuple(thing.category for thing in things),
        attributes=tuple(thing.attributes for thing in things),
        naturals=tuple(looks.natural_colours(world.shape(t)[2]) for t in _bare(scene)),
        on=on,
        size=size,
        across=across,
        away=away,
        inside=np.array(inside),
        visible=np.asarray(visible[:k], np.float64),
        boxes=np.stack([_box(instances == FIRST + i) for i in range(k)]),
        relations=_relations(on, size, across, away),
        sides=_sides(across),
        instances=instances,
        depth=depth,
    )


def _bare(scene: Scene):
    return [placed.thing for placed in scene.dressed(0).things]


def dress(truth: Truth, scene: Scene) -> Truth:
    """The truth about another look of the scene that `truth` is about."""
    attributes = tuple(placed.thing.attributes for placed in scene.things)
    return truth._replace(attributes=attributes)


def _box(mask: Bool[np.ndarray, "h w"]) -> Int[np.ndarray, "4"]:
    if not mask.any():
        return np.zeros(4, np.int64)
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def compared(spans: Float[np.ndarray, "k 2"]) -> Int8[np.ndarray, "k k"]:
    """TRUE where thing i comes before thing j, undecided where they are about level.

    The middles must be further apart than the mean of the two half lengths.
    """
    middle, half = spans.mean(1), np.diff(spans)[:, 0] / 2
    ahead = middle[None] - middle[:, None]
    margin = (half[None] + half[:, None]) / 2
    order = np.sign(ahead) * (np.abs(ahead) >= margin)
    return _apart(order.astype(np.int8))


def _apart(values: Int8[np.ndarray, "k k"]) -> Int8[np.ndarray, "k k"]:
    """No relation holds between a thing and itself."""
    values = values.copy()
    np.fill_diagonal(values, FALSE)
    return values


def _relations(on, size, across, away) -> dict[str, Int8[np.ndarray, "k k"]]:
    """For each name of RELATIONS whether it holds between thing i and thing j.

    A thing on another is neither beside nor before it: that is left undecided.
    """
    on = on[:, None] == np.arange(len(on))[None]
    stacked = on | on.T
    left, front = (
        np.where(stacked, UNDECIDED, compared(spans)).astype(np.int8)
        for spans in (across, away)
    )
    ratio = size[:, None] / size[None]
    larger = np.select([ratio >= LARGER, ratio <= 1 / LARGER], [TRUE, FALSE], UNDECIDED)
    larger = _apart(larger.astype(np.int8))
    return {
        "left of": left, "right of": left.T, "in front of": front, "behind": front.T,
        "on": np.where(on, TRUE, FALSE).astype(np.int8),
        "larger than": larger, "smaller than": larger.T,
    }  # fmt: skip


def _sides(across) -> dict[str, Int8[np.ndarray, " k"]]:
    """Whether a thing is on the left and on the right of the picture."""
    middle = across.mean(1)
    right = np.select(
        [middle >= SIDE[1], middle <= SIDE[0]], [TRUE, FALSE], UNDECIDED
    ).astype(np.int8)
    left = np.select(
        [middle <= -SIDE[1], middle >= -SIDE[0]], [TRUE, FALSE], UNDECIDED
    ).astype(np.int8)
    return {"left": left, "right": right}


def coloured(truth: Truth, colour: str, second: bool = False) -> Int8[np.ndarray, " k"]:
    """Whether each thing, or its pattern if `second`, has this colour.

    Undecided where another of its colours is this one or much like it.
    """
    values = []
    for a, naturals in zip(truth.attributes, truth.naturals, strict=True):
        named = a.second if second else a.colour
        others = {a.colour, a.accent, a.second or a.colour, *naturals} - {"wood"}
        if named == colour:
            values.append(TRUE)
        elif named is not None and any(
            looks.apart(c, colour) <= CONFUSABLE for c in others
        ):
            values.append(UNDECIDED)
        else:
            values.append(FALSE)
    return np.array(values, np.int8)


def patterned(truth: Truth, pattern: str) -> Int8[np.ndarray, " k"]:
    """Whether each thing has this pattern, or is wooden.

    Undecided for wood where another thing has some part of wood.
    """
    values = []
    for a, naturals in zip(truth.attributes, truth.naturals, strict=True):
        doubt = pattern == "wooden" and "wood" in naturals
        values.append(TRUE if a.pattern == pattern else UNDECIDED if doubt else FALSE)
    return np.array(values, np.int8)
