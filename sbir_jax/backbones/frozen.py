"""What descriptors need of a diffusion model: its frozen networks, and text states."""

import os
import pathlib
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from sbir_jax import features
from sbir_jax.backbones.loading import Backbone, load_backbone
from sbir_jax.runtime import hardware, sharding

PARTS = ("unet", "vae_encoder", "text_encoder")

# Compiled once for a text encoder, not at every search with words.
_encode_text = jax.jit(features.encode_text, static_argnums=0)


def load_frozen(
    source: str | os.PathLike,
    taps: tuple[str, ...],
    mesh: Mesh,
    dtype: str,
    encoder: str = "",
) -> Backbone:
    """What descriptors need of a backbone, to be run only; see `load_backbone`.

    Args:
      dtype: "float32" or "bfloat16"; "" for what suits this machine.
    """
    return load_backbone(
        source,
        taps=taps,
        parts=PARTS,
        dtype=np.dtype(hardware.dtype_name(dtype)),
        sharding=sharding.frozen_rule(mesh),
        frozen=True,
        encoder=encoder,
    )


def load_whole(backbone: Backbone, mesh: Mesh) -> Backbone:
    """All of a backbone of which descriptors need a part, to draw with."""
    return load_backbone(
        backbone.folder,
        dtype=backbone.unet.dtype,
        sharding=sharding.frozen_rule(mesh),
        frozen=True,
    )


def lasting_name(given: str, shipped: str) -> str:
    """What means the same in another working directory: a path as an absolute one.

    Args:
      given: a path, a hub id, "" or `shipped`, the name of what comes with the package.
    """
    path = pathlib.Path(given).expanduser()
    local = given not in ("", shipped) and path.exists()
    return str(path.resolve()) if local else given


def tokenize(backbone: Backbone, texts: Sequence[str]) -> np.ndarray:
    """Token ids int32 [b, n], padded or cut to the text encoder's length."""
    tokenizer = backbone.tokenizer
    ids = tokenizer(
        list(texts),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
    )
    return np.asarray(ids["input_ids"], np.int32)


def text_states(backbone: Backbone, texts: Sequence[str]) -> Float[Array, "b n d"]:
    """What the UNet's cross-attention gets for these texts."""
    tokens = tokenize(backbone, texts)
    return _encode_text(backbone.text_encoder, backbone.params, tokens)
