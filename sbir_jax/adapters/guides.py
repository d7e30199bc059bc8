"""Steering a frozen sampler towards a drawing by gradients: three guides.

`lgp`         predicts the drawing's latents from the denoiser's own features
`classifier`  a probe on them: the picture's classes should be the drawing's
`distance`    from the drawing, of what the clean latents that a step implies give

Nothing of the denoiser is trained. The first is after Voynov et al. (SIGGRAPH 2023);
the other two are ours, in the spirit of DiffSketching (BMVC 2022): it names a
classifier's gradient and a distance of features between sketch and picture. A guide is
a logarithm of probability, up to a constant, as `diffusion.guidance` takes it.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from sbir_jax.backbones.base import Backbone, Frozen
from sbir_jax.diffusion import guidance, noise_schedule
from sbir_jax.diffusion.guidance import LogProbability
from sbir_jax.models.guide_networks import (
    ClassProbe,
    LatentGuidancePredictor,
    StrokeReader,
)
from sbir_jax.types import TextStates

GUIDES = ("lgp", "classifier", "distance")


@dataclasses.dataclass(frozen=True)
class GuideNetworks:
    """Attributes:
    taps: what features are read at: the end of each block of the denoiser.
    """

    taps: tuple[str, ...]
    lgp: LatentGuidancePredictor
    classifier: ClassProbe
    distance: StrokeReader


def networks(backbone: Backbone, classes: int) -> GuideNetworks:
    """Those that fit a backbone and so many classes."""
    channels = backbone.latent_shape(backbone.image_size)[-1]
    taps = tuple(name for name in backbone.tap_names if name.endswith(".out"))
    return GuideNetworks(
        taps,
        LatentGuidancePredictor(channels),
        ClassProbe(classes),
        StrokeReader(channels),
    )


def init_guides(
    backbone: Backbone, frozen: Frozen, classes: int, key: Array
) -> dict[str, Any]:
    """Parameters of each guide, by name."""
    nets = networks(backbone, classes)
    latents = jnp.zeros((1, *backbone.latent_shape(backbone.image_size)))
    text = TextStates(jnp.zeros((1, 1, backbone.context_dim)))

    def read(frozen):
        return features(backbone, frozen, nets.taps, latents, jnp.zeros(1, int), text)

    shape = jax.eval_shape(read, frozen)[0].shape
    about, keys = jnp.zeros(shape), jax.random.split(key, 3)
    return {
        "lgp": nets.lgp.init(keys[0], about, jnp.ones(1))["params"],
        "classifier": nets.classifier.init(keys[1], about)["params"],
        "distance": nets.distance.init(keys[2], latents)["params"],
    }


def classes_of(guides: Mapping[str, Any]) -> int:
    """How many classes the probe was trained on."""
    return guides["classifier"]["out"]["bias"].shape[0]


def features(
    backbone: Backbone,
    frozen: Frozen,
    taps: tuple[str, ...],
    latents: Float[Array, "b y x c"],
    t: Num[Array, " b"],
    text: TextStates,
) -> tuple[Float[Array, "b y x f"], Float[Array, "b y x c"]]:
    """Activations of all levels at the side of the latents, and the prediction."""
    found = backbone.read(frozen, latents, t, text, taps=(*taps, "out")).taps
    shape = latents.shape[1:3]
    rows = []
    for name in taps:
        x = found[name].astype(jnp.float32)
        rows.append(jax.image.resize(x, (*x.shape[:1], *shape, x.shape[-1]), "linear"))
    return jnp.concatenate(rows, -1), found["out"].astype(jnp.float32)


def losses(
    nets: GuideNetworks,
    guides: Mapping[str, Any],
    backbone: Backbone,
    frozen: Frozen,
    noised: Float[Array, "b y x c"],
    t: Int[Array, " b"],
    text: TextStates,
    drawn: Float[Array, "b y x c"],
    labels: Int[Array, " b"],
    photo: Float[Array, " b"],
) -> dict[str, Float[Array, ""]]:
    """What each guide is trained by: mean square error of latents, cross-entropy of
    classes, in nats.

    Args:
      noised: latents of photos or of drawings at step t.
      drawn: latents of the drawings of these.
      photo: 1 for photos, 0 for drawings: only classes are read from both.
    """
    seen, said = features(backbone, frozen, nets.taps, noised, t, text)
    seen, said = jax.lax.stop_gradient((seen, said))
    alpha = backbone.schedule.alphas_cumprod[t]
    level = alpha[:, None, None, None]
    clean, _ = noise_schedule.split(backbone.schedule, noised, said, level)

    def error(found):
        square = jnp.square(found - drawn).mean((1, 2, 3))
        return (photo * square).sum() / jnp.maximum(photo.sum(), 1)

    logits = nets.classifier.apply({"params": guides["classifier"]}, seen)
    chances: Any = jax.nn.log_softmax(logits)  # pyright: ignore
    named = jnp.take_along_axis(chances, labels[:, None], 1)[:, 0]
    return {
        "lgp": error(nets.lgp.apply({"params": guides["lgp"]}, seen, alpha)),
        "classifier": -named.mean(),
        "distance": error(nets.distance.apply({"params": guides["distance"]}, clean)),
    }


def log_probabilities(
    guides: Mapping[str, Any],
    backbone: Backbone,
    frozen: Frozen,
    text: TextStates,
    drawn: Float[Array, "b y x c"],
) -> dict[str, LogProbability]:
    """Each guide towards these drawings, by name.

    The denoiser is read once more for `lgp` and for `classifier`, without whatever
    else steers the sampler. Errors are of all channels of a place on average, summed
    over places; the drawing's classes are what the probe says of itself.

    Args:
      text: of each picture, or one for all of them.
      drawn: latents of the drawings.
    """
    nets = networks(backbone, classes_of(guides))
    count = len(drawn)

    def read(latents, t):
        steps = jnp.full(count, t)
        return features(backbone, frozen, nets.taps, latents, steps, text)[0]

    def logits(latents, t):
        return nets.classifier.apply({"params": guides["classifier"]}, read(latents, t))

    def error(found):
        return -0.5 * jnp.square(found - drawn).mean(-1).sum((1, 2))

    wanted: Any = jax.nn.softmax(logits(drawn, 0))  # pyright: ignore

    def lgp(latents, clean, t):
        seen = read(latents, t)
        levels = jnp.full(count, guidance.level(backbone.schedule, t))
        return error(nets.lgp.apply({"params": guides["lgp"]}, seen, levels))

    def classifier(latents, clean, t):
        chances: Any = jax.nn.log_softmax(logits(latents, t))  # pyright: ignore
        return (wanted * chances).sum(-1)

    def distance(latents, clean, t):
        return error(nets.distance.apply({"params": guides["distance"]}, clean))

    return {"lgp": lgp, "classifier": classifier, "distance": distance}
