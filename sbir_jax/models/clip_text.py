"""CLIP's text tower: token ids to the states that the UNet attends to."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sbir_jax.models.configs import CLIPTextConfig, ProjectedCLIPTextConfig
from sbir_jax.models.kernels.attention import attend_with_map
from sbir_jax.models.kernels.norms import layer_norm


class CausalAttention(nn.Module):
    """Self-attention in which no token sees a later one."""

    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        q, k, v = (
            nn.Dense(x.shape[-1], dtype=self.dtype, name=f"{name}_proj")(x)
            for name in "qkv"
        )
        causal = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))
        y, *_ = attend_with_map(q, k, v, self.heads, causal)
        return nn.Dense(x.shape[-1], dtype=self.dtype, name="out_proj")(y)


class MLP(nn.Module):
    """Two dense layers around the activation the config names."""

    config: CLIPTextConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        c = self.config
        x = nn.Dense(c.intermediate_size, dtype=self.dtype, name="fc1")(x)
        if c.hidden_act == "quick_gelu":
            x = x * jax.nn.sigmoid(1.702 * x)
        else:
            x = nn.gelu(x, approximate=False)
        return nn.Dense(c.hidden_size, dtype=self.dtype, name="fc2")(x)


class EncoderLayer(nn.Module):
    """Attention, then the MLP, each on the normalised input and residual."""

    config: CLIPTextConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        c = self.config
        y = layer_norm("layer_norm1", c.layer_norm_eps)(x)
        x = x + CausalAttention(c.num_attention_heads, self.dtype, name="self_attn")(y)
        y = layer_norm("layer_norm2", c.layer_norm_eps)(x)
        return x + MLP(c, self.dtype, name="mlp")(y)


class Encoder(nn.Module):
    """The stack of layers."""

    config: CLIPTextConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n d"]
    ) -> tuple[Float[Array, "b n d"], Float[Array, "b n d"]]:
        """States before the last layer, and after it."""
        before = x
        for i in range(self.config.num_hidden_layers):
            before = x
            x = EncoderLayer(self.config, self.dtype, name=f"layers_{i}")(x)
        return before, x


class Embeddings(nn.Module):
    """Token and position embeddings, summed."""

    config: CLIPTextConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens: Int[Array, "b n"]) -> Float[Array, "b n d"]:
        c = self.config

        def embed(name, rows):
            return nn.Embed(rows, c.hidden_size, dtype=self.dtype, name=name)

        positions = jnp.arange(tokens.shape[1])[None]
        return embed("token_embedding", c.vocab_size)(tokens) + embed(
            "position_embedding", c.max_position_embeddings
        )(positions)


class CLIPText(nn.Module):
    """The tower as Stable Diffusion uses it: all states after the final norm."""

    config: CLIPTextConfig
    dtype: Any = jnp.float32

    def __call__(self, tokens: Int[Array, "b n"]) -> Float[Array, "b n d"]:
        """States of token ids; n is at most `config.max_position_embeddings`.

        Raises ValueError on longer texts.
        """
        return self.both(tokens)[1]

    @nn.compact
    def both(
        self, tokens: Int[Array, "b n"]
    ) -> tuple[Float[Array, "b n d"], Float[Array, "b n d"]]:
        """States before the last layer, without a norm, and those of `__call__`."""
        c = self.config
        if tokens.shape[1] > c.max_position_embeddings:
            raise ValueError(
                f"{tokens.shape[1]} tokens were given; this text encoder takes at most "
                f"{c.max_position_embeddings}"
            )
        x = Embeddings(c, self.dtype, name="embeddings")(tokens)
        before, x = Encoder(c, self.dtype, name="encoder")(x)
        x = layer_norm("final_layer_norm", c.layer_norm_eps)(x).astype(self.dtype)
        return before, x


class ProjectedCLIPText(nn.Module):
    """The tower with CLIP's own projection, as SDXL uses it."""

    config: ProjectedCLIPTextConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "b n"]
    ) -> tuple[Float[Array, "b n d"], Float[Array, "b e"]]:
        """States before the last layer, and the end token's last state, projected.

        Raises as `CLIPText`.
        """
        tower = CLIPText(self.config, self.dtype)
        # A scope of its own would add a level that the checkpoint does not have.
        nn.share_scope(self, tower)
        before, states = tower.both(tokens)
        width = self.config.projection_dim
        project = nn.Dense(
            width, use_bias=False, dtype=self.dtype, name="text_projection"
        )
        return before, project(state_at(states, end_of_text(tokens)))


def end_of_text(tokens: Int[Array, "b n"]) -> Int[Array, "b"]:
    """Where the end token is. It has the highest id of all; where it pads as well, the
    first one ends the text."""
    return jnp.argmax(tokens, axis=1)


def state_at(
    states: Float[Array, "b n d"], position: Int[Array, "b"]
) -> Float[Array, "b d"]:
    """One state of each text."""
    return jnp.take_along_axis(states, position[:, None, None], axis=1)[:, 0]


def own_tokens(tokens: Int[Array, "b n"]) -> Bool[Array, "b n"]:
    """True where a token of the text itself stands, between start and end."""
    position = jnp.arange(tokens.shape[1])[None]
    return (0 < position) & (position < end_of_text(tokens)[:, None])
