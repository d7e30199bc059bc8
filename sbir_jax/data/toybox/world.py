"""Toybox: a procedural world of 48 everyday things, their photos and their sketches.

An `Instance` is a name and three numbers; everything else (shape, pose, colours,
background, caption, drawings) follows from them by seeded draws. An object is traced
alone, so its pixels do not depend on what else is in the batch.
"""

import functools
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from sbir_jax.data.toybox import geometry, looks, paint, parts, render
from sbir_jax.data.toybox.parts import Dice
from sbir_jax.data.toybox.shapes import SHAPES

CATEGORIES: tuple[str, ...] = tuple(sorted(SHAPES))
NOVEL = (
    "carrot", "castle", "giraffe", "guitar", "helicopter", "sofa", "teapot", "umbrella",
)  # fmt: skip
UNSEEN = (
    "anchor", "banana", "bed", "boat", "cake", "duck", "goblet", "hat", "key", "lamp",
    "mushroom", "robot", "spider", "train", "truck", "windmill",
)  # fmt: skip
SEEN = tuple(name for name in CATEGORIES if name not in NOVEL + UNSEEN)
PRETRAINED = SEEN + UNSEEN  # what the small model has seen, and may name
VOCABULARY: tuple[str, ...] = looks.vocabulary(CATEGORIES)

# Fresh instances for pretraining have indices from here on, benchmark ones below.
PRETRAINING_START = 1_000_000
_BATCH = 16  # objects per call of the compiled program
_STREAMS = {"shape": 0, "pose": 1, "look": 2, "caption": 3, "hand": 4, "sketch pose": 5}

# See `pose_ranges`.
_POSE = (42, (8, 26), 3)
_POSES = {
    **dict.fromkeys(("anchor", "fork", "hammer", "key"), (25, (0, 20), 40)),
    **dict.fromkeys(("carrot", "guitar", "banana"), (28, (0, 22), 30)),
    **dict.fromkeys(("bicycle", "fish", "clock", "flower", "ladder"), (32, (4, 20), 4)),
    "icecream": (40, (0, 18), 10), "rocket": (35, (0, 18), 14),
    "spider": (35, (28, 48), 4), "umbrella": (40, (-6, 14), 14),
    "hat": (40, (10, 30), 5), "airplane": (40, (12, 32), 8),
    "mug": (24, (10, 28), 3), "teapot": (28, (8, 24), 3),
    "bed": (42, (18, 34), 3), "castle": (38, (10, 30), 2),
}  # fmt: skip


@dataclass(frozen=True)
class Instance:
    """One thing: its shape and pose come from (category, index, seed).

    `look` picks the colours and the background; other looks leave the shape alone.
    """

    category: str
    index: int
    seed: int = 0
    look: int = 0

    def rng(self, stream: str, *more: int) -> np.random.Generator:
        """The random source of one aspect, the same at every call."""
        name = zlib.crc32(self.category.encode())
        return np.random.default_rng(
            [_STREAMS[stream], self.seed, name, self.index, *more]
        )

    @property
    def attributes(self) -> looks.Attributes:
        """Colour, pattern and pattern colour, by name."""
        return looks.attributes(self.category, self.rng("look", self.look, 0))


class Photos(NamedTuple):
    """Photos with their exact geometry, from the same rays."""

    rgb: UInt8[np.ndarray, "n h w 3"]
    depth: Float[np.ndarray, "n h w"]  # object units from the eye; 0 off the object
    mask: Bool[np.ndarray, "n h w"]  # where the object covers half the pixel or more


def instance(category: str, index: int, seed: int = 0) -> Instance:
    """The thing of this category and number.

    Raises: ValueError if there is no such category or the index is negative.
    """
    if category not in SHAPES:
        allowed = ", ".join(CATEGORIES)
        raise ValueError(f"no category {category!r} in Toybox; choose from {allowed}")
    if index < 0:
        raise ValueError(f"index must not be negative, got {index}")
    return Instance(category, index, seed)


def pose_ranges(category: str) -> tuple[int, tuple[int, int], int]:
    """Half range of azimuth, range of elevation, half range of roll, in degrees."""
    return _POSES.get(category, _POSE)


def _pose(thing: Instance, view: int) -> tuple[float, float, float, float]:
    """Azimuth, elevation, roll in degrees and focal length of the photo."""
    d = Dice(thing.rng("pose", view))
    around, (low, high), roll = pose_ranges(thing.category)
    azimuth = d.u(min(10, around / 3), around) * d.pick(-1, 1)
    return azimuth, d.u(low, high), d.u(-roll, roll), d.u(2.6, 3.6)


