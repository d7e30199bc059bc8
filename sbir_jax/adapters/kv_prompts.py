"""Prompts on the keys and values of frozen cross-attention: an offset to either.

After the attention-based prompt learning of arXiv 2305.10722, whose shapes are not
published; these are ours. An offset is the same at all positions of a text. It may be
one for all texts, or depend on the text through a bottleneck:

    offset = bias + tanh(mean state of the text's words @ down) @ up

All offsets are zero before the first step.
"""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sbir_jax.types import TextStates

KINDS = ("none", "constant", "text")


@flax.struct.dataclass
class KVPrompts:
    """By the names of layers, of c channels each.

    Attributes:
      bias: [2 c] each, keys and values.
      down: [d r] from text states of width d to the bottleneck; None for offsets that
        are the same for all texts.
      up: [r 2 c] each; None likewise.
    """

    bias: Any
    down: Any = None
    up: Any = None


def init(
    key: Array, widths: Mapping[str, int], context: int, rank: int = 0
) -> KVPrompts:
    """Prompts that change nothing yet.

    Args:
      widths: channels of each layer, by its name.
      context: width of the text states.
      rank: of the bottleneck; 0 for offsets that are the same for all texts.
    """
    bias = {name: jnp.zeros((2, c)) for name, c in widths.items()}
    if not rank:
        return KVPrompts(bias)
    down = jax.random.normal(key, (context, rank)) * context**-0.5
    return KVPrompts(
        bias, down, {name: jnp.zeros((rank, 2, c)) for name, c in widths.items()}
    )


def shifts(
    prompts: KVPrompts, text: TextStates
) -> dict[str, tuple[Float[Array, "_ _"], Float[Array, "_ _"]]]:
    """What is added to keys and to values, as `Backbone.read` takes it."""
    if prompts.down is None:
        return {name: (b[:1], b[1:]) for name, b in prompts.bias.items()}
    words = text.mask[:, :, None]
    count = jnp.maximum(words.sum(1), 1)
    mean = jnp.where(words, text.states, 0).sum(1) / count
    narrow = jnp.tanh(mean @ prompts.down)
    found = {
        name: prompts.bias[name][None] + jnp.einsum("sr,rkc->skc", narrow, up)
        for name, up in prompts.up.items()
    }
    return {name: (both[:, 0], both[:, 1]) for name, both in found.items()}
