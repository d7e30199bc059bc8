"""Record what dense heads are given, read from PyTorch's own layers with hooks.

    python -m tools.make_dense_golden [folder]       (tests/golden by default)

Needs the `parity` extra, and the small checkpoints that `tools.make_golden` wrote.
As VPD runs Stable Diffusion: t = 1, no noise, one token a class; of the decoder the
second layer of each block and the last of the last, with the maps of encoder and
decoder at that size, their mean over heads and layers, behind the channels. Latents
are wide and tall, scaled and, as in the published code, not.
"""

import collections
import pathlib
import sys

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor

from tools.make_golden import UNETS, nchw, nhwc

SHAPES = {"wide": (8, 16), "tall": (16, 8)}
TOKENS = 5
SCALE = 0.18215  # of latents, in the checkpoints' autoencoder
TAPS = (("attentions", 2), ("attentions", 1), ("attentions", 1), ("resnets", 1))


def record_levels(unet, latents, states):
    """The four levels, the finest first, as [b, y, x, channels and tokens]."""
    taps, maps, hooks = {}, collections.defaultdict(list), []

    def keep(level):
        def hook(_, __, output):
            output = output[0] if isinstance(output, tuple) else output
            taps[level] = nhwc(getattr(output, "sample", output))

        return hook

    def keep_maps(attention, level):
        scores = attention.get_attention_scores

        def recorded(*args):
            shares = scores(*args)
            rows, columns = (n >> level for n in latents.shape[1:3])
            heads = shares.reshape(len(latents), -1, rows, columns, shares.shape[-1])
            maps[level].append(heads.mean(1).float().numpy())
            return shares

        attention.get_attention_scores = recorded

    for level, (kind, layer) in enumerate(TAPS):
        module = getattr(unet.up_blocks[3 - level], kind)[layer]
        hooks.append(module.register_forward_hook(keep(level)))
    for level in (1, 2):  # neither the finest nor the middle block
        for block in (unet.down_blocks[level], unet.up_blocks[3 - level]):
            for attention in block.attentions:
                keep_maps(attention.transformer_blocks[0].attn2, level)
    unet.set_attn_processor(AttnProcessor())
    with torch.no_grad():
        unet(nchw(latents), torch.tensor(1), torch.tensor(states))
    for hook in hooks:
        hook.remove()
    return {
        f"level{level}": np.concatenate(
            [taps[level], *([np.mean(maps[level], 0)] if level in maps else [])], -1
        )
        for level in taps
    }


def main(folder):
    found = {}
    for kind in UNETS:
        width = UNETS[kind]["cross_attention_dim"]
        generator = np.random.default_rng(6)
        states = generator.normal(size=(1, TOKENS, width)).astype("f")
        found[f"{kind}/states"] = states
        for shape, size in SHAPES.items():
            latents = generator.normal(size=(1, *size, 4)).astype("f")
            found[f"{kind}/{shape}/latents"] = latents
            for scaled in (True, False):
                unet = UNet2DConditionModel.from_pretrained(folder / kind / "unet")
                given = latents if scaled else latents / SCALE
                levels = record_levels(unet.float().eval(), given, states)
                name = "scaled" if scaled else "published"
                found |= {f"{kind}/{shape}/{name}/{k}": v for k, v in levels.items()}
    np.savez_compressed(folder / "dense.npz", **found)


if __name__ == "__main__":
    default = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden"
    main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default)
