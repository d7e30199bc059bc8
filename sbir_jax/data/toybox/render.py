"""Ray-marching of Toybox objects, in JAX.

One compiled program serves every category, because an object is only a table of
numbers (`parts`). Geometry, shading and drawing are separate steps
(`paint` has the last two): geometry is by far the dearest, so one is shaded and
drawn several times. Everything here is for one picture; `world` and `scenes` map it
over a batch one picture at a time, so that no pixel can depend on its batch.

Sources: distance functions after Inigo Quilez (iquilezles.org/articles/distfunctions);
sphere tracing, J. C. Hart, The Visual Computer 12 (1996).
"""

import functools
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from sbir_jax.data.toybox.parts import INDEX

OVERSAMPLE = 2  # geometry pixels per output pixel and side
TILE = 16  # geometry is traced in square tiles, each with its own list of parts
MARCH_STEPS, SHADOW_STEPS, SHADOW_REACH = 48, 16, 2.5


class Buffers(NamedTuple):
    """What the camera sees, at OVERSAMPLE times the output size."""

    depth: Float[Array, "h w"]  # object units along the ray; 0 where nothing is hit
    part: Int[Array, "h w"]  # part number, -1 floor, -2 beyond the floor
    normal: Float[Array, "3 h w"]  # unit, world axes
    position: Float[Array, "3 h w"]  # object units; on the floor where part is -1
    light: Float[Array, "2 h w"]  # share of the lamp seen, share of the sky seen


def _along(y, h):
    """Height as a share of the part, 0 at the bottom and 1 at the top."""
    return jnp.clip(y * (0.5 / h) + 0.5, 0, 1)


def _outside(x, y):
    """Distance to the corner region x < 0, y < 0, negative inside it."""
    ax, ay = jnp.maximum(x, 0.0), jnp.maximum(y, 0.0)
    return jnp.sqrt(ax * ax + ay * ay) + jnp.minimum(jnp.maximum(x, y), 0.0)


def _block(f, x, y, z):
    u = _along(y, f["h"])
    sx, sz = 1 + (f["tx"] - 1) * u, 1 + (f["tz"] - 1) * u
    corner = f["rc"] * jnp.minimum(sx, sz)
    side = _outside(
        jnp.abs(x) - f["a"] * sx + corner, jnp.abs(z) - f["b"] * sz + corner
    )
    side = (side - corner) * f["lip"]
    d = _outside(side + f["re"], jnp.abs(y) - (f["h"] - f["re"])) - f["re"]
    inside = jnp.maximum(side + f["wall"], (f["floor"] - f["h"]) - y)
    d = jnp.maximum(d, -inside)
    return jnp.maximum(d, jnp.maximum(f["lo"] - y, y - f["hi"]))


def _ellipsoid(f, x, y, z):
    grow = 1 / (1 + (f["tx"] - 1) * _along(y, f["h"]))
    ra, rh, rb = 1 / f["a"], 1 / f["h"], 1 / f["b"]
    x, v, z = x * grow * ra, y * rh, z * grow * rb
    k0 = x * x + v * v + z * z
    x, w, z = x * ra, v * rh, z * rb
    # |p / r| (|p / r| - 1) / |p / r^2| with one root of each sum.
    d = (k0 - jnp.sqrt(k0)) * lax.rsqrt(x * x + w * w + z * z + 1e-9) * f["lip"]
    d = jnp.maximum(d, -(d + f["wall"]))
    return jnp.maximum(d, jnp.maximum(f["lo"] - y, y - f["hi"]))


def _ring(f, x, y, z):
    x, z = jnp.abs(x), z * (1 / f["b"])
    flat2 = x * x + y * y
    turn = lax.rsqrt(flat2 + 1e-12)
    along = jnp.where(
        f["re"] * x > f["rc"] * y, x * f["rc"] + y * f["re"], flat2 * turn
    )
    square = flat2 + z * z + f["a"] ** 2 - (2 * f["a"]) * along
    share = jnp.clip((1 - y * turn) * (1 / (1 - f["re"])), 0, 1)
    tube = f["h"] * (1 - share * (1 - f["tx"]))
    return (jnp.sqrt(jnp.maximum(square, 0.0)) - tube) * f["lip"]


