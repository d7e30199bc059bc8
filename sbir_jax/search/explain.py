"""Why this photo: which places of the drawing and of the photo make the score.

A descriptor is linear in its pooled values once their lengths are known, and with max
pooling each pooled value comes from one place. So the cosine score is a sum over
channels of products, and each product has one place in the drawing and one in the photo
to be credited to. The two heat maps are those credits: exact, not an approximation, and
each sums to the score. (Mean pooling credits all places by their share.)
"""

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFilter

from sbir_jax import features, hog
from sbir_jax.data import images
from sbir_jax.embedder import Embedder
from sbir_jax.features import Recipe
from sbir_jax.hog import HogEmbedder
from sbir_jax.metrics.cosine import unit
from sbir_jax.report import correspondences
from sbir_jax.report.correspondences import EDGE, GAP, Point
from sbir_jax.report.pictures import INK, sheet_font
from sbir_jax.reranker import Reranker
from sbir_jax.runtime import hardware
from sbir_jax.search import sheet as sheets
from sbir_jax.search.token_explanation import Match, TokenExplanation, by_tokens
from sbir_jax.types import MODALITIES

# Little heat to much heat; readable on white paper and on photos.
RAMP = np.array([[255, 217, 112], [244, 128, 48], [196, 26, 84]], np.float32)
MATCHES = 6
FOOT = 12  # pixels of a sheet for its note, beside the gap


@dataclass(frozen=True, eq=False)
class Explanation:
    """What made the score of one photo for one drawing.

    Attributes:
      score: cosine similarity of the two descriptors.
      sketch, photo: the pictures as the network saw them: square, padded or cropped.
      sketch_heat, photo_heat: credit of each place; each map sums to the score.
      matches: nearest places of both, best first.
    """

    score: float
    sketch: UInt8[np.ndarray, "s s 3"]
    photo: UInt8[np.ndarray, "s s 3"]
    sketch_heat: Float[np.ndarray, "h w"]
    photo_heat: Float[np.ndarray, "h w"]
    matches: list[Match]

    def pictures(self) -> tuple[Image.Image, Image.Image]:
        """Both under their heat; negative credit stays cold."""
        return (
            _overlaid(self.sketch, self.sketch_heat),
            _overlaid(self.photo, self.photo_heat),
        )

    @property
    def note(self) -> str:
        return f"score {self.score:.3f}; warm places made it, lines join places alike"


def explain(
    model: Embedder | Reranker | HogEmbedder,
    sketch: images.Source,
    photo: images.Source,
) -> Explanation | TokenExplanation:
    """Which places of `sketch` and `photo` make their score.

    Args:
      model: an embedder credits its descriptors' cosine to places; a re-ranker tells
        which tokens answer each other.
      sketch, photo: a path, the bytes of a file, a PIL image, or a uint8 RGB array; the
        drawing as it was searched with (`sketch_preparation.prepare`).
    Raises: BadImage naming the image that cannot be read; Unable for a model that is
      neither.
    """
    if isinstance(model, HogEmbedder):
        raise hog.unable("cannot say which places were alike")
    seen = [
        images.decode(source, model.size, images.FIT[modality], modality)
        for source, modality in zip((sketch, photo), MODALITIES, strict=True)
    ]
    if isinstance(model, Reranker):
        return by_tokens(model.look(*seen))
    levels = _maps(model, images.to_float(np.stack(seen)))
    recipe = model.recipe
    vectors = [
        unit(np.concatenate([pooled(m[i], recipe).mean(0) for m in levels]))
        for i in range(2)
    ]
    drawn, found = ([m[i] for m in levels] for i in range(2))
    sketch_heat = heat(drawn, vectors[1], recipe)
    photo_heat = heat(found, vectors[0], recipe)
    return Explanation(
        score=float(vectors[0] @ vectors[1]),
        sketch=seen[0],
        photo=seen[1],
        sketch_heat=sketch_heat,
        photo_heat=photo_heat,
        matches=matches(drawn, found, sketch_heat, photo_heat),
    )


