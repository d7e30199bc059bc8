"""Names of the first Stable Diffusion's code, in files that hold a whole model.

Each function gives the tensors of one network under the names that `tensor_names`
gives; what such a file holds beside them is left out.
"""

from collections.abc import Mapping

import numpy as np

from sbir_jax.models.configs import AutoencoderConfig
from sbir_jax.models.unet_config import UNetConfig

Arrays = Mapping[str, np.ndarray]

# Of what follows a block's name: ours, by network.
UNET_LAYERS = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
VAE_LAYERS = {
    "nin_shortcut": "conv_shortcut",
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
}
OPEN_CLIP_LAYERS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def unet(file: Arrays, config: UNetConfig) -> dict[str, np.ndarray]:
    """The UNet's tensors."""
    table, found = unet_blocks(config), _inside(file, "model.diffusion_model.")
    return {_renamed(n, table, UNET_LAYERS): value for n, value in found.items()}


def unet_blocks(config: UNetConfig) -> dict[str, str]:
    """Ours for the blocks there, which are numbered without regard to levels."""
    table = {
        "time_embed.0": "time_embedding.linear_1",
        "time_embed.2": "time_embedding.linear_2",
        "label_emb.0.0": "add_embedding.linear_1",
        "label_emb.0.2": "add_embedding.linear_2",
        "input_blocks.0.0": "conv_in",
        "middle_block.0": "mid_block.resnets.0",
        "middle_block.1": "mid_block.attentions.0",
        "middle_block.2": "mid_block.resnets.1",
        "out.0": "conv_norm_out",
        "out.2": "conv_out",
    }
    last = len(config.block_out_channels) - 1
    number = 1
    for i, layers in enumerate(config.side_layers("down")):
        for j in range(layers):
            table[f"input_blocks.{number}.0"] = f"down_blocks.{i}.resnets.{j}"
            table[f"input_blocks.{number}.1"] = f"down_blocks.{i}.attentions.{j}"
            number += 1
        if i < last:
            conv = f"down_blocks.{i}.downsamplers.0.conv"
            table[f"input_blocks.{number}.0.op"] = conv
            number += 1
    number = 0
    depths = config.depths("up")
    for i, layers in enumerate(config.side_layers("up")):
        for j in range(layers):
            table[f"output_blocks.{number}.0"] = f"up_blocks.{i}.resnets.{j}"
            table[f"output_blocks.{number}.1"] = f"up_blocks.{i}.attentions.{j}"
            number += 1
        if i < last:
            place = f"output_blocks.{number - 1}.{2 if depths[i] else 1}.conv"
            table[place] = f"up_blocks.{i}.upsamplers.0.conv"
    return table


def vae(file: Arrays, config: AutoencoderConfig) -> dict[str, np.ndarray]:
    """The autoencoder's tensors; the projections of its attention are convolutions of
    one pixel there."""
    table, found = vae_blocks(config), {}
    for name, value in _inside(file, "first_stage_model.").items():
        pixel = ".attn_1." in name and value.ndim == 4
        ours = _renamed(name, table, VAE_LAYERS)
        found[ours] = value[:, :, 0, 0] if pixel else value
    return found


def vae_blocks(config: AutoencoderConfig) -> dict[str, str]:
    """Ours for the blocks there, where the decoder's levels count from the finest."""
    table = {}
    last = len(config.block_out_channels) - 1
    for side in ("encoder", "decoder"):
        table[f"{side}.mid.block_1"] = f"{side}.mid_block.resnets.0"
        table[f"{side}.mid.block_2"] = f"{side}.mid_block.resnets.1"
        table[f"{side}.mid.attn_1"] = f"{side}.mid_block.attentions.0"
        table[f"{side}.norm_out"] = f"{side}.conv_norm_out"
    for i in range(last + 1):
        down, up = f"encoder.down_blocks.{i}", f"decoder.up_blocks.{last - i}"
        table[f"encoder.down.{i}.downsample"] = f"{down}.downsamplers.0"
        table[f"decoder.up.{i}.upsample"] = f"{up}.upsamplers.0"
        for j in range(config.layers_per_block + 1):
            table[f"encoder.down.{i}.block.{j}"] = f"{down}.resnets.{j}"
            table[f"decoder.up.{i}.block.{j}"] = f"{up}.resnets.{j}"
    return table


def clip(file: Arrays, prefix: str) -> dict[str, np.ndarray]:
    """The tensors of a text encoder that has the names of the transformers library."""
    found = _inside(file, f"{prefix}text_model.")
    return {n: value for n, value in found.items() if n != "embeddings.position_ids"}


def open_clip(
    file: Arrays, prefix: str, layers: int, projected: bool
) -> dict[str, np.ndarray]:
    """The tensors of OpenCLIP's text encoder, which has one matrix for three.

    Args:
      layers: how many are wanted; the file may have more.
      projected: whether the projection of the whole text is wanted.
    """
    found = _inside(file, prefix)
    ours = {
        "embeddings.token_embedding.weight": found.pop("token_embedding.weight", None),
        "embeddings.position_embedding.weight": found.pop("positional_embedding", None),
        "final_layer_norm.weight": found.pop("ln_final.weight", None),
        "final_layer_norm.bias": found.pop("ln_final.bias", None),
    }
    if projected:  # which is applied from the other side there
        projection = found.get("text_projection")
        ours["text_projection.weight"] = None if projection is None else projection.T
    start = "transformer.resblocks."
    for name, value in found.items():
        if not name.startswith(start):
            continue
        number, _, rest = name.removeprefix(start).partition(".")
        if number.isdecimal() and int(number) >= layers:
            continue
        layer = f"encoder.layers.{number}"
        if rest.startswith("attn.in_proj_"):
            leaf = rest.removeprefix("attn.in_proj_")
            for part, rows in zip("qkv", np.array_split(value, 3), strict=True):
                ours[f"{layer}.self_attn.{part}_proj.{leaf}"] = rows
        else:
            ours[_renamed(rest, {"": layer}, OPEN_CLIP_LAYERS)] = value
    return {name: value for name, value in ours.items() if value is not None}


def _inside(file: Arrays, prefix: str) -> dict[str, np.ndarray]:
    """What begins so, without it."""
    return {
        name.removeprefix(prefix): value
        for name, value in file.items()
        if name.startswith(prefix)
    }


def _renamed(name: str, table: Mapping[str, str], layers: Mapping[str, str]) -> str:
    """A name by the longest beginning that `table` has; of what follows, the beginning
    by `layers`. A name that is in neither stays, and is then not expected."""
    parts = name.split(".")
    for cut in range(len(parts) - 1, -1, -1):
        block = ".".join(parts[:cut])
        if block not in table:
            continue
        rest = parts[cut:]
        for end in range(len(rest) - 1, 0, -1):
            layer = ".".join(rest[:end])
            if layer in layers:
                rest = [layers[layer], *rest[end:]]
                break
        return ".".join([table[block], *rest])
    return name