def _part_distance(rows, i, x, y, z):
    """Signed distance (a lower bound of it) from points to part i."""
    row = lax.dynamic_index_in_dim(rows, i, keepdims=False)
    f = {name: row[position] for name, position in INDEX.items()}
    x = jnp.where(f["mx"] > 0, jnp.abs(x), x) - f["cx"]
    z = jnp.where(f["mz"] > 0, jnp.abs(z), z) - f["cz"]
    y = y - f["cy"]
    k = jnp.round(x * f["wx"] + y * f["wy"] + z * f["wz"])
    k = jnp.clip(k, 0, f["copies"])
    x, y, z = x - k * f["vx"], y - k * f["vy"], z - k * f["vz"]
    px = f["r00"] * x + f["r01"] * y + f["r02"] * z
    py = f["r10"] * x + f["r11"] * y + f["r12"] * z
    pz = f["r20"] * x + f["r21"] * y + f["r22"] * z
    kind = f["kind"].astype(jnp.int32)
    families = [functools.partial(g, f) for g in (_block, _ellipsoid, _ring)]
    return lax.switch(kind, families, px, py, pz)


def _distance(rows, order, count, x, y, z):
    """Signed distance to the union of the first `count` parts in `order`."""

    def nearer(j, best):
        return jnp.minimum(best, _part_distance(rows, order[j], x, y, z))

    return lax.fori_loop(0, count, nearer, jnp.full_like(x, 100.0))


def _nearest(rows, order, count, x, y, z):
    def nearer(j, state):
        best, part = state
        d = _part_distance(rows, order[j], x, y, z)
        return jnp.minimum(best, d), jnp.where(d < best, order[j], part)

    start = jnp.full_like(x, 100.0), jnp.zeros(x.shape, jnp.int32)
    return lax.fori_loop(0, count, nearer, start)[1]


def unit(vectors):
    """Vectors `[3, ...]` scaled to length 1."""
    return vectors * lax.rsqrt((vectors**2).sum(0, keepdims=True) + 1e-12)


def rays(camera, u, v):
    """Unit directions through image points, u to the right, v down, in half widths."""
    x = (u - camera["shift"][0]) / camera["focal"]
    y = -(v - camera["shift"][1]) / camera["focal"]
    axes = camera["axes"]  # rows: right, up, forward
    scale = lax.rsqrt(x * x + y * y + 1)
    return tuple(
        (axes[0, i] * x + axes[1, i] * y + axes[2, i]) * scale for i in range(3)
    )


def _visible_parts(rows, count, camera, dx, dy, dz):
    """The parts whose bounding sphere meets the cone around a tile's rays."""
    axis = jnp.stack([dx.mean(), dy.mean(), dz.mean()])
    axis = axis * lax.rsqrt(axis @ axis)
    cos = jnp.min(dx * axis[0] + dy * axis[1] + dz * axis[2])
    sin = jnp.sqrt(jnp.maximum(1 - cos * cos, 0))
    centre = rows[:, INDEX["bx"] : INDEX["bz"] + 1] - camera["eye"][None]
    ahead = centre @ axis
    aside = jnp.sqrt(jnp.maximum((centre**2).sum(1) - ahead**2, 0))
    met = aside * cos - ahead * sin < rows[:, INDEX["br"]]
    met = met & (jnp.arange(rows.shape[0]) < count)
    return jnp.argsort(~met), met.sum()


def pixel_centres(shape: tuple[int, int], px, py):
    """Image points of pixels: u in [-1, 1], v alike in half widths."""
    height, width = shape
    return (2 * px + 1) / width - 1, (2 * py + 1) / width - height / width


