"""Record what PyTorch computes on small random Stable Diffusion 3 networks.

    python -m tools.make_sd3_golden [folder]          (tests/golden by default)

Needs the `parity` extra. Writes a checkpoint in the diffusers layout of each kind: that
of Stable Diffusion 3 medium, and that of 3.5 medium, with normalised queries and keys
and second attention layers, which comes without T5; and beside each an .npz of inputs,
every activation, the shares of attention to the text, text states, latents and
pictures. The latent is wide, and texts are of different lengths.
"""

import json
import pathlib
import shutil
import sys

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import CLIPTextConfig, CLIPTokenizer
from transformers import CLIPTextModelWithProjection as ProjectedText

from tools.make_golden import nchw, nhwc, randomise, record_vae
from tools.make_pixart_golden import small_t5, t5_tokenizer

KINDS = {
    "sd3": {},
    "sd35": {"dual_attention_layers": (0, 1), "qk_norm": "rms_norm"},
}
WITHOUT_T5 = ("sd35",)
# Widths of CLIP's states, of both projections, and of T5's states.
CLIPS, PROJECTED, T5 = (8, 6), (6, 4), 16
# "!" is what the second tokenizer pads with.
LETTERS = sorted({*"a red mug two chairs"} - {" "})
TOKENS = ["!", *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
TOKENS += ["<|startoftext|>", "<|endoftext|>"]
LENGTH = 16  # of CLIP's texts
STOPS = (999, 750, 273, 20)
TEXTS = ["a mug", "two red chairs " * 90]


def small_transformer(kind, seed=0, **overrides):
    torch.manual_seed(seed)
    given = {
        "sample_size": 8,
        "patch_size": 2,
        "in_channels": 16,
        "num_layers": 3,
        "attention_head_dim": 8,
        "num_attention_heads": 2,
        "joint_attention_dim": T5,
        "caption_projection_dim": 16,
        "pooled_projection_dim": sum(PROJECTED),
        "out_channels": 16,
        "pos_embed_max_size": 9,
    }
    return randomise(SD3Transformer2DModel(**given | KINDS[kind] | overrides), seed)


def small_text(number, seed=0):
    torch.manual_seed(seed)
    config = CLIPTextConfig(
        vocab_size=len(TOKENS),
        hidden_size=CLIPS[number],
        intermediate_size=20,
        num_hidden_layers=2 + number,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        projection_dim=PROJECTED[number],
        hidden_act=("quick_gelu", "gelu")[number],
        bos_token_id=len(TOKENS) - 2,
        eos_token_id=len(TOKENS) - 1,
    )
    return randomise(ProjectedText(config), seed)


def small_vae(seed=0):
    torch.manual_seed(seed)
    vae = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=(4, 4, 4, 8),
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=16,
        sample_size=64,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    return randomise(vae, seed)


def small_pipeline(kind, seed=0, **overrides):
    """All networks of a kind, `overrides` of its transformer."""
    numbers = {token: i for i, token in enumerate(TOKENS)}

    def tokenizer(**given):
        return CLIPTokenizer(numbers, [], model_max_length=LENGTH, **given)

    with_t5 = kind not in WITHOUT_T5
    return StableDiffusion3Pipeline(
        transformer=small_transformer(kind, seed, **overrides),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=small_vae(seed),
        text_encoder=small_text(0, seed),
        tokenizer=tokenizer(),
        text_encoder_2=small_text(1, seed),
        tokenizer_2=tokenizer(pad_token="!"),
        text_encoder_3=small_t5(seed, d_model=T5) if with_t5 else None,
        tokenizer_3=t5_tokenizer() if with_t5 else None,
    )


def record_transformer(network, latents, t, context, pooled):
    """Every activation and share of attention to the text, under our names with "tap/"
    and "map/"."""
    found, hooks, config = {}, [], network.config
    b, h, w, _ = latents.shape
    grid = (b, h // config.patch_size, w // config.patch_size, -1)

    def keep(name, of=lambda x: x):
        def hook(_, __, output):
            found[f"tap/{name}"] = of(output).reshape(grid).numpy()

        return hook

    hooks.append(network.pos_embed.register_forward_hook(keep("patches")))
    for i, block in enumerate(network.transformer_blocks):
        inside = keep(f"block.{i}.modulated", lambda output: output[0])
        hooks.append(block.norm1.register_forward_hook(inside))
        after = keep(f"block.{i}", lambda output: output[1])
        hooks.append(block.register_forward_hook(after))
        recorded = keep_map(found, f"map/block.{i}.cross", block.attn, grid)
        hooks.append(block.attn.register_forward_pre_hook(recorded, with_kwargs=True))
    with torch.no_grad():
        sample = network(
            nchw(latents),
            encoder_hidden_states=torch.tensor(context),
            pooled_projections=torch.tensor(pooled),
            timestep=torch.tensor(t),
        ).sample
    for hook in hooks:
        hook.remove()
    found["tap/out"] = nhwc(sample)
    return found


def keep_map(found, name, attention, grid):
    """The processor hands out no probabilities: they are made of its own layers."""

    def hook(_, args, kwargs):
        x, text = kwargs["hidden_states"], kwargs["encoder_hidden_states"]

        def heads(layer, rows, norm):
            rows = layer(rows).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
            return rows if norm is None else norm(rows)

        q = heads(attention.to_q, x, attention.norm_q)
        own = heads(attention.to_k, x, attention.norm_k)
        told = heads(attention.add_k_proj, text, attention.norm_added_k)
        keys = torch.cat([own, told], 2).transpose(-1, -2)
        shares = (q @ keys / q.shape[-1] ** 0.5).softmax(-1)[..., x.shape[1] :]
        shape = (len(x), attention.heads, *grid[1:3], text.shape[1])
        found[name] = shares.reshape(shape).numpy()

    return hook


def transformer_inputs(network, rows, columns, seed=0):
    generator, config = np.random.default_rng(seed), network.config
    shapes = {
        "latents": (2, rows, columns, config.in_channels),
        "context": (2, 7, config.joint_attention_dim),
        "pooled": (2, config.pooled_projection_dim),
    }
    inputs = {k: generator.normal(size=s).astype("f") for k, s in shapes.items()}
    return {**inputs, "t": np.array([4.5, 801.0], "f")}


def record_texts(pipeline):
    """States and pooled vectors of `TEXTS`, as the pipeline makes them."""
    with torch.no_grad():
        states, _, pooled, _ = pipeline.encode_prompt(
            TEXTS, None, None, do_classifier_free_guidance=False
        )
    found = {"states": states.numpy(), "text_pooled": pooled.numpy()}
    return found | {"texts": np.array(TEXTS)}


def record_pictures(vae, seed=0):
    generator = np.random.default_rng(seed)
    inputs = {
        "images": generator.uniform(-1, 1, (1, 16, 32, 3)).astype("f"),
        "codes": generator.normal(size=(1, 2, 4, 16)).astype("f"),
    }
    return inputs | record_vae(vae, *inputs.values())


def record_flow(scheduler, latents, seed=0):
    """Noised latents, and what Euler's method makes of noise with a made-up network, at
    the timesteps of `STOPS`."""
    generator = np.random.default_rng(seed)
    clean, noise = (torch.tensor(x) for x in generator.normal(size=(2, *latents)))
    times = scheduler.timesteps.flip(0)[torch.tensor(STOPS)]
    levels = scheduler.sigmas.flip(0)[torch.tensor(STOPS)]
    noised = [scheduler.scale_noise(clean, t[None], noise) for t in times]
    x = noise
    scheduler.set_timesteps(sigmas=[(stop + 1) / 1000 for stop in STOPS])
    for t in scheduler.timesteps:
        x = scheduler.step(velocity(x, t), t, x).prev_sample
    found = {"clean": clean, "noise": noise, "noised": torch.stack(noised), "made": x}
    found |= {"told": times, "levels": levels}
    return {f"flow/{name}": value.float().numpy() for name, value in found.items()}


def velocity(x, t):
    return x * (t / 1000) - 0.1 * x**2


def save(folder, pipeline):
    """In half precision, without what differs from one version to the next."""
    parts = {n: x for n, x in pipeline.components.items() if hasattr(x, "half")}
    for network in parts.values():
        network.half()
    pipeline.save_pretrained(folder)
    for network in parts.values():
        network.float()
    index = folder / "model_index.json"
    content = json.loads(index.read_text())
    del content["_diffusers_version"]
    index.write_text(json.dumps(content) + "\n")


def main(folder):
    for kind in KINDS:
        pipeline = small_pipeline(kind)
        shutil.rmtree(folder / kind, ignore_errors=True)
        save(folder / kind, pipeline)
        inputs = transformer_inputs(pipeline.transformer, 8, 12)
        found = inputs | record_transformer(pipeline.transformer, **inputs)
        found |= record_texts(pipeline) | record_pictures(pipeline.vae)
        found |= record_flow(pipeline.scheduler, (1, 2, 3, 4))
        np.savez_compressed(folder / f"{kind}.npz", **found)


if __name__ == "__main__":
    default = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden"
    main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default)
