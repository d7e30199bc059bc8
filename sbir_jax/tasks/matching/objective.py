"""The loss of a batch of questions; and how much of it depends on each head."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from sbir_jax.adapters.match_adapter import MatchAdapter
from sbir_jax.backbones.base import Backbone, Frozen
from sbir_jax.runtime import hardware
from sbir_jax.tasks.matching import scores
from sbir_jax.tasks.matching.scores import MatchRecipe


def question_scores(
    adapter: MatchAdapter,
    frozen: Frozen,
    batch: dict[str, Any],
    key: Array,
    gates: Float[Array, "b h"] | None = None,
    *,
    backbone: Backbone,
    recipe: MatchRecipe,
    draws: int,
) -> Float[Array, "b c"]:
    """The score of every candidate, mean over fresh timesteps and noises.

    All candidates of a question see the same ones. Timesteps are one from each of
    `draws` equal parts of the recipe's range.

    Args:
      batch: as of `Shots.batch`.
      gates: of each question; as of `scores.pooled`.
    """
    batch = jax.tree.map(jnp.asarray, batch)
    latents = batch["latents"]
    b, c, *shape = latents.shape

    def draw(number):
        first, second = jax.random.split(jax.random.fold_in(key, number))
        part = (recipe.last + 1 - recipe.first) / draws
        at = jnp.arange(draws) + jax.random.uniform(first, (draws,))
        t = jnp.minimum(recipe.first + jnp.floor(part * at), recipe.last)
        return jax.random.normal(second, (draws, *shape)), t.astype(jnp.int32)

    noise, t = (jnp.repeat(x, c, axis=0) for x in jax.vmap(draw)(batch["draw"]))
    flat = latents.reshape(b * c, *shape)
    tokens = jax.tree.map(lambda x: x.reshape(b * c, *x.shape[2:]), batch["tokens"])
    text = backbone.encode_text(frozen, tokens)
    layers, without = scores.layer_names(backbone, recipe), None
    if adapter.gain is not None:
        empty = jax.tree.map(jnp.asarray, backbone.tokenize([""]))
        nothing = backbone.encode_text(frozen, empty)
        without = scores.denoising_error(backbone, frozen, flat, nothing, noise, t)
    if gates is not None:
        gates = jnp.repeat(gates, c, axis=0)
    given = frozen, adapter, flat, text, noise, t, layers, without, gates
    return scores.match(backbone, *given).mean(1).reshape(b, c)


def softmax_loss(
    found: Float[Array, "b c"], real: Bool[Array, "b c"]
) -> Float[Array, " b"]:
    """Cross-entropy over the candidates of each question, the first being right."""
    return -jax.nn.log_softmax(jnp.where(real, found, -jnp.inf))[:, 0]


def hinge_loss(
    found: Float[Array, "b c"], real: Bool[Array, "b c"], margin: float
) -> Float[Array, " b"]:
    """How far the right candidate is from a margin above the hardest other one."""
    hardest = jnp.where(real, found, -jnp.inf)[:, 1:].max(1)
    return jnp.maximum(0.0, hardest - found[:, 0] + margin)


def objective(
    adapter: MatchAdapter,
    frozen: Frozen,
    batch: dict[str, Any],
    key: Array,
    *,
    loss: str,
    margin: float,
    **given: Any,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """The mean loss of a batch, and the share of its questions that are right.

    Args:
      batch: as of `Shots.batch`, or with "parts" [b c k e] of each candidate pair in
        the place of latents and tokens.
    """
    if "parts" in batch:
        found = scores.summed(adapter, batch["parts"]).mean(-1)
    else:
        found = question_scores(adapter, frozen, batch, key, **given)
    real = batch["real"]
    scaled = jnp.exp(adapter.scale) * found
    if loss == "hinge":
        losses = hinge_loss(scaled, real, margin)
    else:
        losses = softmax_loss(scaled, real)
    others = jnp.where(real, found, -jnp.inf)[:, 1:].max(1)
    return losses.mean(), {"right": (found[:, 0] > others).mean()}


def importance(
    adapter: MatchAdapter,
    frozen: Frozen,
    batches: Iterable[dict[str, Any]],
    key: Array,
    **given: Any,
) -> Float[np.ndarray, " h"]:
    """How much the loss depends on each head: the mean over questions of |A . dL/dA|, A
    being its logits, which is the derivative by a factor on them.

    After the importance of heads in Michel et al. (2019), to which DSD refers.

    Returns: shares, of sum 1.
    """
    heads = adapter.heads.shape[0]

    def total(gates, frozen, batch):
        found = question_scores(adapter, frozen, batch, key, gates, **given)
        return softmax_loss(jnp.exp(adapter.scale) * found, batch["real"]).sum()

    gradient = hardware.jit(jax.grad(total), hardware.device_of(frozen), gradient=True)
    sums = np.zeros(heads)
    for batch in batches:
        ones = jnp.ones((len(batch["draw"]), heads))
        sums += np.abs(np.asarray(gradient(ones, frozen, batch))).sum(0)
    return (sums / max(sums.sum(), 1e-30)).astype(np.float32)
