"""A drawing's hold on a frozen diffusion model: residuals for its encoder.

It runs once for a picture, not at every step of the sampler, and the denoising network
stays as it is. See `models.sketch_encoder`.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sbir_jax.adapters import guides
from sbir_jax.backbones.base import Backbone, Residuals
from sbir_jax.models import sketch_encoder
from sbir_jax.models.sketch_encoder import SketchEncoder
from sbir_jax.types import TextStates


@flax.struct.dataclass
class SketchAdapter:
    """What is trained; the name of the field is that in checkpoints and files.

    Attributes:
      encoder: parameters of the `SketchEncoder`.
      guides: of `adapters.guides`, by name.
    """

    encoder: Any
    guides: Any


def network(backbone: Backbone, frozen: Any) -> SketchEncoder:
    """The encoder that fits a backbone: residuals after the last layer of each level of
    its encoder, where T2I adapters add theirs.

    Raises: ValueError for a backbone without such levels, such as a transformer.
    """
    names = [name for name in backbone.residual_names if _ends_a_level(name, backbone)]
    if not names:
        raise ValueError(
            f"{backbone.source} has no encoder whose levels a sketch adapter could add "
            "to: take a backbone with a UNet"
        )
    side = backbone.image_size
    shape = (1, *backbone.latent_shape(side))

    def read(frozen, latents):
        text = TextStates(jnp.zeros((1, 1, backbone.context_dim)))
        return backbone.read(frozen, latents, 0, text, taps=tuple(names)).taps

    taps = jax.eval_shape(read, frozen, jax.ShapeDtypeStruct(shape, jnp.float32))
    levels = tuple((name, taps[name].shape[-1]) for name in names)
    return SketchEncoder(levels, side // shape[1])


def _ends_a_level(name: str, backbone: Backbone) -> bool:
    """Whether it is the last layer of an encoder's level, before its side is halved."""
    level, _, layer = name.rpartition(".")
    level = level.removesuffix(".attn").removesuffix(".res")
    if not name.startswith("down.") or layer == "out":
        return False
    names = backbone.residual_names
    return names[names.index(name) + 1] == f"{level}.out"


def init_adapter(
    backbone: Backbone, frozen: Any, key: Array, classes: int
) -> SketchAdapter:
    """One that changes nothing yet, for drawings of so many classes."""
    encoder = network(backbone, frozen)
    ours, theirs = jax.random.split(key)
    return SketchAdapter(
        sketch_encoder.init(encoder, ours, backbone.image_size),
        guides.init_guides(backbone, frozen, classes, theirs),
    )


def residuals(
    encoder: SketchEncoder,
    adapter: SketchAdapter,
    sketches: Float[Array, "b h w 3"],
    scale: float | Float[Array, ""] = 1.0,
) -> Residuals:
    """What `Backbone.read` adds for these drawings, in [-1, 1], dark on light.

    Args:
      scale: how firmly the drawing holds; 0 lets go.
    """
    ink = 0.5 - 0.5 * sketches.mean(-1, keepdims=True)
    found: Any = encoder.apply({"params": adapter.encoder}, ink)
    return {name: scale * value for name, value in found.items()}
