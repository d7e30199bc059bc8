"""Pictures from words: what the frozen backbone can draw, it can also recognise.

images = generate(load_backbone("toybox"), ["a photo of a red mug"])
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from sbir_jax import diffusion
from sbir_jax.data import images
from sbir_jax.frozen import text_states
from sbir_jax.weights import Backbone


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

    @jax.jit
    def run(params, noise, states):
        def predict(latents, t, context):
            taps, _ = backbone.unet.apply(
                {"params": params["unet"]}, latents, t, context
            )
            return taps["out"]

        empty = jnp.broadcast_to(states[-1:], states[:-1].shape)
        guided = diffusion.guided(predict, states[:-1], empty, guidance)
        latents = diffusion.ddim_sample(guided, backbone.schedule, noise, steps)
        return backbone.vae.apply(
            {"params": params["vae"]},
            latents / backbone.scaling_factor,
            method="decode",
        )

    noise = jax.random.normal(jax.random.key(seed), shape)
    return images.to_uint8(np.asarray(run(backbone.params, noise, states)))
