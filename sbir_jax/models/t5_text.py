"""T5's encoder: token ids to text states, with distances in the place of positions.

After Raffel et al. (2020) in its version 1.1: norms without mean or bias, a gated
feed-forward layer, logits that are not divided by the root of the width, and a bias of
each head for how far key and query are apart, learned once for all layers.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from sbir_jax.models.kernels.norms import RootMeanSquareNorm
from sbir_jax.models.transformer_configs import T5TextConfig


def distance_buckets(length: int, buckets: int, most: int) -> Int[np.ndarray, "n n"]:
    """Which entry of the learned biases each query takes for each key.

    The first half is for keys up to the query, the other for those after it. Of each
    half one half counts single positions, and the other has steps that grow as the
    logarithm, up to a distance of `most`.
    """
    distance = np.arange(length)[None] - np.arange(length)[:, None]
    half, far = buckets // 2, np.abs(distance)
    exact = half // 2
    # In float32 and in this order, so that steps begin where they did in training.
    ratio = np.log(np.maximum(far, exact).astype(np.float32) / np.float32(exact))
    steps = ratio / np.float32(math.log(most / exact)) * np.float32(half - exact)
    grown = np.minimum(exact + steps.astype(int), half - 1)
    return np.where(far < exact, far, grown) + half * (distance > 0)


class SelfAttention(nn.Module):
    """Attention of all tokens to those of the text."""

    config: T5TextConfig
    first: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n d"],
        seen: Bool[Array, "b n"],
        bias: Float[Array, "n n heads"] | None,
    ) -> tuple[Float[Array, "b n d"], Float[Array, "n n heads"]]:
        """The result, and the bias, which the first layer makes for all."""
        c = self.config
        width = c.num_heads * c.d_kv
        q, k, v = (
            nn.Dense(width, False, self.dtype, name=name)(x).reshape(
                *x.shape[:2], c.num_heads, c.d_kv
            )
            for name in "qkv"
        )
        if self.first:
            number, most = c.buckets, c.relative_attention_max_distance
            rows = nn.Embed(number, c.num_heads, name="relative_attention_bias")
            buckets = jnp.asarray(distance_buckets(x.shape[1], number, most))
            bias = jnp.asarray(rows(buckets), jnp.float32)
        assert bias is not None
        logits = jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=jnp.float32)
        logits = logits + bias.transpose(2, 0, 1)[None]
        logits = jnp.where(seen[:, None, None], logits, -jnp.inf)
        weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
        y = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(*x.shape[:2], width)
        return nn.Dense(c.d_model, False, self.dtype, name="o")(y), bias


class GatedFeedForward(nn.Module):
    """Values times the GELU of gates, both linear in the input, and a projection."""

    config: T5TextConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        c = self.config
        gates, values = (
            nn.Dense(c.d_ff, False, self.dtype, name=f"wi_{i}")(x) for i in range(2)
        )
        y = nn.gelu(gates, approximate=True) * values
        return nn.Dense(c.d_model, False, self.dtype, name="wo")(y)


class AttentionLayer(nn.Module):
    """Self-attention on the normalised input."""

    config: T5TextConfig
    first: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, seen, bias):
        y = RootMeanSquareNorm(self.config.layer_norm_epsilon, name="layer_norm")(x)
        attend = SelfAttention(
            self.config, self.first, self.dtype, name="SelfAttention"
        )
        return attend(y, seen, bias)


class FeedForwardLayer(nn.Module):
    """The feed-forward layer on the normalised input."""

    config: T5TextConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        y = RootMeanSquareNorm(self.config.layer_norm_epsilon, name="layer_norm")(x)
        return GatedFeedForward(self.config, self.dtype, name="DenseReluDense")(y)


class Block(nn.Module):
    """Attention and a feed-forward layer, each residual."""

    config: T5TextConfig
    first: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, seen, bias):
        attend = AttentionLayer(self.config, self.first, self.dtype, name="layer_0")
        y, bias = attend(x, seen, bias)
        x = x + y
        return x + FeedForwardLayer(self.config, self.dtype, name="layer_1")(x), bias


class Encoder(nn.Module):
    """The stack of blocks and the last norm."""

    config: T5TextConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, seen):
        bias = None
        for i in range(self.config.num_layers):
            block = Block(self.config, i == 0, self.dtype, name=f"block_{i}")
            x, bias = block(x, seen, bias)
        norm = RootMeanSquareNorm(
            self.config.layer_norm_epsilon, name="final_layer_norm"
        )
        return norm(x).astype(self.dtype)


class T5Text(nn.Module):
    """The encoder of T5 as text-to-image models use it."""

    config: T5TextConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "b n"], seen: Bool[Array, "b n"]
    ) -> Float[Array, "b n d"]:
        """States of token ids.

        Args:
          seen: which tokens are attended to, the text's and its end; at least one.
        """
        c = self.config
        embed = nn.Embed(c.vocab_size, c.d_model, dtype=self.dtype, name="shared")
        return Encoder(c, self.dtype, name="encoder")(embed(tokens), seen)
