"""Makes `sbir_jax/assets/toybox_sd_tiny` again: a small encoder for the Toybox model.

    python -m tools.distill_encoder --workdir runs/distill

Trains a few plain convolutions (`models.tiny_autoencoder`) to give the latents that the
backbone's own encoder gives, posterior means times the scaling factor, on photos and
sketches of the Toybox world. To half of the images a border of random colours is added,
since that is where learned frames will be. Writes a folder in the layout of diffusers'
AutoencoderTiny, and prints what it costs and how near it comes, on renders that it was
not trained on. The same command goes on where it was stopped.
"""

import argparse
import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float16, UInt8

from sbir_jax.adapters.prompts import PromptConfig
from sbir_jax.backbones.base import LoadedBackbone
from sbir_jax.backbones.distilled_encoder import TOYBOX_TINY, save_encoder
from sbir_jax.backbones.loading import load_backbone
from sbir_jax.backbones.stable_diffusion import StableDiffusion
from sbir_jax.backbones.stable_diffusion_files import init_params
from sbir_jax.models.configs import TinyAutoencoderConfig
from sbir_jax.models.tiny_autoencoder import TinyAutoencoder
from sbir_jax.runtime import hardware
from tools import pretrain_toybox
from tools.bench_jax import operations
from tools.fit import fit
from tools.toybox_losses import to_float


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a full run does; `--quick` shrinks it to check that the tool runs."""

    first_chunk: int = 224  # the Toybox model was trained on those before
    chunks: int = 26  # of 64 things: 3 photos and 2 sketches each
    held_out: int = 640  # images, the last ones
    width: int = 16
    blocks: tuple[int, ...] = (0, 0, 4)  # at 64, 32 and 16 pixels
    steps: int = 4000
    batch: int = 32
    learning_rate: float = 2e-3
    framed: float = 0.5  # share of the images with a border
    frame: float = 0.5  # standard deviation of its colours


def config_of(recipe: Recipe, backbone: StableDiffusion) -> dict:
    """The contents of `config.json`, with the smallest decoder there can be."""
    levels = len(recipe.blocks)
    return {
        "_class_name": "AutoencoderTiny",
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": backbone.unet.config.in_channels,
        "encoder_block_out_channels": [recipe.width] * levels,
        "num_encoder_blocks": list(recipe.blocks),
        "decoder_block_out_channels": [recipe.width] * levels,
        "num_decoder_blocks": [1] * levels,
        "act_fn": "relu",
        "scaling_factor": 1.0,
    }


def borders(
    rng: np.random.Generator, count: int, size: int, deviation: float
) -> Float[np.ndarray, "n h w 3"]:
    """Random pixels in the place of a learned frame, zeros inside: a colour for each
    image, and as much noise over it."""
    width = PromptConfig().width(size)
    colours = rng.normal(size=(count, size, size, 3))
    colours += rng.normal(size=(count, 1, 1, 3))
    colours[:, width:-width, width:-width] = 0
    return (deviation * colours).astype(np.float32)


def framed(
    images: UInt8[np.ndarray, "n h w 3"], recipe: Recipe
) -> Float16[np.ndarray, "n h w 3"]:
    """A share of the images in random borders, unclipped, still on 0 to 255."""
    rng = np.random.default_rng(3)
    out = images.astype(np.float16)
    for i in np.flatnonzero(rng.random(len(images)) < recipe.framed):
        out[i] += 127.5 * borders(rng, 1, images.shape[1], recipe.frame)[0]
    return out


def explained(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Which share of the variance of their channels our latents, n y x c, explain."""
    error = np.square(ours - theirs).mean()
    return float(1 - error / np.var(theirs, axis=(0, 1, 2)).mean())


def report(
    own: LoadedBackbone, tiny: LoadedBackbone, images: Float[np.ndarray, "n h w 3"]
) -> None:
    """Prints what the encoders cost, and how near the tiny one comes to the other."""
    recipe = Recipe()
    noise = borders(np.random.default_rng(4), *images.shape[:2], recipe.frame)
    latents = []
    for name, loaded in {"own": own, "tiny": tiny}.items():
        encode = loaded.backbone.encode_image
        one = jax.make_jaxpr(encode)(loaded.frozen, images[:1])
        numbers = sum(leaf.size for leaf in jax.tree.leaves(loaded.frozen))
        million = operations(one.jaxpr) / 1e6
        print(f"{name}: {numbers:,} parameters, {million:.1f} MFLOP an image")
        run = functools.partial(jax.jit(encode), loaded.frozen)
        latents.append([np.asarray(run(x)) for x in (images, images + noise)])
    for name, theirs, ours in zip(("plain", "framed"), *latents, strict=True):
        share = explained(ours, theirs)
        print(f"{name} renders: {share:.1%} of the variance explained")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backbone", default="toybox", help="whose latents to give")
    parser.add_argument("--workdir", type=pathlib.Path, default="runs/distill")
    parser.add_argument("--out", type=pathlib.Path, default=TOYBOX_TINY)
    parser.add_argument("--quick", action="store_true", help="a few steps, to try it")
    args = parser.parse_args()
    recipe = Recipe()
    if args.quick:
        recipe = dataclasses.replace(recipe, chunks=1, held_out=64, steps=4)
    args.workdir.mkdir(parents=True, exist_ok=True)
    hardware.keep_memory()
    hardware.keep_programs()

    drawn = pretrain_toybox.Recipe(first_chunk=recipe.first_chunk, chunks=recipe.chunks)
    images = pretrain_toybox.make_images(drawn, args.workdir)
    known, held_out = np.split(images, [-recipe.held_out])
    known = framed(known, recipe)
    own = load_backbone(args.backbone, parts=("vae_encoder",))
    described = own.backbone
    assert isinstance(described, StableDiffusion)
    latents = pretrain_toybox.encoder(described.vae, own.frozen["vae"])(known)
    config = config_of(recipe, described)
    tiny = TinyAutoencoder(TinyAutoencoderConfig.from_json(config))

    def batches(step):
        rng = np.random.default_rng((5, step))
        picked = rng.integers(len(known), size=recipe.batch)
        return known[picked], latents[picked]

    def loss_fn(params, _, batch):
        pixels, means = batch
        found, _ = tiny.apply({"params": params}, to_float(pixels), method="encode")
        return jnp.square(found - means * described.scaling_factor).mean()

    params = fit(
        "encoder",
        loss_fn,
        init_params(tiny, jax.random.key(0)),
        batches,
        steps=recipe.steps,
        learning_rate=recipe.learning_rate,
        ema=0.99,
        workdir=args.workdir,
    )
    save_encoder(args.out, config, params)
    again = load_backbone(
        args.backbone, parts=("vae_encoder",), encoder=str(args.out.resolve())
    )
    report(own, again, np.asarray(to_float(held_out)))
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
