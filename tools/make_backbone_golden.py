"""Record what PyTorch computes on small nets of the further kinds of Stable Diffusion.

    python -m tools.make_backbone_golden [folder]          (tests/golden by default)

Needs the `parity` extra. Writes a checkpoint of the kind of Stable Diffusion XL, and of
the kinds of BK-SDM and SSD-1B a UNet each, which take the other networks of "sd1" and
"xl"; and beside each an .npz of inputs and of what comes out.
"""

import json
import pathlib
import shutil
import sys

import numpy as np
import torch
from diffusers import EulerDiscreteScheduler
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from tools.make_golden import (
    STABLE_DIFFUSION,
    randomise,
    record_unet,
    record_vae,
    save,
    small_text,
    small_unet,
    small_vae,
    unet_inputs,
)

WIDTHS, PROJECTED = (16, 24), 12  # of the states of XL's texts, and of its pooled one
ADDED = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
XL = {
    **ADDED,
    "projection_class_embeddings_input_dim": PROJECTED + 6 * 8,
    "block_out_channels": (8, 8, 16),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": (1, 2, 4),
    "layers_per_block": 1,
    "transformer_layers_per_block": (1, 1, 2),
    "use_linear_projection": True,
    "cross_attention_dim": sum(WIDTHS),
}
UNETS = {
    "xl": XL,
    # No middle, three levels that all attend, one layer each.
    "bk": {
        "block_out_channels": (8, 8, 16),
        "down_block_types": ("CrossAttnDownBlock2D",) * 3,
        "mid_block_type": None,
        "up_block_types": ("CrossAttnUpBlock2D",) * 3,
        "layers_per_block": 1,
        "attention_head_dim": 2,
        "cross_attention_dim": 16,
    },
    # Layers of transformers that differ within a level, and another decoder.
    "ssd": {
        **XL,
        "mid_block_type": None,
        "layers_per_block": (1, 1, 2),
        "transformer_layers_per_block": (1, 2, (2, 1)),
        "reverse_transformer_layers_per_block": ((1, 1, 2), (2, 1), 1),
    },
}


def small_projected(seed=0):
    torch.manual_seed(seed)
    config = CLIPTextConfig(
        vocab_size=64,
        hidden_size=WIDTHS[1],
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=2,
        projection_dim=PROJECTED,
        hidden_act="gelu",
        bos_token_id=62,
        eos_token_id=63,
    )
    return randomise(CLIPTextModelWithProjection(config), seed)


def record_texts(first, second, tokens):
    """The states that XL's pipeline hands to its UNet, joined, and the pooled one."""
    tokens = torch.tensor(tokens)
    with torch.no_grad():
        found = [text(tokens, output_hidden_states=True) for text in (first, second)]
    states = torch.cat([each.hidden_states[-2] for each in found], -1)
    return {"states": states.numpy(), "pooled": found[1].text_embeds.numpy()}


def main(folder):
    generator = np.random.default_rng(2)
    for kind, config in UNETS.items():
        unet = small_unet(3, **config)
        inputs = unet_inputs(unet, 2, 8, 16, [3, 801])
        added = {}
        if config.get("addition_embed_type"):
            # Images of 64 x 128 pixels, whole.
            sizes = np.tile(np.array([64, 128, 0, 0, 64, 128], "f"), (2, 1))
            pooled = generator.normal(size=(2, PROJECTED)).astype("f")
            added = {"text_embeds": pooled, "time_ids": sizes}
        found = inputs | added | record_unet(unet, **inputs, **added)
        found = {
            f"unet/{name}": value
            for name, value in found.items()
            if not name.endswith(".self")  # which are large
        }
        shutil.rmtree(folder / kind, ignore_errors=True)
        if kind == "xl":
            vae, first, second = small_vae(4), small_text(5, **TEXT), small_projected(6)
            vae.register_to_config(scaling_factor=0.13025)
            save(folder / kind, unet, vae, first, EulerDiscreteScheduler(**SCHEDULE))
            second.half().save_pretrained(folder / kind / "text_encoder_2")
            index = json.dumps({"_class_name": "StableDiffusionXLPipeline"}) + "\n"
            (folder / kind / "model_index.json").write_text(index)
            images = generator.uniform(-1, 1, (1, 32, 64, 3)).astype("f")
            latents = generator.normal(size=(1, 2, 4, 4)).astype("f")
            tokens = generator.integers(0, 63, (2, 77))
            tokens[:, (9, 30)] = 63  # the first of which ends the text
            found |= {"images": images, "latents": latents, "tokens": tokens}
            found |= record_vae(vae, images, latents)
            found |= record_texts(first, second.float(), tokens)
        else:
            unet.half().save_pretrained(folder / kind / "unet")
        np.savez_compressed(folder / f"{kind}.npz", **found)


TEXT = {"hidden_size": WIDTHS[0], "hidden_act": "quick_gelu"}
SCHEDULE = {**STABLE_DIFFUSION, "steps_offset": 1, "timestep_spacing": "leading"}


if __name__ == "__main__":
    default = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden"
    main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default)
