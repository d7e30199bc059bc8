"""Shading and sketching of traced Toybox objects, in JAX.

Both read the buffers of `render.trace`, never the geometry, and are far cheaper
than it: one object is shaded and drawn several times. Noise fields are sums of plane
waves, so the same picture comes out at any size, only finer.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key, UInt8

from sbir_jax.data.toybox.render import OVERSAMPLE, Buffers, pixel_centres, rays, unit


def _waves(waves, at):
    """A smooth random field `[h, w]`: plane waves (frequency x, y, phase, size).

    `at` are the coordinates of columns and of rows. The sine of a sum splits, so a
    wave costs two sines per row and column, not one per pixel.
    """
    fx, fy, phase, size = waves.T[:, :, None]
    across, down = fx * at[0][None] + phase, fy * at[1][None]
    rows = jnp.concatenate([size * jnp.cos(down), size * jnp.sin(down)])
    return rows.T @ jnp.concatenate([jnp.sin(across), jnp.cos(across)])


def _grid(shape):
    """Centres of pixels: of columns and of rows, and of all as u and v `[h, w]`."""
    at = pixel_centres(shape, *(jnp.arange(side) for side in shape[::-1]))
    return at, *jnp.meshgrid(*at)


def _average(x, factor):
    h, w = x.shape[-2] // factor, x.shape[-1] // factor
    return x.reshape(*x.shape[:-2], h, factor, w, factor).mean((-3, -1))


def _pattern(look, x, y, z):
    """Share of the pattern's colour, and a factor on brightness, at object points."""
    style, f, turn = look["pattern"], look["pattern_scale"], look["pattern_turn"]
    # A slanted frame, so that no pattern plane falls together with a face.
    a = turn[0] * x + turn[1] * y + turn[2] * z
    b = turn[3] * x + turn[4] * y + turn[5] * z
    c = turn[6] * x + turn[7] * y + turn[8] * z
    sharp = 9.0 / f
    stripes = jax.nn.sigmoid(sharp * jnp.sin(f * b) * 2)
    square = jnp.sin(f * a) * jnp.sin(f * b) * jnp.sin(f * c)
    checks = jax.nn.sigmoid(sharp * square * 6)
    cell = [(q * f / 5.0) - jnp.round(q * f / 5.0) for q in (a, b, c)]
    dots = jax.nn.sigmoid(sharp * 6 * (0.36 - jnp.sqrt(sum(q * q for q in cell))))
    swirl = b + 0.16 * jnp.sin(7 * a + 2 * jnp.sin(5 * c))
    marble = 1 - jnp.abs(jnp.sin(0.55 * f * swirl)) ** 0.6
    marble = jnp.clip(2.2 * (marble - 0.32), 0, 1)
    share = jnp.where(style == 1, stripes, 0.0)
    share = jnp.where(style == 2, checks, share)
    share = jnp.where(style == 3, dots, share)
    share = jnp.where(style == 4, marble, share)
    grain = jnp.sin(24 * (b + 0.05 * jnp.sin(9 * a)) + 3 * jnp.sin(4 * c))
    return share, jnp.where(style == 5, 0.84 + 0.16 * grain, 1.0)


def _background(look, buffers, at, u, v):
    """Linear colours of floor and wall, `[3, h, w]`."""
    x, _, z = buffers.position
    clouds = _waves(look["clouds"], at)
    fine = _waves(look["clouds"] * jnp.array([[3.1, 2.7, 1.3, 1.0]]), at)
    sky = look["wall"][:, :, None, None]
    wall = sky[0] + (sky[1] - sky[0]) * jnp.clip(0.5 + 0.6 * v, 0, 1)[None]
    f = look["wall_scale"]
    bands = jax.nn.sigmoid(12 * jnp.sin(f * u))
    tiles = jax.nn.sigmoid(12 * jnp.sin(f * u) * jnp.sin(f * v))
    cloudy = jnp.clip(clouds + 0.5 * fine, 0, 1)
    style = look["wall_style"]
    mix = jnp.where(style == 1, cloudy, 0.0)
    mix = jnp.where(style == 2, bands, jnp.where(style == 3, tiles, mix))
    second = look["wall_second"][:, None, None]
    wall = wall + (second - wall) * mix[None]
    ground = look["floor"][:, :, None, None]
    g = look["floor_scale"]
    style = look["floor_style"]
    # Far from the eye a texture is finer than a pixel: let it fade.
    fade = jnp.exp(-0.35 * jnp.sqrt(x * x + z * z))
    planks = 0.5 + 0.5 * jnp.sin(2.3 * jnp.floor(g * z) + 1.7 * jnp.sin(3 * x + g * z))
    planks = jnp.where(g * z - jnp.floor(g * z) < 0.06, 1.0, 0.5 * planks)
    squares = jax.nn.sigmoid(8 * jnp.sin(g * x) * jnp.sin(g * z))
    grass = 0.5 + 0.5 * jnp.sin(23 * x + 5 * jnp.sin(11 * z)) * jnp.sin(19 * z + 3 * x)
    mix = jnp.where(style == 1, planks, 0.0)
    mix = jnp.where(style == 2, squares, jnp.where(style == 3, grass, mix))
    floor = ground[0] + (ground[1] - ground[0]) * (mix * fade)[None]
    start, width = look["horizon"]
    far = jnp.clip((jnp.sqrt(x * x + z * z) - start) / width, 0, 1)
    far = jnp.where(buffers.part == -2, 1.0, far * far * (3 - 2 * far))
    lit = (0.3 + 0.7 * buffers.light[0]) * buffers.light[1]
    return floor * (lit * (1 - far))[None] + wall * far[None]


