"""The transformer of the UNet's cross-attention blocks, and its layers."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sbir_jax.models.kernels.attention import attend, attend_with_map
from sbir_jax.models.kernels.convolutions import Conv
from sbir_jax.models.kernels.norms import GroupNorm, layer_norm
from sbir_jax.models.kernels.products import dense


class Attention(nn.Module):
    """Projections around `attend`: self-attention, or cross-attention to `context`."""

    heads: int
    qkv_bias: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n c"],
        context: Float[Array, "s m d"] | None = None,
        with_map: bool = False,
    ) -> tuple[Float[Array, "b n c"], Float[Array, "b heads n m"] | None]:
        """A context serves b / s images in a row; the map is None unless asked for."""
        source = x if context is None else context
        width = x.shape[-1]

        def project(name, bias):
            return dense(width, self.dtype, name, use_bias=bias)

        q = project("to_q", self.qkv_bias)(x)
        k, v = (
            jnp.repeat(
                project(name, self.qkv_bias)(source), len(x) // len(source), axis=0
            )
            for name in ("to_k", "to_v")
        )
        if with_map:
            y, probabilities = attend_with_map(q, k, v, self.heads)
        else:
            y, probabilities = attend(q, k, v, self.heads), None
        return project("to_out_0", True)(y), probabilities


class FeedForward(nn.Module):
    """Gated linear unit with the exact GELU, then a projection back."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        width = x.shape[-1]
        gated = GEGLU(4 * width, self.dtype, name="net_0")(x)
        return dense(width, self.dtype, "net_2")(gated)


class GEGLU(nn.Module):
    """One projection, split in values and gates."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n f"]:
        x = dense(2 * self.features, self.dtype, "proj")(x)
        values, gates = jnp.split(x, 2, axis=-1)
        return _gated(values, gates)


@jax.custom_vjp
def _gated(values, gates):
    """Values times the exact GELU of the gates, of which a gradient keeps just these.

    By the error function: XLA's complement of it, which `nn.gelu` takes, is dearer.
    """
    return values * (gates * _below(gates))


def _below(x):
    """The normal distribution up to x, computed in float32, returned in x's type."""
    wide = x.astype(jnp.float32)
    return (0.5 + 0.5 * jax.lax.erf(wide * 2**-0.5)).astype(x.dtype)


def _gated_forward(values, gates):
    return _gated(values, gates), (values, gates)


def _gated_backward(kept, g):
    # The barrier keeps them, and not what the forward pass computed of them.
    values, gates = jax.lax.optimization_barrier(kept)
    below = _below(gates)
    density = jnp.exp(-0.5 * jnp.square(gates)) * (2 * jnp.pi) ** -0.5
    return g * (gates * below), g * values * (below + gates * density)


_gated.defvjp(_gated_forward, _gated_backward)


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention and a feed-forward layer, each residual."""

    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n c"],
        context: Float[Array, "s m d"],
        with_map: bool = False,
    ) -> tuple[Float[Array, "b n c"], Float[Array, "b heads n m"] | None]:
        x = (
            x
            + Attention(self.heads, dtype=self.dtype, name="attn1")(
                layer_norm("norm1")(x)
            )[0]
        )
        y, probabilities = Attention(self.heads, dtype=self.dtype, name="attn2")(
            layer_norm("norm2")(x), context, with_map
        )
        x = x + y
        x = x + FeedForward(self.dtype, name="ff")(layer_norm("norm3")(x))
        return x, probabilities


class Transformer(nn.Module):
    """A transformer block over the pixels of an image, with its map if asked."""

    heads: int
    groups: int
    linear: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        context: Float[Array, "s m d"],
        with_map: bool = False,
    ) -> tuple[Float[Array, "b h w c"], Float[Array, "b heads h w m"] | None]:
        b, h, w, c = x.shape

        def project(name, y):
            # The same arithmetic on a kernel of another shape in the checkpoint.
            if self.linear:
                return dense(c, self.dtype, name)(y)
            return Conv(c, 1, dtype=self.dtype, name=name)(y)

        y = GroupNorm(self.groups, 1e-6, name="norm")(x)
        y = project("proj_in", y).reshape(b, h * w, c)
        block = TransformerBlock(self.heads, self.dtype, name="transformer_blocks_0")
        y, probabilities = block(y, context, with_map)
        y = project("proj_out", y.reshape(b, h, w, c))
        if probabilities is not None:
            probabilities = probabilities.reshape(b, self.heads, h, w, -1)
        return x + y, probabilities
