"""VPD's text adapter: a small network beside text states, which stays near them.

    adapted = text + gamma * (W2 gelu(W1 text + b1) + b2)

Zhao et al., "Unleashing Text-to-Image Diffusion Models for Visual Perception" (ICCV
2023). It stands before a frozen denoiser, so its gradient goes through that.
"""

from typing import Any

import flax.struct
import jax
from jax import numpy as jnp
from jaxtyping import Array, Float

GAMMA = 1e-4  # published: at first it changes nearly nothing


@flax.struct.dataclass
class TextAdapter:
    """A pytree; d is the width of the text states."""

    first: Any  # [d d]
    first_bias: Any  # [d]
    gamma: Any  # [d]
    second: Any  # [d d]
    second_bias: Any  # [d]


def init_adapter(key: Array, width: int) -> TextAdapter:
    """Uniform weights within 1 / sqrt(width), as PyTorch's linear layers start."""
    limit = width**-0.5
    shapes = (width, width), (width,), (width, width), (width,)
    first, first_bias, second, second_bias = (
        jax.random.uniform(k, shape, jnp.float32, -limit, limit)
        for k, shape in zip(jax.random.split(key, 4), shapes, strict=True)
    )
    gamma = jnp.full(width, GAMMA)
    return TextAdapter(first, first_bias, gamma, second, second_bias)


def adapt(
    adapter: TextAdapter | None, text: Float[Array, "s n d"]
) -> Float[Array, "s n d"]:
    """The states with what the adapter adds; as they are without one."""
    if adapter is None:
        return text
    hidden = text @ adapter.first + adapter.first_bias[None, None]
    hidden = jax.nn.gelu(hidden, approximate=False)
    added = hidden @ adapter.second + adapter.second_bias[None, None]
    return text + adapter.gamma[None, None] * added
