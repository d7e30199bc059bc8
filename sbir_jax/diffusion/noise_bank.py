"""Noise by number: the same under every setting of JAX's random numbers."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Results made with other noise do not compare, and fingerprints name the seed only.
NOISE_GENERATOR = "threefry2x32"


def noise_bank(
    shape: tuple[int, int, int], count: int, seed: int
) -> Float[Array, "k y x c"]:
    """Standard normal latents; the first ones are the same whatever their number."""
    with jax.threefry_partitionable(True):
        key = jax.random.key(seed, impl=NOISE_GENERATOR)
        numbers = jnp.arange(count, dtype=jnp.int32)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
        return jax.vmap(lambda key: jax.random.normal(key, shape, jnp.float32))(keys)
