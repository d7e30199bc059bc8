"""VPD's segmentation head: a feature pyramid neck and Semantic FPN (Kirillov, 2019)."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from sbir_jax.models.heads.layers import ConvNorm, Levels
from sbir_jax.models.heads.resizing import double, nearest


class Neck(nn.Module):
    """1 x 1 laterals, added from coarse to fine, then a 3 x 3 convolution each."""

    features: int = 256

    @nn.compact
    def __call__(self, levels: Levels) -> Levels:
        laterals = [
            nn.Conv(self.features, (1, 1), name=f"lateral_{i}")(level)
            for i, level in enumerate(levels)
        ]
        for i in reversed(range(len(laterals) - 1)):
            finer, coarser = laterals[i : i + 2]
            laterals[i] = finer + nearest(coarser, finer.shape[1:3])  # pyright: ignore
        return tuple(
            nn.Conv(self.features, (3, 3), padding=1, name=f"output_{i}")(x)
            for i, x in enumerate(laterals)
        )


class SemanticFPN(nn.Module):
    """Logits of classes, at the size of the finest level.

    Attributes:
      classes: how many.
      features: channels of neck and head; 256 as published.
      dropout: before the last layer, as published.
      fixed: as of `norm`.
    """

    classes: int
    features: int = 256
    dropout: float = 0.1
    fixed: bool = False

    @nn.compact
    def __call__(
        self, levels: Levels, train: bool = False
    ) -> Float[Array, "b h w {self.classes}"]:
        """With `train` it needs a key called "dropout"."""
        total = jnp.zeros(())
        for i, x in enumerate(Neck(self.features, name="neck")(levels)):
            for j in range(max(i, 1)):
                x = ConvNorm(self.features, fixed=self.fixed, name=f"level_{i}_{j}")(x)
                x = double(x) if i else x
            total = x if not i else total + x
        total = nn.Dropout(self.dropout, deterministic=not train)(total)
        return nn.Conv(self.classes, (1, 1), name="classify")(total)
