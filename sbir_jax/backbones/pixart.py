"""PixArt-alpha and PixArt-Sigma: a diffusion transformer, an autoencoder and T5."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from sbir_jax.backbones.base import KV, Frozen, Residuals, Shifts
from sbir_jax.backbones.tokenizers import read_tokenizer, token_ids
from sbir_jax.backbones.transformer_backbone import T5_PADDING, TransformerBackbone
from sbir_jax.models.pixart import CaptionProjection, PixArt
from sbir_jax.models.t5_text import T5Text
from sbir_jax.types import Readout, TextStates


@dataclasses.dataclass(frozen=True, kw_only=True)
class PixArtBackbone(TransformerBackbone):
    """PixArt's networks.

    Weights are under "unet" (the transformer), "vae" and "text_encoder".

    Attributes:
      text_length: tokens of each text, its end and padding among them.
    """

    transformer: PixArt
    text_encoder: T5Text
    text_length: int

    @property
    def context_dim(self) -> int:
        return self.transformer.config.caption_channels

    @functools.cached_property
    def tokenizer(self) -> Any:
        """The checkpoint's T5Tokenizer, read at first use."""
        return read_tokenizer(self.folder / "tokenizer", "T5Tokenizer")

    def tokenize(self, texts: Sequence[str]) -> Int[np.ndarray, "b n"]:
        """Token ids, int32, padded or cut to `text_length`; in small letters, as the
        networks were trained."""
        lowered = [text.lower().strip() for text in texts]
        return token_ids(self.tokenizer, lowered, self.text_length)

    def encode_text(self, frozen: Frozen, tokens: Int[Array, "b n"]) -> TextStates:
        """States with that of the end, which is the pooled one, on all padding.

        Padding is not attended to where the mask is known. Learned states, which have
        none, so start as what the network sees of an empty text: its end alone.
        """
        text = jnp.asarray(tokens) != T5_PADDING
        weights = {"params": frozen["text_encoder"]}
        states: Any = self.text_encoder.apply(weights, tokens, text)
        states = jnp.asarray(states, jnp.float32)
        end = text.sum(1)[:, None] - 1
        pooled = jnp.take_along_axis(states, end[:, :, None], axis=1)
        states = jnp.where(text[:, :, None], states, pooled)
        words = jnp.arange(tokens.shape[1])[None] < end
        return TextStates(states, words, pooled[:, 0])

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
        rows, columns = (self.vae_factor * side for side in latents.shape[1:3])
        found: Any = self.transformer.apply(
            {"params": frozen["unet"]},
            latents,
            t,
            text.states.astype(latents.dtype),
            attended(text),
            (rows, columns),
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
        c, weights, found = self.transformer.config, frozen["unet"], {}
        project = CaptionProjection(c.width, self.transformer.dtype)
        projected: Any = project.apply(
            {"params": weights["caption_projection"]}, text.states
        )
        for name in names:
            block = weights[f"transformer_blocks_{name.split('.')[1]}"]
            layer = block["attn2"]["to_k"]
            keys = projected @ layer["kernel"] + layer["bias"][None, None]
            heads = keys.reshape(*keys.shape[:2], c.num_attention_heads, -1)
            found[name] = heads.swapaxes(1, 2)
        return found


def attended(text: TextStates) -> Bool[Array, "s n"] | None:
    """The words of each text and the end after them; None for all positions."""
    if text.mask is None:
        return None
    positions = jnp.arange(text.mask.shape[1])[None]
    return positions <= text.mask.sum(1)[:, None]
