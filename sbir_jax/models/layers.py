"""The layers that the UNet and the autoencoder share, channels last.

Submodules carry the names of the published checkpoints, so that a parameter path and
a tensor name differ only in punctuation. Normalisation, attention logits and softmax
are computed in float32 whatever the compute type; this covers `upcast_attention`.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from sbir_jax.models import winograd

# Up to this many output pixels a 3x3 convolution is done as one matrix product over
# stacked patches: XLA's CPU convolution is up to 15 times slower at 2 x 2. With large
# kernels it is at 4 x 4 too: a training step of Stable Diffusion at 256 px takes 14 s,
# and 16 s with convolutions there.
PATCH_PIXELS = 4
PATCH_PIXELS_LARGE, LARGE_KERNEL = 16, 2**20

# Of a residual or attention layer a gradient keeps what took a convolution or a matrix
# product to compute; the rest (norms, activations, softmax) is computed again.
CONVOLVED = "convolved"
KEPT = jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    jax.checkpoint_policies.save_only_these_names(CONVOLVED),
)


class Conv(nn.Module):
    """Square convolution, mostly with bias; the kernel is (size, size, in, out).

    `padding` is (before, after) on both spatial axes, `size // 2` each by default.
    Where the kernel is given in the form of `winograd.prepare`, that is what is used.
    """

    features: int
    size: int = 3
    stride: int = 1
    padding: tuple[int, int] | None = None
    use_bias: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b y x f"]:
        given = self.get_variable("params", "kernel")
        window, transformed = (self.size, self.size), False
        if (self.size, self.stride, self.padding) == (3, 1, None) and given is not None:
            transformed = winograd.is_prepared(given.shape)
            window = given.shape[:2] if transformed else window
        shape = (*window, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = jnp.zeros(shape[-1:])
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, shape[-1:])
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        bias = bias[None, None, None]
        if transformed:
            return checkpoint_name(winograd.convolve(x, kernel) + bias, CONVOLVED)
        if self.size == 1:
            return x @ kernel[0, 0] + bias
        pad = self.padding or (self.size // 2, self.size // 2)
        rows, columns = (
            (n + sum(pad) - self.size) // self.stride + 1 for n in x.shape[1:3]
        )
        large = kernel.size >= LARGE_KERNEL
        if rows * columns <= (PATCH_PIXELS_LARGE if large else PATCH_PIXELS):
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
        return checkpoint_name(y + bias, CONVOLVED)


class GroupNorm(nn.Module):
    """Group normalisation, computed and returned in float32.

    Summed over pixels first and over a group's channels last: Flax's own sums over
    both at once, which XLA compiles to twice the time on CPU.
    """

    groups: int
    eps: float

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        b, h, w, c = x.shape
        scale = self.param("scale", nn.initializers.ones, (c,))
        bias = self.param("bias", nn.initializers.zeros, (c,))
        y = x.reshape(b, h * w, c).astype(jnp.float32)

        def mean(y: Array) -> Array:
            means = y.mean(axis=1).reshape(b, self.groups, -1).mean(axis=-1)
            return jnp.repeat(means, c // self.groups, axis=-1)[:, None]

        centre = mean(y)
        factor = jax.lax.rsqrt(mean(jnp.square(y - centre)) + self.eps)
        factor *= scale[None, None]
        return ((y - centre) * factor + bias[None, None]).reshape(x.shape)


def layer_norm(name: str, eps: float = 1e-5) -> nn.LayerNorm:
    """Layer normalisation, computed and returned in float32."""
    return nn.LayerNorm(
        epsilon=eps, dtype=jnp.float32, use_fast_variance=False, name=name
    )


@functools.partial(nn.remat, policy=KEPT)
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
        h = nn.silu(GroupNorm(self.groups, self.eps, name="norm1")(x))
        h = Conv(self.features, dtype=self.dtype, name="conv1")(h)
        if time is not None:
            shift = nn.Dense(self.features, dtype=self.dtype, name="time_emb_proj")
            h = h + shift(nn.silu(time))[:, None, None]
        h = nn.silu(GroupNorm(self.groups, self.eps, name="norm2")(h))
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
