"""Names of published VPD checkpoints map onto ours, one to one, shapes too."""

import importlib.util
import re

import jax
import numpy as np
import pytest

from sbir_jax.adapters.text_adapter import init_adapter
from sbir_jax.backbones.tensor_names import leaves, tensor_name, to_file
from sbir_jax.dense import vpd_checkpoint
from sbir_jax.dense.model import KINDS, DenseModel, make_head
from sbir_jax.models.unet import UNet
from sbir_jax.models.unet_config import UNetConfig

SD15 = {
    "sample_size": 64, "in_channels": 4, "out_channels": 4,
    "block_out_channels": [320, 640, 1280, 1280],
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "layers_per_block": 2, "attention_head_dim": 8, "cross_attention_dim": 768,
}  # fmt: skip
LEVELS = {
    "segmentation": (320, 790, 1430, 1280),
    "referring": (320, 680, 1320, 1280),
    "depth": (320, 640, 1280, 1280),
}


def model_of(kind):
    """Shapes of the published model."""
    width = {"segmentation": 256, "referring": 640, "depth": 1536}[kind]
    head = make_head(kind, width, 150, 10.0, fixed=True)
    levels = tuple(
        jax.ShapeDtypeStruct((1, 64 // 2**i, 64 // 2**i, c), np.float32)
        for i, c in enumerate(LEVELS[kind])
    )
    unet = UNet(UNetConfig.from_json(SD15))
    key = jax.random.key(0)
    latents = jax.ShapeDtypeStruct((1, 64, 64, 4), np.float32)
    context = jax.ShapeDtypeStruct((1, 1, 768), np.float32)
    made = jax.eval_shape(lambda k, x, c: unet.init(k, x, 1, c), key, latents, context)
    return DenseModel(
        jax.eval_shape(lambda k: init_adapter(k, 768), key),
        jax.eval_shape(head.init, key, levels)["params"],
        made["params"],
    )


def first_name(name):
    """The denoiser's first name of one in the diffusers layout, written out by hand."""
    parts = {
        "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0",
        "time_emb_proj": "emb_layers.1", "conv2": "out_layers.3",
        "conv_shortcut": "skip_connection",
    }  # fmt: skip
    outside = {
        "conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2", "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }  # fmt: skip
    stem, leaf = name.rsplit(".", 1)
    if stem in outside:
        return f"{outside[stem]}.{leaf}"
    if found := re.match(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", stem):
        side, block, kind, layer, inside = found.groups()
        block, layer = int(block), int(layer)
        if kind == "downsamplers":
            return f"input_blocks.{3 * (block + 1)}.0.op.{leaf}"
        if kind == "upsamplers":
            # After the last layer; the coarsest block has no attention before it.
            return f"output_blocks.{3 * block + 2}.{1 if block == 0 else 2}.conv.{leaf}"
        number = 3 * block + layer + (side == "down")
        part = 1 if kind == "attentions" else 0
        stem = {"down": "input", "up": "output"}[side] + f"_blocks.{number}.{part}"
    else:
        kind, number, inside = re.match(r"mid_block\.(\w+)\.(\d)\.(.*)", stem).groups()
        stem = f"middle_block.{1 if kind == 'attentions' else 2 * int(number)}"
    return f"{stem}.{parts.get(inside, inside)}.{leaf}"


def published(kind, like):
    """A checkpoint of their names and shapes, as zeros that take no memory."""
    before = "encoder." if kind == "depth" else ""
    found = {}

    def put(name, shape):
        assert name not in found
        found[name] = np.broadcast_to(np.float32(0), shape)

    for keys, leaf in leaves(like.unet):
        if kind == "depth" and keys[0] in vpd_checkpoint.UNREAD:
            continue  # the published code deletes them
        shape = tuple(leaf.shape[i] for i in to_file(keys, leaf.ndim))
        put(f"{before}unet.unet.diffusion_model.{first_name(tensor_name(keys))}", shape)
    for keys, leaf in leaves(like.head):
        axes = to_file(keys, leaf.ndim)
        if re.fullmatch(r"up_\d", keys[0]) and keys[-1] == "kernel":
            axes = (2, 3, 0, 1)
        put(vpd_checkpoint.head_name(kind, keys), tuple(leaf.shape[i] for i in axes))
    for number in (0, 2):
        put(f"{before}text_adapter.fc.{number}.weight", (768, 768))
        put(f"{before}text_adapter.fc.{number}.bias", (768,))
    put(f"{before}gamma", (768,))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_published_names_become_ours(kind):
    like = model_of(kind)
    tensors = published(kind, like)
    assert len(tensors) > 700
    made = vpd_checkpoint.convert(tensors, kind, like)
    read = {n: x for n, x in like.unet.items() if n not in vpd_checkpoint.UNREAD}
    shapes = [jax.tree.map(np.shape, m) for m in (made, like.replace(unet=read))]
    assert shapes[0] == shapes[1]
    broken = dict(tensors)
    broken.pop(next(name for name in broken if "running_var" in name))
    with pytest.raises(ValueError, match="1 tensors do not fit"):
        vpd_checkpoint.convert(broken, kind, like)


def test_head_names_are_those_of_the_published_modules():
    wanted = {
        "segmentation": {
            ("neck", "lateral_1", "kernel"): "neck.lateral_convs.1.conv.weight",
            ("neck", "output_3", "bias"): "neck.fpn_convs.3.conv.bias",
            (
                "level_0_0",
                "norm",
                "mean",
            ): "decode_head.scale_heads.0.0.bn.running_mean",
            ("level_3_2", "conv", "kernel"): "decode_head.scale_heads.3.4.conv.weight",
            ("classify", "bias"): "decode_head.conv_seg.bias",
        },
        "referring": {
            ("level_2_0", "conv", "kernel"): "classifier.conv1_4.weight",
            ("level_0_1", "norm", "scale"): "classifier.bn2_2.weight",
            ("classify", "kernel"): "classifier.conv1_1.weight",
        },
        "depth": {
            ("up_1", "kernel"): "decoder.deconv_layers.3.weight",
            ("up_norm_2", "variance"): "decoder.deconv_layers.7.running_var",
            ("last_1", "bias"): "last_layer_depth.2.bias",
        },
    }
    for kind, names in wanted.items():
        for keys, name in names.items():
            assert vpd_checkpoint.head_name(kind, keys) == name


@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="needs PyTorch")
def test_files_that_would_be_unpickled_are_refused(tmp_path):
    import torch

    path = tmp_path / "vpd.pth"
    torch.save({"state_dict": {"gamma": torch.ones(3)}}, path)
    np.testing.assert_array_equal(
        vpd_checkpoint.read_checkpoint(path)["gamma"], [1] * 3
    )
    torch.save({"run": print}, path)
    with pytest.raises(ValueError, match="is not unpickled"):
        vpd_checkpoint.read_checkpoint(path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"give a \.safetensors or \.pth file"):
        vpd_checkpoint.read_checkpoint(tmp_path / "vpd.zip")
