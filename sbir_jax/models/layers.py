"""The layers that the UNet and the autoencoder share, channels last.

Submodules carry the names of the published checkpoints, so that a parameter path and
a tensor name differ only in punctuation. Normalisation, attention logits and softmax
are computed in float32 whatever the compute type; this covers `upcast_attention`.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Float

# Up to this many output pixels a 3x3 convolution is done as one matrix product over
# stacked patches: XLA's CPU convolution is up to 15 times slower there.
PATCH_PIXELS = 4


class Conv(nn.Module):
    """Square convolution with bias; the kernel is (size, size, in, out).

    `padding` is (before, after) on both spatial axes, `size // 2` each by default.
    """

    features: int
    size: int = 3
    stride: int = 1
    padding: tuple[int, int] | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b y x f"]:
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, shape[-1:])
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        if self.size == 1:
            return x @ kernel[0, 0] + bias[None, None, None]
        pad = self.padding or (self.size // 2, self.size // 2)
        rows, columns = (
            (n + sum(pad) - self.size) // self.stride + 1 for n in x.shape[1:3]
        )
        if rows * columns <= PATCH_PIXELS:
            x = jnp.pad(x, ((0, 0), pad, pad, (0, 0)))
            step = self.stride
            x = jnp.concatenate(
                [
                    x[:, i : i + step * rows : step, j : j + step * columns : step]
                    for i in range(self.size)
                    for j in range(self.size)
                ],
                axis=-1,
            )
            y = x @ kernel.reshape(-1, self.features)
        else:
            y = jax.lax.conv_general_dilated(
                x,
                kernel,
                (self.stride, self.stride),
                (pad, pad),
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
        return y + bias[None, None, None]


def group_norm(groups: int, eps: float, name: str | None = None) -> nn.GroupNorm:
    """Group normalisation, computed and returned in float32."""
    return nn.GroupNorm(
        groups, epsilon=eps, dtype=jnp.float32, use_fast_variance=False, name=name
    )


def layer_norm(name: str, eps: float = 1e-5) -> nn.LayerNorm:
    """Layer normalisation, computed and returned in float32."""
    return nn.LayerNorm(
        epsilon=eps, dtype=jnp.float32, use_fast_variance=False, name=name
    )


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
        h = nn.silu(group_norm(self.groups, self.eps, "norm1")(x))
        h = Conv(self.features, dtype=self.dtype, name="conv1")(h)
        if time is not None:
            shift = nn.Dense(self.features, dtype=self.dtype, name="time_emb_proj")
            h = h + shift(nn.silu(time))[:, None, None]
        h = nn.silu(group_norm(self.groups, self.eps, "norm2")(h))
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
        x = x.repeat(2, axis=1).repeat(2, axis=2)
        return Conv(self.features, dtype=self.dtype, name="conv")(x)
