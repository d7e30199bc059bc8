"""DiffSeg: segments without names from self-attention.

Tian et al., "Diffuse, Attend, and Segment: Unsupervised Zero-Shot Segmentation using
Stable Diffusion" (CVPR 2024): one pass at t = 300 with an empty text.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sbir_jax.backbones.base import Backbone, Frozen
from sbir_jax.dense.reading import attention, noised
from sbir_jax.models.heads.resizing import resize
from sbir_jax.types import TextStates

TIMESTEP, GRID, NEAR, ROUNDS, ENLARGE = 300, 16, 0.9, 3, 8


def read_maps(
    backbone: Backbone,
    frozen: Frozen,
    latents: Float[Array, "b y x c"],
    empty: TextStates,
) -> Mapping[str, Float[Array, "b _ _ _"]]:
    """The mean over heads of every self-attention layer, [b h w h * w]."""
    layers = attention(backbone, "self", middle=True)
    given = noised(backbone, latents, TIMESTEP, noise=True)
    found = backbone.read(frozen, given, TIMESTEP, empty, maps=layers)
    return {name: maps.mean(1) for name, maps in found.maps.items()}


@jax.jit
def aggregate(maps: Mapping[str, Float[Array, "_ _ _"]]) -> Float[Array, "n n"]:
    """One distribution over all places for each place of the finest layer.

    Each map is enlarged and brought back to a sum of 1, each place of a coarse layer
    serves all finer ones in it, and layers weigh as their side.

    Args:
      maps: of one picture, [h w h * w] each.
    """
    height, width = max(each.shape[:2] for each in maps.values())
    total, weights = jnp.zeros((height, width, height, width)), 0
    for each in maps.values():
        h, w = each.shape[:2]
        large = resize(each.reshape(h * w, h, w, 1), (height, width))[..., 0]
        large /= large.sum((1, 2), keepdims=True)
        large = large.reshape(h, w, height, width)
        for axis, times in ((0, height // h), (1, width // w)):
            large = jnp.repeat(large, times, axis)
        total, weights = total + w * large, weights + w
    return (total / weights).reshape(height * width, -1)


def divergence(
    some: Float[np.ndarray, "a n"], others: Float[np.ndarray, "b n"]
) -> Float[np.ndarray, "a b"]:
    """Half the sum of the two Kullback-Leibler divergences of each pair."""
    log_some, log_others = (np.log(np.maximum(x, 1e-20)) for x in (some, others))
    own = (some * log_some).sum(1)[:, None] + (others * log_others).sum(1)[None]
    return 0.5 * (own - some @ log_others.T - log_some @ others.T)


def merge(
    places: Float[np.ndarray, "n n"], size: tuple[int, int], near: float = NEAR
) -> Float[np.ndarray, "k n"]:
    """A distribution for each segment.

    Anchors on a grid take the mean of all maps near them; then, twice, each of what is
    left takes up all that are near it.

    Args:
      size: rows and columns of the places.
      near: the divergence below which two are one.
    """
    rows, columns = (
        np.unique(np.linspace(0, side - 1, min(GRID, side)).round().astype(int))
        for side in size
    )
    anchors = (rows[:, None] * size[1] + columns[None]).ravel()
    close = divergence(places[anchors], places) < near
    close[np.arange(len(anchors)), anchors] = True
    left = close @ places / close.sum(1, keepdims=True)
    for _ in range(ROUNDS - 1):
        kept = []
        while len(left):
            together = divergence(left[:1], left)[0] < near
            together[0] = True
            kept.append(left[together].mean(0))
            left = left[~together]
        left = np.stack(kept)
    return left


def segments(
    maps: Mapping[str, Float[Array, "_ _ _"]], near: float = NEAR
) -> Int[np.ndarray, "h w"]:
    """A number for each pixel, of the segment it is of, at 8 times the finest layer."""
    rows, columns = max(each.shape[:2] for each in maps.values())
    size = rows, columns
    places = np.asarray(aggregate(maps), np.float64)
    found = merge(places, size, near).reshape(-1, *size, 1).astype(np.float32)
    wide = resize(jnp.asarray(found), (ENLARGE * size[0], ENLARGE * size[1]))
    return np.asarray(wide[..., 0].argmax(0))
