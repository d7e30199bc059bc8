"""Record what PyTorch computes on small nets of the further kinds of Stable Diffusion.

    python -m tools.make_backbone_golden [folder]          (tests/golden by default)

Needs the `parity` extra. Writes a checkpoint of the kind of Stable Diffusion XL, and of
the kinds of BK-SDM and SSD-1B a UNet each, which take the other networks of "sd1" and
"xl"; beside each an .npz of inputs and of what comes out; and the names that diffusers
gives to tensors of files that hold a whole model.
"""

import json
import pathlib
import shutil
import sys

import numpy as np
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from transformers import CLIPTextConfig, CLIPTextModel
from transformers import CLIPTextModelWithProjection as ProjectedText

from sbir_jax.backbones import ldm_names, published_configs, single_file
from sbir_jax.models.configs import AutoencoderConfig
from sbir_jax.models.unet_config import UNetConfig
from tools.first_names import first_name
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

KINDS = {
    "SD1": published_configs.SD1,
    "SD2": published_configs.SD2,
    "XL": published_configs.XL,
}
WIDTHS, PROJECTED = (16, 24), 12  # of the states of XL's texts, and of its pooled one
TEXT = {"hidden_size": WIDTHS[0], "hidden_act": "quick_gelu"}
SCHEDULE = {**STABLE_DIFFUSION, "steps_offset": 1, "timestep_spacing": "leading"}
XL = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
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
    return randomise(ProjectedText(config), seed)


def record_texts(first, second, tokens):
    """The states that XL's pipeline hands to its UNet, joined, and the pooled one."""
    tokens = torch.tensor(tokens)
    with torch.no_grad():
        found = [text(tokens, output_hidden_states=True) for text in (first, second)]
    states = torch.cat([each.hidden_states[-2] for each in found], -1)
    return {"states": states.numpy(), "pooled": found[1].text_embeds.numpy()}


def whole_networks(configs):
    """The networks of published configs, without memory for their parameters."""
    with torch.device("meta"):
        texts = {"text_encoder": CLIPTextModel, "text_encoder_2": ProjectedText}
        return {
            "unet": UNet2DConditionModel(**configs["unet"]),
            "vae": AutoencoderKL(**configs["vae"]),
            **{
                name: kind(CLIPTextConfig(**configs[name]))
                for name, kind in texts.items()
                if name in configs
            },
        }


def record_first_names(configs):
    """For the UNet and the autoencoder: names in the first code, the names that
    diffusers turns them into, and the shapes that they have in such files.

    Each tensor holds its number, which says where it went.
    """
    networks, found = whole_networks(configs), {}
    for part, prefix, convert, blocks, layers in (
        (
            "unet",
            "model.diffusion_model.",
            convert_ldm_unet_checkpoint,
            ldm_names.unet_blocks(UNetConfig.from_json(configs["unet"])),
            ldm_names.UNET_LAYERS,
        ),
        (
            "vae",
            "first_stage_model.",
            convert_ldm_vae_checkpoint,
            ldm_names.vae_blocks(AutoencoderConfig.from_json(configs["vae"])),
            ldm_names.VAE_LAYERS,
        ),
    ):
        file, expected = {}, networks[part].state_dict()
        for i, (name, value) in enumerate(expected.items()):
            there = first_name(name, blocks, layers)
            pixel = ".attn_1." in there and value.ndim == 2
            shape = (*value.shape, 1, 1) if pixel else tuple(value.shape)
            file[prefix + there] = torch.tensor(float(i)).expand(shape)
        numbered, shapes = list(file), [tuple(value.shape) for value in file.values()]
        made = convert(dict(file), networks[part].config)
        assert set(made) == set(expected), set(made) ^ set(expected)
        assert all(made[name].shape == value.shape for name, value in expected.items())
        found[part] = np.array(
            [
                (numbered[i], name, ",".join(map(str, shapes[i])))
                for name, value in made.items()
                for i in [int(value.flatten()[0])]
            ]
        )
    return found


def record_open_clip(layers, prefix, network):
    """Likewise for OpenCLIP's text encoder; the file's own names are written out."""
    width, e = network.config.hidden_size, network.config.projection_dim
    mlp = network.config.intermediate_size
    file = {
        "token_embedding.weight": (network.config.vocab_size, width),
        "positional_embedding": (77, width),
        "ln_final.weight": (width,),
        "ln_final.bias": (width,),
        "text_projection": (width, e),
    }
    for i in range(layers):
        for name, shape in {
            "ln_1.weight": (width,),
            "ln_1.bias": (width,),
            "ln_2.weight": (width,),
            "ln_2.bias": (width,),
            "attn.in_proj_weight": (3 * width, width),
            "attn.in_proj_bias": (3 * width,),
            "attn.out_proj.weight": (width, width),
            "attn.out_proj.bias": (width,),
            "mlp.c_fc.weight": (mlp, width),
            "mlp.c_fc.bias": (mlp,),
            "mlp.c_proj.weight": (width, mlp),
            "mlp.c_proj.bias": (width,),
        }.items():
            file[f"transformer.resblocks.{i}.{name}"] = shape
    numbered = [prefix + name for name in file]
    made = convert_open_clip_checkpoint(
        network,
        {
            prefix + name: torch.tensor(float(i)).expand(shape)
            for i, (name, shape) in enumerate(file.items())
        },
        prefix=prefix,
    )
    shapes = list(file.values())
    return np.array(
        [
            (numbered[i], name, ",".join(map(str, shapes[i])))
            for name, value in made.items()
            for i in [int(value.flatten()[0])]
        ]
    )


def main_names(folder):
    """Names in files that hold a whole model, of full size."""
    found = {}
    for kind, configs in KINDS.items():
        for part, rows in record_first_names(configs).items():
            found[f"{kind}/{part}"] = rows
    networks = whole_networks(published_configs.XL)
    found["XL/text_encoder_2"] = record_open_clip(
        32, single_file.XL_TEXT, networks["text_encoder_2"]
    )
    np.savez_compressed(folder / "ldm_names.npz", **found)


def main(folder):
    main_names(folder)
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


if __name__ == "__main__":
    default = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden"
    main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default)
