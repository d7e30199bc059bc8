"""Where in an image each word of a text is seen: the logits of a score, unpooled.

For each head a softmax over the text's own words at every place, weighted as the score
weighs heads, mean over timesteps. After DAAM (Tang et al., 2023), whose maps are of
pictures that are being generated; these are of photos, and without the start token,
which else takes most of the softmax.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sbir_jax.adapters import head_weights, kv_prompts
from sbir_jax.backbones.base import Backbone
from sbir_jax.backbones.frozen import encode_texts
from sbir_jax.diffusion.noise_bank import noise_bank
from sbir_jax.runtime import hardware
from sbir_jax.tasks.matching import scores
from sbir_jax.tasks.matching.matcher import Matcher, check_texts


class WordMaps(NamedTuple):
    """The words of a text, and at each place of a grid the share of each word; all
    words of a place together make 1."""

    words: list[str]
    maps: Float[np.ndarray, "w g g"]


def word_maps(matcher: Matcher, image: Any, text: str) -> WordMaps:
    """Where each word of a text is seen.

    Args:
      image: as of `Matcher.encode`.
    Raises: BadImage; ValueError for a text without a word.
    """
    check_texts([text])
    backbone, adapter = matcher.backbone, matcher.adapter
    words = text.split()
    ends = _ends(matcher, words)
    latent = jnp.asarray(matcher.encode([image]))
    bank = noise_bank(
        backbone.latent_shape(matcher.size),
        matcher.recipe.timesteps,
        matcher.recipe.noise_seed,
    )
    run = _program(hardware.device_of(matcher.loaded.frozen))
    given = backbone, matcher.layers, matcher.loaded.frozen, adapter, latent
    tokens = backbone.tokenize([text])
    found = np.asarray(run(*given, tokens, bank[None], matcher.recipe.steps[None]))
    starts = [0, *ends[:-1]]
    pairs = zip(starts, ends, strict=True)
    return WordMaps(words, np.stack([found[a:b].sum(0) for a, b in pairs]))


def _ends(matcher: Matcher, words: list[str]) -> list[int]:
    """How many tokens there are up to each word's end: those of the text so far."""
    so_far = [" ".join(words[: i + 1]) for i in range(len(words))]
    # A multiple of 16 of them: else every other number of words would compile anew.
    padded = so_far + so_far[-1:] * (-len(words) % 16)
    mask = np.asarray(encode_texts(matcher.loaded, padded).mask)
    return mask.sum(1)[: len(words)].tolist()


@functools.cache
def _program(device: Any) -> Any:
    """Compiled once for a matcher, not for every photo."""
    return hardware.jit(_token_maps, device, static_argnames=("backbone", "layers"))


def _token_maps(
    backbone: Backbone, layers, frozen, adapter, latent, tokens, noise, t
) -> Float[Array, "n g g"]:
    """Of each token of the text, then of nothing up to the length of the tokens."""
    text = backbone.encode_text(frozen, tokens)
    frozen = scores.adapted(frozen, adapter)
    rows, steps = scores.noised(backbone, latent, noise, t)
    shifts = kv_prompts.shifts(adapter.prompts, text) if adapter.prompts else {}
    found = backbone.read(frozen, rows, steps, text, logits=layers, kv_shift=shifts)
    weights, first = head_weights.weights(adapter.heads), 0
    grid = max(found.logits[name].shape[2] for name in layers)
    total, k = 0.0, jnp.exp(adapter.temperature)
    for name in layers:
        logits = found.logits[name].astype(jnp.float32)
        heads = logits.shape[1]
        chosen = jnp.where(text.mask[:, None, None, None], k * logits, -jnp.inf)
        share = jax.nn.softmax(chosen, axis=-1).mean(0)
        mixed = jnp.einsum("hyxn,h->yxn", share, weights[first : first + heads])
        shape = (grid, grid, mixed.shape[-1])
        total = total + jax.image.resize(mixed, shape, "bilinear")
        first += heads
    # The words first, in their order: the start token is not among them.
    order = jnp.argsort(~text.mask[0], stable=True)
    return jnp.moveaxis(total, -1, 0)[order]
