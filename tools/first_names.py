"""Files that hold a whole model under the names of the first code, made of folders.

For tests of reading them: by the same tables, but the other way round. That the tables
are right is recorded from diffusers (`tools.make_backbone_golden`).
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from sbir_jax.backbones import ldm_names, single_file
from sbir_jax.backbones.diffusers_files import STEMS
from sbir_jax.backbones.tensor_names import renamer
from sbir_jax.models.configs import AutoencoderConfig
from sbir_jax.models.unet_config import UNetConfig

UNET, VAE = "model.diffusion_model.", "first_stage_model."


def first_name(name: str, blocks: Mapping[str, str], layers: Mapping[str, str]) -> str:
    """The name that a tensor has in the first code."""
    block = max((b for b in blocks.values() if name.startswith(f"{b}.")), default="")
    if not block:
        return name
    (there,) = (key for key, value in blocks.items() if value == block)
    rest = name[len(block) + 1 :]
    for theirs, ours in layers.items():
        if rest.startswith(f"{ours}."):
            rest = theirs + rest[len(ours) :]
    return f"{there}.{rest}"


def write_first(
    folder: pathlib.Path,
    configs: dict[str, dict[str, Any]],
    path: pathlib.Path,
    metadata: dict[str, str] | None = None,
) -> None:
    """Write the networks of a folder in the layout of diffusers as one file.

    Args:
      configs: of the UNet and the autoencoder, whose layers are counted by them.
      metadata: of the file's header.
    """
    unet = ldm_names.unet_blocks(UNetConfig.from_json(configs["unet"]))
    vae = ldm_names.vae_blocks(AutoencoderConfig.from_json(configs["vae"]))
    file = {
        UNET + first_name(name, unet, ldm_names.UNET_LAYERS): value
        for name, value in _tensors(folder, "unet").items()
    }
    for name, value in _tensors(folder, "vae").items():
        there = first_name(name, vae, ldm_names.VAE_LAYERS)
        pixel = ".attn_1." in there and value.ndim == 2
        file[VAE + there] = value[:, :, None, None] if pixel else value
    text = _tensors(folder, "text_encoder")
    if "text_encoder_2" in configs:
        file |= _clip(text, single_file.XL_CLIP_TEXT)
        second = _tensors(folder, "text_encoder_2")
        file |= _open_clip(second, single_file.XL_TEXT)
    elif configs["text_encoder"]["hidden_act"] == "gelu":
        file |= _open_clip(text, single_file.OPEN_CLIP_TEXT)
    else:
        file |= _clip(text, single_file.CLIP_TEXT)
    file = {name: np.ascontiguousarray(value) for name, value in file.items()}
    save_file(file, path, metadata)


def _tensors(folder: pathlib.Path, part: str) -> dict[str, np.ndarray]:
    stem = STEMS.get(part, "model")
    found = load_file(folder / part / f"{stem}.safetensors")
    named = ((renamer(part)(name), value) for name, value in found.items())
    return {name: value for name, value in named if name is not None}


def _clip(text: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {f"{prefix}text_model.{name}": value for name, value in text.items()}


def _open_clip(text: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """With the tensors that such files have beside."""
    names = {
        "embeddings.token_embedding.weight": "token_embedding.weight",
        "embeddings.position_embedding.weight": "positional_embedding",
        "final_layer_norm.weight": "ln_final.weight",
        "final_layer_norm.bias": "ln_final.bias",
    }
    file = {prefix + "logit_scale": np.zeros((), np.float16)}
    for name, value in text.items():
        if name in names:
            file[prefix + names[name]] = value
        elif name == "text_projection.weight":
            file[prefix + "text_projection"] = value.T
        elif "_proj." in name and ".q_proj." not in name and "out" not in name:
            continue  # joined with the queries'
        else:
            _, _, number, rest = name.split(".", 3)
            layer = f"{prefix}transformer.resblocks.{number}"
            for theirs, ours in ldm_names.OPEN_CLIP_LAYERS.items():
                if rest.startswith(f"{ours}."):
                    rest = theirs + rest[len(ours) :]
            if ".q_proj." in rest:
                parts = (text[name.replace("q_proj", f"{part}_proj")] for part in "qkv")
                rest, value = (
                    f"attn.in_proj_{rest.split('.')[-1]}",
                    np.concatenate(list(parts)),
                )
            file[f"{layer}.{rest}"] = value
    return file
