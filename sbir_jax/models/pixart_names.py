"""Names of everything that a PixArt transformer hands out or takes in between.

`block.13` is the running state after the fourteenth block; `block.13.modulated` what
that block's self-attention reads: normalised, scaled and shifted by the timestep, which
is where DiTF (arXiv 2505.18584) finds correspondences.
"""

from sbir_jax.models.transformer_configs import PixArtConfig
from sbir_jax.models.unet_names import ATTENTIONS


def tap_names(config: PixArtConfig) -> tuple[str, ...]:
    """Every activation the network can hand out, in the order they are computed in."""
    blocks = (f"block.{i}" for i in range(config.num_layers))
    inside = (name for block in blocks for name in (f"{block}.modulated", block))
    return ("patches", *inside, "out")


def attention_names(config: PixArtConfig) -> tuple[str, ...]:
    """Every attention layer, in the order they are computed in."""
    blocks = (f"block.{i}" for i in range(config.num_layers))
    return tuple(f"{block}.{kind}" for block in blocks for kind in ATTENTIONS)


def residual_names(config: PixArtConfig) -> tuple[str, ...]:
    """Where something can be added to the running state."""
    return ("patches", *(f"block.{i}" for i in range(config.num_layers)))
