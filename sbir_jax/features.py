"""Image -> latent -> noised latent -> decoder taps -> one descriptor. Pure functions.

    image + frame --VAE--> z --add noise, K copies--> z_t --UNet(t, text)--> taps
    --pool--> vectors --join levels--> mean over K --normalise--> descriptor

The VAE runs once per image; the K noises come from a fixed bank, so a descriptor does
not depend on its neighbours in the batch, on the batch size or on the device count.
"""

import dataclasses
import json
import re
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from sbir_jax.adapters.prompts import Prompts, add_frame
from sbir_jax.backbones.base import Backbone, Frozen
from sbir_jax.diffusion import noise_bank as noise_bank_lib
from sbir_jax.diffusion import noise_schedule
from sbir_jax.runtime import digests
from sbir_jax.types import Modality, TextStates

Task = Literal["category", "fine_grained"]

# Koley et al. (CVPR 2024) read up-blocks n = 1, 2 (of 1..4, coarse to fine) for
# category level and 3, 4 for fine-grained, each after its own upsampler.
TAPS: dict[str, tuple[str, ...]] = {
    "category": ("up.0.out", "up.1.out"),
    "fine_grained": ("up.2.out", "up.3.out"),
}


def default_taps(task: Task, names: tuple[str, ...]) -> tuple[str, ...]:
    """The layers that a task reads of a backbone which has layers of these names.

    `TAPS` where it has them. What stands for them elsewhere is ours, not measured: of
    fewer levels the last ones, of a transformer its middle block after the modulation
    (DiTF, arXiv 2505.18584, reads FLUX there), of anything else its last layer.
    """
    if set(TAPS[task]) <= set(names):
        return TAPS[task]
    levels = [name for name in names if re.fullmatch(r"up\.\d+\.out", name)]
    blocks = [name for name in names if name.endswith(".modulated")]
    if levels:
        return tuple(levels[-len(TAPS[task]) :])
    return (blocks[len(blocks) // 2],) if blocks else names[-1:]


# Far above what is of use, and below what a hostile file could fill the memory with.
MOST_COPIES, MOST_CELLS = 1000, 64


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How an image becomes a descriptor.

    Attributes:
      taps: decoder layers, by the names of `models.unet`.
      timestep: noise level, 0..999; 273 in Koley et al. for both tasks.
      copies: noised copies averaged at inference; 6 in Koley et al.
      pooling: over space, "max" or "mean". Not published there; max is what the same
        laboratory's SketchFusion (CVPR 2025) does.
      grid: each level is pooled in `grid` x `grid` cells and the cells are joined, so
        that a descriptor keeps where things are. Ours; 1, over the whole map, follows
        the paper's.
      noise_seed: seed of the noise bank.
    """

    # A file may say no more: what a newer version adds would change descriptors.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    taps: tuple[str, ...]
    timestep: int = 273
    copies: int = 6
    pooling: str = "max"
    grid: int = 1
    noise_seed: int = 0

    def __post_init__(self):
        if self.pooling not in ("max", "mean"):
            raise ValueError(f"recipe.pooling is {self.pooling!r}; give max or mean")
        for name, most in (("copies", MOST_COPIES), ("grid", MOST_CELLS)):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(
                    f"recipe.{name} is {getattr(self, name)}; give 1 to {most}"
                )
        if not 0 <= self.noise_seed < 2**31:
            raise ValueError(
                f"recipe.noise_seed is {self.noise_seed}; give 0 to 2147483647"
            )
        if not self.taps:
            raise ValueError("recipe.taps is empty; name at least one layer")
        if len(set(self.taps)) < len(self.taps):
            raise ValueError("recipe.taps names a layer twice; name each once")


def fingerprint(
    backbone: Backbone,
    prompts: Prompts,
    recipe: Recipe,
    size: int,
    scale: float,
    words: str | None = None,
) -> str:
    """Sha256 hex over everything that changes a descriptor.

    Args:
      size: of the images, in pixels.
      scale: of the prompts' frames.
      words: whose states the text prompt is, where it was not learned. They count in
        the place of the states, whose last digits hang on the processor.
    """
    head = [backbone.fingerprint, dataclasses.asdict(recipe), size, scale]
    # Float32 goes without saying: so it did before there was a choice.
    head += [backbone.dtype.name] * (backbone.dtype != np.float32)
    if words is not None:
        head.append({"words": words})
        prompts = prompts.replace(text=None)  # pyright: ignore
    told = json.dumps(head, sort_keys=True)
    return digests.fingerprint(told, jax.tree.leaves(prompts))


def noise_bank(recipe: Recipe, shape: tuple[int, int, int]) -> Float[Array, "k y x c"]:
    """The K noises every image shares: standard normal, the same for K and K + 1."""
    return noise_bank_lib.noise_bank(shape, recipe.copies, recipe.noise_seed)


def cells(height: int, width: int, grid: int) -> list[tuple[slice, slice]]:
    """Rows and columns of each cell, row by row; where `grid` does not divide a side,
    neighbours share a line, and no cell is ever empty."""

    def cut(n: int) -> list[slice]:
        return [slice(i * n // grid, -(-(i + 1) * n // grid)) for i in range(grid)]

    return [(rows, columns) for rows in cut(height) for columns in cut(width)]


def pool(activation: Float[Array, "b h w c"], recipe: Recipe) -> Float[Array, "b e"]:
    """One unit vector per activation, e = grid * grid * c.

    Unit length before joining is ours, so that no level outweighs the other by the mere
    size of its activations.
    """
    reduce = jnp.max if recipe.pooling == "max" else jnp.mean
    activation = activation.astype(jnp.float32)
    _, height, width, _ = activation.shape
    pooled = [
        reduce(activation[:, rows, columns], axis=(1, 2))
        for rows, columns in cells(height, width, recipe.grid)
    ]
    return normalise(jnp.concatenate(pooled, axis=-1))


def normalise(x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    """Rows of unit L2 length. The floor keeps the gradient finite at zero."""
    square = jnp.sum(x * x, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(square, 1e-12))


def decoder_taps(
    backbone: Backbone,
    frozen: Frozen,
    latents: Float[Array, "b y x c"],
    context: Float[Array, "n d"] | Float[Array, "b n d"],
    noise: Float[Array, "k y x c"],
    recipe: Recipe,
    timestep: ArrayLike | None = None,
) -> dict[str, Float[Array, "bk _ _ _"]]:
    """The decoder's activations under noise, before any pooling.

    Args:
      context: text states, one for all images or one each.
      noise: the copies to average over; `noise_bank` at inference.
      timestep: in place of the recipe's. It may be traced, so that one compiled
        program serves a sweep over timesteps.
    Returns: [b * k, height, width, channels] for each tap: all copies of the first
      image, then of the second, and so on. One for each image where the backbone reads
      them without noise.
    """
    if backbone.reads_clean:
        noise = noise[:1]
    b, k = len(latents), len(noise)
    timestep = recipe.timestep if timestep is None else timestep
    noised = noise_schedule.add_noise(
        backbone.schedule,
        jnp.repeat(latents, k, axis=0),
        jnp.tile(noise, (b, 1, 1, 1)).astype(latents.dtype),
        timestep,
    )
    if context.ndim == 2:
        context = context[None]
    text = TextStates(context)
    return backbone.read(frozen, noised, timestep, text, taps=recipe.taps).taps


def join(
    taps: dict[str, Float[Array, "bk _ _ _"]], images: int, recipe: Recipe
) -> Float[Array, "b e"]:
    """Descriptors from what `decoder_taps` gave for so many images: the recipe's levels
    pooled and joined, the mean of its copies (of the first, where there are more)."""
    levels = [pool(taps[name], recipe) for name in recipe.taps]
    joined = jnp.concatenate(levels, axis=-1)
    copies = joined.reshape(images, -1, joined.shape[-1])[:, : recipe.copies]
    return normalise(copies.mean(axis=1))


def describe_latents(
    backbone: Backbone,
    frozen: Frozen,
    latents: Float[Array, "b y x c"],
    context: Float[Array, "n d"] | Float[Array, "b n d"],
    noise: Float[Array, "k y x c"],
    recipe: Recipe,
) -> Float[Array, "b e"]:
    """Descriptors of unit length from clean latents; arguments as `decoder_taps`.

    Returns: e = grid * grid * sum of the taps' channels.
    """
    taps = decoder_taps(backbone, frozen, latents, context, noise, recipe)
    return join(taps, len(latents), recipe)


def encode_prompted(
    backbone: Backbone,
    frozen: Frozen,
    prompts: Prompts,
    images: Float[Array, "b h w 3"],
    modality: Modality,
    visual_scale: float = 1.0,
) -> Float[Array, "b y x c"]:
    """Latents of images in [-1, 1], with the modality's frame around either."""
    if prompts.visual is not None:
        images = add_frame(images, prompts.visual[modality], visual_scale)
    latents = backbone.encode_image(frozen, images)
    return prompt_latents(prompts, latents, modality, visual_scale)


def prompt_latents(
    prompts: Prompts,
    latents: Float[Array, "b y x c"],
    modality: Modality,
    visual_scale: float = 1.0,
) -> Float[Array, "b y x c"]:
    """Latents with the modality's frame around them, where the prompts have one there
    (ours); those of prompts in pixels as they are."""
    if prompts.latent is None:
        return latents
    return add_frame(latents, prompts.latent[modality], visual_scale)


def describe(
    backbone: Backbone,
    frozen: Frozen,
    prompts: Prompts,
    images: Float[Array, "b h w 3"],
    modality: Modality,
    noise: Float[Array, "k y x c"],
    recipe: Recipe,
    context: Float[Array, "b n d"] | None = None,
    visual_scale: float = 1.0,
) -> Float[Array, "b e"]:
    """Prompted descriptors of images in [-1, 1].

    Args:
      frozen: the weights, an argument so that they are neither captured as constants
        nor differentiated.
      context: text states that replace the text prompt, one for each image.
    """
    latents = encode_prompted(backbone, frozen, prompts, images, modality, visual_scale)
    context = jnp.asarray(prompts.text) if context is None else context
    return describe_latents(backbone, frozen, latents, context, noise, recipe)
