"""Normalisation, computed and returned in float32 whatever the compute type."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sbir_jax.models.kernels.blocking import largest_divisor
from sbir_jax.runtime import hardware

# What a mean is taken of is written in blocks of so many bytes, which a processor's
# cache holds: XLA would write all of it, and new memory is what costs the time.
BLOCK = 2**21


class GroupNorm(nn.Module):
    """Group normalisation, computed and returned in float32.

    With `silu` that activation follows. A gradient keeps the input and computes what
    came of it again, so that a layer needs no rematerialisation for it.
    """

    groups: int
    eps: float
    silu: bool = False

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
        found: Any = _normalise(self.groups, self.silu, y, scale, bias, centre, factor)
        return found.reshape(x.shape)


def _group_mean(x, groups):
    """The mean of its group in the place of each channel; [b 1 c]."""
    b, _, c = x.shape
    return jnp.repeat(x.reshape(b, groups, -1).mean(axis=-1), c // groups, -1)[:, None]


def _written(x):
    """On CPU x is computed once: XLA would fuse it into what follows and compute it
    again there, keeping what it is computed from beside what the loops below read."""
    if hardware.platform() != "cpu":
        return x  # Elsewhere moving float32 costs more than the arithmetic.
    return jax.lax.optimization_barrier(x)


def _pixel_mean(of, *arrays):
    """Mean over n of `of(*arrays)`, which are [b n c] or [b 1 c]; [b 1 c]."""
    b, n, c = arrays[0].shape
    rows = n
    if hardware.platform() == "cpu":
        rows = largest_divisor(n, BLOCK // (4 * b * c))
    if rows == n:
        return of(*arrays).mean(axis=1, keepdims=True)

    def add(i, total):
        parts = [
            jax.lax.dynamic_slice_in_dim(x, i * rows, rows, 1) if x.shape[1] == n else x
            for x in arrays
        ]
        return total + of(*parts).sum(axis=1, keepdims=True)

    return jax.lax.fori_loop(0, n // rows, add, jnp.zeros((b, 1, c))) / n


def _scaled(x, scale, bias, centre, factor):
    return (x - centre) * (factor * scale[None, None]) + bias[None, None]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _normalise(groups, silu, x, scale, bias, centre, factor):
    """(x - centre) * factor * scale + bias; its gradient has sums over pixels, too."""
    y = _scaled(x, scale, bias, centre, factor)
    return jax.nn.silu(y) if silu else y


def _normalise_forward(groups, silu, *inputs):
    return _normalise(groups, silu, *inputs), inputs


def _normalise_backward(groups, silu, kept, g):
    x, scale, bias, centre, factor = kept
    if silu:
        # The barrier keeps the input, and not what the forward pass made of it.
        y = _scaled(jax.lax.optimization_barrier(x), scale, bias, centre, factor)
        gate = jax.nn.sigmoid(y)
        g = g * (gate + y * gate * (1 - gate))
    g = _written(g)
    mean = _pixel_mean(lambda g: g, g)
    slope = factor * _pixel_mean(lambda g, x, c: g * (x - c), g, x, centre)
    pixels, scale = x.shape[1], scale[None, None]
    along = factor * _group_mean(slope * scale, groups)
    dx = factor * (g * scale - _group_mean(mean * scale, groups) - (x - centre) * along)
    dscale, dbias = (pixels * part.sum(axis=(0, 1)) for part in (slope, mean))
    return dx, dscale, dbias, jnp.zeros_like(centre), jnp.zeros_like(factor)


_normalise.defvjp(_normalise_forward, _normalise_backward)


class RootMeanSquareNorm(nn.Module):
    """x over the root of its mean square, times a scale; in float32."""

    eps: float

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        x = x.astype(jnp.float32)
        square = jnp.square(x).mean(-1, keepdims=True)
        scale = scale.astype(jnp.float32).reshape(*(1,) * (x.ndim - 1), -1)
        return x * jax.lax.rsqrt(square + self.eps) * scale


def layer_norm(name: str, eps: float = 1e-5) -> nn.LayerNorm:
    """Layer normalisation, computed and returned in float32."""
    return nn.LayerNorm(
        epsilon=eps, dtype=jnp.float32, use_fast_variance=False, name=name
    )
