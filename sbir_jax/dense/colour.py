"""The plain rival of a backbone: colours and edges, in the shapes of its levels.

The same head is trained on it, with as many parameters, so what it lacks is what the
backbone knows (ours).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sbir_jax.models.heads.layers import Levels


def colour_levels(
    images: Float[Array, "b h w 3"], shapes: Sequence[tuple[int, ...]]
) -> Levels:
    """Colours and gradients of the pixels of each cell, projected at random.

    Args:
      images: in [-1, 1].
      shapes: [rows, columns, channels] of each level.
    """
    grey = images.mean(-1)
    down = jnp.asarray(jnp.gradient(grey, axis=1))
    across = jnp.asarray(jnp.gradient(grey, axis=2))
    edges = jnp.stack([down, across, jnp.hypot(down, across)], axis=-1)
    pixels = jnp.concatenate([images, 4 * edges], axis=-1)
    b, h, w, c = pixels.shape
    levels = []
    for i, (rows, columns, channels) in enumerate(shapes):
        cells = pixels.reshape(b, rows, h // rows, columns, w // columns, c)
        cells = cells.swapaxes(2, 3).reshape(b, rows, columns, -1)
        levels.append(cells @ _projection(i, cells.shape[-1], channels))
    return tuple(levels)


def _projection(level: int, old: int, new: int) -> Array:
    drawn = np.random.default_rng(level).normal(size=(old, new)) / old**0.5
    return jnp.asarray(drawn, jax.numpy.float32)
