"""What diffusion models in the latent space of an autoencoder have in common."""

import abc
import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sbir_jax.backbones.base import Backbone, Frozen
from sbir_jax.models.autoencoder import Autoencoder
from sbir_jax.models.tiny_autoencoder import TinyAutoencoder


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentBackbone(Backbone, abc.ABC):
    """A backbone whose images go through an autoencoder, with weights under "vae"."""

    vae: Autoencoder | TinyAutoencoder

    @property
    @abc.abstractmethod
    def denoiser(self) -> Any:
        """The network that removes noise; it has a `dtype`, and a `config` with its
        `in_channels` and `sample_size`."""

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.denoiser.dtype)

    @property
    def image_size(self) -> int:
        return self.vae_factor * self.denoiser.config.sample_size

    def latent_shape(self, size: int) -> tuple[int, int, int]:
        side = size // self.vae_factor
        return side, side, self.denoiser.config.in_channels

    @property
    def scaling_factor(self) -> float:
        """The denoising network sees the autoencoder's latents, less its shift if it
        has one, times this."""
        return self.vae.config.scaling_factor

    @property
    def vae_factor(self) -> int:
        """Pixels along one side of a latent."""
        return self.vae.config.factor

    def encode_image(
        self, frozen: Frozen, images: Float[Array, "b h w 3"]
    ) -> Float[Array, "b y x c"]:
        """Float32 whatever the networks compute in: noise and frames are added to it.

        Raises ValueError unless height and width are multiples of `vae_factor`.
        """
        mean, _ = self.vae.apply({"params": frozen["vae"]}, images, method="encode")
        return (mean.astype(jnp.float32) - self.vae.config.shift) * self.scaling_factor

    def decode(
        self, frozen: Frozen, latents: Float[Array, "b y x c"]
    ) -> Float[Array, "b h w 3"]:
        """Raises KeyError where the decoder was not loaded, ValueError for a distilled
        encoder, which has none."""
        if isinstance(self.vae, TinyAutoencoder):
            raise ValueError(
                f"the encoder {self.encoder!r} brings no decoder: load the backbone "
                "with its own autoencoder to draw pictures"
            )
        latents = latents / self.scaling_factor + self.vae.config.shift
        images = self.vae.apply({"params": frozen["vae"]}, latents, method="decode")
        assert isinstance(images, Array)
        return images
