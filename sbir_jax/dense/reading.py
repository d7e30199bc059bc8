"""One pass of the denoiser, and of it what dense heads read.

Zhao et al., "Unleashing Text-to-Image Diffusion Models for Visual Perception" (VPD,
ICCV 2023): one activation of each block of the decoder, and the cross-attention maps,
whose mean over heads and over layers of one size is joined to the activation of that
size.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sbir_jax.backbones.base import Backbone, Frozen, LoadedBackbone
from sbir_jax.diffusion import noise_schedule
from sbir_jax.models.heads.layers import Levels
from sbir_jax.types import TextStates


@dataclasses.dataclass(frozen=True)
class Reading:
    """How a picture is read.

    Attributes:
      timestep: 1 as published. Around 100 linear probes of others are best.
      noise: whether the latent gets the noise of the timestep, always the same; not, as
        published.
      scaled: whether latents are scaled as in the backbone's training. The published
        code leaves the factor out, and trains the denoiser to it.
      maps: whether cross-attention maps are joined.
    """

    timestep: int = 1
    noise: bool = False
    scaled: bool = True
    maps: bool = True


@functools.cache
def decoder_taps(backbone: Backbone) -> tuple[str, ...]:
    """The published activations, the finest first.

    Of the last block of the decoder it is the last layer, of the others the second.
    """
    blocks: dict[int, dict[int, str]] = {}
    for name in backbone.tap_names:
        parts = name.split(".")
        if parts[0] == "up" and len(parts) == 4:
            # The transformer of a layer comes after its residual part.
            blocks.setdefault(int(parts[1]), {})[int(parts[3])] = name
    if not blocks:
        raise ValueError(
            f"{backbone.source} has no decoder blocks (up.0.res.0, ...), and masks and "
            "depth are read from them: give a Stable Diffusion"
        )
    last = max(blocks)
    blocks[last][1] = blocks[last][max(blocks[last])]
    return tuple(blocks[i][1] for i in sorted(blocks, reverse=True))


@functools.cache
def cross_layers(backbone: Backbone) -> tuple[str, ...]:
    """Cross-attention of encoder and decoder, but for the middle block and for the
    finest level, whose maps are not used."""
    blocks = 1 + max(int(n.split(".")[1]) for n in backbone.tap_names if n[:3] == "up.")
    return tuple(
        name
        for name in attention(backbone, "cross")
        if 0 < level_of(name, blocks) < blocks
    )


def attention(backbone: Backbone, kind: str, middle: bool = False) -> tuple[str, ...]:
    """Attention layers of a kind, "self" or "cross"."""
    sides = ("down", "up", "mid") if middle else ("down", "up")
    return tuple(
        name
        for name in backbone.attention_names
        if name.endswith(f".{kind}") and name.split(".")[0] in sides
    )


def level_of(name: str, blocks: int) -> int:
    """How often the latent was halved before a layer of encoder or decoder."""
    side, block = name.split(".")[:2]
    return int(block) if side == "down" else blocks - 1 - int(block)


def noised(
    backbone: Backbone,
    latents: Float[Array, "b y x c"],
    timestep: int,
    noise: bool,
) -> Float[Array, "b y x c"]:
    """Latents with the noise of a timestep: the same for all, and at every call."""
    if not noise:
        return latents
    key = jax.random.key(0, impl="threefry2x32")
    drawn = jax.random.normal(key, latents.shape[1:], latents.dtype)
    drawn = jnp.broadcast_to(drawn, latents.shape)
    return noise_schedule.add_noise(backbone.schedule, latents, drawn, timestep)


def read_levels(
    backbone: Backbone,
    frozen: Frozen,
    latents: Float[Array, "b y x c"],
    text: Float[Array, "s n d"],
    how: Reading,
) -> Levels:
    """What heads take, float32, the finest first; maps are the last n channels.

    Args:
      latents: as `encode_image` gives them, of any height and width.
      text: states; each serves b / s pictures in a row.
    """
    if not how.scaled:
        latents = latents / backbone.scaling_factor
    names = cross_layers(backbone) if how.maps else ()
    found = backbone.read(
        frozen,
        noised(backbone, latents, how.timestep, how.noise),
        how.timestep,
        TextStates(text),
        taps=decoder_taps(backbone),
        maps=names,
    )
    by_size: dict[tuple[int, ...], list] = {}
    for maps in found.maps.values():
        by_size.setdefault(maps.shape[2:4], []).append(maps.mean(1))
    levels = []
    for tap in decoder_taps(backbone):
        level = found.taps[tap].astype(jnp.float32)
        if maps := by_size.get(level.shape[1:3]):
            level = jnp.concatenate([level, sum(maps) / len(maps)], axis=-1)
        levels.append(level)
    return tuple(levels)


def level_shapes(
    loaded: LoadedBackbone, size: int, how: Reading
) -> list[tuple[int, ...]]:
    """[rows, columns, channels] of each level of a square picture, for a text of one
    token. Nothing is computed."""
    shape = (1, *loaded.backbone.latent_shape(size))
    latents = jax.ShapeDtypeStruct(shape, jnp.float32)
    text = jax.ShapeDtypeStruct((1, 1, loaded.backbone.context_dim), jnp.float32)
    read = functools.partial(read_levels, loaded.backbone, how=how)
    return [
        level.shape[1:] for level in jax.eval_shape(read, loaded.frozen, latents, text)
    ]