def coats(buffers: Buffers, look: dict) -> Float[Array, "5 h w"]:
    """Linear colour, gloss and share of the pattern of each pixel's part."""
    # One product instead of gathers, which are slow on a CPU.
    chosen = jax.nn.one_hot(buffers.part, look["parts"].shape[0], axis=0)
    table = jnp.concatenate(
        [look["parts"], look["gloss"][:, None], look["main"][:, None]], axis=1
    )
    return jnp.einsum("pf,phw->fhw", table, chosen)


def patterned(
    coat: Float[Array, "5 h w"], look: dict, position: Float[Array, "3 h w"]
) -> Float[Array, "3 h w"]:
    """Linear colours with the pattern of `look` on them.

    The pattern's numbers hold for all pixels, or have a value for each.
    """
    albedo, main = coat[:3], coat[4]
    share, grain = _pattern(look, *position)
    paint = look["pattern_colour"]
    paint = paint[:, None, None] if paint.ndim == 1 else paint
    albedo = albedo + (paint - albedo) * (share * main)[None]
    return albedo * (1 + (grain - 1) * main)[None]


def shade(
    buffers: Buffers, camera: dict, look: dict, key: Key[Array, ""]
) -> UInt8[Array, "h w 3"]:
    """Colour one traced object, deferred: call again with other looks at low cost.

    Args:
      look: linear colours `parts` [p, 3], `gloss` [p], `main` [p] (1 where the
        pattern goes), `pattern_colour` [3], the pattern's numbers, wall and floor,
        `sun` and `sky` [3], `exposure`, `vignette`, `noise`; see `world`.
      key: for the grain of the film.
    Returns: sRGB, OVERSAMPLE times smaller than the buffers.
    """
    coat = coats(buffers, look)
    albedo = patterned(coat, look, buffers.position)
    return expose(buffers, camera, look, albedo, coat[3], key)


def expose(
    buffers: Buffers,
    camera: dict,
    look: dict,
    albedo: Float[Array, "3 h w"],
    gloss: Float[Array, "h w"],
    key: Key[Array, ""],
) -> UInt8[Array, "height width 3"]:
    """Photograph surfaces of these linear colours before wall and floor."""
    at, u, v = _grid(buffers.depth.shape)
    hit = buffers.part >= 0
    n, lamp = buffers.normal, camera["lamp"][:, None, None]
    view = jnp.stack(rays(camera, u, v))
    facing = jnp.maximum((n * lamp).sum(0), 0) * buffers.light[0]
    half = lamp - view
    half = unit(half)
    spark = jnp.maximum((half * n).sum(0), 0) ** 40 * gloss * buffers.light[0]
    rim = jnp.clip(1 + (n * view).sum(0), 0, 1) ** 3 * 0.12
    above = (0.62 + 0.38 * n[1]) * buffers.light[1]
    sun, sky = look["sun"][:, None, None], look["sky"][:, None, None]
    colour = albedo * (sun * facing[None] + sky * above[None])
    colour = colour + sun * spark[None] + sky * (rim * above)[None]
    colour = jnp.where(hit[None], colour, _background(look, buffers, at, u, v))
    darker = look["exposure"] * (1 - look["vignette"] * (u * u + v * v))
    colour = colour * darker[None]
    colour = jnp.clip(_average(jnp.clip(colour, 0, 1), OVERSAMPLE), 0, 1)
    srgb = jnp.where(
        colour < 0.0031308, 12.92 * colour, 1.055 * colour ** (1 / 2.4) - 0.055
    )
    srgb = srgb + look["noise"] * jax.random.normal(key, srgb.shape)
    return jnp.round(255 * jnp.clip(srgb, 0, 1)).astype(jnp.uint8).transpose(1, 2, 0)


def outputs(
    buffers: Buffers,
) -> tuple[Float[Array, "h w"], Float[Array, "h w"]]:
    """Depth and coverage at the output size, from the buffers.

    Returns: mean depth over the samples that hit (0 where the object covers less than
      half the pixel), and the share of samples that hit.
    """
    cover = _average((buffers.part >= 0).astype(jnp.float32), OVERSAMPLE)
    depth = _average(buffers.depth, OVERSAMPLE) / jnp.maximum(cover, 1e-6)
    return jnp.where(cover >= 0.5, depth, 0.0), cover


