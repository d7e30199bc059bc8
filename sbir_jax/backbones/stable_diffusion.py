"""Stable Diffusion 1.x and 2.x: a UNet, an autoencoder and CLIP's text encoder."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from sbir_jax.backbones.base import KV, Frozen, Residuals, Shifts
from sbir_jax.backbones.latent_space import LatentBackbone
from sbir_jax.backbones.tokenizers import (
    find_vocabulary,
    read_tokenizer,
    token_ids,
)
from sbir_jax.models import unet_names
from sbir_jax.models.clip_text import CLIPText, end_of_text, own_tokens, state_at
from sbir_jax.models.unet import UNet
from sbir_jax.types import Readout, TextStates


@dataclasses.dataclass(frozen=True, kw_only=True)
class StableDiffusion(LatentBackbone):
    """Stable Diffusion's networks, or others of their layout.

    Weights are under "unet", "vae" and "text_encoder"; parts that were not asked for at
    loading are missing. Names are those of `models.unet_names`.

    Attributes:
      words: the folder that its tokenizers' folders are in; None for a file of weights,
        which brings none.
    """

    words: pathlib.Path | None
    unet: UNet
    text_encoder: CLIPText

    @property
    def denoiser(self) -> Any:
        return self.unet

    @property
    def stride(self) -> int:
        return self.vae_factor * self.unet.config.stride

    @property
    def context_dim(self) -> int:
        return self.unet.config.cross_attention_dim

    @property
    def tap_names(self) -> tuple[str, ...]:
        return unet_names.tap_names(self.unet.config)

    @property
    def attention_names(self) -> tuple[str, ...]:
        return unet_names.attention_names(self.unet.config)

    @property
    def residual_names(self) -> tuple[str, ...]:
        return unet_names.residual_names(self.unet.config)

    @functools.cached_property
    def tokenizer(self) -> Any:
        """The checkpoint's CLIPTokenizer, read at first use."""
        return self._tokenizer("tokenizer", self.text_encoder)

    def _tokenizer(self, name: str, encoder: Any) -> Any:
        if self.words is not None:
            return read_tokenizer(self.words / name)
        # OpenCLIP's text encoders, which take the exact GELU, pad with id 0.
        padding = {"pad_token": "!"} if encoder.config.hidden_act == "gelu" else {}
        return read_tokenizer(find_vocabulary(self.folder.parent / name), **padding)

    def tokenize(self, texts: Sequence[str]) -> Any:
        """Token ids, int32 [b n], padded or cut to the text encoder's length."""
        return token_ids(self.tokenizer, texts)

    def encode_text(self, frozen: Frozen, tokens: Any) -> TextStates:
        """All states after the final norm; the pooled one is the end token's, without
        CLIP's projection."""
        weights = {"params": frozen["text_encoder"]}
        states = jnp.asarray(self.text_encoder.apply(weights, tokens), jnp.float32)
        pooled = state_at(states, end_of_text(tokens))
        return TextStates(states, own_tokens(tokens), pooled)

    def read(
        self,
        frozen: Frozen,
        latents: Float[Array, "b y x c"],
        t: ArrayLike,
        text: TextStates,
        *,
        taps: tuple[str, ...] = (),
        maps: tuple[str, ...] = (),
        logits: tuple[str, ...] = (),
        kv: KV | None = None,
        residuals: Residuals | None = None,
        kv_shift: Shifts | None = None,
        queries: tuple[str, ...] = (),
        outputs: tuple[str, ...] = (),
    ) -> Readout:
        context = text.states.astype(latents.dtype)
        found: Any = self.unet.apply(
            {"params": frozen["unet"]},
            latents,
            t,
            context,
            taps,
            maps,
            logits,
            kv,
            residuals,
            kv_shift,
            queries,
            outputs,
            **self._added(latents, text),
        )
        return dataclasses.replace(found, mask=text.mask)

    def _added(self, latents: Array, text: TextStates) -> dict[str, Any]:
        """What the UNet takes beside text states, by the names of its arguments."""
        return {}

    def keys(
        self, frozen: Frozen, text: TextStates, names: tuple[str, ...]
    ) -> dict[str, Float[Array, "s _ n _"]]:
        places, found = unet_names.places(self.unet.config), {}
        for name in names:
            weights = frozen["unet"]
            for part in (*places[name].path, "attn2"):
                weights = weights[part]
            kernel = weights["to_k"]["kernel"]
            keys = text.states.astype(kernel.dtype) @ kernel
            heads = keys.reshape(*keys.shape[:2], places[name].heads, -1)
            found[name] = heads.swapaxes(1, 2)
        return found
