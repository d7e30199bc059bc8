"""Words that rooms share: modalities, metrics, what a backbone takes and hands out.

JAX puts shapes, tracers and markers in the place of a pytree's arrays, so that fields
of such trees are of any type; comments give the shapes.
"""

import dataclasses
import math
from typing import Any, Literal

import jax

Modality = Literal["sketch", "photo"]
MODALITIES: tuple[Modality, ...] = ("sketch", "photo")


@dataclasses.dataclass(frozen=True)
class Metric:
    """A figure's name and meaning, and which way it gets better.

    Attributes:
      name: as reports and histories hold it, for example "mAP@all".
      definition: the exact formula, in one sentence.
      better: "higher" or "lower".
      unit: "" for a share of 1, else what it is measured in, for example "m".
    """

    name: str
    definition: str = ""
    better: Literal["higher", "lower"] = "higher"
    unit: str = ""

    @property
    def worst(self) -> float:
        """What every value is better than."""
        return -math.inf if self.better == "higher" else math.inf

    def gain(self, new: float, old: float) -> float:
        """How much better `new` is than `old`; below zero where it is worse."""
        return new - old if self.better == "higher" else old - new

    def improves(self, new: float, old: float) -> bool:
        """Whether `new` is better than `old`. Nothing that is not a number is."""
        return new > old if self.better == "higher" else new < old


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
    the positions of the text (cross-attention), and then the extra keys, if any. A
    layer that attends to both at once has two names, one for each kind of keys, and its
    maps are 1 in all over both.

    Attributes:
      taps: activations, [b h w channels], in the type that the networks compute in.
      maps: attention probabilities, float32 [b heads h w keys], 1 in all over keys.
      logits: what the maps are the softmax of, float32, scaled by 1 / sqrt(width).
      queries: of attention layers, [b heads h w width], before any scaling.
      outputs: what attention layers add to the running state, [b h w channels].
      mask: of the text, as in `TextStates`: which of the first keys of cross-attention
        are real tokens.
    """

    taps: dict[str, Any]
    maps: dict[str, Any]
    logits: dict[str, Any]
    mask: Any = None  # bool [s n]
    queries: dict[str, Any] = dataclasses.field(default_factory=dict)
    outputs: dict[str, Any] = dataclasses.field(default_factory=dict)
