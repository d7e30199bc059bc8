"""Makes `sbir_jax/assets/toybox_sd` again from nothing: a small Stable Diffusion.

    python -m tools.pretrain_toybox --workdir runs/pretrain

Before it, on two CPU cores: export XLA_FLAGS=--xla_force_host_platform_device_count=2,
which makes a step a quarter faster; the batch is split over all devices there are.

Renders captioned photos and sketches of the Toybox world, builds a CLIP tokenizer from
its words, trains the autoencoder, then the UNet together with the text encoder, and
writes a folder in the diffusers layout with the curves and a sheet of samples beside
it. Every stage leaves its result in the work folder, so the same command goes on where
it was stopped. The recipe of sizes and steps is `Recipe`; all of it is ours.

    python -m tools.pretrain_toybox --start toybox --workdir runs/pretrain-2

trains the diffusion of a finished folder further, on things it has not seen: its
autoencoder and tokenizer stay, the learning rate rises and falls once more.
"""

import argparse
import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm.auto import tqdm

from sbir_jax.backbones import diffusers_files, stable_diffusion_files
from sbir_jax.backbones.loading import load_backbone
from sbir_jax.data.toybox import world
from sbir_jax.diffusion import noise_schedule
from sbir_jax.models.autoencoder import Autoencoder
from sbir_jax.models.configs import AutoencoderConfig
from sbir_jax.runtime import hardware
from tools.fit import Log, fit
from tools.toybox_sheets import curves, samples_sheet
from tools.toybox_tokenizer import TOKENS, make_tokenizer

SIZE = 64  # pixels
# Twice Stable Diffusion's four: with those the colours of small things are lost here.
LATENTS = 8
CONTEXT = 128  # width of the text states

