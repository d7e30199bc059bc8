"""From drawings and words to pictures: one compiled program for all uses."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sbir_jax.adapters import guides, sketch_adapter
from sbir_jax.adapters.guides import GUIDES
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
      hold: how firmly the drawing holds by its residuals; 0 lets go.
      lgp, classifier, distance: scales of the guides by the drawing, `adapters.guides`;
        0 for none. The first is the share of the predicted noise by which a step is
        moved, the others multiply a logarithm of probability.
      guided: the share of steps, the noisy ones, in which they guide.
      eta: of DDIM; 0 is deterministic.
    """

    sampler: str = "ddim"
    steps: str = "25"
    guidance: float = 3.0
    hold: float = 1.0
    lgp: float = 0.0
    classifier: float = 0.0
    distance: float = 0.0
    guided: float = 0.5
    eta: float = 0.0

    def __post_init__(self):
        if self.sampler not in SAMPLERS:
            raise ValueError(f"sampler is {self.sampler!r}; give {', '.join(SAMPLERS)}")
        if self.eta and self.sampler != "ddim":
            raise ValueError(f"eta is {self.eta}; {self.sampler} has none, ddim has")
        for name in ("eta", "guided"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 0 to 1")
        for name in GUIDES:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give 0 or more")

    @property
    def guides(self) -> dict[str, float]:
        """The scales that are not 0, by name."""
        found = {name: getattr(self, name) for name in GUIDES}
        return {name: scale for name, scale in found.items() if scale}

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
    if sampling.guides and sampling.guided and request.sketches is not None:
        given = backbone, sampling, frozen, adapter, request, steps, schedule
        predict, more = guided(predict, *given)
    if request.known is not None:
        given = schedule, request.mask, request.known, request.noise
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


def guided(predict, backbone, sampling, frozen, adapter, request, steps, schedule):
    """`predict` with the guides by the drawing, and arguments of the sampler.

    Steps with noise of their own are moved by their variance (Dhariwal & Nichol 2021,
    algorithm 1), others by a change of the predicted noise.
    """
    n, scales = len(request.start), sampling.guides
    text = jax.tree.map(lambda x: jnp.repeat(x[n:], n, axis=0), request.text)
    drawn = backbone.encode_image(frozen, request.sketches)
    found = guides.log_probabilities(adapter.guides, backbone, frozen, text, drawn)
    count = max(round(sampling.guided * len(steps.t)), 1)
    least = steps.t[count - 1]  # the last timestep that is guided

    def total(latents, clean, t):
        each = (
            scale * found[name](latents, clean, t)
            for name, scale in scales.items()
            if name != "lgp"
        )
        return sum(each, jnp.zeros(n))

    steered, more = predict, {}
    if set(scales) - {"lgp"}:
        if sampling.eta:
            slope = guidance.gradient(predict, schedule, total)
            shift = guidance.while_noisy(
                lambda latents, t: slope(latents, t)[1],
                lambda latents, t: jnp.zeros_like(latents),
                least,
            )
            more = {"shift": shift}
        else:
            steered = guidance.by_gradient(predict, schedule, total, 1.0)
    if "lgp" in scales:
        given = schedule, found["lgp"], scales["lgp"]
        steered = guidance.by_direction(steered, *given)
    return guidance.while_noisy(steered, predict, least), more
