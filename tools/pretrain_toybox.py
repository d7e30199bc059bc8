"""Makes `sbir_jax/assets/toybox_sd` again from nothing: a small Stable Diffusion.

    python -m tools.pretrain_toybox --workdir runs/pretrain

Renders captioned photos and sketches of the Toybox world, builds a CLIP tokenizer from
its words, trains the autoencoder, then the UNet together with the text encoder, and
writes a folder in the diffusers layout with the curves and a sheet of samples beside
it. While noise is removed, inner features are asked for what the renderer knows, and
attention to the text for what is where (`tools/toybox_losses.py`). Every stage leaves
its result in the work folder, so the same command goes on where it was stopped. The
recipe of sizes and steps is `Recipe`; all of it is ours.

    python -m tools.pretrain_toybox --start toybox --workdir runs/pretrain-2

trains the diffusion of a finished folder further, on things it has not seen: its
autoencoder and tokenizer stay, the learning rate rises and falls once more.

With `--minutes 90` diffusion trains for so long, not for a number of steps, and its
learning rate falls with the time. Ctrl-C and SIGTERM save before they end the run.
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
from tools import toybox_losses
from tools.fit import fit
from tools.toybox_configs import CONFIGS, SIZE
from tools.toybox_losses import COARSE, FINE, to_float
from tools.toybox_sheets import curves, samples_sheet
from tools.toybox_stream import Stream
from tools.toybox_tokenizer import (
    TOKENS,
    carry_over,
    knows_all_words,
    make_tokenizer,
)

ALIGN = "geometry", "category", "grounding"
ENCODED = 64  # pictures that go through the autoencoder at once


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a full run does; `--quick` shrinks it to check that the tool runs."""

    first_chunk: int = 0  # of the endless stream of things
    chunks: int = 96  # of 64 things: 3 photos and 2 sketches each; for the autoencoder
    vae_steps: int = 1000
    vae_batch: int = 16
    vae_learning_rate: float = 2e-3
    kl_weight: float = 1e-3
    unet_steps: int = 12_000
    unet_minutes: float = 0.0  # in place of steps, where it is not 0
    unet_batch: int = 32
    unet_learning_rate: float = 1e-3
    caption_dropout: float = 0.4  # the features of a picture alone are learned there
    lies: float = 0.4  # of the captions that are not left out
    geometry_weight: float = 1.0
    category_weight: float = 0.2
    grounding_weight: float = 0.2
    ready: int = 48  # chunks that diffusion begins with
    every: int = 20  # steps for one more chunk: every picture is drawn about twice
    ema: float = 0.999


# What `--start` does: other things than the first time, and nothing but diffusion.
FURTHER = Recipe(first_chunk=672, unet_learning_rate=5e-4)
QUICK = {"chunks": 1, "vae_steps": 4, "unet_steps": 4, "ready": 1}


def make_images(recipe: Recipe, workdir: pathlib.Path) -> np.ndarray:
    """Images uint8 [n, 64, 64, 3], photos and sketches together."""
    path = workdir / "images.npy"
    if not path.exists():
        images = []
        chunks = world.iter_pretraining(0, recipe.first_chunk, recipe.chunks, size=SIZE)
        for chunk in tqdm(chunks, "render", recipe.chunks, unit="chunk"):
            images += [chunk.photos, chunk.sketches]
        partial = path.with_suffix(".part.npy")
        np.save(partial, np.concatenate(images))
        partial.rename(path)
    return np.load(path)


def train_vae(recipe, images, workdir):
    """The autoencoder, by `toybox_losses.autoencoder_loss`."""
    vae = Autoencoder(AutoencoderConfig.from_json(CONFIGS["vae"]))

    def batches(step):
        rng = np.random.default_rng((1, step))
        return images[rng.integers(len(images), size=recipe.vae_batch)]

    params = fit(
        "vae",
        toybox_losses.autoencoder_loss(vae, recipe.kl_weight),
        stable_diffusion_files.init_params(vae, jax.random.key(0)),
        batches,
        steps=recipe.vae_steps,
        learning_rate=recipe.vae_learning_rate,
        ema=0.99,
        workdir=workdir,
    )
    return vae, params


def encoder(vae, params):
    """A function from uint8 images to posterior means, float32 [n, 16, 16, c]."""

    @jax.jit
    def encode(batch):
        return vae.apply({"params": params}, to_float(batch), method="encode")[0]

    def encode_all(images):
        found = []
        for start in range(0, len(images), ENCODED):
            batch = images[start : start + ENCODED]
            padded = np.concatenate([batch, batch[:1].repeat(ENCODED - len(batch), 0)])
            found.append(np.asarray(encode(padded))[: len(batch)])
        return np.concatenate(found)

    return encode_all


def tokenizer_of(folder: pathlib.Path):
    """A function from texts to token ids, int32 [n, 77]."""
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(folder)

    def tokenize(texts):
        distinct, inverse = np.unique(np.array(texts), return_inverse=True)
        ids = tokenizer(
            [str(text) for text in distinct],
            padding="max_length",
            truncation=True,
            max_length=TOKENS,
        )["input_ids"]
        return np.asarray(ids, np.int32)[inverse]

    return tokenize


