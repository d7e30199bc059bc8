"""Attention, and the transformer of the UNet's cross-attention blocks."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from sbir_jax.models.layers import Conv, group_norm, layer_norm


def attend(
    q: Float[Array, "b n c"],
    k: Float[Array, "b m c"],
    v: Float[Array, "b m c"],
    heads: int,
    mask: Bool[Array, "n m"] | None = None,
) -> tuple[Float[Array, "b n c"], Float[Array, "b {heads} n m"]]:
    """Multi-head attention and its probabilities (float32, summing to 1 over m)."""

    def split(x):
        # Heads next to the batch: measured faster on CPU than heads in the middle.
        return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)

    q, k, v = split(q), split(k), split(v)
    logits = jnp.einsum("bhnd,bhmd->bhnm", q, k, preferred_element_type=jnp.float32)
    logits *= q.shape[-1] ** -0.5
    if mask is not None:
        logits = jnp.where(mask[None, None], logits, -jnp.inf)
    probabilities = jax.nn.softmax(logits, axis=-1)
    y = jnp.einsum("bhnm,bhmd->bnhd", probabilities.astype(v.dtype), v)
    return y.reshape(*y.shape[:2], -1), probabilities


class Attention(nn.Module):
    """Projections around `attend`: self-attention, or cross-attention to `context`."""

    heads: int
    qkv_bias: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n c"], context: Float[Array, "b m d"] | None = None
    ) -> tuple[Float[Array, "b n c"], Float[Array, "b heads n m"]]:
        source = x if context is None else context
        width = x.shape[-1]

        def dense(name, bias):
            return nn.Dense(width, use_bias=bias, dtype=self.dtype, name=name)

        y, probabilities = attend(
            dense("to_q", self.qkv_bias)(x),
            dense("to_k", self.qkv_bias)(source),
            dense("to_v", self.qkv_bias)(source),
            self.heads,
        )
        return dense("to_out_0", True)(y), probabilities


class FeedForward(nn.Module):
    """Gated linear unit with the exact GELU, then a projection back."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        width = x.shape[-1]
        gated = GEGLU(4 * width, self.dtype, name="net_0")(x)
        return nn.Dense(width, dtype=self.dtype, name="net_2")(gated)


class GEGLU(nn.Module):
    """One projection, split in values and gates."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n f"]:
        x = nn.Dense(2 * self.features, dtype=self.dtype, name="proj")(x)
        values, gates = jnp.split(x, 2, axis=-1)
        return values * nn.gelu(gates, approximate=False)


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention and a feed-forward layer, each residual."""

    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n c"], context: Float[Array, "b m d"]
    ) -> tuple[Float[Array, "b n c"], Float[Array, "b heads n m"]]:
        x = (
            x
            + Attention(self.heads, dtype=self.dtype, name="attn1")(
                layer_norm("norm1")(x)
            )[0]
        )
        y, probabilities = Attention(self.heads, dtype=self.dtype, name="attn2")(
            layer_norm("norm2")(x), context
        )
        x = x + y
        x = x + FeedForward(self.dtype, name="ff")(layer_norm("norm3")(x))
        return x, probabilities


class Transformer(nn.Module):
    """A transformer block over the pixels of an image; also returns its map."""

    heads: int
    groups: int
    linear: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], context: Float[Array, "b m d"]
    ) -> tuple[Float[Array, "b h w c"], Float[Array, "b heads h w m"]]:
        b, h, w, c = x.shape

        def project(name, y):
            # The same arithmetic on a kernel of another shape in the checkpoint.
            if self.linear:
                return nn.Dense(c, dtype=self.dtype, name=name)(y)
            return Conv(c, 1, dtype=self.dtype, name=name)(y)

        y = group_norm(self.groups, 1e-6, "norm")(x)
        y = project("proj_in", y).reshape(b, h * w, c)
        block = TransformerBlock(self.heads, self.dtype, name="transformer_blocks_0")
        y, probabilities = block(y, context)
        y = project("proj_out", y.reshape(b, h, w, c))
        return x + y, probabilities.reshape(b, self.heads, h, w, -1)
