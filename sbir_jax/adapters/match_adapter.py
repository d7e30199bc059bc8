"""Everything that can be learned to tell which text belongs to an image."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array

from sbir_jax.adapters import head_weights, kv_prompts, lora

SCALE = 1.0  # of scores in the loss, before it is learned (ours)


@flax.struct.dataclass
class MatchAdapter:
    """The names of the fields are those in checkpoints.

    Attributes:
      heads: [h], logits of the weights of all heads of all layers that are read.
      temperature: [], the logarithm of what attention logits are multiplied with before
        tokens are pooled: the higher, the more the best token alone counts.
      scale: [], the logarithm of what scores are multiplied with in the loss. It ranks
        nothing.
      gain: [], how much the denoising gain counts, in thousandths of the noise; None
        for a score without it.
      prompts: `kv_prompts.KVPrompts`, or None.
      lora: as `lora.init`, or None.
    """

    heads: Any
    temperature: Any
    scale: Any
    gain: Any = None
    prompts: Any = None
    lora: Any = None


@dataclasses.dataclass(frozen=True)
class AdapterConfig:
    """What is learned. The paper publishes no sizes; the defaults are ours.

    Attributes:
      weights: of heads: "learned", "plain" (the mean), or "importance": how much the
        loss on the few-shot set depends on each, then fixed.
      prompts: on keys and values: "none", "constant", or "text", dependent on the text.
      rank: of the bottleneck of prompts that depend on the text.
      temperature: whether that of the pooling is learned. Without it, without prompts
        and without LoRA a score is linear in what is learned, and each pair is read
        once for training and every model.
      lora: rank of changes of all attention projections; 0 for none, 4 in the release.
      gain: whether how much the text helps denoising counts too, with a learned weight
        that starts at 0. It needs the whole network, and once more without a text.
    """

    weights: str = "learned"
    prompts: str = "none"
    rank: int = 16
    temperature: bool = True
    lora: int = 0
    gain: bool = False

    def __post_init__(self):
        for name, kinds in (
            ("weights", head_weights.KINDS),
            ("prompts", kv_prompts.KINDS),
        ):
            if getattr(self, name) not in kinds:
                raise ValueError(
                    f"adapter.{name} is {getattr(self, name)!r}; give one of "
                    f"{', '.join(kinds)}"
                )
        if self.rank < 1 or self.lora < 0:
            raise ValueError(
                f"adapter.rank is {self.rank} and adapter.lora {self.lora}; give 1 or "
                "more, and 0 or more"
            )

    @property
    def linear(self) -> bool:
        """Whether a score is a weighted sum of what a pass without adapter gives."""
        return not self.temperature and self.prompts == "none" and not self.lora

    @property
    def parts(self) -> tuple[str, ...]:
        """The fields of `MatchAdapter` that are trained."""
        asked = {
            "heads": self.weights == "learned",
            "temperature": self.temperature,
            "scale": True,
            "gain": self.gain,
            "prompts": self.prompts != "none",
            "lora": self.lora > 0,
        }
        return tuple(name for name, wanted in asked.items() if wanted)


def init(
    key: Array,
    config: AdapterConfig,
    heads: int,
    widths: Mapping[str, int],
    context: int,
    network: Any,
) -> MatchAdapter:
    """An adapter whose scores are the training-free ones.

    Args:
      heads: of all layers that are read.
      widths: channels of these layers, by their names.
      context: width of the text states.
      network: parameters of the denoising network, or their shapes.
    """
    first, second = jax.random.split(key)
    prompts = None
    if config.prompts != "none":
        rank = config.rank if config.prompts == "text" else 0
        prompts = kv_prompts.init(first, widths, context, rank)
    return MatchAdapter(
        heads=head_weights.plain(heads),
        temperature=jnp.zeros(()),
        scale=jnp.log(jnp.float32(SCALE)),
        gain=jnp.zeros(()) if config.gain else None,
        prompts=prompts,
        lora=lora.init(second, network, config.lora) if config.lora else None,
    )
