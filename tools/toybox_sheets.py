"""Pictures of a pretraining run: its curves, and what its model makes of prompts."""

import pathlib

import matplotlib
import matplotlib.pyplot as plt
import numpy as np

from sbir_jax.backbones.loading import load_backbone
from sbir_jax.diffusion.sampling import generate
from tools.fit import Log

matplotlib.use("Agg")
SAMPLES = (
    ("red", "mug"),
    ("blue", "chair"),
    ("green", "car"),
    ("orange", "fish"),
    ("pink", "house"),
    ("white", "rocket"),
    ("purple", "hat"),
    ("brown", "bed"),
    ("black", "bottle"),
    ("grey", "elephant"),
)


def with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def samples_sheet(out: pathlib.Path, path: pathlib.Path) -> None:
    """What the finished folder makes of three prompts about each of ten things."""
    rows = [
        [f"a photo of {with_article(colour)} {thing}" for colour, thing in SAMPLES],
        [
            f"a photo of {with_article(thing)} with yellow stripes"
            for _, thing in SAMPLES
        ],
        [f"a sketch of {with_article(thing)}" for _, thing in SAMPLES],
    ]
    texts = [text for row in rows for text in row]
    pictures = generate(load_backbone(out), texts)
    figure, axes = plt.subplots(len(rows), len(SAMPLES), figsize=(15, 5.2))
    for axis, picture, text in zip(axes.flat, pictures, texts, strict=True):
        axis.imshow(picture, interpolation="lanczos")
        axis.set_title(text.removeprefix("a photo of "), fontsize=6)
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def curves(log: Log, path: pathlib.Path) -> None:
    """Loss of each stage by step."""
    stages = {stage: log.read(stage) for stage in ("vae", "unet") if log.read(stage)}
    figure, axes = plt.subplots(1, len(stages), figsize=(4.5 * len(stages), 3.2))
    for axis, (stage, rows) in zip(np.atleast_1d(axes), stages.items(), strict=True):
        axis.semilogy([r["step"] for r in rows], [r["loss"] for r in rows])
        axis.set(title=stage, xlabel="step", ylabel="loss")
        axis.grid(alpha=0.3, which="both")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