def pooled(
    taps: Float[np.ndarray, "k h w c"], recipe: Recipe
) -> Float[np.ndarray, "k e"]:
    """One unit vector per copy: `features.pool` outside of JAX."""
    return unit(_cell_values(taps, recipe))


def _cell_values(taps: np.ndarray, recipe: Recipe) -> np.ndarray:
    """[k, cells * c]"""
    reduce = np.max if recipe.pooling == "max" else np.mean
    _, height, width, _ = taps.shape
    values = [
        reduce(taps[:, rows, columns], axis=(1, 2))
        for rows, columns in features.cells(height, width, recipe.grid)
    ]
    return np.concatenate(values, axis=-1)


def heat(
    levels: Sequence[Float[np.ndarray, "k _ _ _"]],
    other: Float[np.ndarray, " e"],
    recipe: Recipe,
) -> Float[np.ndarray, "h w"]:
    """Credit of each place for the cosine with `other`, on the finest level's grid.

    Args:
      levels: activations of the decoder for one image, a level each.
      other: the other image's descriptor, of unit length.
    Returns: a map that sums to the cosine; places that speak against it are negative.
    """
    joined = np.concatenate([pooled(taps, recipe).mean(0) for taps in levels])
    length = np.linalg.norm(joined)
    side = max(taps.shape[1] for taps in levels)
    widths = [recipe.grid**2 * taps.shape[-1] for taps in levels]
    parts = np.split(other, np.cumsum(widths)[:-1])
    total = np.zeros((side, side))
    for taps, towards in zip(levels, parts, strict=True):
        copies, height, width, channels = taps.shape
        values = _cell_values(taps, recipe)
        scale = np.linalg.norm(values, axis=1, keepdims=True) * copies * length
        gains = towards / scale  # what one unit of a pooled value is worth
        gains = gains.reshape(copies, -1, channels)
        credit = np.zeros((height, width))
        for cell, (rows, columns) in enumerate(
            features.cells(height, width, recipe.grid)
        ):
            inside, gain = taps[:, rows, columns], gains[:, cell]
            flat = inside.reshape(copies, -1, channels)
            if recipe.pooling == "max":
                worth = flat.max(1) * gain
                shares = np.bincount(
                    flat.argmax(1).ravel(), worth.ravel(), flat.shape[1]
                )
            else:
                shares = np.einsum("kpc,kc->p", flat, gain) / flat.shape[1]
            credit[rows, columns] += shares.reshape(inside.shape[1:3])
        total += _spread(credit, side)
    return total


def matches(
    sketch: Sequence[Float[np.ndarray, "k _ _ _"]],
    photo: Sequence[Float[np.ndarray, "k _ _ _"]],
    sketch_heat: Float[np.ndarray, "h w"],
    photo_heat: Float[np.ndarray, "h w"],
    count: int = MATCHES,
) -> list[Match]:
    """Mutual nearest neighbours among places that have credit, best first.

    Best is similarity times the credits' geometric mean: two blank corners resemble
    each other perfectly and say nothing. No two matches touch, so that the lines tell
    of different parts.
    """
    near = _places(sketch) @ _places(photo).T
    there, back = near.argmax(1), near.argmax(0)
    own = np.arange(len(near))
    similar = near[own, there]
    credit = (
        np.maximum(sketch_heat.ravel(), 0) * np.maximum(photo_heat.ravel(), 0)[there]
    )
    weight = np.where(back[there] == own, similar * np.sqrt(credit), 0.0)
    grid = len(sketch_heat)
    found: list[Match] = []
    for place in np.argsort(-weight, kind="stable"):
        if weight[place] <= 0 or len(found) == count:
            break
        match = Match(
            _middle(int(place), grid),
            _middle(int(there[place]), grid),
            float(similar[place]),
        )
        if all(
            _apart(match.sketch, m.sketch, grid) and _apart(match.photo, m.photo, grid)
            for m in found
        ):
            found.append(match)
    return found


def save_sheet(
    explanation: Explanation | TokenExplanation, path: str | os.PathLike
) -> None:
    """Both pictures side by side, with a line for each match, as one picture file.

    The file appears whole or not at all.

    Raises: ValueError for a name that does not end in .png, .jpg or .webp.
    """
    lines = [(one.sketch, one.photo, one.colour) for one in explanation.matches]
    sheet = correspondences.joined(*explanation.pictures(), lines, FOOT)
    place = GAP, EDGE + GAP + 9
    ImageDraw.Draw(sheet).text(place, explanation.note, INK, sheet_font(14))
    sheets.save_sheet(sheet, path)


