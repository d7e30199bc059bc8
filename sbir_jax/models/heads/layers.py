"""The layers that heads share."""

import math
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array, Float

# From finest to coarsest, each half as many rows and columns as the one before.
Levels = tuple[Float[Array, "b _ _ _"], ...]


def norm(features: int, name: str, groups: int = 32) -> nn.GroupNorm:
    """Group normalisation, where published heads have batch normalisation over all
    devices (ours: as many parameters, and no running statistics beside them)."""
    return nn.GroupNorm(math.gcd(groups, features), epsilon=1e-5, name=name)


class ConvNorm(nn.Module):
    """A 3 x 3 convolution without a bias, normalisation, ReLU."""

    features: int
    stride: int = 1
    start: Any = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b y x f"]:
        size, stride = (3, 3), (self.stride, self.stride)
        x = nn.Conv(
            self.features, size, stride, 1, use_bias=False, kernel_init=self.start,
            name="conv",
        )(x)  # fmt: skip
        return jax.nn.relu(norm(self.features, "norm")(x))
