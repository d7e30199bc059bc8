"""Timesteps, and other numbers, as vectors that a network can read."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float


class TimeEmbedding(nn.Module):
    """Two dense layers on the sinusoids of the timestep."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b c"]) -> Float[Array, "b e"]:
        x = nn.Dense(self.features, dtype=self.dtype, name="linear_1")(x)
        return nn.Dense(self.features, dtype=self.dtype, name="linear_2")(nn.silu(x))


def sinusoids(
    t: Float[Array, "b"], width: int, *, cosine_first: bool, shift: int
) -> Float[Array, "b {width}"]:
    """Sines and cosines of `t` at `width // 2` frequencies from 1 down to 1e-4."""
    half = width // 2
    exponent = jnp.arange(half, dtype=jnp.float32) / (half - shift)
    angles = t[:, None] * jnp.exp(-jnp.log(10000.0) * exponent)[None]
    parts = [jnp.sin(angles), jnp.cos(angles)]
    return jnp.concatenate(parts[::-1] if cosine_first else parts, axis=-1)