def train_unet(params, recipe, stream, networks, schedule, workdir):
    """Trains UNet and text encoder by `toybox_losses.diffusion_loss`; returns both."""
    unet = networks[0]
    channels = unet.config.block_out_channels
    wide = {COARSE: channels[-2], FINE: channels[-3]}
    heads = toybox_losses.new_heads(wide)
    empty = jnp.asarray(stream.tokenize([""])[0])
    weights = {name: getattr(recipe, f"{name}_weight") for name in ALIGN}
    loss = toybox_losses.diffusion_loss(networks, schedule, empty, weights)
    lies = recipe.lies if recipe.grounding_weight else 0.0

    def batches(step):
        return stream.batch(step, recipe.unet_batch, recipe.caption_dropout, lies)

    trained = fit(
        "unet",
        loss,
        {**params, "heads": heads},
        batches,
        steps=recipe.unet_steps,
        minutes=recipe.unet_minutes,
        learning_rate=recipe.unet_learning_rate,
        ema=recipe.ema,
        save_every=250,
        workdir=workdir,
    )
    return {part: trained[part] for part in params}


def from_nothing(recipe, workdir) -> tuple[dict, dict, pathlib.Path]:
    """Configs, parameters and the tokenizer's folder; only the VAE is trained yet."""
    tokenizer = workdir / "tokenizer"
    vocabulary = make_tokenizer(tokenizer)
    images = make_images(recipe, workdir)
    vae, vae_params = train_vae(recipe, images, workdir)
    latents = encoder(vae, vae_params)(images)
    configs: dict[str, dict[str, Any]] = {
        **CONFIGS,
        # As in latent diffusion: the factor brings the latents to unit variance.
        "vae": {**CONFIGS["vae"], "scaling_factor": float(1.0 / latents.std())},
        "text_encoder": with_vocabulary(CONFIGS["text_encoder"], vocabulary),
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


def with_vocabulary(config: dict, size: int) -> dict:
    """The text encoder's config for so many tokens; the last two are start and end."""
    end = {"bos_token_id": size - 2, "eos_token_id": size - 1, "pad_token_id": size - 1}
    return {**config, "vocab_size": size, **end}


def from_folder(source: str, workdir: pathlib.Path) -> tuple[dict, dict, pathlib.Path]:
    """What `from_nothing` gives, of a finished model.

    Where the world has words by now that its tokenizer lacks, it gets another one.
    """
    start = load_backbone(source)
    folder, read = start.backbone.folder, diffusers_files.read_json
    configs = {
        part: read(folder / part / "config.json")
        for part in ("unet", "vae", "text_encoder")
    }
    configs["scheduler"] = read(folder / "scheduler" / "scheduler_config.json")
    params, tokenizer = start.frozen, folder / "tokenizer"
    if not knows_all_words(tokenizer):
        larger = workdir / "tokenizer"
        size = make_tokenizer(larger)
        configs["text_encoder"] = with_vocabulary(configs["text_encoder"], size)
        text = params["text_encoder"]
        table = np.asarray(text["embeddings"]["token_embedding"]["embedding"])
        rows = {"embedding": carry_over(table, tokenizer, larger)}
        text = {**text, "embeddings": {**text["embeddings"], "token_embedding": rows}}
        params, tokenizer = {**params, "text_encoder": text}, larger
    return configs, params, tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workdir", type=pathlib.Path, default="runs/pretrain")
    parser.add_argument("--out", type=pathlib.Path, default=diffusers_files.TOYBOX)
    parser.add_argument("--start", help="a model to train further; else from nothing")
    parser.add_argument("--quick", action="store_true", help="a few steps, to try it")
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="train diffusion for so long"
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=0,
        help="of diffusion; fewer than are done: only write out what is learned",
    )
    parser.add_argument(
        "--align",
        nargs="*",
        choices=ALIGN,
        default=ALIGN,
        help="what is asked of features and attention; nothing for noise alone",
    )
    args = parser.parse_args()
    if args.minutes < 0:
        parser.error(f"--minutes is {args.minutes}; give a time above 0, or leave it")
    recipe = FURTHER if args.start else Recipe()
    recipe = dataclasses.replace(
        recipe,
        unet_minutes=args.minutes,
        unet_steps=args.steps or recipe.unet_steps,
        **{f"{name}_weight": 0.0 for name in ALIGN if name not in args.align},
    )
    if args.quick:
        minutes = min(args.minutes, 0.2)
        recipe = dataclasses.replace(recipe, **QUICK, unet_minutes=minutes)
    args.workdir.mkdir(parents=True, exist_ok=True)
    hardware.keep_memory()
    hardware.keep_programs()
    if args.start:
        configs, params, tokenizer = from_folder(args.start, args.workdir)
    else:
        configs, params, tokenizer = from_nothing(recipe, args.workdir)
    networks = stable_diffusion_files.build_networks(configs)
    encode = encoder(networks[1], params["vae"])
    factor = configs["vae"]["scaling_factor"]
    stream = Stream(
        args.workdir / "chunks",
        lambda images: encode(images) * factor,
        tokenizer_of(tokenizer),
        SIZE,
        recipe.first_chunk,
        recipe.ready,
        recipe.every,
    )
    schedule = noise_schedule.NoiseSchedule.from_json(configs["scheduler"])
    starting = {part: params[part] for part in ("unet", "text_encoder")}
    trained = train_unet(starting, recipe, stream, networks, schedule, args.workdir)
    stable_diffusion_files.save_diffusers(
        args.out,
        configs,
        {**params, **trained},
        dtype=np.float16,
        tokenizer=tokenizer,
    )
    curves(args.workdir, args.workdir / "curves.png")
    samples_sheet(args.out, args.workdir / "samples.png")
    print(f"wrote {args.out}; curves.png and samples.png are in {args.workdir}")


if __name__ == "__main__":
    main()
