"""From which cosine on two photos are copies: what folds rightly, and what wrongly.

    python -m tools.bench_copies --photos FOLDER

Of every 24th photo of Toybox, or of those below FOLDER, copies are made as people and
programs make them. For each threshold the table says how many copies of each kind it
folds, and how many photos it would fold with a different one: those whose nearest other
photo lies above it. `hits.COPY` is set by it. Descriptors are float16, as an index has
them.
"""

import argparse
import io
import pathlib

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageEnhance

from sbir_jax import data
from sbir_jax.data import images
from sbir_jax.runtime import hardware
from sbir_jax.search import hits, photos
from sbir_jax.search.model import open_model

EVERY = 24
SIDE = 256  # pixels that a photo has before it is copied
THRESHOLDS = (0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998)


def copies(pixels: UInt8[np.ndarray, "h w 3"]) -> dict[str, images.Source]:
    """Copies of a photo by what was done to it."""
    photo = Image.fromarray(pixels)
    width, height = photo.size
    edge = max(1, round(0.02 * width))
    inner = photo.crop((edge, edge, width - edge, height - edge))
    return {
        "JPEG 90": _file(photo, "JPEG", 90),
        "JPEG 50": _file(photo, "JPEG", 50),
        "WebP 75": _file(photo, "WEBP", 75),
        "half size": _file(photo.resize((width // 2, height // 2)), "JPEG", 90),
        "twice the size": _file(photo.resize((width * 2, height * 2)), "JPEG", 90),
        "2 % cut off": _file(inner, "JPEG", 90),
        "5 % brighter": _file(ImageEnhance.Brightness(photo).enhance(1.05), "JPEG", 90),
        "grey": _file(photo.convert("L"), "JPEG", 90),
    }


def _file(photo: Image.Image, form: str, quality: int) -> bytes:
    out = io.BytesIO()
    photo.save(out, form, quality=quality)
    return out.getvalue()


def _half(descriptors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    return descriptors.astype(np.float16).astype(np.float32)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--photos", help="a folder; by default Toybox")
    parser.add_argument("--model", default="toybox")
    args = parser.parse_args(argv)
    hardware.keep_programs()
    embedder = open_model(args.model)
    if args.photos:
        paths = sorted(
            path
            for path in pathlib.Path(args.photos).rglob("*")
            if path.suffix.lower() in photos.EXTENSIONS
        )
        pixels = [images.decode(path, SIDE) for path in paths]
    else:
        gallery = data.load("toybox").photos
        pixels = list(gallery.pixels(np.arange(len(gallery)), SIDE))
    found = _half(embedder.embed(pixels, "photo"))
    others = found @ found.T
    np.fill_diagonal(others, -1)
    nearest = others.max(1)
    picked = range(0, len(pixels), EVERY)
    made = [copies(pixels[i]) for i in picked]
    like = {}
    for kind in made[0]:
        again = _half(embedder.embed([each[kind] for each in made], "photo"))
        like[kind] = (again * found[picked]).sum(1)
    print(f"{len(pixels)} photos, copies of {len(made)}; COPY is {hits.COPY}")
    print("| cosine of at least |", " | ".join(map(str, THRESHOLDS)), "|")
    print("|---" * (1 + len(THRESHOLDS)) + "|")
    for kind, values in [*like.items(), ("**another photo**", nearest)]:
        shares = [f"{(values >= least).mean():.3f}" for least in THRESHOLDS]
        print(f"| {kind} |", " | ".join(shares), "|")
    print(f"nearest other photos: {np.sort(nearest)[-5:]}")


if __name__ == "__main__":
    main()