CONFIGS = {
    "vae": {
        "_class_name": "AutoencoderKL",
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": LATENTS,
        "block_out_channels": [16, 32, 64],
        "down_block_types": ["DownEncoderBlock2D"] * 3,
        "up_block_types": ["UpDecoderBlock2D"] * 3,
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "act_fn": "silu",
        "sample_size": SIZE,
    },
    "unet": {
        "_class_name": "UNet2DConditionModel",
        "in_channels": LATENTS,
        "out_channels": LATENTS,
        "sample_size": SIZE // 4,
        "block_out_channels": [48, 96, 144, 192],
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
        "layers_per_block": 1,
        "norm_num_groups": 12,
        "attention_head_dim": [2, 3, 4, 6],
        "cross_attention_dim": CONTEXT,
        "use_linear_projection": True,
        "act_fn": "silu",
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "center_input_sample": False,
        "downsample_padding": 1,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-5,
    },
    "text_encoder": {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "hidden_size": CONTEXT,
        "intermediate_size": 4 * CONTEXT,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": TOKENS,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
        "projection_dim": CONTEXT,
    },
    "scheduler": {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": 1000,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "prediction_type": "v_prediction",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
    },
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a full run does; `--quick` shrinks it to check that the tool runs."""

    first_chunk: int = 0  # of the endless stream of things
    chunks: int = 96  # of 64 things: 3 photos and 2 sketches each
    vae_steps: int = 1000
    vae_batch: int = 16
    vae_learning_rate: float = 2e-3
    kl_weight: float = 1e-3
    unet_steps: int = 4500
    unet_batch: int = 32
    unet_learning_rate: float = 1e-3
    caption_dropout: float = 0.1
    ema: float = 0.999


# What `--start` does: other things than the first time, and nothing but diffusion.
FURTHER = Recipe(first_chunk=96, chunks=128, unet_steps=3200)


def make_data(recipe: Recipe, workdir: pathlib.Path) -> dict[str, np.ndarray]:
    """Images uint8 [n, 64, 64, 3] and captions [n], photos and sketches together."""
    path = workdir / "data.npz"
    if not path.exists():
        images, captions = [], []
        chunks = world.iter_pretraining(0, recipe.first_chunk, recipe.chunks, size=SIZE)
        for chunk in tqdm(chunks, "render", recipe.chunks, unit="chunk"):
            images += [chunk.photos, chunk.sketches]
            captions += [*chunk.photo_captions, *chunk.sketch_captions]
        partial = path.with_suffix(".part.npz")
        np.savez(partial, images=np.concatenate(images), captions=np.array(captions))
        partial.rename(path)
    with np.load(path) as data:
        return {name: data[name] for name in ("images", "captions")}


def to_float(images: np.ndarray) -> jax.Array:
    """uint8 [0, 255] to float32 [-1, 1]."""
    return jnp.asarray(images, jnp.float32) / 127.5 - 1.0


def train_vae(recipe, data, workdir, log):
    """The autoencoder: L1 and L2 in pixels, L1 in their differences, a light KL."""
    vae = Autoencoder(AutoencoderConfig.from_json(CONFIGS["vae"]))
    params = stable_diffusion_files.init_params(vae, jax.random.key(0))
    images = data["images"]

    def batches(step):
        rng = np.random.default_rng((1, step))
        return images[rng.integers(len(images), size=recipe.vae_batch)]

    def loss_fn(params, key, batch):
        x = to_float(batch)
        mean, logvar = vae.apply({"params": params}, x, method="encode")
        noise = jax.random.normal(key, mean.shape)
        y = vae.apply(
            {"params": params}, mean + jnp.exp(0.5 * logvar) * noise, method="decode"
        )
        # Differences of neighbours keep edges sharp, and thin strokes are all edge.
        edges = sum(jnp.abs(jnp.diff(x - y, axis=a)).mean() for a in (1, 2))
        kl = 0.5 * (mean**2 + jnp.exp(logvar) - 1.0 - logvar).mean()
        # L1 alone lets a small coloured thing fade to the grey around it.
        pixels = jnp.abs(x - y).mean() + 4.0 * jnp.square(x - y).mean()
        return pixels + 0.5 * edges + recipe.kl_weight * kl

    params = fit(
        "vae",
        loss_fn,
        params,
        batches,
        steps=recipe.vae_steps,
        learning_rate=recipe.vae_learning_rate,
        ema=0.99,
        workdir=workdir,
        log=log,
    )
    return vae, params


def encode_all(vae, params, images, workdir):
    """Posterior means, float16 [n, 16, 16, LATENTS]."""
    path = workdir / "latents.npy"
    if not path.exists():

        @jax.jit
        def encode(batch):
            x = to_float(batch)
            return vae.apply({"params": params}, x, method="encode")[0]

        latents = []
        for start in tqdm(range(0, len(images), 64), desc="encode", unit="batch"):
            batch = images[start : start + 64]
            padded = np.concatenate([batch, images[: 64 - len(batch)]])
            latents.append(np.asarray(encode(padded), np.float16)[: len(batch)])
        partial = path.with_suffix(".part.npy")
        np.save(partial, np.concatenate(latents))
        partial.rename(path)
    return np.load(path)


def tokenize(folder: pathlib.Path, captions: np.ndarray) -> np.ndarray:
    """Token numbers, int32 [n, 77]."""
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(folder)
    distinct, inverse = np.unique(captions, return_inverse=True)
    ids = tokenizer(
        [str(caption) for caption in distinct],
        padding="max_length",
        truncation=True,
        max_length=TOKENS,
    )["input_ids"]
    return np.asarray(ids, np.int32)[inverse]


def train_unet(
    params, recipe, latents, tokens, empty, networks, schedule, workdir, log
):
    """UNet and text encoder together on the schedule's own target."""
    unet, _, text = networks

    def batches(step):
        rng = np.random.default_rng((2, step))
        pick = rng.integers(len(latents), size=recipe.unet_batch)
        dropped = rng.random(recipe.unet_batch) < recipe.caption_dropout
        return latents[pick], tokens[pick], dropped

    def loss_fn(params, key, batch):
        clean, ids, dropped = batch
        clean = clean.astype(jnp.float32)
        key_t, key_n = jax.random.split(key)
        # One timestep from each of b equal intervals: every batch sees all levels.
        b = len(clean)
        t = jnp.arange(b) + jax.random.uniform(key_t, (b,))
        t = (t * (schedule.timesteps / b)).astype(jnp.int32)
        noise = jax.random.normal(key_n, clean.shape)
        noised = noise_schedule.add_noise(schedule, clean, noise, t)
        read = jnp.where(dropped[:, None], empty[None], ids)
        states = text.apply({"params": params["text_encoder"]}, read)
        taps, _ = unet.apply({"params": params["unet"]}, noised, t, states)
        target = noise_schedule.velocity(schedule, clean, noise, t)
        return jnp.square(taps["out"] - target).mean()

    return fit(
        "unet",
        loss_fn,
        params,
        batches,
        steps=recipe.unet_steps,
        learning_rate=recipe.unet_learning_rate,
        ema=recipe.ema,
        workdir=workdir,
        log=log,
    )


def from_nothing(recipe, data, workdir, log) -> tuple[dict, dict, pathlib.Path]:
    """Configs, parameters and the tokenizer's folder; only the VAE is trained yet."""
    tokenizer = workdir / "tokenizer"
    vocabulary = make_tokenizer(tokenizer)
    vae, vae_params = train_vae(recipe, data, workdir, log)
    latents = encode_all(vae, vae_params, data["images"], workdir)
    end = vocabulary - 1  # the tokenizer's last two mark the start and the end
    configs: dict[str, dict[str, Any]] = {
        **CONFIGS,
        # As in latent diffusion: the factor brings the latents to unit variance.
        "vae": {
            **CONFIGS["vae"],
            "scaling_factor": float(1.0 / latents.astype(np.float32).std()),
        },
        "text_encoder": {
            **CONFIGS["text_encoder"],
            "vocab_size": vocabulary,
            "bos_token_id": end - 1,
            "eos_token_id": end,
            "pad_token_id": end,
        },
    }
    unet, _, text_encoder = stable_diffusion_files.build_networks(configs)
    params = {
        "unet": stable_diffusion_files.init_params(unet, jax.random.key(1)),
        "vae": vae_params,
        "text_encoder": stable_diffusion_files.init_params(
            text_encoder, jax.random.key(2)
        ),
    }
    return configs, params, tokenizer


def from_folder(source: str) -> tuple[dict, dict, pathlib.Path]:
    """What `from_nothing` gives, of a finished model."""
    start = load_backbone(source)
    folder, read = start.backbone.folder, diffusers_files.read_json
    configs = {
        part: read(folder / part / "config.json")
        for part in ("unet", "vae", "text_encoder")
    }
    configs["scheduler"] = read(folder / "scheduler" / "scheduler_config.json")
    return configs, start.frozen, folder / "tokenizer"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workdir", type=pathlib.Path, default="runs/pretrain")
    parser.add_argument("--out", type=pathlib.Path, default=diffusers_files.TOYBOX)
    parser.add_argument("--start", help="a model to train further; else from nothing")
    parser.add_argument("--quick", action="store_true", help="a few steps, to try it")
    args = parser.parse_args()
    recipe = FURTHER if args.start else Recipe()
    if args.quick:
        recipe = dataclasses.replace(recipe, chunks=1, vae_steps=4, unet_steps=4)
    args.workdir.mkdir(parents=True, exist_ok=True)
    log = Log(args.workdir / "log.jsonl")
    hardware.keep_programs()
    data = make_data(recipe, args.workdir)
    if args.start:
        configs, params, tokenizer = from_folder(args.start)
    else:
        configs, params, tokenizer = from_nothing(recipe, data, args.workdir, log)
    networks = stable_diffusion_files.build_networks(configs)
    latents = encode_all(networks[1], params["vae"], data["images"], args.workdir)
    trained = train_unet(
        {part: params[part] for part in ("unet", "text_encoder")},
        recipe,
        latents * np.float16(configs["vae"]["scaling_factor"]),
        tokenize(tokenizer, data["captions"]),
        tokenize(tokenizer, np.array([""]))[0],
        networks,
        noise_schedule.NoiseSchedule.from_json(configs["scheduler"]),
        args.workdir,
        log,
    )
    stable_diffusion_files.save_diffusers(
        args.out,
        configs,
        {**params, **trained},
        dtype=np.float16,
        tokenizer=tokenizer,
    )
    curves(log, args.workdir / "curves.png")
    samples_sheet(args.out, args.workdir / "samples.png")
    print(f"wrote {args.out}; curves.png and samples.png are in {args.workdir}")


if __name__ == "__main__":
    main()