def _trace_tile(rows, count, camera, shape, tile):
    """Depth, part and normal of one square tile, flat `[TILE * TILE]`."""
    across = -(-shape[1] // TILE)
    at = jnp.arange(TILE * TILE)
    px = (tile % across) * TILE + at % TILE
    py = (tile // across) * TILE + at // TILE
    dx, dy, dz = rays(camera, *pixel_centres(shape, px, py))
    order, met = _visible_parts(rows, count, camera, dx, dy, dz)
    ex, ey, ez = camera["eye"]
    near, far = camera["range"]
    precision = 0.2 * 2 / (shape[1] * camera["focal"])

    def unfinished(state):
        step, _, active, _ = state
        return (step < MARCH_STEPS) & active.any()

    def advance(state):
        step, t, active, hit = state
        d = _distance(rows, order, met, ex + t * dx, ey + t * dy, ez + t * dz)
        found = active & (d < precision * t)
        active = active & ~found & (t < far)
        # A finished ray stays where it is, whatever its neighbours still need.
        return step + 1, jnp.where(active, t + 0.95 * d, t), active, hit | found

    t = jnp.full(dx.shape, near)
    none = jnp.zeros(dx.shape, bool)
    active = jnp.broadcast_to(met > 0, dx.shape)
    _, t, active, hit = lax.while_loop(unfinished, advance, (0, t, active, none))
    hit = hit | (active & (t < far))  # still creeping along a surface: a grazing hit

    def surface():
        x, y, z = ex + t * dx, ey + t * dy, ez + t * dz
        part = _nearest(rows, order, met, x, y, z)
        e = 2e-3
        normal = jnp.zeros((3, *t.shape))
        for sx, sy, sz in ((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)):
            d = _distance(rows, order, met, x + e * sx, y + e * sy, z + e * sz)
            normal = normal + jnp.stack([sx * d, sy * d, sz * d])
        return part, unit(normal)

    def nothing():
        return jnp.zeros(t.shape, jnp.int32), jnp.zeros((3, *t.shape))

    part, normal = lax.cond(hit.any(), surface, nothing)
    return jnp.where(hit, t, 0.0), jnp.where(hit, part, -2), normal


def _lighting(distance, camera, position, normal, lit, steps, reach):
    """Shares of lamp and of sky that reach points lifted along their normals."""
    x, y, z = position + 0.02 * normal
    lx, ly, lz = camera["lamp"]

    def unfinished(state):
        step, t, share = state
        return (step < steps) & ((share > 0.02) & (t < reach)).any()

    def advance(state):
        step, t, share = state
        d = distance(x + t * lx, y + t * ly, z + t * lz)
        going = (share > 0.02) & (t < reach)
        share = jnp.where(going, jnp.minimum(share, 7 * d / t), share)
        t = jnp.where(going, t + jnp.clip(d, 0.03, 0.4), t)
        return step + 1, t, share

    facing = lx * normal[0] + ly * normal[1] + lz * normal[2]
    share = jnp.where(lit & (facing > 0), 1.0, 0.0)
    t = jnp.full(x.shape, 0.03)
    _, _, share = lax.while_loop(unfinished, advance, (0, t, share))
    near = distance(*(position + 0.14 * normal))
    sky = jnp.clip(0.35 + 0.65 * near / 0.14, 0.35, 1)
    return jnp.stack([jnp.maximum(share, 0.0), jnp.where(lit, sky, 1.0)])


def _refine(coarse, hit):
    """Bring light to full size, `[2, h, w]`, without mixing object and floor.

    A pixel whose sample fell on the other side of the outline takes the mean of the
    neighbouring samples on its own side.
    """
    o, (height, width) = OVERSAMPLE, coarse.shape[-2:]

    def near(x):
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1)))
        return sum(
            x[:, i : i + height, j : j + width] for i in range(3) for j in range(3)
        )

    def enlarge(x):
        return jnp.repeat(jnp.repeat(x, o, axis=1), o, axis=2)

    own = hit[None, ::o, ::o]
    sides = []
    for side in (own, ~own):
        weight = side.astype(coarse.dtype)
        mean = near(coarse * weight) / jnp.maximum(near(weight), 1e-6)
        mean = jnp.where(near(weight) > 0, mean, coarse)
        sides.append(enlarge(jnp.where(side, coarse, mean)))
    return jnp.where(hit[None], *sides)


