"""What a frozen diffusion model is, once it is loaded."""

import dataclasses
import functools
import logging
import pathlib
from typing import Any

from sbir_jax.diffusion.noise_schedule import NoiseSchedule
from sbir_jax.models.autoencoder import Autoencoder
from sbir_jax.models.clip_text import CLIPText
from sbir_jax.models.tiny_autoencoder import TinyAutoencoder
from sbir_jax.models.unet import UNet


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A frozen text-to-image diffusion model.

    Attributes:
      source: what it was loaded from, as given.
      folder: where its files are.
      encoder: what its encoder was loaded from, as given; "" for its own.
      fingerprint: sha256 (hex) over all tensors and configs in the checkpoint, the
        same wherever the folder lies and however much of it was loaded. Another
        encoder counts in the place of the checkpoint's own.
      params: parameter trees under "unet", "vae" and "text_encoder", for
        `unet.apply({"params": params["unet"]}, ...)`. Parts that were not asked for
        are missing.
      schedule: the noise schedule the UNet was trained with.
    """

    source: str
    folder: pathlib.Path
    fingerprint: str
    unet: UNet
    vae: Autoencoder | TinyAutoencoder
    text_encoder: CLIPText
    params: dict[str, Any]
    schedule: NoiseSchedule
    encoder: str = ""

    @property
    def scaling_factor(self) -> float:
        """The UNet sees the autoencoder's latents times this."""
        return self.vae.config.scaling_factor

    @property
    def vae_factor(self) -> int:
        """Pixels along one side of a latent."""
        return self.vae.config.factor

    def latent_shape(self, size: int) -> tuple[int, int, int]:
        """[y, x, c] of the latent of an image of `size` pixels."""
        side = size // self.vae_factor
        return side, side, self.unet.config.in_channels

    @property
    def stride(self) -> int:
        """Image height and width must be multiples of this many pixels."""
        return self.vae_factor * self.unet.config.stride

    @property
    def image_size(self) -> int:
        """Side of the images the UNet was trained on, in pixels."""
        return self.vae_factor * self.unet.config.sample_size

    @property
    def context_dim(self) -> int:
        """Width of the text states."""
        return self.unet.config.cross_attention_dim

    @functools.cached_property
    def tokenizer(self) -> Any:
        """The checkpoint's CLIPTokenizer, read at first use."""
        path = self.folder / "tokenizer"
        if not path.is_dir():
            raise FileNotFoundError(
                f"no folder {path}: this checkpoint has no tokenizer"
            )
        # Tokenizers work without PyTorch, so being told of its absence helps nobody.
        logging.getLogger("transformers").addFilter(
            lambda record: "PyTorch was not found" not in record.getMessage()
        )
        from transformers import CLIPTokenizer

        return CLIPTokenizer.from_pretrained(path)
