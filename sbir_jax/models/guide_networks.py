"""Small networks that read what a frozen denoiser sees: strokes, and classes.

Their gradients steer a sampler, see `adapters.guides`. Layer norms stand where the
papers have batch norms: no picture's gradient depends on what is drawn beside it.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

HIDDEN = (512, 256, 128, 64)  # Voynov et al. 2023, section 3.1
LEVELS = 32  # sines and cosines of the noise level
WIDTH, LAYERS = 64, 3  # of `StrokeReader`; ours


class LatentGuidancePredictor(nn.Module):
    """Of each place by itself the latent of the drawing, from all levels' features.

    After Voynov et al., Sketch-Guided Text-to-Image Diffusion Models (SIGGRAPH 2023):
    an MLP on the features of all levels, brought to one side, and the noise level.
    """

    channels: int

    @nn.compact
    def __call__(
        self, features: Float[Array, "b y x f"], noise: Float[Array, " b"]
    ) -> Float[Array, "b y x c"]:
        """`noise` is `alphas_cumprod` at each one's timestep."""
        waves = noise[:, None] * (jnp.pi * 2.0 ** jnp.arange(LEVELS // 2) / 8)[None]
        level = jnp.concatenate([jnp.sin(waves), jnp.cos(waves)], -1)[:, None, None]
        level = jnp.broadcast_to(level, (*features.shape[:3], LEVELS))
        x = jnp.concatenate([nn.LayerNorm(name="norm")(features), level], -1)
        for i, width in enumerate(HIDDEN):
            x = nn.Dense(width, name=f"dense_{i}")(x)
            x = nn.relu(nn.LayerNorm(name=f"norm_{i}")(x))
        return nn.Dense(self.channels, name="out")(x)


class ClassProbe(nn.Module):
    """Logits of classes, linear in the mean of the features over all places."""

    classes: int

    @nn.compact
    def __call__(self, features: Float[Array, "b y x f"]) -> Float[Array, "b k"]:
        x = nn.LayerNorm(name="norm")(features.mean((1, 2)))
        return nn.Dense(self.classes, name="out")(x)


class StrokeReader(nn.Module):
    """The drawing's latents from clean latents of a photo: a few convolutions."""

    channels: int

    @nn.compact
    def __call__(self, clean: Float[Array, "b y x c"]) -> Float[Array, "b y x c"]:
        x = nn.Conv(WIDTH, (3, 3), name="first")(clean)
        for i in range(LAYERS):
            y = nn.relu(nn.Conv(WIDTH, (3, 3), name=f"wide_{i}")(nn.relu(x)))
            x = x + nn.Conv(WIDTH, (1, 1), name=f"thin_{i}")(y)
        return nn.Conv(self.channels, (3, 3), name="out")(x)
