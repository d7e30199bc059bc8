"""Stable Diffusion XL, its turbo and its distilled kin: two text encoders, and sizes.

The states of both texts are joined; the second encoder's projection of the text, and
the sizes of the image, are added to the time embedding.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from sbir_jax.backbones.base import Frozen, LoadedBackbone
from sbir_jax.backbones.request import Request
from sbir_jax.backbones.stable_diffusion import StableDiffusion
from sbir_jax.backbones.stable_diffusion_files import (
    Checkpoint,
    assemble_as,
    check_fit,
    open_folder,
)
from sbir_jax.backbones.tokenizers import token_ids
from sbir_jax.models.autoencoder import Autoencoder
from sbir_jax.models.clip_text import CLIPText, ProjectedCLIPText, own_tokens
from sbir_jax.models.configs import (
    AutoencoderConfig,
    CLIPTextConfig,
    ProjectedCLIPTextConfig,
)
from sbir_jax.models.unet import UNet
from sbir_jax.models.unet_config import UNetConfig
from sbir_jax.types import TextStates


@dataclasses.dataclass(frozen=True, kw_only=True)
class StableDiffusionXL(StableDiffusion):
    """Stable Diffusion XL's networks; weights of the second text encoder are under
    "text_encoder_2"."""

    text_encoder_2: ProjectedCLIPText

    @functools.cached_property
    def tokenizer_2(self) -> Any:
        """The second text encoder's CLIPTokenizer, which fills up otherwise."""
        return self._tokenizer("tokenizer_2", self.text_encoder_2)

    def tokenize(self, texts: Sequence[str]) -> Any:
        """Token ids, int32 [b 2 n], for each text encoder."""
        both = (self.tokenizer, self.tokenizer_2)
        return np.stack([token_ids(tokenizer, texts) for tokenizer in both], axis=1)

    def encode_text(self, frozen: Frozen, tokens: Any) -> TextStates:
        """The states before either encoder's last layer, joined; pooled is the second
        encoder's projection."""
        ours, theirs = tokens[:, 0], tokens[:, 1]
        weights = {"params": frozen["text_encoder"]}
        first: Any = self.text_encoder.apply(weights, ours, method="both")
        weights = {"params": frozen["text_encoder_2"]}
        second: Any = self.text_encoder_2.apply(weights, theirs)
        states = jnp.concatenate([first[0], second[0]], axis=-1)
        pooled = second[1].astype(jnp.float32)
        return TextStates(states.astype(jnp.float32), own_tokens(ours), pooled)

    def _added(self, latents: Array, text: TextStates) -> dict[str, Array]:
        """Images as they would be if nothing had been cut off or made larger. Learned
        states are of no words: zeros stand for them, as in its own pipeline for a text
        that is not given."""
        pooled = text.pooled
        if pooled is None:
            pooled = jnp.zeros((1, self.unet.config.pooled_dim))
        height, width = (side * self.vae_factor for side in latents.shape[1:3])
        sizes = jnp.array([[height, width, 0, 0, height, width]], jnp.float32)
        return {"pooled": pooled, "sizes": sizes}


def load(folder: pathlib.Path, request: Request) -> LoadedBackbone:
    """What `load_backbone` gives, of a folder with Stable Diffusion XL's networks."""
    return assemble(open_folder(folder, ("text_encoder_2",)), request)


def assemble(checkpoint: Checkpoint, request: Request) -> LoadedBackbone:
    """Stable Diffusion XL's networks with their weights."""
    return assemble_as(StableDiffusionXL, build_networks, checkpoint, request)


def build_networks(configs: dict[str, dict[str, Any]], dtype: Any) -> dict[str, Any]:
    """The four networks, from the contents of their configs under their names.

    Raises ValueError on a config we cannot follow, and on configs that do not fit.
    """
    unet = UNetConfig.from_json(configs["unet"])
    vae = AutoencoderConfig.from_json(configs["vae"])
    first = CLIPTextConfig.from_json(configs["text_encoder"])
    second = ProjectedCLIPTextConfig.from_json(configs["text_encoder_2"])
    check_fit(unet, vae, first.hidden_size + second.hidden_size)
    if unet.pooled_dim != second.projection_dim:
        raise ValueError(
            f"unet/config.json asks for a pooled text of {unet.pooled_dim} channels "
            "beside six sizes (addition_embed_type, addition_time_embed_dim, "
            "projection_class_embeddings_input_dim), but text_encoder_2/config.json "
            f"has projection_dim={second.projection_dim}: take both from the same "
            "checkpoint; the refiner, which takes a score, is not supported"
        )
    # Activations of its first autoencoder are beyond the range of float16.
    wide = configs["vae"].get("force_upcast") is not False
    return {
        "unet": UNet(unet, dtype),
        "vae": Autoencoder(vae, jnp.float32 if wide else dtype),
        "text_encoder": CLIPText(first, dtype),
        "text_encoder_2": ProjectedCLIPText(second, dtype),
    }