@functools.lru_cache(maxsize=1)
def _program(embedder: Embedder) -> Callable:
    """Drawing and photo through the network in one compiled call."""
    backbone, recipe = embedder.backbone, embedder.recipe

    @functools.partial(hardware.jit, on=hardware.device_of(embedder.loaded.frozen))
    def run(frozen, prompts, noise, pair):
        latents = [
            features.encode_prompted(
                backbone,
                frozen,
                prompts,
                pair[i : i + 1],
                modality,
                embedder.visual_scale,
            )
            for i, modality in enumerate(MODALITIES)
        ]
        both, text = jnp.concatenate(latents), prompts.text
        taps = features.decoder_taps(backbone, frozen, both, text, noise, recipe)
        return [
            taps[name].astype(jnp.float32).reshape(2, -1, *taps[name].shape[1:])
            for name in recipe.taps
        ]

    return run


def _maps(
    embedder: Embedder, pair: Float[np.ndarray, "2 s s 3"]
) -> list[Float[np.ndarray, "2 k _ _ _"]]:
    backbone = embedder.backbone
    # The embedder's own copies are spread over a mesh; this runs on one device.
    prompts = jax.tree.map(np.asarray, embedder.prompts)
    shape = backbone.latent_shape(embedder.size)
    noise = features.noise_bank(embedder.recipe, shape)
    run = _program(embedder)
    found = run(embedder.loaded.frozen, prompts, noise, pair)
    return [np.asarray(level, np.float64) for level in found]


def _spread(coarse: Float[np.ndarray, "h h"], grid: int) -> Float[np.ndarray, "g g"]:
    """A coarse map on a finer grid: each cell's credit shared out evenly."""
    times = grid // len(coarse)
    return np.kron(coarse, np.full((times, times), 1 / times**2))


def _places(levels: Sequence[np.ndarray]) -> Float[np.ndarray, "hw e"]:
    """One unit vector for each place of the finest grid, all levels joined."""
    grid = max(taps.shape[1] for taps in levels)
    rows = []
    for taps in levels:
        level = unit(taps.mean(0))
        times = grid // len(level)
        rows.append(level.repeat(times, 0).repeat(times, 1).reshape(grid * grid, -1))
    return unit(np.concatenate(rows, axis=-1))


def _middle(place: int, grid: int) -> Point:
    y, x = divmod(place, grid)
    return (x + 0.5) / grid, (y + 0.5) / grid


def _apart(one: Point, other: Point, grid: int) -> bool:
    return max(abs(one[0] - other[0]), abs(one[1] - other[1])) * grid > 1.5


def _overlaid(
    picture: UInt8[np.ndarray, "s s 3"], credit: Float[np.ndarray, "h w"]
) -> Image.Image:
    warm = np.maximum(credit, 0) / max(credit.max(), 1e-12)
    smooth = Image.fromarray(np.rint(255 * warm).astype(np.uint8)).resize(
        (EDGE, EDGE), Image.Resampling.BICUBIC
    )
    smooth = smooth.filter(ImageFilter.GaussianBlur(EDGE / len(credit) / 3))
    level = np.asarray(smooth, np.float32)[..., None] / 255
    level /= max(level.max(), 1 / 255)
    place = level[..., 0] * (len(RAMP) - 1)
    ramp = [np.interp(place, np.arange(len(RAMP)), RAMP[:, i]) for i in range(3)]
    base = Image.fromarray(picture).resize((EDGE, EDGE), Image.Resampling.LANCZOS)
    # Softer colours below, so that only heat is vivid; full heat still shows the lines.
    pale = 0.75 * np.asarray(base, np.float32) + 0.25 * 255
    strength = 0.75 * level**0.7
    blend = pale * (1 - strength) + np.stack(ramp, -1) * strength
    return Image.fromarray(np.rint(blend).astype(np.uint8))