def frame(points, pose, d: Dice, tall: float = 1.0) -> dict[str, np.ndarray]:
    """A camera that frames the points whole, with some air around them.

    Args:
      points: in the world, `[n, 3]`.
      pose: azimuth, elevation and roll in degrees, focal length in image half widths.
      tall: height of the picture as a share of its width.
    """
    azimuth, elevation, roll, focal = pose
    turn = parts.rotation(0, azimuth, 0) @ parts.rotation(-elevation, 0, 0)
    right, up, back = (turn @ parts.rotation(0, 0, roll)).T
    axes = np.stack([right, up, -back])
    centre, sides = (points.min(0) + points.max(0)) / 2, np.array([1.0, tall])
    fill, distance = d.u(0.74, 0.88), 7.0
    eye, low, high = centre, np.zeros(2), np.zeros(2)
    for _ in range(4):
        eye = centre + distance * back
        view = (points - eye) @ axes.T
        flat = focal * view[:, :2] / view[:, 2:]
        low, high = flat.min(0), flat.max(0)
        distance *= ((high - low) / sides).max() / (2 * fill)
    room = np.maximum(0.93 * sides - (high - low) / 2, 0)
    middle = (low + high) / 2 - room * d.rng.uniform(-0.4, 0.4, 2)
    lamp = np.array([d.u(-0.8, 0.8), d.u(0.9, 1.5), d.u(0.5, 1.0)])
    reach = np.linalg.norm(points - eye, axis=1)
    return {
        "eye": eye, "axes": axes, "focal": np.array(focal),
        "shift": middle * (-1, 1),
        "range": np.array([0.8 * reach.min(), 1.15 * reach.max() + 0.1]),
        "lamp": turn @ lamp / np.linalg.norm(lamp),
    }  # fmt: skip


def stack(trees: list) -> dict:
    """A list of equal dictionaries of arrays as one, float32 on a new first axis."""
    return jax.tree.map(lambda *leaves: np.stack(leaves).astype(np.float32), *trees)


@functools.lru_cache(maxsize=256)
def shape(thing: Instance):
    return parts.pack(SHAPES[thing.category](Dice(thing.rng("shape"))))


def _scene(thing: Instance, view: int = 0, variant: int | None = None):
    """Rows, count and camera of the photo, or of the sketch of this variant."""
    rows, points, slots = shape(replace(thing, look=0))
    pose, d = _pose(thing, view), Dice(thing.rng("pose", view, 1))
    if variant is not None:
        d = Dice(thing.rng("sketch pose", variant))
        azimuth, elevation, roll, focal = pose
        around, above, aslant = d.u(-10, 10), d.u(-6, 6), d.u(-4, 4)
        pose = (azimuth + around, elevation + above, roll + aslant, focal)
    return {
        "rows": rows, "count": np.array(len(slots)), "camera": frame(points, pose, d)
    }  # fmt: skip


def look(thing: Instance):
    slots = shape(replace(thing, look=0))[2]
    rng = thing.rng("look", thing.look, 1)
    numbers = looks.look(thing.attributes, slots, parts.MAX_PARTS, rng)
    return {**numbers, "grain": np.array(rng.integers(2**20))}


@functools.partial(jax.jit, static_argnames=("size", "side"))
def _render(scenes, styles, hands, size, side=None):
    """Trace each scene once; shade it for each style and draw it for each hand.

    Leaves of `scenes` are `[n, ...]`, of `styles` and `hands` `[n, k, ...]` or None.
    With a `side` the maps of `geometry.surface` come last.
    """

    def one(item):
        scene, style, hand = item
        camera = scene["camera"]
        buffers = render.trace(
            scene["rows"], scene["count"].astype(jnp.int32), camera,
            size * render.OVERSAMPLE,
        )  # fmt: skip
        depth, cover = paint.outputs(buffers)
        photos = sketches = None
        if style is not None:

            def photo(style):
                key = jax.random.key(style["grain"].astype(jnp.int32))
                return paint.shade(buffers, camera, style, key)

            photos = jax.lax.map(photo, style)
        if hand is not None:
            sketches = jax.lax.map(
                lambda hand: paint.draw(buffers, hand["merged"], hand), hand
            )
        maps = side and geometry.surface(buffers, camera, side)
        return photos, depth, cover >= 0.5, sketches, maps

    return jax.lax.map(one, (scenes, styles, hands))


def _run(scenes: list, styles: list | None, hands: list | None, size: int, side=None):
    """Render any number of scenes in batches of one compiled size."""
    if size % 16:
        raise ValueError(f"size must be a multiple of 16 pixels, got {size}")
    cpu, todo = jax.local_devices(backend="cpu")[0], []
    for start in range(0, len(scenes), _BATCH):
        chunk = []
        for items in (scenes, styles, hands):
            part = (items or [])[start : start + _BATCH]
            padded = part + part[-1:] * (_BATCH - len(part))
            chunk.append(stack(padded) if part else None)
        # Short loops over small tiles suit a CPU, and there alone the pixels are
        # the same whatever accelerator the machine has.
        with jax.default_device(cpu):
            todo.append(_render(*chunk, size, side))
    done = jax.tree.map(lambda *leaves: np.concatenate(leaves), *jax.device_get(todo))
    return jax.tree.map(lambda leaf: leaf[: len(scenes)], done)


