"""Attention, and the transformer of the UNet's cross-attention blocks."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from sbir_jax.models.blocks import largest_divisor
from sbir_jax.models.convolutions import Conv
from sbir_jax.models.norms import GroupNorm, layer_norm
from sbir_jax.models.products import KEPT, dense

# Logits of this size still fit a processor's cache.
CACHE = 2**22


def attend(
    q: Float[Array, "b n c"],
    k: Float[Array, "b m c"],
    v: Float[Array, "b m c"],
    heads: int,
) -> Float[Array, "b n c"]:
    """Multi-head attention, by what this platform does fastest."""
    width = q.shape[-1] // heads
    if jax.default_backend() == "cpu":
        return _attend_in_blocks(q, k, v, heads)
    if _cudnn_takes(width, q.dtype):
        q, k, v = (x.reshape(*x.shape[:2], heads, width) for x in (q, k, v))
        y = jax.nn.dot_product_attention(q, k, v, implementation="cudnn")
        return y.reshape(*y.shape[:2], -1)
    return attend_with_map(q, k, v, heads)[0]


def attend_with_map(
    q: Float[Array, "b n c"],
    k: Float[Array, "b m c"],
    v: Float[Array, "b m c"],
    heads: int,
    mask: Bool[Array, "n m"] | None = None,
) -> tuple[Float[Array, "b n c"], Float[Array, "b {heads} n m"]]:
    """Multi-head attention and its probabilities (float32, summing to 1 over m)."""

    q, k, v = (_split(x, heads) for x in (q, k, v))
    logits = jnp.einsum("bhnd,bhmd->bhnm", q, k, preferred_element_type=jnp.float32)
    logits *= q.shape[-1] ** -0.5
    if mask is not None:
        logits = jnp.where(mask[None, None], logits, -jnp.inf)
    probabilities = jax.nn.softmax(logits, axis=-1)
    y = jnp.einsum("bhnm,bhmd->bnhd", probabilities.astype(v.dtype), v)
    return y.reshape(*y.shape[:2], -1), probabilities


def _split(x, heads):
    # Heads next to the batch: measured faster on CPU than heads in the middle.
    return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def _cudnn_takes(width: int, dtype: Any) -> bool:
    """Whether cuDNN's flash attention is there and made for heads like these."""
    return (
        "cuda" in jax.devices()[0].client.platform_version
        and dtype in (jnp.bfloat16, jnp.float16)
        and width <= 128
        and width % 8 == 0
    )


def _attend_in_blocks(q, k, v, heads):
    """One head and a few queries at a time: logits never leave the cache.

    All images of the batch are in a block: the batch may be spread over devices.
    """
    b, n, c = q.shape
    most = CACHE // (4 * b * k.shape[1])
    rows = largest_divisor(n, most)
    # Heads first, then blocks of queries: [heads, n / rows, b, rows, d].
    q = _split(q, heads).reshape(b, heads, n // rows, rows, -1).transpose(1, 2, 0, 3, 4)
    k, v = (_split(x, heads).swapaxes(0, 1) for x in (k, v))

    def one_head(head):
        q, k, v = head

        # Kept for the gradient are queries, keys and values, not the probabilities.
        @jax.checkpoint
        def one_block(q):
            logits = jnp.einsum(
                "bnd,bmd->bnm", q, k, preferred_element_type=jnp.float32
            )
            probabilities = jax.nn.softmax(logits * q.shape[-1] ** -0.5, axis=-1)
            return jnp.einsum("bnm,bmd->bnd", probabilities.astype(v.dtype), v)

        return jax.lax.map(one_block, q)

    y = jax.lax.map(one_head, (q, k, v))
    return y.transpose(2, 1, 3, 0, 4).reshape(b, n, c)


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


@functools.partial(nn.remat, policy=KEPT)
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
        return values * nn.gelu(gates, approximate=False)


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
