"""VPD's depth head: the levels brought together at the third one, then a decoder."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sbir_jax.models.heads.layers import ConvNorm, Levels, norm
from sbir_jax.models.heads.resizing import double, nearest

# As published: of what joins the levels, and of the decoder.
JOIN = nn.initializers.truncated_normal(0.02)
START = nn.initializers.normal(0.001)
GROUPS = 16


class DepthHead(nn.Module):
    """Depth, 32 times the rows and columns of the third level.

    Attributes:
      most: the largest depth, in the data's unit; 10 m for NYUv2.
      together: channels of the joined levels, 1536 as published.
      features: channels of the last layers, 192 as published; `steps`: those of the
        transposed convolutions, 32.
      fixed: as of `norm`.
    """

    most: float
    together: int = 1536
    features: int = 192
    steps: int = 32
    fixed: bool = False

    @nn.compact
    def __call__(self, levels: Levels, train: bool = False) -> Float[Array, "b y x"]:
        """It is the same in training."""
        fine, second, third, coarse = levels
        x = _halve(fine, "fine_0")
        x = _halve(jax.nn.relu(_grouped(x, "fine_norm")), "fine_1")
        joined = jnp.concatenate(
            [x, _halve(second, "second"), third, nearest(coarse, third.shape[1:3])], -1  # pyright: ignore
        )  # fmt: skip
        x = nn.Conv(self.together, (1, 1), kernel_init=JOIN, name="together")(joined)
        x = jax.nn.relu(_grouped(x, "together_norm"))
        for i in range(3):
            x = nn.ConvTranspose(
                self.steps, (2, 2), (2, 2), use_bias=False, kernel_init=START,
                name=f"up_{i}",
            )(x)  # fmt: skip
            x = jax.nn.relu(norm(self.steps, f"up_norm_{i}", self.fixed)(x))
        wide = ConvNorm(self.features, True, self.fixed, START, name="wide")
        x = double(double(wide(x)))
        x = nn.Conv(self.features, (3, 3), padding=1, kernel_init=START, name="last_0")(
            x
        )
        x = nn.Conv(1, (3, 3), padding=1, kernel_init=START, name="last_1")(
            jax.nn.relu(x)
        )
        return self.most * jax.nn.sigmoid(x[..., 0])


def _grouped(x: Float[Array, "b h w c"], name: str) -> Array:
    groups = math.gcd(GROUPS, x.shape[-1])
    return nn.GroupNorm(groups, epsilon=1e-5, name=name)(x)


def _halve(x: Float[Array, "b h w c"], name: str) -> Array:
    return nn.Conv(x.shape[-1], (3, 3), (2, 2), padding=1, kernel_init=JOIN, name=name)(
        x
    )