def distance(rows, count, x, y, z):
    """Signed distance (a lower bound of it) to the union of the first `count` parts."""
    return _distance(rows, jnp.arange(rows.shape[0]), count, x, y, z)


def march(
    rows: Float[Array, "p f"], count: Int[Array, ""], camera: dict, shape
) -> tuple[Float[Array, "h w"], Int[Array, "h w"], Float[Array, "3 h w"]]:
    """What rays from the camera meet first among the first `count` parts of `rows`.

    Args:
      camera: `eye`, `axes`, `focal`, `shift` and `range`, see `trace`.
      shape: height and width in pixels.
    Returns: depth along the rays, 0 where nothing is met; the part, there -2; normals.
    """
    down, across = (-(-side // TILE) for side in shape)
    tiles = lax.map(
        lambda tile: _trace_tile(rows, count, camera, shape, tile),
        jnp.arange(down * across),
    )

    def image(x):
        x = jnp.moveaxis(x, 0, -2)
        x = x.reshape(*x.shape[:-2], down, across, TILE, TILE)
        x = jnp.swapaxes(x, -3, -2)
        x = x.reshape(*x.shape[:-4], down * TILE, across * TILE)
        return x[..., : shape[0], : shape[1]]

    depth, part, normal = (image(x) for x in tiles)
    return depth, part, normal


def view(camera: dict, shape: tuple[int, int]) -> Float[Array, "3 h w"]:
    """Unit directions of the rays through all pixels."""
    px, py = (jnp.arange(side) for side in shape[::-1])
    return jnp.stack(rays(camera, *jnp.meshgrid(*pixel_centres(shape, px, py))))


def trace(
    rows: Float[Array, "p f"], count: Int[Array, ""], camera: dict, size: int
) -> Buffers:
    """Trace the first `count` parts of `rows`.

    Args:
      rows: packed parts, see `parts.pack`.
      camera: `eye` [3], `axes` [3, 3] (right, up, forward), `focal` (image half
        widths), `shift` [2] of the image centre, `range` (near, far) along the rays,
        `lamp` [3] unit vector towards the light.
      size: side of the buffers in pixels, a multiple of TILE and OVERSAMPLE.
    """
    depth, part, normal = march(rows, count, camera, (size, size))
    direction = view(camera, (size, size))
    eye = camera["eye"][:, None, None]
    # The floor is y = 0; beyond 12 units it is drawn as the far wall.
    to_floor = -eye[1] / jnp.minimum(direction[1], -1e-3)
    floor = (part < 0) & (direction[1] < -1e-3) & (to_floor < 12.0)
    part = jnp.where(floor, -1, part)
    reach = jnp.where(part >= 0, depth, jnp.where(floor, to_floor, 0.0))
    position = eye + reach[None] * direction
    up = jnp.array([0.0, 1.0, 0.0])[:, None, None]
    normal = jnp.where(part[None] >= 0, normal, up)
    everything = functools.partial(distance, rows, count)
    light = light_up(everything, camera, position, normal, part)
    return Buffers(depth, part, normal, position, light)


def light_up(
    distance, camera, position, normal, part, steps=SHADOW_STEPS, reach=SHADOW_REACH
) -> Float[Array, "2 h w"]:
    """`Buffers.light`. It varies slowly: one sample per output pixel is enough.

    Args:
      distance: signed distance of points x, y, z to everything there is.
      steps, reach: how often and how far a shadow ray looks for what is in its way.
    """
    o = OVERSAMPLE
    height, width = part.shape
    coarse = _lighting(
        distance, camera,
        position[:, ::o, ::o].reshape(3, -1), normal[:, ::o, ::o].reshape(3, -1),
        (part[::o, ::o] > -2).ravel(), steps, reach,
    )  # fmt: skip
    return _refine(coarse.reshape(2, height // o, width // o), part >= 0)
