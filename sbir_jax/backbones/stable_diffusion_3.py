"""Stable Diffusion 3 and 3.5: a diffusion transformer, two of CLIP's text encoders, T5.

T5 is most of a checkpoint and may be missing: zeros then stand for its states, as in
the pipeline. Training left out each text encoder now and then, and put zeros in its
place (Esser et al. 2024, "Flexible text encoders").
"""

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
from sbir_jax.diffusion import flow_schedule
from sbir_jax.models.clip_text import ProjectedCLIPText, own_tokens
from sbir_jax.models.mmdit import MMDiT
from sbir_jax.models.t5_text import T5Text
from sbir_jax.types import Readout, TextStates

T5_LENGTH = 256  # tokens of T5's text, by the pipeline; zeros where T5 is missing


@dataclasses.dataclass(frozen=True, kw_only=True)
class StableDiffusion3(TransformerBackbone):
    """Stable Diffusion 3's networks.

    Weights are under "unet" (the transformer), "vae", "text_encoder", "text_encoder_2"
    and, unless the checkpoint came without T5, "text_encoder_3".
    """

    transformer: MMDiT
    text_encoder: ProjectedCLIPText
    text_encoder_2: ProjectedCLIPText
    text_encoder_3: T5Text | None

    @property
    def context_dim(self) -> int:
        return self.transformer.config.joint_attention_dim

    @property
    def text_length(self) -> int:
        """Tokens of CLIP's texts."""
        return self.text_encoder.config.max_position_embeddings

    @functools.cached_property
    def tokenizer(self) -> Any:
        """The first text encoder's CLIPTokenizer, read at first use."""
        return read_tokenizer(self.folder / "tokenizer")

    @functools.cached_property
    def tokenizer_2(self) -> Any:
        """The second text encoder's CLIPTokenizer, which fills up otherwise."""
        return read_tokenizer(self.folder / "tokenizer_2")

    @functools.cached_property
    def tokenizer_3(self) -> Any:
        """T5's tokenizer."""
        return read_tokenizer(self.folder / "tokenizer_3", "T5Tokenizer")

    def tokenize(self, texts: Sequence[str]) -> Int[np.ndarray, "b n"]:
        """Token ids, int32: those of both of CLIP's texts, then those of T5's."""
        found = [
            token_ids(tokenizer, texts, self.text_length)
            for tokenizer in (self.tokenizer, self.tokenizer_2)
        ]
        if self.text_encoder_3 is not None:
            found.append(token_ids(self.tokenizer_3, texts, T5_LENGTH))
        return np.concatenate(found, axis=1)

    def encode_text(self, frozen: Frozen, tokens: Int[Array, "b n"]) -> TextStates:
        """CLIP's states before the last layer, of both encoders side by side and zeros
        up to the width of T5's, and after them T5's states of `T5_LENGTH` tokens.

        Pooled are both encoders' projections of the text. Padding is attended to, as in
        the pipeline; the mask says what is no padding.
        """
        n = self.text_length
        first, second, third = jnp.split(jnp.asarray(tokens), (n, 2 * n), axis=1)
        clip: Any = [
            encoder.apply({"params": frozen[name]}, ids)
            for name, encoder, ids in (
                ("text_encoder", self.text_encoder, first),
                ("text_encoder_2", self.text_encoder_2, second),
            )
        ]
        states = jnp.concatenate([states for states, _ in clip], axis=-1)
        missing = self.context_dim - states.shape[-1]
        states = jnp.pad(states, ((0, 0), (0, 0), (0, missing)))
        told, words = self._t5(frozen, third)
        states = jnp.concatenate([states, told.astype(states.dtype)], axis=1)
        mask = jnp.concatenate([own_tokens(first), words], axis=1)
        pooled = jnp.concatenate([pooled for _, pooled in clip], axis=-1)
        return TextStates(states.astype(jnp.float32), mask, pooled.astype(jnp.float32))

    def _t5(
        self, frozen: Frozen, tokens: Int[Array, "b n"]
    ) -> tuple[Float[Array, "b m d"], Bool[Array, "b m"]]:
        """T5's states, and which of them are of words."""
        if self.text_encoder_3 is None:
            shape = len(tokens), T5_LENGTH
            return jnp.zeros((*shape, self.context_dim)), jnp.zeros(shape, bool)
        weights = {"params": frozen["text_encoder_3"]}
        everything = jnp.ones(tokens.shape, bool)
        states: Any = self.text_encoder_3.apply(weights, tokens, everything)
        end = (tokens != T5_PADDING).sum(1)[:, None] - 1
        return states, jnp.arange(tokens.shape[1])[None] < end

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
        pooled = text.pooled
        if pooled is None:  # learned states are of no words
            pooled = jnp.zeros((1, self.transformer.config.pooled_projection_dim))
        found: Any = self.transformer.apply(
            {"params": frozen["unet"]},
            latents,
            flow_schedule.told(self.schedule, t),
            text.states.astype(latents.dtype),
            pooled,
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
        """Raises ValueError: keys of a text hang on the picture and on the timestep."""
        raise ValueError(
            f"{self.source} makes no keys of a text alone: its text attends to the "
            "picture. Ask `read` for the logits of that text, or take a model with "
            "cross-attention (sbir models lists them)"
        )
