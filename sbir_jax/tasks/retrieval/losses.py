"""Training losses on descriptors; pure functions of arrays."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def cosine_distance(
    a: Float[Array, "b d"], b: Float[Array, "b d"]
) -> Float[Array, " b"]:
    """1 - cosine of each row pair, in [0, 2]; rows must have unit length."""
    return 1.0 - jnp.sum(a * b, axis=-1)


def triplet_loss(
    sketch: Float[Array, "b d"],
    positive: Float[Array, "b d"],
    negative: Float[Array, "b d"],
    margin: float,
) -> Float[Array, ""]:
    """Batch mean of max(0, margin + d(sketch, positive) - d(sketch, negative)).

    The sketch is the anchor, as in Koley et al. (CVPR 2024). They do not publish the
    distance or the margin; cosine distance with 0.3 is that of Sain et al. (CVPR 2023).

    Args:
      sketch, positive, negative: descriptors of unit length.
      margin: in units of cosine distance.
    """
    gap = cosine_distance(sketch, positive) - cosine_distance(sketch, negative)
    return jnp.mean(jax.nn.relu(margin + gap))
