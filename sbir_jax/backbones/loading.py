"""A frozen backbone from a folder or hub id, straight to its devices."""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from sbir_jax.backbones import (
    known,
    pixart_files,
    single_file,
    stable_diffusion_3_files,
    stable_diffusion_files,
    stable_diffusion_xl,
)
from sbir_jax.backbones.base import LoadedBackbone
from sbir_jax.backbones.diffusers_files import TRANSFORMER, find_folder, read_json
from sbir_jax.backbones.parameters import Placing, Sharding, ShardingRule, redrawn
from sbir_jax.backbones.request import Request, Taps

PARTS = ("unet", "vae_encoder", "vae_decoder", "text_encoder")

# Loaders by the class that a folder's model_index.json names: of a local folder and a
# request. A new family is a file and a line here.
FAMILIES: dict[str, Callable[[pathlib.Path, Request], LoadedBackbone]] = {
    "StableDiffusionPipeline": stable_diffusion_files.load,
    "StableDiffusionXLPipeline": stable_diffusion_xl.load,
    "StableDiffusion3Pipeline": stable_diffusion_3_files.load,
    **dict.fromkeys(pixart_files.TEXT_LENGTHS, pixart_files.load),
}


def load_backbone(
    source: str | os.PathLike[str],
    *,
    taps: Taps = ("out",),
    maps: tuple[str, ...] = (),
    parts: tuple[str, ...] = PARTS,
    dtype: Any = jnp.float32,
    sharding: Sharding | ShardingRule | None = None,
    frozen: bool = False,
    encoder: str = "",
) -> LoadedBackbone:
    """Load what the given features need of a diffusion model, and nothing more.

    Args:
      source: a short name of `known.MODELS` ("toybox" comes with the package), a local
        folder in the diffusers layout, or a hub id "owner/name", optionally with
        "@revision"; or a safetensors file of a whole Stable Diffusion, here or as
        "owner/name/file.safetensors".
      taps, maps: what will be read, by its name; the denoising network is loaded up to
        the last of them. Taps may be a function that picks them out of all names that
        the backbone turns out to have. Maps stand for logits, too.
      parts: any of "unet", "vae_encoder", "vae_decoder", "text_encoder".
      dtype: of the parameters and of the computation.
      sharding: where parameters go; one for all, or a rule called with a path such as
        "unet/conv_in/kernel" and a shape. The default device without it.
      frozen: the parameters will only be run, neither trained nor saved, so they may
        take the form that runs fastest on their devices.
      encoder: a distilled encoder in the place of the checkpoint's own, whose weights
        are then not read: "tiny" (comes with "toybox"), a local folder with an
        AutoencoderTiny, or a hub id of one; "" for the checkpoint's own.

    Raises:
      FileNotFoundError: something is not there; says what and where to get it.
      ValueError: a config, the names or shapes of tensors, or a file are not right.
    """
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        raise ValueError(f"unknown parts {unknown}; known are {PARTS}")
    if encoder and "vae_decoder" in parts:
        raise ValueError(
            f"encoder {encoder!r} brings no decoder: leave 'vae_decoder' out of parts"
        )
    known.check_backbone(source)
    source = known.spelled_out(source)
    placing = Placing(dtype, sharding, frozen)
    request = Request(source, taps, maps, parts, encoder, placing)
    if file := single_file.find(source):
        return single_file.load(file, request)
    folder = find_folder(source)
    return _loader(folder)(folder, request)


def _loader(folder: pathlib.Path) -> Callable[[pathlib.Path, Request], LoadedBackbone]:
    """What loads a folder, by its pipeline. Many pipelines share Stable Diffusion's
    networks, which refuses what it cannot load.

    Raises: ValueError for a transformer of a family that is not known.
    """
    index, kind = folder / "model_index.json", None
    if index.is_file():
        kind = read_json(index).get("_class_name")
    own = FAMILIES.get(str(kind))
    if own is None and (folder / TRANSFORMER).is_dir():
        raise ValueError(
            f"{index}: _class_name is {kind!r}, whose transformer is not read; known "
            f"are {', '.join(FAMILIES)}. Take a model of one of these"
        )
    return own or stable_diffusion_files.load


def random_backbone(like: LoadedBackbone, seed: int) -> LoadedBackbone:
    """The same backbone with random weights, of the same parts, type and placement."""
    source = like.backbone
    fingerprint = hashlib.sha256(f"random {seed} {source.fingerprint}".encode())
    backbone = dataclasses.replace(
        source,
        source=f"random weights, seed {seed}, like {source.source}",
        fingerprint=fingerprint.hexdigest(),
        random_seed=seed,
    )
    return LoadedBackbone(backbone, redrawn(like.frozen, seed))
