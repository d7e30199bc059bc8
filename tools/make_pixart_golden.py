"""Record what PyTorch computes on small random PixArt networks, as golden values.

    python -m tools.make_pixart_golden [folder]       (tests/golden by default)

Needs the `parity` extra. Writes a checkpoint in the diffusers layout of each kind: that
of PixArt-alpha at 512 px, in the older class and without sizes, and that of
PixArt-Sigma at 1024 px; and beside each an .npz of inputs, every activation, every
cross-attention map and text states. The latent is wide, so that positions are
stretched, and texts are of different lengths.
"""

import json
import pathlib
import shutil
import sys

import numpy as np
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    PixArtTransformer2DModel,
    Transformer2DModel,
)
from diffusers.models.attention_processor import AttnProcessor
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from tools.make_golden import nchw, nhwc, randomise, small_vae

KINDS = {
    "pixart_alpha": {"sample_size": 8, "_class_name": "Transformer2DModel"},
    "pixart_sigma": {
        "sample_size": 16,
        "interpolation_scale": 2,
        "use_additional_conditions": True,
        "_class_name": "PixArtTransformer2DModel",
    },
}
PIPELINES = {
    "pixart_alpha": "PixArtAlphaPipeline",
    "pixart_sigma": "PixArtSigmaPipeline",
}
WORDS = ["▁a", "▁red", "▁mug", "▁two", "▁chairs"]


def small_transformer(kind, seed=0, **overrides):
    torch.manual_seed(seed)
    given = {
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "in_channels": 4,
        "out_channels": 8,
        "num_layers": 3,
        "cross_attention_dim": 24,
        "attention_bias": True,
        "patch_size": 2,
        "activation_fn": "gelu-approximate",
        "num_embeds_ada_norm": 1000,
        "norm_type": "ada_norm_single",
        "norm_elementwise_affine": False,
        "norm_eps": 1e-6,
        "caption_channels": 16,
    }
    given |= KINDS[kind] | overrides
    classes = (Transformer2DModel, PixArtTransformer2DModel)
    make = {cls.__name__: cls for cls in classes}[given.pop("_class_name")]
    return randomise(make(**given), seed)


def small_t5(seed=0, **overrides):
    torch.manual_seed(seed)
    given = {
        "vocab_size": 16,
        "d_model": 16,
        "d_kv": 6,
        "d_ff": 40,
        "num_layers": 3,
        "num_heads": 2,
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 20,
        "feed_forward_proj": "gated-gelu",
    }
    return randomise(T5EncoderModel(T5Config(**given | overrides)), seed)


def t5_tokenizer():
    scores = [(word, -1.0) for word in ("<pad>", "</s>", "<unk>", "▁", *WORDS)]
    return T5Tokenizer(vocab=scores, extra_ids=0)


def record_transformer(network, latents, t, context, mask):
    """Every activation and cross-attention map, under our names with "tap/", "map/"."""
    found, hooks = {}, []
    b, h, w, _ = latents.shape
    grid = (b, h // network.config.patch_size, w // network.config.patch_size, -1)

    def keep(name):
        def hook(_, __, output):
            found[f"tap/{name}"] = output.reshape(grid).numpy()

        return hook

    def keep_input(name):
        def hook(_, inputs):
            found[f"tap/{name}"] = inputs[0].reshape(grid).numpy()

        return hook

    def keep_map(attention, name):
        scores = attention.get_attention_scores

        def recorded(*args):
            p = scores(*args)
            found[f"map/{name}"] = p.reshape(b, -1, *grid[1:3], p.shape[-1]).numpy()
            return p

        attention.get_attention_scores = recorded

    hooks.append(network.pos_embed.register_forward_hook(keep("patches")))
    for i, block in enumerate(network.transformer_blocks):
        inside = keep_input(f"block.{i}.modulated")
        hooks.append(block.attn1.register_forward_pre_hook(inside))
        hooks.append(block.register_forward_hook(keep(f"block.{i}")))
        block.attn2.set_processor(AttnProcessor())
        keep_map(block.attn2, f"block.{i}.cross")
    sizes = {
        "resolution": torch.tensor([[8.0 * h, 8.0 * w]] * b),
        "aspect_ratio": torch.tensor([[h / w]] * b),
    }
    with torch.no_grad():
        sample = network(
            nchw(latents),
            encoder_hidden_states=torch.tensor(context),
            timestep=torch.tensor(t),
            added_cond_kwargs=sizes,
            encoder_attention_mask=torch.tensor(mask),
        ).sample
    for hook in hooks:
        hook.remove()
    found["tap/out"] = nhwc(sample[:, : network.config.in_channels])
    return found


def record_t5(network, tokens):
    """States of texts that end in padding, token 0."""
    tokens = torch.tensor(tokens)
    with torch.no_grad():
        return network(tokens, attention_mask=(tokens != 0).long())[0].numpy()


def transformer_inputs(network, rows, columns, seed=0):
    generator = np.random.default_rng(seed)
    shapes = {
        "latents": (2, rows, columns, network.config.in_channels),
        "context": (2, 7, network.config.caption_channels),
    }
    inputs = {k: generator.normal(size=s).astype("f") for k, s in shapes.items()}
    lengths = np.array([[7], [3]])
    return {**inputs, "t": np.array([3, 801]), "mask": np.arange(7)[None] < lengths}


def texts(length, vocabulary, seed=0):
    """Token ids of a long text and of a short one, each with its end."""
    generator = np.random.default_rng(seed)
    tokens = generator.integers(2, vocabulary, (2, length))
    tokens[0, -1] = 1
    tokens[1, 4:] = [1] + [0] * (length - 5)
    return tokens


def save(folder, kind, transformer, text, vae):
    parts = {"transformer": transformer, "text_encoder": text, "vae": vae}
    for part, network in parts.items():
        network.half().save_pretrained(folder / part)
        network.float()
    DPMSolverMultistepScheduler().save_pretrained(folder / "scheduler")
    t5_tokenizer().save_pretrained(folder / "tokenizer")
    index = {"_class_name": PIPELINES[kind]}
    (folder / "model_index.json").write_text(json.dumps(index) + "\n")


def main(folder):
    for kind in KINDS:
        transformer, text, vae = small_transformer(kind), small_t5(), small_vae()
        shutil.rmtree(folder / kind, ignore_errors=True)
        save(folder / kind, kind, transformer, text, vae)
        inputs = transformer_inputs(transformer, 8, 12)
        found = inputs | record_transformer(transformer, **inputs)
        found["tokens"] = texts(40, text.config.vocab_size)
        found["states"] = record_t5(text, found["tokens"])
        np.savez_compressed(folder / f"{kind}.npz", **found)


if __name__ == "__main__":
    default = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden"
    main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default)
