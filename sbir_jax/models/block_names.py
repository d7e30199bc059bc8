"""Names of everything that a diffusion transformer hands out or takes in between.

`block.13` is the running state after the fourteenth block; `block.13.modulated` what
that block's first attention reads: normalised, scaled and shifted by the timestep,
which is where DiTF (arXiv 2505.18584) finds correspondences.

Where patches and text are attended to in one layer, its keys have two names: those that
are patches are `self`, those of the text `cross`. `dual` is a second layer of some
blocks, among patches only.
"""

from sbir_jax.models.mmdit_config import MMDiTConfig
from sbir_jax.models.transformer_configs import PixArtConfig
from sbir_jax.models.unet_names import ATTENTIONS

Config = PixArtConfig | MMDiTConfig
DUAL = "dual"


def tap_names(config: Config) -> tuple[str, ...]:
    """Every activation the network can hand out, in the order they are computed in."""
    blocks = (f"block.{i}" for i in range(config.num_layers))
    inside = (name for block in blocks for name in (f"{block}.modulated", block))
    return ("patches", *inside, "out")


def attention_names(config: Config) -> tuple[str, ...]:
    """Every attention layer, in the order they are computed in."""

    def kinds(i: int) -> tuple[str, ...]:
        dual = isinstance(config, MMDiTConfig) and i in config.dual_attention_layers
        return (*ATTENTIONS, DUAL) if dual else ATTENTIONS

    blocks = range(config.num_layers)
    return tuple(f"block.{i}.{kind}" for i in blocks for kind in kinds(i))


def residual_names(config: Config) -> tuple[str, ...]:
    """Where something can be added to the running state."""
    return ("patches", *(f"block.{i}" for i in range(config.num_layers)))
