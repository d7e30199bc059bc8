"""VPD's published checkpoints: their names and tensors as a `DenseModel`.

They hold a Stable Diffusion 1.5 by its first names, whose denoiser was trained; a text
adapter; and a head whose norms keep their statistics (`make_head(..., fixed=True)`).
Files are read without unpickling: .safetensors, or PyTorch's own with `weights_only`.
"""

import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from sbir_jax.adapters.text_adapter import TextAdapter
from sbir_jax.backbones.tensor_names import leaves, tensor_name, to_file
from sbir_jax.dense.model import DenseModel

Tensors = Mapping[str, np.ndarray]
UNREAD = ("conv_norm_out", "conv_out")

RESNET = {
    "in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2", "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}  # fmt: skip
OUTSIDE = {
    "input_blocks.0.0": "conv_in", "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2", "out.0": "conv_norm_out",
    "out.2": "conv_out", "middle_block.0": "mid_block.resnets.0",
    "middle_block.1": "mid_block.attentions.0", "middle_block.2": "mid_block.resnets.1",
}  # fmt: skip


def read_checkpoint(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The tensors of a file.

    Raises: ValueError for a file of another kind, or one that would have to be
      unpickled; ModuleNotFoundError for a PyTorch file without PyTorch.
    """
    path = pathlib.Path(path)
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        return load_file(path)
    if path.suffix not in (".pth", ".pt", ".ckpt"):
        raise ValueError(f"{path} is no checkpoint; give a .safetensors or .pth file")
    try:
        import torch  # pyright: ignore
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{path} is a PyTorch file: pip install torch, or save it as safetensors"
        ) from error
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path} holds more than tensors and is not unpickled: save its state_dict "
            f"alone, or as safetensors ({error})"
        ) from error
    for key in ("state_dict", "model"):
        found = found.get(key, found)
    return {name: tensor.float().numpy() for name, tensor in found.items()}


def unet_name(name: str, layers: int = 2) -> str:
    """The name in the diffusers layout of one of the denoiser's first names.

    Args:
      layers: of each block of the encoder; 2 in Stable Diffusion.
    Raises: ValueError for a name that is none.
    """
    head, _, rest = name.partition(".")
    if head in ("input_blocks", "output_blocks") and not name.startswith(
        "input_blocks.0."
    ):
        number, part, inside = rest.split(".", 2)
        per = layers + 1
        if head == "input_blocks":
            block, layer = divmod(int(number) - 1, per)
            side, last = "down_blocks", layer == layers
            if last:
                _, leaf = inside.split(".")
                return f"down_blocks.{block}.downsamplers.0.conv.{leaf}"
        else:
            block, layer = divmod(int(number), per)
            side = "up_blocks"
            if inside.startswith("conv."):
                return f"up_blocks.{block}.upsamplers.0.{inside}"
        kind = "attentions" if part == "1" else "resnets"
        return f"{side}.{block}.{kind}.{layer}.{_inside(inside)}"
    for old, new in OUTSIDE.items():
        if name.startswith(f"{old}."):
            return f"{new}.{_inside(name.removeprefix(f'{old}.'))}"
    raise ValueError(f"{name} is no name of a Stable Diffusion denoiser")


def _inside(name: str) -> str:
    layer, _, leaf = name.rpartition(".")
    return f"{RESNET[layer]}.{leaf}" if layer in RESNET else name


def head_name(kind: str, keys: tuple[str, ...]) -> str:
    """The published name of one of our head's parameters.

    Args:
      kind: "segmentation", "referring" or "depth".
      keys: the path of the parameter.
    """
    leaf = {
        "kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean",
        "variance": "running_var",
    }[keys[-1]]  # fmt: skip
    layer = keys[0]
    inside = keys[1] if len(keys) > 2 else ""
    if kind == "segmentation":
        if layer == "neck":
            side, number = inside.split("_")
            side = {"lateral": "lateral_convs", "output": "fpn_convs"}[side]
            return f"neck.{side}.{number}.conv.{leaf}"
        if layer == "classify":
            return f"decode_head.conv_seg.{leaf}"
        _, level, step = layer.split("_")
        # Each but the finest level's layers are followed by an enlargement.
        place, part = 2 * int(step), {"conv": "conv", "norm": "bn"}[inside]
        return f"decode_head.scale_heads.{level}.{place}.{part}.{leaf}"
    if kind == "referring":
        if layer == "classify":
            return f"classifier.conv1_1.{leaf}"
        _, level, step = layer.split("_")
        part = {"conv": "conv", "norm": "bn"}[inside]
        return f"classifier.{part}{int(step) + 1}_{int(level) + 2}.{leaf}"
    return f"{_DEPTH[f'{layer}.{inside}' if inside else layer]}.{leaf}"


_DEPTH = {
    "fine_0": "encoder.layer1.0", "fine_norm": "encoder.layer1.1",
    "fine_1": "encoder.layer1.3", "second": "encoder.layer2.0",
    "together": "encoder.out_layer.0", "together_norm": "encoder.out_layer.1",
    **{f"up_{i}": f"decoder.deconv_layers.{3 * i}" for i in range(3)},
    **{f"up_norm_{i}": f"decoder.deconv_layers.{3 * i + 1}" for i in range(3)},
    "wide.conv": "decoder.conv_layers.0", "wide.norm": "decoder.conv_layers.1",
    "last_0": "last_layer_depth.0", "last_1": "last_layer_depth.2",
}  # fmt: skip


def convert(tensors: Tensors, kind: str, like: DenseModel) -> DenseModel:
    """A checkpoint's tensors as our model.

    Args:
      kind: "segmentation", "referring" or "depth".
      like: shapes of the model, with the denoiser: arrays, or ShapeDtypeStructs.
    Raises: ValueError naming tensors that are missing or of another shape.
    """
    tensors = {re.sub(r"^module\.", "", name): x for name, x in tensors.items()}
    before = "encoder." if kind == "depth" else ""
    start = f"{before}unet.unet.diffusion_model."
    unet = {
        unet_name(name.removeprefix(start)): x
        for name, x in tensors.items()
        if name.startswith(start)
    }
    problems: list[str] = []

    def take(found: Tensors, name: str, axes: tuple[int, ...], shape: tuple) -> Any:
        if name not in found:
            problems.append(f"{name} is missing")
            return None
        # From the file's axes to ours: the inverse of the way there.
        value = found[name].transpose(np.argsort(axes))
        if value.shape != shape:
            problems.append(f"{name} is {found[name].shape}, and {shape} is needed")
        return value

    def tree(part: Any, found: Tensors, name_of: Any) -> Any:
        flat = []
        for keys, leaf in leaves(part):
            # A transposed convolution has its axes, and its pixels, the other way.
            turned = keys[-1] == "kernel" and re.fullmatch(r"up_\d", keys[0])
            axes = (2, 3, 0, 1) if turned else to_file(keys, leaf.ndim)
            value = take(found, name_of(keys), axes, leaf.shape)
            flat.append(value[::-1, ::-1] if turned and value is not None else value)
        return jax.tree.unflatten(jax.tree.structure(part), flat)

    text = f"{before}text_adapter.fc."
    shape = like.adapter.first.shape if like.adapter is not None else (0, 0)
    adapter = TextAdapter(
        take(tensors, f"{text}0.weight", (1, 0), shape),
        take(tensors, f"{text}0.bias", (0,), shape[:1]),
        take(tensors, f"{before}gamma", (0,), shape[:1]),
        take(tensors, f"{text}2.weight", (1, 0), shape),
        take(tensors, f"{text}2.bias", (0,), shape[:1]),
    )
    # What comes after the last activation is not read, and some of them lack it.
    ours = {name: x for name, x in like.unet.items() if name not in UNREAD}
    made = DenseModel(
        adapter,
        tree(like.head, tensors, lambda keys: head_name(kind, keys)),
        tree(ours, unet, tensor_name),
    )
    if problems:
        raise ValueError(
            f"this is no checkpoint of VPD for {kind}: {len(problems)} tensors do not "
            f"fit, such as {'; '.join(problems[:5])}"
        )
    return made
