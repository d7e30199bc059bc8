"""How much each head of each cross-attention layer counts in a score.

After "Discriminative Diffusion Models as Few-shot Vision and Language Learners" (arXiv
2305.10722), which weighs heads; the softmax that starts as the plain mean is ours.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

KINDS = ("learned", "plain", "importance")


def plain(heads: int) -> Float[Array, " h"]:
    """Logits of the mean over so many heads, of all layers."""
    return jnp.zeros(heads)


def of_shares(shares: Float[Array, " h"]) -> Float[Array, " h"]:
    """Logits of weights that are in these proportions; none is quite 0."""
    return jnp.log(jnp.maximum(shares / shares.sum(), 1e-6))


def weights(logits: Float[Array, " h"]) -> Float[Array, " h"]:
    """Of sum 1."""
    return jax.nn.softmax(logits)
