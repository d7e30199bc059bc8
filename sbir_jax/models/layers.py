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

# Of a residual or attention layer a gradient keeps what took a convolution, a matrix
# product or a mean over pixels; the rest (activations, softmax) is computed again.
DEAR = "dear"
KEPT = jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    jax.checkpoint_policies.save_only_these_names(DEAR),
)

FEW_ROWS = 256

# What a mean is taken of is written in blocks of so many bytes, which a processor's
# cache holds: XLA would write all of it, and new memory is what costs the time.
BLOCK = 2**21


@jax.custom_vjp
def product(
    x: Float[Array, "*b c"], kernel: Float[Array, "c f"]
) -> Float[Array, "*b f"]:
    """A matrix product with a faster gradient on CPU: with few rows, as small images
    have, it takes half of the time where the kernel comes first."""
    return x @ kernel


def _product_forward(x, kernel):
    return x @ kernel, (x, kernel)


def _product_backward(kept, gradient):
    x, kernel = kept
    rows = gradient.reshape(-1, gradient.shape[-1])
    if jax.default_backend() == "cpu" and len(rows) <= FEW_ROWS:
        # Without the barrier XLA would turn the product round again.
        found = jax.lax.optimization_barrier(jnp.einsum("cf,bf->cb", kernel, rows)).T
    else:
        found = rows @ kernel.T
    return found.reshape(x.shape), x.reshape(-1, x.shape[-1]).T @ rows


product.defvjp(_product_forward, _product_backward)


def dense(
    features: int, dtype: Any, name: str | None = None, use_bias: bool = True
) -> nn.Dense:
    """A dense layer by way of `product`."""
    return nn.Dense(features, use_bias, dtype, dot_general=_dot_general, name=name)


def _dot_general(x, kernel, dimension_numbers, precision):
    return product(x, kernel)


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
            return checkpoint_name(winograd.convolve(x, kernel) + bias, DEAR)
        if self.size == 1:
            return product(x, kernel[0, 0]) + bias
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
            y = product(x, kernel.reshape(-1, self.features))
        else:
            y = jax.lax.conv_general_dilated(
                x,
                kernel,
                (self.stride, self.stride),
                (pad, pad),
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
        return checkpoint_name(y + bias, DEAR)


class GroupNorm(nn.Module):
    """Group normalisation, computed and returned in float32."""

    groups: int
    eps: float

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        b, h, w, c = x.shape
        scale = self.param("scale", nn.initializers.ones, (c,))
        bias = self.param("bias", nn.initializers.zeros, (c,))
        y = _written(x.reshape(b, h * w, c).astype(jnp.float32))
        # `_normalise` knows that they depend on y.
        fixed = jax.lax.stop_gradient(y)
        centre = _group_mean(_pixel_mean(lambda y: y, fixed), self.groups)
        square = _pixel_mean(lambda y, centre: jnp.square(y - centre), fixed, centre)
        factor = jax.lax.rsqrt(_group_mean(square, self.groups) + self.eps)
        centre, factor = (checkpoint_name(mean, DEAR) for mean in (centre, factor))
        y = _normalise(self.groups, y, scale, bias, centre, factor)
        return y.reshape(x.shape)


def _group_mean(x, groups):
    """The mean of its group in the place of each channel; [b 1 c]."""
    b, _, c = x.shape
    return jnp.repeat(x.reshape(b, groups, -1).mean(axis=-1), c // groups, -1)[:, None]


def _written(x):
    """x, computed once: XLA would fuse it into what follows and compute it again there,
    keeping what it is computed from beside what the loops below read."""
    return jax.lax.optimization_barrier(x)


def _pixel_mean(of, *arrays):
    """Mean over n of `of(*arrays)`, which are [b n c] or [b 1 c]; [b 1 c]."""
    b, n, c = arrays[0].shape
    rows = n
    if jax.default_backend() == "cpu":
        most = max(1, BLOCK // (4 * b * c))
        rows = max(r for r in range(1, n + 1) if n % r == 0 and r <= most)
    if rows == n:
        return of(*arrays).mean(axis=1, keepdims=True)

    def add(i, total):
        parts = [
            jax.lax.dynamic_slice_in_dim(x, i * rows, rows, 1) if x.shape[1] == n else x
            for x in arrays
        ]
        return total + of(*parts).sum(axis=1, keepdims=True)

    return jax.lax.fori_loop(0, n // rows, add, jnp.zeros((b, 1, c))) / n


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _normalise(groups, x, scale, bias, centre, factor):
    """(x - centre) * factor * scale + bias; its gradient has sums over pixels, too."""
    return (x - centre) * (factor * scale[None, None]) + bias[None, None]


def _normalise_forward(groups, x, scale, bias, centre, factor):
    y = _normalise(groups, x, scale, bias, centre, factor)
    return y, (x, scale, centre, factor)


def _normalise_backward(groups, kept, g):
    x, scale, centre, factor = kept
    g = _written(g)
    mean = _pixel_mean(lambda g: g, g)
    slope = factor * _pixel_mean(lambda g, x, c: g * (x - c), g, x, centre)
    pixels, scale = x.shape[1], scale[None, None]
    along = factor * _group_mean(slope * scale, groups)
    dx = factor * (g * scale - _group_mean(mean * scale, groups) - (x - centre) * along)
    dscale, dbias = (pixels * part.sum(axis=(0, 1)) for part in (slope, mean))
    return dx, dscale, dbias, jnp.zeros_like(centre), jnp.zeros_like(factor)


_normalise.defvjp(_normalise_forward, _normalise_backward)


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
