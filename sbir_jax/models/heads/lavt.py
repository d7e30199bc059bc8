"""VPD's head for referring segmentation: the decoder of LAVT (Yang et al., 2022)."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from sbir_jax.models.heads.layers import ConvNorm, Levels
from sbir_jax.models.heads.resizing import resize


class LAVTDecoder(nn.Module):
    """Logits of background and of what is meant, at the size of the finest level.

    Attributes:
      features: channels; as published half of the coarsest level's.
      fixed: as of `norm`.
    """

    features: int = 640
    fixed: bool = False

    @nn.compact
    def __call__(self, levels: Levels, train: bool = False) -> Float[Array, "b h w 2"]:
        """It is the same in training."""
        *finer, x = levels
        for i, level in reversed(list(enumerate(finer))):
            x = resize(x, level.shape[1:3], "corners")  # pyright: ignore
            x = jnp.concatenate([x, level], axis=-1)
            for j in range(2):
                x = ConvNorm(self.features, fixed=self.fixed, name=f"level_{i}_{j}")(x)
        return nn.Conv(2, (1, 1), name="classify")(x)
