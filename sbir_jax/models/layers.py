"""The layers that the UNet and the autoencoder share, channels last.

Submodules carry the names of the published checkpoints, so that a parameter path and
a tensor name differ only in punctuation. Normalisation, attention logits and softmax
are computed in float32 whatever the compute type; this covers `upcast_attention`.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from sbir_jax.models.kernels.convolutions import Conv
from sbir_jax.models.kernels.norms import GroupNorm


class Resnet(nn.Module):
    """Two normalised convolutions around a residual, with or without a time vector."""

    features: int
    groups: int
    eps: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], time: Float[Array, "_ e"] | None = None
    ) -> Float[Array, "b h w f"]:
        """`time` holds one embedding per image, or one row for the whole batch."""
        h = GroupNorm(self.groups, self.eps, silu=True, name="norm1")(x)
        h = Conv(self.features, dtype=self.dtype, name="conv1")(h)
        if time is not None:
            shift = nn.Dense(self.features, dtype=self.dtype, name="time_emb_proj")
            h = h + shift(nn.silu(time))[:, None, None]
        h = GroupNorm(self.groups, self.eps, silu=True, name="norm2")(h)
        h = Conv(self.features, dtype=self.dtype, name="conv2")(h)
        if x.shape[-1] != self.features:
            x = Conv(self.features, 1, dtype=self.dtype, name="conv_shortcut")(x)
        return x + h


class Downsample(nn.Module):
    """Half the height and width by a strided convolution."""

    features: int
    padding: tuple[int, int] = (1, 1)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b y x f"]:
        conv = Conv(
            self.features, stride=2, padding=self.padding, dtype=self.dtype, name="conv"
        )
        return conv(x)


class Upsample(nn.Module):
    """Twice the height and width by nearest neighbour, then a convolution."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b y x f"]:
        conv = Conv(self.features, enlarge=True, dtype=self.dtype, name="conv")
        return conv(x)
