"""Pictures of scenes: one geometry, and from it photos, sketches and the truth.

Every thing is traced by itself, by a camera moved into its frame, and the nearest wins.
So each keeps the geometry of its own pictures, and what is hidden is known as well. The
lamp and the sky see all things together, so that shadows and contacts are true.
"""

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, UInt8

from sbir_jax.data.toybox import geometry, looks, paint, parts, render, world
from sbir_jax.data.toybox.render import OVERSAMPLE, Buffers
from sbir_jax.data.toybox.scenes.scene import MOST, Scene

BATCH = 8  # scenes per call of the compiled program
# Shadows of things on things reach further than those of one.
SHADOW_STEPS, SHADOW_REACH = 32, 6.0
WALL, FLOOR, FIRST = 0, 1, 2  # in `Pictures.instances`; FIRST + i is thing i


class Pictures(NamedTuple):
    """Pictures of n scenes, and what is where in them."""

    photos: UInt8[np.ndarray, "n looks h w 3"]
    sketches: UInt8[np.ndarray, "n hands h w 3"]
    depth: Float[np.ndarray, "n h w"]  # scene units along the ray, wall and floor too
    instances: UInt8[np.ndarray, "n h w"]  # WALL, FLOOR, or FIRST + number of the thing
    visible: Float[np.ndarray, "n most"]  # of a thing's samples in the frame; 0: none
    # `geometry.CHANNELS` maps of all things of a scene, where they were asked for.
    geometry: Float[np.ndarray, "n y x 17"] | None = None


class Traced(NamedTuple):
    """Buffers of a scene, at OVERSAMPLE times the output size."""

    buffers: Buffers  # part: MAX_PARTS times the thing, plus its own part
    local: Float[Array, "3 h w"]  # position in the frame and units of the thing
    instance: Int[Array, "h w"]  # as in `Pictures`
    reach: Float[Array, "h w"]  # depth of all there is
    visible: Float[Array, " most"]


def render_scenes(
    scenes: Sequence[Scene],
    size: int = 64,
    looks: Sequence[int] = (0,),
    hands: Sequence[int] = (),
    side: int | None = None,
) -> Pictures:
    """Photograph and draw scenes, all from their cameras.

    Args:
      scenes: of one aspect.
      size: longer side in pixels, a multiple of 16.
      looks: `Scene.look` of each photo of a scene; none: no photos.
      hands: which drawing, any whole numbers from 0; none: no sketches.
      side: of the maps of `geometry`, of square scenes alone; None: no maps.
    Raises: ValueError for no scenes, different aspects or a wrong size.
    """
    shapes = {scene.shape(size) for scene in scenes}
    if len(shapes) != 1:
        aspects = ", ".join(sorted({scene.aspect for scene in scenes})) or "no scenes"
        raise ValueError(f"scenes of one aspect are rendered together, got {aspects}")
    (shape,) = shapes
    cpu, todo = jax.local_devices(backend="cpu")[0], []
    for first in range(0, len(scenes), BATCH):
        some = list(scenes[first : first + BATCH])
        some += some[-1:] * (BATCH - len(some))
        placed = world.stack([_placed(scene) for scene in some])
        styles = hand = None
        if looks:
            dressed = [[s.dressed(look) for look in looks] for s in some]
            styles = world.stack([world.stack(_styles(group)) for group in dressed])
        if hands:
            drawn = [world.stack([_hand(s, k) for k in hands]) for s in some]
            hand = world.stack(drawn)
        # As for single things: on a CPU, so that the pixels are the same everywhere.
        with jax.default_device(cpu):
            todo.append(_render(placed, styles, hand, shape, side))
    done = jax.tree.map(lambda *x: np.concatenate(x), *jax.device_get(todo))
    done = jax.tree.map(lambda leaf: leaf[: len(scenes)], done)
    photos, sketches, maps, *truth = done
    if side:
        surface, normals = maps
        maps = np.concatenate([surface, geometry.contours(normals, side)], -1)
    none = np.zeros((len(scenes), 0, *shape, 3), np.uint8)
    return Pictures(
        none if photos is None else photos,
        none if sketches is None else sketches,
        *truth,
        geometry=maps,
    )


