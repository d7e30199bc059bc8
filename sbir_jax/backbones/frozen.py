"""What descriptors need of a diffusion model: its frozen networks, and text states."""

import functools
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from sbir_jax.backbones import known, sanity
from sbir_jax.backbones.base import Backbone, LoadedBackbone
from sbir_jax.backbones.loading import load_backbone
from sbir_jax.backbones.request import Taps, chosen
from sbir_jax.runtime import hardware, sharding
from sbir_jax.types import TextStates

PARTS = ("unet", "vae_encoder", "text_encoder")


def load_frozen(
    source: str | os.PathLike,
    taps: Taps,
    mesh: Mesh,
    dtype: str,
    encoder: str = "",
) -> LoadedBackbone:
    """What descriptors need of a backbone, to be run only; see `load_backbone`.

    Args:
      dtype: "float32" or "bfloat16"; "" for what suits the mesh's devices.
    Raises: ValueError as `sanity.check`, too.
    """
    loaded = load_backbone(
        source,
        taps=taps,
        parts=PARTS,
        dtype=np.dtype(hardware.dtype_name(dtype, mesh.local_devices[0])),
        sharding=sharding.frozen_rule(mesh),
        frozen=True,
        encoder=encoder,
    )
    sanity.check(loaded, chosen(taps, loaded.backbone.tap_names))
    return loaded


def load_whole(backbone: Backbone, mesh: Mesh) -> LoadedBackbone:
    """All of a backbone of which descriptors need a part, to draw with.

    Raises: ValueError for one that draws nothing: with random weights, in whose place
      the trained ones of its folder would stand, and without noise.
    """
    if backbone.reads_clean:
        raise ValueError(
            f"{backbone.source} reads images without noise and draws none; take the "
            "model that it was distilled from"
        )
    if backbone.random_seed is not None:
        raise ValueError(
            f"{backbone.source}: random weights have learnt no words and draw no "
            "pictures for them; search with drawings or photos, or take a run with "
            "trained weights"
        )
    return load_backbone(
        backbone.folder,
        dtype=backbone.dtype,
        sharding=sharding.frozen_rule(mesh),
        frozen=True,
    )


def lasting_name(given: str, shipped: str) -> str:
    """What means the same in another working directory, and in a later version: a path
    as an absolute one, a short name as the hub id.

    Args:
      given: a path, a hub id, a short name, "" or `shipped`, the name of what comes
        with the package.
    """
    path = pathlib.Path(given).expanduser()
    local = given not in ("", shipped) and path.exists()
    return str(path.resolve()) if local else known.spelled_out(given)


@functools.lru_cache(maxsize=4)
def _text_program(backbone: Backbone, device: Any) -> Any:
    """Compiled once for a text encoder, not at every search with words.

    As XLA compiles by default: prompts start from the states of a text, and
    fingerprints are of their very bits, which other options change.
    """
    return hardware.jit(backbone.encode_text, device, tuned=False)


def encode_texts(loaded: LoadedBackbone, texts: Sequence[str]) -> TextStates:
    """What the backbone's cross-attention gets for these texts."""
    backbone, frozen = loaded.backbone, loaded.frozen
    run = _text_program(backbone, hardware.device_of(frozen))
    return run(frozen, backbone.tokenize(texts))


def text_states(loaded: LoadedBackbone, texts: Sequence[str]) -> Float[Array, "b n d"]:
    """The states alone, as prompts start from them."""
    return encode_texts(loaded, texts).states
