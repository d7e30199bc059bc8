"""A distilled encoder in the place of a backbone's own: where it is, and writing one.

One folder in the layout of diffusers' AutoencoderTiny: a `config.json` and safetensors,
of which a decoder is left unread.
"""

import os
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from sbir_jax.backbones import diffusers_files, diffusers_writing, hub
from sbir_jax.backbones.diffusers_files import CONVERT, STEMS, TOYBOX
from sbir_jax.backbones.tensor_names import published
from sbir_jax.models.configs import AutoencoderConfig, TinyAutoencoderConfig
from sbir_jax.models.tiny_autoencoder import TinyAutoencoder
from sbir_jax.runtime.replacing import written_aside
from sbir_jax.runtime.tensor_files import save_tensors

STEM = STEMS["vae"]
TOYBOX_TINY = TOYBOX.with_name("toybox_sd_tiny")
WHERE = (
    "Give a local folder with an AutoencoderTiny (config.json and safetensors), a hub "
    "id such as madebyollin/taesd for Stable Diffusion 1.x and 2.x, or 'tiny' for "
    "'toybox'."
)


def find_encoder(encoder: str, backbone: pathlib.Path) -> pathlib.Path:
    """The local folder of "tiny", of a path or of a hub id ("owner/name@revision").

    Args:
      backbone: the folder of the backbone that it is for.
    Raises:
      FileNotFoundError: no such folder, repository or revision; says where to look.
      ValueError: "tiny" for another backbone than Toybox's; a repository without
        safetensors.
    """
    if encoder == "tiny":
        if backbone.resolve() != TOYBOX.resolve():
            raise ValueError(f"'tiny' is no encoder for {backbone}. {WHERE}")
        if not TOYBOX_TINY.is_dir():
            raise FileNotFoundError(
                f"no folder {TOYBOX_TINY}: this installation lacks Toybox's tiny "
                "encoder. Install again, or train it with tools/distill_encoder.py."
            )
        return TOYBOX_TINY
    return hub.find_folder(encoder, _cached, _choose, WHERE)


def _cached(source: str) -> pathlib.Path | None:
    config = hub.cached_file(source, "config.json")
    if config is None or not diffusers_files.is_whole(config.parent, STEM):
        return None
    return config.parent


def _choose(source: str, files: Iterable[str]) -> list[str]:
    weights = diffusers_files.choose_weights(files, STEM)
    if weights is None:
        raise ValueError(f"{source} has no {STEM}.safetensors. {WHERE} {CONVERT}")
    return ["config.json", weights]


def read_encoder(
    folder: pathlib.Path, own: AutoencoderConfig, dtype: Any
) -> tuple[TinyAutoencoder, dict[str, Any]]:
    """The network that a folder's `config.json` describes, and what is in that file.

    Args:
      own: of the autoencoder in whose place it is put.
    Raises: ValueError where its latents are not like those of `own`, and as
      `TinyAutoencoderConfig.from_json`; FileNotFoundError without a config.
    """
    content = diffusers_files.read_json(folder / "config.json")
    config = TinyAutoencoderConfig.from_json(content)
    for what in ("latent_channels", "factor", "in_channels"):
        ours, theirs = getattr(config, what), getattr(own, what)
        if ours != theirs:
            raise ValueError(
                f"the encoder in {folder} has {what} {ours}, but the backbone's own "
                f"has {theirs}: take one that was distilled for this backbone. {WHERE}"
            )
    return TinyAutoencoder(config, dtype), content


def save_encoder(
    folder: str | os.PathLike[str],
    config: dict[str, Any],
    params: dict[str, Any],
    dtype: Any = np.float16,
) -> None:
    """Write a folder that `load_backbone` takes as its encoder; it appears at once.

    Args:
      folder: replaced if it exists.
      config: contents of the `config.json`.
      params: complete parameters of a `TinyAutoencoder`.
      dtype: floating type of the tensors in the file.
    """
    with written_aside(folder) as aside:
        diffusers_writing.write_json(aside / "config.json", config)
        tensors = published(params, dtype)
        save_tensors(aside / f"{STEM}.safetensors", tensors)