def _placed(scene: Scene) -> dict:
    """Rows, frames and camera; absent things have no parts."""
    camera = scene.camera()
    things = []
    for placed in scene.things:
        rows, _, slots = world.shape(replace(placed.thing, look=0))
        away = np.linalg.norm(placed.points - camera["eye"], axis=1) / placed.scale
        things.append(
            {
                "rows": rows, "count": np.array(len(slots)), "turn": placed.turn,
                "origin": np.array(placed.origin), "scale": np.array(placed.scale),
                "range": np.array([0.8 * away.min(), 1.15 * away.max() + 0.1]),
            }
        )  # fmt: skip
    absent = {**things[0], "count": np.array(0)}
    things += [absent] * (MOST - len(things))
    return {
        "things": world.stack(things), "number": np.array(len(scene.things)),
        "camera": camera, "wall": np.array(scene.wall),
    }  # fmt: skip


_PATTERN = ("pattern", "pattern_scale", "pattern_turn", "pattern_colour")


def _styles(dressed: Sequence[Scene]) -> list[dict]:
    """What `paint` needs for each look: all things' surfaces, one room."""
    styles = []
    for scene in dressed:
        own = [world.look(placed.thing) for placed in scene.things]
        own += own[:1] * (MOST - len(own))
        colours = [placed.thing.attributes.colour for placed in scene.things]
        rng = scene.rng("room", 1, scene.look)
        room = {**own[0], **looks.backdrop(colours, rng)}
        room["horizon"] = np.array([scene.radius, scene.wall - scene.radius])
        for name in ("parts", "gloss", "main"):
            room[name] = np.concatenate([look[name] for look in own])
        pattern = [np.concatenate([look[n].ravel() for n in _PATTERN]) for look in own]
        room["grain"] = np.array(rng.integers(2**20))
        styles.append({**room, "patterns": np.stack(pattern)})
    return styles


def _hand(scene: Scene, variant: int) -> dict:
    """One hand's strokes; it leaves out parts of each thing, never a whole one."""
    hands = []
    for number, placed in enumerate(scene.things):
        slots = world.shape(replace(placed.thing, look=0))[2]
        rng = scene.rng("hand", variant, number)
        hands.append(looks.hand(len(slots), parts.MAX_PARTS, rng))
    labels = [hand["merged"] for hand in hands]
    labels += labels[:1] * (MOST - len(labels))
    steps = parts.MAX_PARTS * np.arange(MOST)[:, None]
    return {**hands[0], "merged": (np.stack(labels) + steps).ravel()}


@functools.partial(jax.jit, static_argnames=("shape", "side"))
def _render(placed, styles, hands, shape, side):
    """Trace each scene once, shade it for each style and draw it for each hand."""

    def one(item):
        scene, style, hand = item
        traced = _trace(scene, tuple(OVERSAMPLE * side for side in shape))
        photos = sketches = None
        if style is not None:

            def photo(style):
                key = jax.random.key(style["grain"].astype(jnp.int32))
                coat = paint.coats(traced.buffers, style)
                albedo = paint.patterned(coat, _worn(traced, style), traced.local)
                return paint.expose(
                    traced.buffers, scene["camera"], style, albedo, coat[3], key
                )

            photos = lax.map(photo, style)
        if hand is not None:
            sketches = lax.map(
                lambda hand: paint.draw(traced.buffers, hand["merged"], hand), hand
            )
        maps = None
        if side:
            # Each thing's places are those of its own frame, as where it is alone.
            own = traced.buffers._replace(position=traced.local)
            maps = geometry.surface(own, scene["camera"], side)
        return photos, sketches, maps, *_truth(traced), traced.visible

    return lax.map(one, (placed, styles, hands))


def _worn(traced: Traced, style: dict) -> dict:
    """The pattern's numbers of each pixel's thing."""
    thing = jax.nn.one_hot(traced.instance - FIRST, MOST, axis=0)
    values = jnp.einsum("kf,khw->fhw", style["patterns"], thing)
    return {
        "pattern": values[0], "pattern_scale": jnp.maximum(values[1], 1.0),
        "pattern_turn": values[2:11], "pattern_colour": values[11:14],
    }  # fmt: skip


def _in_frame(thing: dict, points: Float[Array, "3 ..."]) -> Float[Array, "3 ..."]:
    """World points in the frame and units of a thing."""
    away = points - thing["origin"].reshape(3, *(1,) * (points.ndim - 1))
    return jnp.einsum("ji,j...->i...", thing["turn"], away) / thing["scale"]


