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

from sbir_jax.backbones.base import Backbone, Frozen, LoadedBackbone
from sbir_jax.backbones.frozen import encode_texts
from sbir_jax.data import images
from sbir_jax.diffusion import guidance as guidance_lib
from sbir_jax.diffusion import samplers
from sbir_jax.diffusion.noise_schedule import NoiseSchedule
from sbir_jax.runtime import hardware
from sbir_jax.types import TextStates


def generate(
    loaded: LoadedBackbone,
    texts: Sequence[str],
    seed: int = 0,
    guidance: float = 3.0,
    steps: int = 40,
) -> UInt8[np.ndarray, "n h w 3"]:
    """One picture of the backbone's native size for each text.

    Args:
      loaded: whole, the decoder too.
      guidance: scale of classifier-free guidance; 1 is none.
      steps: of deterministic DDIM.
    """
    backbone, frozen = loaded.backbone, loaded.frozen
    text = encode_texts(loaded, [*texts, ""])
    shape = (len(texts), *backbone.latent_shape(backbone.image_size))
    # The same pictures under every setting of JAX's random numbers.
    with jax.threefry_partitionable(True):
        key = jax.random.key(seed, impl="threefry2x32")
        noise = jax.random.normal(key, shape, jnp.float32)
    run = _program(hardware.device_of(frozen))
    stops = samplers.evenly(backbone.schedule, steps)
    found = run(backbone, frozen, backbone.schedule, noise, text, guidance, stops)
    return images.to_uint8(np.asarray(found))


@functools.cache
def _program(device: Any) -> Any:
    """Compiled once for a backbone, so many texts and steps, not at every search."""
    return hardware.jit(_generate, device, static_argnames="backbone")


def _generate(
    backbone: Backbone,
    frozen: Frozen,
    schedule: NoiseSchedule,
    noise: Float[Array, "n y x c"],
    text: TextStates,
    guidance: ArrayLike,
    stops: samplers.Steps,
) -> Float[Array, "n h w 3"]:
    """Pictures of all texts but the last, which stands for no text."""
    both = guidance_lib.without_and_with(text, len(noise))

    def predict(latents, t):
        return backbone.predict(frozen, latents, t, both)

    guided = guidance_lib.classifier_free(predict, guidance)
    latents = samplers.ddim(guided, schedule, noise, stops)
    return backbone.decode(frozen, latents)
