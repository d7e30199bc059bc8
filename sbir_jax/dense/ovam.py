"""OVAM: heat maps of any words from the queries of one pass.

Marcos-Manchon et al., "Open-Vocabulary Attention Maps with Token Optimization for
Semantic Segmentation in Diffusion Models" (CVPR 2024). The queries of every
cross-attention layer are kept; keys of words come later, and no softmax is taken.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float

from sbir_jax.backbones.base import Backbone, Frozen
from sbir_jax.dense.reading import attention, noised
from sbir_jax.models.heads.resizing import resize
from sbir_jax.types import TextStates

Queries = Mapping[str, Float[Array, "b _ _ _ _"]]
Keys = Mapping[str, Float[Array, "s _ n _"]]
# Of the token optimisation, as published.
STEPS, RATE, DECAY, EVERY = 1000, 300.0, 0.7, 80


def read_queries(
    backbone: Backbone,
    frozen: Frozen,
    latents: Float[Array, "b y x c"],
    text: TextStates,
    timestep: int,
) -> Queries:
    """The queries of every cross-attention layer, of one pass with noise."""
    layers = attention(backbone, "cross", middle=True)
    given = noised(backbone, latents, timestep, noise=True)
    return backbone.read(frozen, given, timestep, text, queries=layers).queries


def heat(queries: Queries, keys: Keys) -> Float[Array, "b y x t"]:
    """Maps of the tokens of all texts, at the size of the finest layer.

    Scaled products, summed over heads, resized, and their mean over layers.

    Returns: t = s * n tokens, text after text.
    """
    rows, columns = max(q.shape[2:4] for q in queries.values())
    size, found = (rows, columns), []
    for name, q in queries.items():
        scores = jnp.einsum(
            "bhyxd,shnd->byxsn", q, keys[name], preferred_element_type=jnp.float32
        )
        scores = scores.reshape(*scores.shape[:3], -1) * q.shape[-1] ** -0.5
        found.append(resize(scores, size))
    return sum(found[1:], found[0]) / len(found)


def of_words(
    tokens: Float[Array, "b y x t"], mask: Bool[Array, "s n"]
) -> Float[Array, "b y x s"]:
    """The mean over the tokens of each text, start, end and padding left out."""
    b, y, x, _ = tokens.shape
    weights = mask / jnp.maximum(mask.sum(1, keepdims=True), 1)
    return jnp.einsum("byxsn,sn->byxs", tokens.reshape(b, y, x, *mask.shape), weights)


def between_0_and_1(heat: Float[Array, "b y x s"]) -> Float[Array, "b y x s"]:
    """Each map from its least to its largest value."""
    low, high = (f(heat, axis=(1, 2), keepdims=True) for f in (jnp.min, jnp.max))
    return (heat - low) / jnp.maximum(high - low, 1e-12)


def optimise_tokens(
    backbone: Backbone,
    frozen: Frozen,
    queries: Queries,
    masks: Sequence[Bool[np.ndarray, "y x"]],
    start: Float[Array, "n d"],
    steps: int = STEPS,
) -> Float[Array, "n d"]:
    """States of tokens that find given masks better: of background, then of things.

    Gradient descent of rate 300, times 0.7 every 80 steps; maps from 0 to 1 as logits,
    cross-entropy with the mask. Gradients pass through the keys alone.

    Args:
      queries: of the one picture that the masks are of.
      masks: one for each token, of the picture in any size.
      start: where the tokens start, for example pooled states of words.
    """
    rows, columns = max(q.shape[2:4] for q in queries.values())
    size = rows, columns
    wanted = np.stack(masks, -1)[None].astype(np.float32)
    target = resize(jnp.asarray(wanted), size)

    def loss(tokens: Array) -> Array:
        keys = backbone.keys(frozen, TextStates(tokens[None]), tuple(queries))
        found = between_0_and_1(heat(queries, keys))
        return optax.sigmoid_binary_cross_entropy(found, target).mean()

    rates = optax.exponential_decay(RATE, EVERY, DECAY, staircase=True)
    descent = optax.sgd(rates)

    @jax.jit
    def step(tokens, state):
        updates, state = descent.update(jax.grad(loss)(tokens), state)
        return optax.apply_updates(tokens, updates), state

    tokens, state = jnp.asarray(start), descent.init(start)
    for _ in range(steps):
        tokens, state = step(tokens, state)
    return tokens