def _trace(scene: dict, shape: tuple[int, int]) -> Traced:
    camera, things = scene["camera"], scene["things"]

    def alone(thing):
        own = {
            **camera, "range": thing["range"], "axes": camera["axes"] @ thing["turn"],
            "eye": _in_frame(thing, camera["eye"]),
        }  # fmt: skip
        count = thing["count"].astype(jnp.int32)
        depth, part, normal = render.march(thing["rows"], count, own, shape)
        reach = jnp.where(part >= 0, depth * thing["scale"], jnp.inf)
        return reach, part, jnp.einsum("ij,jhw->ihw", thing["turn"], normal)

    reaches, own_parts, normals = lax.map(alone, things)
    direction = render.view(camera, shape)
    eye = camera["eye"][:, None, None]
    reach, behind = _room(scene, direction)
    part = jnp.where(behind == FLOOR, -1, -2)
    normal = jnp.broadcast_to(jnp.array([0.0, 1.0, 0.0])[:, None, None], eye.shape)
    normal = jnp.broadcast_to(normal, direction.shape)
    instance, depth = behind, jnp.zeros(shape)
    for k in range(MOST):
        nearer = reaches[k] < reach
        reach = jnp.where(nearer, reaches[k], reach)
        depth = jnp.where(nearer, reaches[k], depth)
        part = jnp.where(nearer, own_parts[k] + k * parts.MAX_PARTS, part)
        normal = jnp.where(nearer[None], normals[k], normal)
        instance = jnp.where(nearer, FIRST + k, instance)
    position = eye + reach[None] * direction
    local = position
    for k in range(MOST):
        thing = jax.tree.map(lambda leaf, k=k: leaf[k], things)
        own = (instance == FIRST + k)[None]
        local = jnp.where(own, _in_frame(thing, position), local)
    light = render.light_up(
        functools.partial(_distance, scene), camera, position, normal, part,
        SHADOW_STEPS, SHADOW_REACH,
    )  # fmt: skip
    whole = jnp.isfinite(reaches).sum((1, 2))
    seen = (instance[None] == FIRST + jnp.arange(MOST)[:, None, None]).sum((1, 2))
    buffers = Buffers(depth, part, normal, position, light)
    visible = seen / jnp.maximum(whole, 1)
    return Traced(buffers, local, instance, reach, visible)


def _room(scene: dict, direction: Float[Array, "3 h w"]):
    """How far the floor or the round wall is along the rays, and which it is."""
    eye = scene["camera"]["eye"]
    down = -eye[1] / jnp.minimum(direction[1], -1e-6)
    # The far root of |eye + t direction| = wall in the plane of the floor.
    square = direction[0] ** 2 + direction[2] ** 2
    along = eye[0] * direction[0] + eye[2] * direction[2]
    rest = eye[0] ** 2 + eye[2] ** 2 - scene["wall"] ** 2
    out = (jnp.sqrt(jnp.maximum(along**2 - square * rest, 0)) - along) / square
    floor = (direction[1] < 0) & (down < out)
    return jnp.where(floor, down, out), jnp.where(floor, FLOOR, WALL)


def _distance(scene: dict, x, y, z):
    """Signed distance to the union of all things."""
    points = jnp.stack([x, y, z])

    def nearer(k, best):
        thing = jax.tree.map(lambda leaf: leaf[k], scene["things"])
        count = thing["count"].astype(jnp.int32)
        own = render.distance(thing["rows"], count, *_in_frame(thing, points))
        return jnp.minimum(best, thing["scale"] * own)

    number = scene["number"].astype(jnp.int32)
    return lax.fori_loop(0, number, nearer, jnp.full_like(x, 100.0))


def _truth(traced: Traced):
    """Depth and instances at the output size.

    A pixel belongs to what most of its samples show, of equals to the nearest; its
    depth is the mean over these samples.
    """
    height, width = (side // OVERSAMPLE for side in traced.reach.shape)

    def samples(x):
        x = x.reshape(height, OVERSAMPLE, width, OVERSAMPLE)
        return x.transpose(1, 3, 0, 2).reshape(-1, height, width)

    reach = samples(traced.reach)[None]
    own = samples(traced.instance)[None] == jnp.arange(FIRST + MOST).reshape(
        -1, 1, 1, 1
    )
    count = own.sum(1)
    depth = jnp.where(own, reach, 0.0).sum(1) / jnp.maximum(count, 1)
    chosen = jnp.argmax(1e4 * count - depth, axis=0)
    depth = jnp.take_along_axis(depth, chosen[None], axis=0)[0]
    return depth, chosen.astype(jnp.uint8)
