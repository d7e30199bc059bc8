"""What drawings find as people hand them over, as they are and prepared.

    python -m tools.bench_drawings
    python -m tools.bench_drawings --model runs/toybox --sketches 192 --cases FOLDER

192 Toybox sketches, four of each class, over its 576 photos: as drawn, and in seven
ways that change how a drawing is handed over and not what it shows. FOLDER holds
others of the kind, as FOLDER/<class>_<any>/<variant>.png. Prints mAP@all and, for
the drawings whose photo is there, Acc@1 within the class; and what preparation costs
clean drawings.
"""

import argparse
import collections
import io
import pathlib

import numpy as np
from PIL import Image, ImageFilter
from scipy import special

from sbir_jax import data
from sbir_jax.data import images
from sbir_jax.embedder import Embedder
from sbir_jax.metrics import ranking
from sbir_jax.runtime import hardware
from sbir_jax.search.model import open_model

SIDE = 256
WIDE = (960, 540)


def variants(plain: np.ndarray, rng: np.random.Generator) -> dict[str, images.Source]:
    """One drawing, dark on white [256, 256, 3], in all ways that are compared."""
    ink = 1 - plain.astype(np.float32) / 255
    half = np.asarray(Image.fromarray(plain).resize((128, 128), 1))
    corner = np.full_like(plain, 255)
    corner[-132:-4, -132:-4] = half
    wide = np.full((WIDE[1], WIDE[0], 3), 255, np.uint8)
    wide[300:396, 750:846] = np.asarray(Image.fromarray(plain).resize((96, 96), 1))
    alpha = _bytes(ink.mean(-1, keepdims=True))
    return {
        "as drawn": plain,
        "white on black": 255 - plain,
        "half size in a corner": corner,
        "small on a wide canvas": wide,
        "pale": _bytes(1 - 0.25 * ink),
        "yellow": _bytes(1 - ink * [0.0, 0.09, 0.75]),
        "white on transparency": np.concatenate([np.full_like(plain, 255), alpha], -1),
        "photographed on paper": photographed(ink.mean(-1), rng),
    }


def photographed(ink: np.ndarray, rng: np.random.Generator) -> bytes:
    """A JPEG of ink on paper: warm light from one side, a shadow, grain, soft focus.

    Args:
      ink: [h, w], 0 to 1.
    """
    y, x = np.indices(ink.shape) / len(ink)
    turn = rng.uniform(0, 2 * np.pi)
    towards = x * np.cos(turn) + y * np.sin(turn)
    light = 0.75 + 0.2 * (towards - towards.mean())
    edge = (x - 0.5 + 0.4 * (y - 0.5) - rng.uniform(-0.3, 0.3)) / 0.03
    light *= 1 - 0.35 * special.expit(edge)
    paper = light[..., None] * [1.0, 0.96, 0.86]
    picture = paper * (1 - 0.75 * ink[..., None])
    picture += rng.normal(0, 0.025, ink.shape)[..., None]
    soft = Image.fromarray(_bytes(picture)).filter(ImageFilter.GaussianBlur(0.8))
    out = io.BytesIO()
    soft.save(out, "JPEG", quality=80)
    return out.getvalue()


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)


def cases(folder: pathlib.Path) -> dict[str, dict[str, images.Source]]:
    """Variants of drawings in FOLDER by variant, then by drawing."""
    found = collections.defaultdict(dict)
    for path in sorted(folder.glob("*/*.*")):
        found[path.stem][path.parent.name] = path
    return dict(found)


def scored(
    embedder: Embedder,
    sketches: list[images.Source],
    gallery: np.ndarray,
    right: np.ndarray,
    own: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Average precision of each drawing; and, where `own` says which photo is its own,
    whether that is the first of its class: [1 or 2, n], as they are and prepared."""
    found = []
    for prepare in (False, True):
        scores = embedder.embed(sketches, "sketch", prepare=prepare) @ gallery.T
        values = [ranking.average_precision(ranking.relevant_ranks(scores, right))]
        if own is not None:
            first = ranking.rank(np.where(right, scores, -2.0), 1)[:, 0]
            values.append((first == own).astype(values[0].dtype))
        found.append(np.stack(values))
    return found


def row(name: str, found: list[np.ndarray]) -> str:
    cells = []
    for values in found:
        precision, *firsts = values.mean(1)
        cells.append(
            f"{precision:.3f}" + "".join(f" ({first:.3f})" for first in firsts)
        )
    return f"| {name} | {' | '.join(cells)} |"


def cost(found: list[np.ndarray]) -> str:
    """What preparation changes, over pairs of one drawing as it is and prepared."""
    change = found[1] - found[0]
    error = change.std(1, ddof=1) / change.shape[1] ** 0.5
    return ", ".join(
        f"{name} {mean:+.4f} (standard error {spread:.4f})"
        for name, mean, spread in zip(
            ("mAP@all", "Acc@1"), change.mean(1), error, strict=True
        )
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="toybox")
    parser.add_argument("--sketches", type=int, default=192)
    parser.add_argument("--cases", type=pathlib.Path)
    args = parser.parse_args(argv)
    hardware.keep_programs()
    embedder, toybox = open_model(args.model), data.load("toybox")
    photos, drawn = toybox.photos, toybox.sketches
    gallery = embedder.embed_items(photos, np.arange(len(photos)), "photo")
    rows = np.arange(0, len(drawn), max(1, len(drawn) // args.sketches))
    rng, clean = np.random.default_rng(0), ""
    each = [variants(plain, rng) for plain in drawn.pixels(rows, SIDE)]
    right = drawn.labels[rows][:, None] == photos.labels
    own = np.argmax(drawn.instances[rows][:, None] == photos.instances, axis=1)
    print(f"{len(rows)} sketches over {len(photos)} photos: mAP@all (Acc@1)")
    print("| drawing | as it is | prepared |\n|---|---|---|")
    for name in each[0]:
        sketches = [made[name] for made in each]
        found = scored(embedder, sketches, gallery, right, own)
        print(row(name, found), flush=True)
        if name == "as drawn":
            clean = cost(found)
    print(f"\nclean drawings, prepared less as drawn: {clean}")
    if not args.cases:
        return
    print(f"\n{args.cases}: mAP@all\n| drawing | as it is | prepared |\n|---|---|---|")
    for variant, by_name in cases(args.cases).items():
        classes = [name.rpartition("_")[0] for name in by_name]
        labels = [toybox.classes.index(name) for name in classes]
        right = np.array(labels)[:, None] == photos.labels
        found = scored(embedder, list(by_name.values()), gallery, right)
        print(row(variant.replace("_", " "), found))


if __name__ == "__main__":
    main()
