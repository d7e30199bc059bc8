"""The layers that heads share."""

import math
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array, Float

# From finest to coarsest, each half as many rows and columns as the one before.
Levels = tuple[Float[Array, "b _ _ _"], ...]


def norm(features: int, name: str, fixed: bool = False) -> nn.Module:
    """Group normalisation, where published heads have batch normalisation over all
    devices (ours: as many parameters, and no running statistics beside them).

    Args:
      fixed: batch normalisation with the statistics of a published checkpoint.
    """
    if fixed:
        return FixedBatchNorm(name=name)
    return nn.GroupNorm(math.gcd(32, features), epsilon=1e-5, name=name)


class FixedBatchNorm(nn.Module):
    """Batch normalisation by statistics that are parameters, as at inference."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        width, zeros, ones = x.shape[-1:], nn.initializers.zeros, nn.initializers.ones
        scale, bias = self.param("scale", ones, width), self.param("bias", zeros, width)
        mean = self.param("mean", zeros, width)
        variance = self.param("variance", ones, width)
        factor = scale * jax.lax.rsqrt(variance + 1e-5)
        return x * factor[None, None, None] + (bias - mean * factor)[None, None, None]


class ConvNorm(nn.Module):
    """A 3 x 3 convolution, normalisation, ReLU."""

    features: int
    bias: bool = False
    fixed: bool = False
    start: Any = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w f"]:
        x = nn.Conv(
            self.features, (3, 3), padding=1, use_bias=self.bias,
            kernel_init=self.start, name="conv",
        )(x)  # fmt: skip
        return jax.nn.relu(norm(self.features, "norm", self.fixed)(x))
