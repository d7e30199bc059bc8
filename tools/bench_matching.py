"""What matching costs: two texts and an image, beside the passes that it needs.

python -m tools.bench_matching [--backbone DIR]

Beside `Matcher.score` of 2 texts x 1 image at T = 10 stand 10 early-exit passes of the
network at a batch of 2, asked for nothing but the same layers' logits, and one encoding
of the image. The two take turns, so that what else runs on the machine meets both.
"""

import argparse
import json
import time

import jax
import numpy as np

from sbir_jax.backbones.frozen import encode_texts
from sbir_jax.diffusion.noise_bank import noise_bank
from sbir_jax.runtime import hardware
from sbir_jax.tasks.matching.matcher import Matcher
from sbir_jax.tasks.matching.scores import MatchRecipe

RECIPE = MatchRecipe(layers=("down", "mid"))  # early exit
TEXTS = ["a photo of a red mug", "a photo of a blue hat"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="toybox")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    hardware.keep_programs()
    matcher = Matcher.from_pretrained(args.backbone, RECIPE)
    backbone, frozen, size = matcher.backbone, matcher.loaded.frozen, matcher.size
    image = np.random.default_rng(0).integers(0, 255, (size, size, 3), np.uint8)
    pixels = np.float32(image[None] / 127.5 - 1)
    encode = hardware.jit(backbone.encode_image, hardware.device_of(frozen))
    read = hardware.jit(
        lambda frozen, latents, t, text: (
            backbone.read(frozen, latents, t, text, logits=matcher.layers).logits
        ),
        hardware.device_of(frozen),
    )
    bank = noise_bank(backbone.latent_shape(size), RECIPE.timesteps, 0)
    text = encode_texts(matcher.loaded, TEXTS)

    def passes() -> None:
        latent = encode(frozen, pixels)
        for t, noise in zip(RECIPE.steps, bank, strict=True):
            noisy = np.broadcast_to(latent + noise[None], (2, *latent.shape[1:]))
            jax.block_until_ready(read(frozen, noisy, np.int32(t), text))

    def matching() -> None:
        matcher.score([image], TEXTS)

    times: dict[str, list[float]] = {"passes": [], "matching": []}
    for _ in range(args.rounds + 1):
        for name, run in (("passes", passes), ("matching", matching)):
            begin = time.perf_counter()
            run()
            times[name].append(1000 * (time.perf_counter() - begin))
    found = {name: float(np.median(values[1:])) for name, values in times.items()}
    ratio = found["matching"] / found["passes"]
    device = jax.devices()[0].device_kind
    print(json.dumps({"ms": found, "ratio": round(ratio, 3), "device": device}))


if __name__ == "__main__":
    main()
