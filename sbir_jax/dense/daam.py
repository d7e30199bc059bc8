"""DAAM: heat maps of the words of a prompt, from its own cross-attention.

Tang et al., "What the DAAM: Interpreting Stable Diffusion Using Cross Attention" (ACL
2023). Theirs are maps of a picture as it is generated, summed over all steps; of a
photo there is one pass, at one timestep (ours).
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from sbir_jax.backbones.base import Backbone, Frozen
from sbir_jax.dense.reading import attention, level_of, noised
from sbir_jax.models.heads.resizing import resize
from sbir_jax.types import TextStates

COARSEST = 3  # halvings of the latent: factor 8, which is left out as published


def heat(
    backbone: Backbone,
    frozen: Frozen,
    latents: Float[Array, "b y x c"],
    text: TextStates,
    timestep: int,
) -> Float[Array, "b y x n"]:
    """Maps of all positions of the prompt, at the size of the latent.

    Probabilities of every layer and head of encoder and decoder, each brought to that
    size by cubic interpolation, negative values cut off; their mean.
    """
    blocks = 1 + max(
        int(name.split(".")[1]) for name in backbone.tap_names if name[:3] == "up."
    )
    layers = tuple(
        name
        for name in attention(backbone, "cross")
        if level_of(name, blocks) < COARSEST
    )
    given = noised(backbone, latents, timestep, noise=True)
    maps = backbone.read(frozen, given, timestep, text, maps=layers).maps
    found, size, heads = 0, latents.shape[1:3], 0
    for each in maps.values():
        b, h, y, x, n = each.shape
        large = resize(each.reshape(b * h, y, x, n), size, "cubic")  # pyright: ignore
        found += jnp.maximum(large, 0).reshape(b, h, *size, n).sum(1)
        heads += h
    return found / heads  # pyright: ignore


def prompt_of(words: Sequence[str]) -> str:
    """A prompt that names all words, for example "a photo of a mug and a chair"."""
    return "a photo of " + " and ".join(f"a {word}" for word in words)


def token_spans(
    backbone: Any, words: Sequence[str], length: int
) -> Bool[np.ndarray, "w n"]:
    """Which positions of `prompt_of(words)` are of each word.

    Words that stand beyond the end of what the text encoder takes have none.
    """
    spans = np.zeros((len(words), length), bool)
    # CLIP's texts have a start, T5's none; both have an end.
    start = len(backbone.tokenizer("")["input_ids"]) - 1
    for i in range(len(words)):
        before = prompt_of(words[:i]) + " and a" if i else "a photo of a"
        first, last = (
            count_tokens(backbone, text) for text in (before, prompt_of(words[: i + 1]))
        )
        spans[i, start + first : start + last] = True
    return spans


def count_tokens(backbone: Any, text: str) -> int:
    """Without start and end."""
    return len(backbone.tokenizer(text, add_special_tokens=False)["input_ids"])


def of_words(
    tokens: Float[Array, "b y x n"], spans: Bool[np.ndarray, "w n"]
) -> Float[Array, "b y x w"]:
    """The mean over the tokens of each word."""
    weights = spans / np.maximum(spans.sum(1, keepdims=True), 1)
    return jnp.einsum("byxn,wn->byxw", tokens, weights.astype(np.float32))
