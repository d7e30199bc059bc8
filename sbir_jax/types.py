"""Words that rooms share: what a backbone takes of a text, and what it hands out.

JAX puts shapes, tracers and markers in the place of a pytree's arrays, so that fields
are of any type; comments give the shapes.
"""

import dataclasses
from typing import Any

import jax


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TextStates:
    """What cross-attention reads of texts; a pytree.

    Attributes:
      states: one vector for each position, padding too.
      mask: True where a token of the text itself stands: neither start, end nor
        padding, so all False for an empty text. None for learned states, which are of
        no words.
      pooled: one vector for each text; None for learned states.
    """

    states: Any  # [s n d]
    mask: Any = None  # bool [s n]
    pooled: Any = None  # [s e]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Readout:
    """What a backbone was asked for, by name; a pytree.

    The keys of an attention layer are the pixels in reading order (self-attention) or
    the positions of the text (cross-attention), and then the extra keys, if any.

    Attributes:
      taps: activations, [b h w channels], in the type that the networks compute in.
      maps: attention probabilities, float32 [b heads h w keys], 1 in all over keys.
      logits: what the maps are the softmax of, float32, scaled by 1 / sqrt(width).
      mask: of the text, as in `TextStates`: which of the first keys of cross-attention
        are real tokens.
    """

    taps: dict[str, Any]
    maps: dict[str, Any]
    logits: dict[str, Any]
    mask: Any = None  # bool [s n]
