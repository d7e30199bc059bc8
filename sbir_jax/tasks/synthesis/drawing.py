"""From drawings and words to pictures: one compiled program for all uses."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sbir_jax.adapters import sketch_adapter
from sbir_jax.adapters.sketch_adapter import SketchAdapter
from sbir_jax.backbones.base import Backbone
from sbir_jax.diffusion import guidance, samplers
from sbir_jax.diffusion.noise_schedule import NoiseSchedule
from sbir_jax.diffusion.samplers import SAMPLERS, Steps
from sbir_jax.models.sketch_encoder import SketchEncoder
from sbir_jax.runtime import hardware
from sbir_jax.types import TextStates


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How pictures are sampled.

    Attributes:
      sampler: of `samplers.SAMPLERS`.
      steps: how many, or the name of a respacing such as "ddim25".
      guidance: scale of classifier-free guidance by the words; 1 is none.
      hold: how firmly the drawing holds; 0 lets go.
      eta: of DDIM; 0 is deterministic.
    """

    sampler: str = "ddim"
    steps: str = "25"
    guidance: float = 3.0
    hold: float = 1.0
    eta: float = 0.0

    def __post_init__(self):
        if self.sampler not in SAMPLERS:
            raise ValueError(f"sampler is {self.sampler!r}; give {', '.join(SAMPLERS)}")
        if self.eta and self.sampler != "ddim":
            raise ValueError(f"eta is {self.eta}; {self.sampler} has none, ddim has")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta is {self.eta}; give 0 to 1")

    def stops(self, schedule: NoiseSchedule) -> Steps:
        """Raises: ValueError for steps that the schedule does not have."""
        if self.steps.isdecimal():
            return samplers.evenly(schedule, int(self.steps))
        return samplers.respaced(schedule, self.steps)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Request:
    """What n pictures are made of; a pytree.

    Attributes:
      start: latents at the level of the first step, [n y x c].
      text: states of n texts, and last those of no text.
      sketches: in [-1, 1], [n h w 3]; None for words alone.
      fresh: noise of each step, [steps n y x c], or None.
      known, noise, mask: for `samplers.keep_outside`; None where all may change.
    """

    start: Any
    text: TextStates
    sketches: Any = None
    fresh: Any = None
    known: Any = None
    noise: Any = None
    mask: Any = None


def draw(
    backbone: Backbone,
    encoder: SketchEncoder | None,
    sampling: Sampling,
    frozen: Any,
    adapter: SketchAdapter | None,
    request: Request,
    steps: Steps,
) -> Float[Array, "n h w 3"]:
    """Pictures, about in [-1, 1]; compiled once for a backbone and a sampler."""
    run = _program(hardware.device_of(frozen))
    static = backbone, encoder, sampling
    return run(*static, frozen, adapter, request, steps, backbone.schedule)


@functools.cache
def _program(device: Any) -> Any:
    names = ("backbone", "encoder", "sampling")
    return hardware.jit(_draw, device, static_argnames=names)


def _draw(backbone, encoder, sampling, frozen, adapter, request, steps, schedule):
    predict = predictor(backbone, encoder, sampling, frozen, adapter, request)
    more = {}
    if request.known is not None:
        given = request.mask, request.known, request.noise
        more["keep"] = samplers.keep_outside(*given)
    if request.fresh is not None:
        more |= {"eta": sampling.eta, "fresh": request.fresh}
    sample = SAMPLERS[sampling.sampler]
    latents = sample(predict, schedule, request.start, steps, **more)
    return backbone.decode(frozen, latents)


def predictor(backbone, encoder, sampling, frozen, adapter, request):
    """`predict(latents, t)` with the drawing's residuals and guidance by the words.

    Without guidance, or at scale 1, the network runs once a step and not twice.
    """
    n = len(request.start)
    held = {}
    if encoder is not None and request.sketches is not None and sampling.hold:
        held = sketch_adapter.residuals(
            encoder, adapter, request.sketches, sampling.hold
        )
    if sampling.guidance == 1:
        text = jax.tree.map(lambda x: x[:n], request.text)

        def alone(latents, t):
            return backbone.predict(frozen, latents, t, text, residuals=held)

        return alone
    both = guidance.without_and_with(request.text, n)
    # The drawing holds both halves, as with a T2I adapter: words alone are guided.
    twice = {name: jnp.concatenate([x, x]) for name, x in held.items()}

    def pair(latents, t):
        return backbone.predict(frozen, latents, t, both, residuals=twice)

    return guidance.classifier_free(pair, sampling.guidance)
