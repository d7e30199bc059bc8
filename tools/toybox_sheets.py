"""Sheets to look at: scenes with their truth, and a pretraining run.

    python -m tools.toybox_sheets --out scenes.jpg

draws scenes, each with a drawing of it, the things over it in colours, its depth, and
what is said of it.
"""

import argparse
import pathlib
import textwrap

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib import patches

from sbir_jax.backbones.loading import load_backbone
from sbir_jax.backbones.sampling import generate
from sbir_jax.data.toybox.scenes import words
from sbir_jax.data.toybox.scenes.render import FIRST, render_scenes
from sbir_jax.data.toybox.scenes.scene import Scene, draw_scene
from sbir_jax.data.toybox.scenes.truth import Truth, truths
from sbir_jax.runtime import metric_writer

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


def curves(workdir: pathlib.Path, path: pathlib.Path) -> None:
    """Loss of each stage in a work folder, by step."""
    found = {stage: metric_writer.read(workdir / stage) for stage in ("vae", "unet")}
    stages = {stage: rows for stage, rows in found.items() if rows}
    figure, axes = plt.subplots(1, len(stages), figsize=(4.5 * len(stages), 3.2))
    for axis, (stage, rows) in zip(np.atleast_1d(axes), stages.items(), strict=True):
        axis.semilogy([r["step"] for r in rows], [r["loss"] for r in rows])
        axis.set(title=stage, xlabel="step", ylabel="loss")
        axis.grid(alpha=0.3, which="both")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


HUES = np.array([(230, 60, 60), (60, 180, 75), (70, 90, 250), (235, 200, 40)]) / 255


def scenes_sheet(scenes: list[Scene], path: pathlib.Path, size: int = 256) -> None:
    """A column for each scene: photo, sketch, things, depth and words."""
    pictures = render_scenes(scenes, size, looks=(0,), hands=(0,))
    found = truths(scenes, pictures)
    tall = pictures.depth.shape[1] / pictures.depth.shape[2]
    rows = (tall, tall, tall, tall, 1.4)
    figure, axes = plt.subplots(
        5, len(scenes), figsize=(2.3 * len(scenes), 2.3 * sum(rows)), squeeze=False,
        gridspec_kw={"height_ratios": rows, "wspace": 0.04, "hspace": 0.04,
                     "left": 0.01, "right": 0.99, "top": 0.99, "bottom": 0},
    )  # fmt: skip
    for i, (scene, truth) in enumerate(zip(scenes, found, strict=True)):
        photo, sketch = pictures.photos[i, 0], pictures.sketches[i, 0]
        axes[0, i].imshow(photo)
        axes[1, i].imshow(sketch)
        _things_over(axes[2, i], photo, truth)
        axes[3, i].imshow(-truth.depth, cmap="magma")
        axes[4, i].text(
            0, 0.97, _words(scene, truth), va="top", fontsize=6,
            transform=axes[4, i].transAxes,
        )  # fmt: skip
    for axis in axes.flat:
        axis.axis("off")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _things_over(axis, photo: np.ndarray, truth: Truth) -> None:
    """The photo in grey with each thing in its colour, in its box, with its number."""
    picture = np.repeat(photo.mean(-1, keepdims=True) / 255, 3, axis=-1)
    for i in range(truth.number):
        mask = truth.instances == FIRST + i
        picture[mask] = 0.45 * picture[mask] + 0.55 * HUES[i]
        x0, y0, x1, y1 = truth.boxes[i]
        if x1 > x0:
            box = patches.Rectangle((x0, y0), x1 - x0 - 1, y1 - y0 - 1, fill=False)
            box.set(edgecolor=HUES[i], linewidth=1)
            axis.add_patch(box)
            axis.text(x0 + 3, y0 - 3, f"{i}  {truth.visible[i]:.0%}", fontsize=6)
    axis.imshow(picture)


def _words(scene: Scene, truth: Truth) -> str:
    """Caption, what refers to which thing, and what is false."""
    rng = scene.rng("words")
    said = words.statement(truth, rng)
    lines = [words.caption(said, rng)]
    lines += [f"{r.thing}: {r.text}" for r in words.refer(truth, rng)]
    if said:
        lines += [f"not: {n.text}" for n in words.negatives(truth, said, rng)]
    return "\n".join(textwrap.fill(x, 44, subsequent_indent="    ") for x in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default="scenes.jpg")
    parser.add_argument("--scenes", type=int, nargs="+", default=list(range(8)))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--aspect", default="1:1")
    parser.add_argument("--size", type=int, default=256)
    args = parser.parse_args()
    scenes = [draw_scene(i, args.seed, aspect=args.aspect) for i in args.scenes]
    scenes_sheet(scenes, args.out, args.size)


if __name__ == "__main__":
    main()