def render_photos(
    instances: Sequence[Instance],
    size: int = 64,
    shading_seeds: Sequence[int] | None = None,
    views: Sequence[int] | None = None,
) -> Photos:
    """Photograph things.

    Args:
      size: side in pixels, a multiple of 16.
      shading_seeds: a look per instance in place of its own (`Instance.look`).
      views: a view per instance; 0, the default, is the instance's own pose, which
        its sketches share; others are other draws from the category's poses.
    """
    if shading_seeds is not None:
        pairs = zip(instances, shading_seeds, strict=True)
        instances = [replace(thing, look=int(look)) for thing, look in pairs]
    views = [0] * len(instances) if views is None else views
    scenes = [_scene(t, int(v)) for t, v in zip(instances, views, strict=True)]
    styles = [stack([look(thing)]) for thing in instances]
    photos, depth, mask, *_ = _run(scenes, styles, None, size)
    return Photos(photos[:, 0], depth, mask)


def _hand(thing: Instance, variant: int):
    slots = shape(replace(thing, look=0))[2]
    rng = thing.rng("hand", variant)
    return looks.hand(len(slots), parts.MAX_PARTS, rng)


def render_sketches(
    instances: Sequence[Instance],
    variants: Sequence[int],
    size: int = 64,
    aligned=False,
) -> UInt8[np.ndarray, "n h w 3"]:
    """Draw things, each by the hand and from the pose of its variant.

    Args:
      variants: which drawing of each instance, any whole numbers from 0.
      aligned: draw from the photo's pose in place of the variant's own.
    """
    pairs = list(zip(instances, variants, strict=True))
    scenes = [_scene(thing, 0, None if aligned else int(k)) for thing, k in pairs]
    hands = [stack([_hand(thing, int(k))]) for thing, k in pairs]
    return _run(scenes, None, hands, size)[3][:, 0]


def photo_caption(thing: Instance, rng: np.random.Generator | int = 0) -> str:
    """A caption that names the true colour and pattern, or (seldom) neither."""
    if not isinstance(rng, np.random.Generator):
        rng = thing.rng("caption", thing.look, int(rng))
    return looks.photo_caption(thing.category, thing.attributes, rng)


def sketch_caption(thing: Instance, rng: np.random.Generator | int = 0) -> str:
    """A caption for a drawing: it names no colour, a drawing has none."""
    if not isinstance(rng, np.random.Generator):
        rng = thing.rng("caption", thing.look, int(rng), 1)
    return looks.sketch_caption(thing.category, rng)


class Chunk(NamedTuple):
    """Training data of a generative model; captions are in the order of the images.

    Of each thing there are LOOKS photos in a row and HANDS sketches in a row, from one
    pose, so that its geometry is that of all of them.
    """

    photos: UInt8[np.ndarray, "n h w 3"]
    photo_captions: list[str]
    sketches: UInt8[np.ndarray, "m h w 3"]
    sketch_captions: list[str]
    categories: Int[np.ndarray, " t"]  # of each thing, a position in CATEGORIES
    geometry: Float[np.ndarray, "t y x 17"]  # `geometry.CHANNELS`, at a quarter


LOOKS, HANDS, CHUNK = 3, 2, 64
PLACE = 4  # pixels of a place of the geometry, as of a latent


def pretraining_chunk(
    seed: int, number: int, size: int = 64, categories: Sequence[str] = PRETRAINED
) -> Chunk:
    """Chunk `number` of an endless stream of fresh instances, at random access.

    CHUNK instances are traced once each, shaded LOOKS times and drawn HANDS times
    from the photo's pose. The categories take turns, so all are equally frequent.
    """
    things = [
        instance(categories[i % len(categories)], PRETRAINING_START + i, seed)
        for i in range(number * CHUNK, (number + 1) * CHUNK)
    ]
    dressed = [[replace(t, look=k) for k in range(LOOKS)] for t in things]
    side = size // PLACE
    photos, _, _, sketches, (maps, normals) = _run(
        [_scene(thing) for thing in things],
        [stack([look(thing) for thing in group]) for group in dressed],
        [stack([_hand(thing, k) for k in range(HANDS)]) for thing in things],
        size,
        side,
    )
    return Chunk(
        photos.reshape(-1, size, size, 3),
        [photo_caption(thing) for group in dressed for thing in group],
        sketches.reshape(-1, size, size, 3),
        [sketch_caption(thing, k) for thing in things for k in range(HANDS)],
        np.array([CATEGORIES.index(thing.category) for thing in things]),
        np.concatenate([maps, geometry.contours(normals, side)], -1),
    )


def iter_pretraining(
    seed: int, start: int, count: int, size: int = 64
) -> Iterator[Chunk]:
    """Chunks `start` to `start + count - 1` of `pretraining_chunk`'s stream."""
    for number in range(start, start + count):
        yield pretraining_chunk(seed, number, size)
