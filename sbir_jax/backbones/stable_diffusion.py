"""Stable Diffusion 1.x and 2.x: a UNet, an autoencoder and CLIP's text encoder."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from sbir_jax.backbones.base import KV, Frozen, Residuals, Shifts
from sbir_jax.backbones.latent_space import LatentBackbone
from sbir_jax.models import unet_names
from sbir_jax.models.clip_text import CLIPText
from sbir_jax.models.unet import UNet
from sbir_jax.types import Readout, TextStates


@dataclasses.dataclass(frozen=True, kw_only=True)
class StableDiffusion(LatentBackbone):
    """Stable Diffusion's networks, or others of their layout.

    Weights are under "unet", "vae" and "text_encoder"; parts that were not asked for at
    loading are missing. Names are those of `models.unet_names`.
    """

    unet: UNet
    text_encoder: CLIPText

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.unet.dtype)

    def latent_shape(self, size: int) -> tuple[int, int, int]:
        side = size // self.vae_factor
        return side, side, self.unet.config.in_channels

    @property
    def stride(self) -> int:
        return self.vae_factor * self.unet.config.stride

    @property
    def image_size(self) -> int:
        return self.vae_factor * self.unet.config.sample_size

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
        return self.read_tokenizer("CLIPTokenizer")

    def tokenize(self, texts: Sequence[str]) -> Int[np.ndarray, "b n"]:
        """Token ids, int32, padded or cut to the text encoder's length."""
        tokenizer = self.tokenizer
        ids = tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=tokenizer.model_max_length,
        )
        return np.asarray(ids["input_ids"], np.int32)

    def encode_text(self, frozen: Frozen, tokens: Int[Array, "b n"]) -> TextStates:
        """All states after the final norm; the pooled one is the end token's, without
        CLIP's projection."""
        weights = {"params": frozen["text_encoder"]}
        states = jnp.asarray(self.text_encoder.apply(weights, tokens), jnp.float32)
        # The end token has the highest id of all; where it pads as well, the first one
        # ends the text.
        end = jnp.argmax(tokens, axis=1)[:, None]
        position = jnp.arange(tokens.shape[1])[None]
        pooled = jnp.take_along_axis(states, end[:, :, None], axis=1)[:, 0]
        return TextStates(states, (0 < position) & (position < end), pooled)

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
        )
        return dataclasses.replace(found, mask=text.mask)

    def keys(
        self, frozen: Frozen, text: TextStates, names: tuple[str, ...]
    ) -> dict[str, Float[Array, "s _ n _"]]:
        c, found = self.unet.config, {}
        last = len(c.heads) - 1
        for name in names:
            side, *block, _, number, _ = name.split(".")
            i = int(block[0]) if block else 0
            level = {"down": i, "mid": last, "up": last - i}[side]
            weights = frozen["unet"][f"{side}_blocks_{i}" if block else "mid_block"]
            for part in (f"attentions_{number}", "transformer_blocks_0", "attn2"):
                weights = weights[part]
            kernel = weights["to_k"]["kernel"]
            keys = text.states.astype(kernel.dtype) @ kernel
            heads = keys.reshape(*keys.shape[:2], c.heads[level], -1)
            found[name] = heads.swapaxes(1, 2)
        return found
