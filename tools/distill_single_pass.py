"""Trains a Toybox UNet that reads images in one pass without noise.

    python -m tools.distill_single_pass --workdir runs/single --minutes 30

After CleanDIFT (Stracke et al., 2024): a copy of a model's UNet gets latents without
noise, and is trained until its activations are those that the model has on noised ones.
Where noises differ it can only learn their mean, which is what a recipe's copies are
averaged for. Ours: one timestep, the recipe's, so that nothing has to translate between
timesteps; the loss is 1 less the cosine at each place of each of `TAPS`' layers.

Writes the UNet alone, as CleanDIFT's files are, in half precision into a copy of the
model's folder, whose other networks it uses: `OUT/cleandift_unet.safetensors` is a
`--config.backbone`. The same command goes on where it was stopped.
"""

import argparse
import dataclasses
import itertools
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np

from sbir_jax.backbones import diffusers_files
from sbir_jax.backbones.base import LoadedBackbone
from sbir_jax.backbones.loading import load_backbone
from sbir_jax.backbones.stable_diffusion import StableDiffusion
from sbir_jax.backbones.tensor_names import published
from sbir_jax.diffusion import noise_schedule
from sbir_jax.features import TAPS
from sbir_jax.runtime import hardware
from sbir_jax.runtime.replacing import written_aside
from sbir_jax.runtime.tensor_files import save_tensors
from sbir_jax.types import TextStates
from tools.fit import fit
from tools.pretrain_toybox import encoder, tokenizer_of
from tools.toybox_configs import SIZE
from tools.toybox_stream import Stream

FILE = "cleandift_unet.safetensors"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a full run does; `--quick` shrinks it to check that the tool runs."""

    timestep: int = 273  # of the recipes that it is to serve
    first_chunk: int = 448  # of the endless stream of things
    ready: int = 48  # chunks that it begins with
    every: int = 20  # steps for one more chunk
    steps: int = 2_000
    batch: int = 32
    learning_rate: float = 2e-4
    caption_dropout: float = 0.7  # descriptors are read with no words, or learned ones
    ema: float = 0.99


def teacher(loaded: LoadedBackbone, recipe: Recipe):
    """A function from latents, noise and tokens to text states and activations."""
    backbone = loaded.backbone
    known = backbone.tap_names
    taps = tuple(name for name in itertools.chain(*TAPS.values()) if name in known)

    def run(frozen, latents, noise, tokens):
        text = backbone.encode_text(frozen, tokens)
        noised = noise_schedule.add_noise(
            backbone.schedule, latents, noise, recipe.timestep
        )
        found = backbone.read(frozen, noised, recipe.timestep, text, taps=taps)
        return text.states, found.taps

    return hardware.jit(run)


def alike(found: dict[str, jax.Array], wanted: dict[str, jax.Array]) -> jax.Array:
    """1 less the cosine between activations, over all places and layers."""

    def cosine(x, y):
        x, y = (v / (jnp.linalg.norm(v, axis=-1, keepdims=True) + 1e-6) for v in (x, y))
        return (x * y).sum(-1).mean()

    return 1 - jnp.stack([cosine(found[name], wanted[name]) for name in wanted]).mean()


def student_loss(backbone: StableDiffusion, recipe: Recipe):
    """The loss of a UNet's parameters on what `teacher` gave; for `fit`."""

    def loss(params, _, batch):
        text = TextStates(batch["states"])
        weights = {"unet": params}
        latents, wanted = batch["latents"], batch["taps"]
        found = backbone.read(
            weights, latents, recipe.timestep, text, taps=tuple(wanted)
        )
        return alike(found.taps, wanted)

    return loss


def save(out: pathlib.Path, folder: pathlib.Path, params: dict) -> None:
    """A copy of a model's folder with such a UNet beside its own."""
    with written_aside(out) as aside:
        shutil.copytree(folder, aside, dirs_exist_ok=True)
        save_tensors(aside / FILE, published(params, np.float16))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", type=pathlib.Path, default="runs/single")
    parser.add_argument("--start", default="toybox", help="the model to distil")
    parser.add_argument("--out", type=pathlib.Path, help="default: WORKDIR/model")
    parser.add_argument("--minutes", type=float, default=0.0, help="in place of steps")
    parser.add_argument("--quick", action="store_true", help="a few steps, to try it")
    args = parser.parse_args()
    recipe = Recipe()
    if args.quick:
        recipe = dataclasses.replace(recipe, steps=4, batch=4, ready=1)
    hardware.keep_memory()
    hardware.keep_programs()
    folder = diffusers_files.find_folder(args.start)
    loaded = load_backbone(folder)
    backbone = loaded.backbone
    assert isinstance(backbone, StableDiffusion)
    encode = encoder(backbone.vae, loaded.frozen["vae"])
    tokenize = tokenizer_of(folder / "tokenizer")
    stream = Stream(
        args.workdir / "chunks",
        lambda images: encode(images) * backbone.scaling_factor,
        tokenize,
        SIZE,
        recipe.first_chunk,
        recipe.ready,
        recipe.every,
    )
    empty, run = tokenize([""])[0], teacher(loaded, recipe)

    def batches(step):
        drawn = stream.batch(step, recipe.batch, recipe.caption_dropout)
        latents = drawn["latents"].astype(np.float32)
        noise = np.random.default_rng((7, step)).standard_normal(latents.shape, "f")
        tokens = np.where(drawn["dropped"][:, None], empty, drawn["tokens"])
        states, taps = run(loaded.frozen, latents, noise, tokens)
        return {"latents": latents, "states": states, "taps": taps}

    learned = fit(
        "unet",
        student_loss(backbone, recipe),
        loaded.frozen["unet"],
        batches,
        steps=recipe.steps,
        minutes=args.minutes,
        learning_rate=recipe.learning_rate,
        ema=recipe.ema,
        save_every=250,
        workdir=args.workdir,
    )
    out = args.out or args.workdir / "model"
    save(out, folder, learned)
    print(f"wrote {out / FILE}")


if __name__ == "__main__":
    main()
