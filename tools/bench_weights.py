"""Random weights in the diffusers layout, of full size, for `tools.bench`."""

import json
import math
import pathlib
import shutil
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from sbir_jax.backbones.diffusers_files import STEMS
from sbir_jax.backbones.stable_diffusion_files import build_networks, shapes
from sbir_jax.backbones.tensor_names import leaves, tensor_name, to_file

VAE = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
}
UNET = {
    "sample_size": 64,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
}
SD21 = {
    "attention_head_dim": [5, 10, 20, 20],
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}
SMALL = {
    "block_out_channels": [8, 16, 16, 16],
    "norm_num_groups": 4,
    "layers_per_block": 1,
}
# What is not named here is the default of both libraries.
MODELS = {
    "sd15": (UNET, VAE),
    "sd21": ({**UNET, **SD21}, VAE),
    "tiny": (
        {**UNET, **SMALL, "attention_head_dim": 2, "cross_attention_dim": 16},
        {**VAE, **SMALL},
    ),
}
SHARD = 2**28  # bytes of tensors in one file


def make(folder: pathlib.Path, model: str) -> pathlib.Path:
    """The folder of a model's random weights, written unless it is there."""
    path = folder / model
    if path.is_dir():
        return path
    unet, vae = MODELS[model]
    configs: dict[str, dict[str, Any]] = {
        "unet": unet,
        "vae": vae,
        # Not measured: text states are given.
        "text_encoder": {
            "hidden_size": unet["cross_attention_dim"],
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "vocab_size": 8,
        },
        "scheduler": {
            "_class_name": "DDIMScheduler",
            "beta_schedule": "scaled_linear",
            "beta_start": 0.00085,
            "beta_end": 0.012,
        },
    }
    aside = path.with_name(f".{model}.new")
    shutil.rmtree(aside, ignore_errors=True)
    # One table for all: drawing 900 million numbers takes a minute.
    table = np.random.default_rng(0).standard_normal(2**24 - 3, np.float32)
    networks: dict[str, Any] = dict(zip(STEMS, build_networks(configs), strict=True))
    for name, config in configs.items():
        (aside / name).mkdir(parents=True)
        file = "scheduler_config.json" if name == "scheduler" else "config.json"
        (aside / name / file).write_text(json.dumps(config))
    for name, network in networks.items():
        wanted = shapes(type(network), network.config)
        _write(aside / name, STEMS[name], wanted, table)
    aside.rename(path)
    return path


def _write(folder: pathlib.Path, stem: str, shapes: Any, table: np.ndarray) -> None:
    """One small file after the other, and the index over them."""
    where, held, tensors, count = {}, 0, {}, 0

    def flush():
        nonlocal held, tensors, count
        file = f"{stem}-{count:05}.safetensors"
        save_file(tensors, folder / file, metadata={"format": "pt"})
        where.update(dict.fromkeys(tensors, file))
        held, tensors, count = 0, {}, count + 1

    for keys, leaf in leaves(shapes):
        shape = tuple(leaf.shape[i] for i in to_file(keys, leaf.ndim))
        if keys[-1] in ("bias", "scale"):
            value = np.full(shape, float(keys[-1] == "scale"), np.float32)
        else:
            inputs = math.prod(leaf.shape[:-1])
            value = np.resize(table, shape) / np.float32(inputs**0.5)
        tensors[tensor_name(keys)] = value
        held += value.nbytes
        if held > SHARD:
            flush()
    flush()
    total = sum(math.prod(leaf.shape) * 4 for _, leaf in leaves(shapes))
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index))
