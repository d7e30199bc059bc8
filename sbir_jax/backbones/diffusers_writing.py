"""Folders in the layout of diffusers, written: whole or not at all."""

import json
import os
import pathlib
import shutil
from typing import Any

import numpy as np

from sbir_jax.backbones.diffusers_files import STEMS
from sbir_jax.runtime.replacing import written_aside
from sbir_jax.runtime.tensor_files import save_tensors


def write_folder(
    folder: str | os.PathLike[str],
    configs: dict[str, dict[str, Any]],
    tensors: dict[str, dict[str, np.ndarray]],
    tokenizer: str | os.PathLike[str] | None = None,
) -> None:
    """Write a pipeline folder that diffusers can load; it appears all at once.

    Args:
      folder: replaced if it exists.
      configs: contents of each network's config.json, and "scheduler".
      tensors: under published names, for each network.
      tokenizer: a folder with the files of a tokenizer, copied, or None.
    """
    classes = {
        "unet": ("diffusers", "UNet2DConditionModel"),
        "vae": ("diffusers", "AutoencoderKL"),
        "text_encoder": ("transformers", "CLIPTextModel"),
        "tokenizer": ("transformers", "CLIPTokenizer"),
        "scheduler": (
            "diffusers",
            configs["scheduler"].get("_class_name", "DDIMScheduler"),
        ),
    }
    with written_aside(folder) as aside:
        for part, config in configs.items():
            (aside / part).mkdir()
            if part == "text_encoder":
                name = "config.json"
                head = {"architectures": [classes[part][1]]}
                # transformers computes in the type named here.
                (dtype,) = {str(value.dtype) for value in tensors[part].values()}
                config = {k: v for k, v in config.items() if k != "torch_dtype"}
                config = {**config, "dtype": dtype}
            else:
                name = "scheduler_config.json" if part == "scheduler" else "config.json"
                head = {"_class_name": classes[part][1]}
            write_json(aside / part / name, head | config)
        for part, values in tensors.items():
            save_tensors(aside / part / f"{STEMS[part]}.safetensors", values)
        if tokenizer is not None:
            shutil.copytree(tokenizer, aside / "tokenizer")
        index = {"_class_name": "StableDiffusionPipeline", **classes}
        index |= {"safety_checker": (None, None), "feature_extractor": (None, None)}
        write_json(
            aside / "model_index.json", index | {"requires_safety_checker": False}
        )


def write_json(path: pathlib.Path, value: dict[str, Any]) -> None:
    """Write a JSON file as these folders have them."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