def _blur(x, sigma):
    """Gaussian blur of peak 1, zero beyond the border; sigma in pixels, static."""
    reach = max(1, round(2.5 * sigma))
    taps = range(-reach, reach + 1)
    weights = [2.718281828 ** (-0.5 * (k / sigma) ** 2) for k in taps]
    for axis in (0, 1):
        pad = [(reach, reach) if a == axis else (0, 0) for a in (0, 1)]
        padded, length = jnp.pad(x, pad), x.shape[axis]
        x = jnp.zeros_like(x)
        for k, weight in enumerate(weights):
            x = x + weight * lax.slice_in_dim(padded, k, k + length, axis=axis)
    return x


def _contours(buffers, merged):
    """Outlines (against what lies behind) and inner lines, as 0 or 1 per pixel."""
    hit = buffers.part >= 0
    far = jnp.where(hit, buffers.depth, 9.0)
    chosen = jax.nn.one_hot(buffers.part, merged.shape[0], axis=0)
    label = jnp.einsum("p,phw->hw", merged, chosen)
    outer = inner = jnp.zeros(hit.shape, bool)
    for axis in (0, 1):

        def ahead(x, axis=axis):
            return jnp.roll(x, -1, axis)

        both = hit & ahead(hit)
        outer |= hit != ahead(hit)
        # The second difference is blind to slopes, only to steps does it answer.
        bend = jnp.abs(far - 2 * ahead(far) + ahead(ahead(far)))
        step = jnp.abs(far - ahead(far))
        outer |= both & ahead(ahead(hit)) & (bend > 0.07) & (step > 0.05)
        crease = (buffers.normal * jnp.roll(buffers.normal, -1, axis + 1)).sum(0) < 0.6
        inner |= both & (crease | (label != ahead(label)))
    return outer, inner & ~outer


def _read(field, u, v):
    """Bilinear samples of a field at image points."""
    height, width = field.shape
    x, y = (
        0.5 * (q + side / width) * width - 0.5 for q, side in ((u, width), (v, height))
    )
    x0, y0 = jnp.floor(x), jnp.floor(y)
    a, b = x - x0, y - y0
    x0, y0 = x0.astype(jnp.int32), y0.astype(jnp.int32)

    def pixel(i, j):
        inside = (i >= 0) & (i < width) & (j >= 0) & (j < height)
        at = jnp.clip(j, 0, height - 1) * width + jnp.clip(i, 0, width - 1)
        return jnp.where(inside, field.ravel()[at], 0.0)

    low = pixel(x0, y0) * (1 - a) + pixel(x0 + 1, y0) * a
    high = pixel(x0, y0 + 1) * (1 - a) + pixel(x0 + 1, y0 + 1) * a
    return low * (1 - b) + high * b


def draw(
    buffers: Buffers, merged: Float[Array, " p"], hand: dict
) -> UInt8[Array, "h w 3"]:
    """Draw a traced object as a person might: its lines, bent, broken and doubled.

    Args:
      merged: a label per part; between parts of one label no line is drawn.
      hand: `warp` [3, 2, k, 4], `gaps`, `pressure`, `again` [k, 4] plane waves,
        `affine` [2, 3], `ink` (0 black to 1 white), `inner` (0 to 1, weight of inner
        lines), `gap_level`, `again_level` (higher: fewer gaps, fewer second lines).
    Returns: grey lines on white, OVERSAMPLE times smaller than the buffers.
    """
    height, across = (side // OVERSAMPLE for side in buffers.depth.shape)
    # 1.7 pixels at 64, growing more slowly than the picture.
    width = 1.7 * (across / 64) ** 0.55
    sigma = max(0.8, width * OVERSAMPLE / 2.2)
    outer, inner = (
        _blur(edge.astype(jnp.float32), sigma) for edge in _contours(buffers, merged)
    )
    # The blur of a straight line one pixel wide peaks at sigma sqrt(2 pi).
    outer, inner = outer * 1.6 / (2.5066 * sigma), inner * 1.6 / (2.5066 * sigma)
    at, u, v = _grid((height, across))
    m = hand["affine"]
    au, av = m[0, 0] * u + m[0, 1] * v + m[0, 2], m[1, 0] * u + m[1, 1] * v + m[1, 2]
    ink = jnp.zeros((height, across))
    weight = 1 + _waves(hand["pressure"], at)
    gaps = jax.nn.sigmoid(9 * (hand["gap_level"] - _waves(hand["gaps"], at)))
    again = jax.nn.sigmoid(9 * (_waves(hand["again"], at) - hand["again_level"]))
    passes = ((outer, gaps), (inner, gaps * hand["inner"]), (outer, again * 0.8))
    for (field, strength), warp in zip(passes, hand["warp"], strict=True):
        du, dv = _waves(warp[0], at), _waves(warp[1], at)
        line = _read(field, au + du, av + dv) * weight
        line = jnp.clip((line - 0.62) / 0.75, 0, 1)
        ink = jnp.maximum(ink, line * strength)
    grey = 1 - ink * (1 - hand["ink"])
    grey = jnp.round(255 * jnp.clip(grey, 0, 1)).astype(jnp.uint8)
    return jnp.broadcast_to(grey[:, :, None], (height, across, 3))
