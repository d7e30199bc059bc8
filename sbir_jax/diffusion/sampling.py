"""Pictures from words: what the frozen backbone can draw, it can also recognise.

images = generate(load_backbone("toybox"), ["a photo of a red mug"])
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, UInt8

from sbir_jax.backbones.frozen import text_states
from sbir_jax.backbones.loading import Backbone
from sbir_jax.data import images
from sbir_jax.diffusion import noise_schedule
from sbir_jax.models.autoencoder import Autoencoder
from sbir_jax.models.unet import UNet
from sbir_jax.runtime import hardware


def generate(
    backbone: Backbone,
    texts: Sequence[str],
    seed: int = 0,
    guidance: float = 3.0,
    steps: int = 40,
) -> UInt8[np.ndarray, "n h w 3"]:
    """One picture of the backbone's native size for each text.

    Args:
      backbone: loaded whole, the decoder too.
      guidance: scale of classifier-free guidance; 1 is none.
      steps: of deterministic DDIM.
    """
    states = text_states(backbone, [*texts, ""])
    side = backbone.unet.config.sample_size
    shape = (len(texts), side, side, backbone.unet.config.in_channels)
    noise = jax.random.normal(jax.random.key(seed), shape)
    given = backbone.params, backbone.schedule, noise, states, guidance
    found = _program()(backbone.unet, backbone.vae, steps, *given)
    return images.to_uint8(np.asarray(found))


@functools.cache
def _program() -> Any:
    """Compiled once for a backbone and so many texts, not at every search."""
    return hardware.jit(_generate, static_argnames=("unet", "vae", "steps"))


def _generate(
    unet: UNet,
    vae: Autoencoder,
    steps: int,
    params: dict,
    schedule: noise_schedule.NoiseSchedule,
    noise: Float[Array, "n y x c"],
    states: Float[Array, "n+1 t d"],
    guidance: ArrayLike,
) -> Float[Array, "n h w 3"]:
    def predict(latents, t, context):
        taps, _ = unet.apply({"params": params["unet"]}, latents, t, context)
        return taps["out"]

    empty = jnp.broadcast_to(states[-1:], states[:-1].shape)
    guided = noise_schedule.guided(predict, states[:-1], empty, guidance)
    latents = noise_schedule.ddim_sample(guided, schedule, noise, steps)
    latents = latents / vae.config.scaling_factor
    images = vae.apply({"params": params["vae"]}, latents, method="decode")
    assert isinstance(images, Array)
    return images
