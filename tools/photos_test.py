"""Photos of any size and shape through `sbir segment` and `sbir depth`.

    python -m tools.photos_test --run runs/depth [--photos 100]

Sides are drawn from 1 to 4,000 pixels, forms and colour modes in turn; every fifth file
is hostile (`hammer_cases`). Fails where a result has not the size of its photo, where a
file is neither done nor listed as skipped, or where the second half of the photos needs
more than `ALLOWED` bytes above the first.
"""

import argparse
import csv
import io
import json
import pathlib
import random
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
from PIL import Image

from sbir_jax.data import images
from sbir_jax.dense.depth_estimator import DepthEstimator
from sbir_jax.dense.segmenter import Segmenter
from sbir_jax.runtime import hardware
from sbir_jax.search import dense_photos
from tools.hammer_cases import hostile_image

ALLOWED = 50_000_000
SIDES = 1, 4000  # pixels
KINDS = (("JPEG", "RGB"), ("PNG", "RGBA"), ("JPEG", "CMYK"), ("PNG", "I;16"))
KINDS += (("WEBP", "RGB"), ("JPEG", "L"), ("PNG", "P"), ("TIFF", "RGB"))
WORDS = ("mug", "a red chair", "house")


def write(folder: pathlib.Path, count: int, seed: int) -> None:
    """Photos, and among them files that are none."""
    rng = random.Random(seed)
    for i in range(count):
        if i % 5 == 4:
            name, content = hostile_image(rng)
        else:
            form, mode = KINDS[i % len(KINDS)]
            low, high = np.log(SIDES)
            width, height = (round(np.exp(rng.uniform(low, high))) for _ in range(2))
            small = np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)
            picture = Image.fromarray(small).resize((width, height))
            if mode == "I;16":
                grey = np.asarray(picture.convert("L"), np.uint16) * 257
                picture = Image.fromarray(grey)
            file = io.BytesIO()
            (picture if mode == "I;16" else picture.convert(mode)).save(file, form)
            name, content = f"{mode[0]}.{form.lower()}", file.getvalue()
        (folder / f"{i:03}-{name}").write_bytes(content)


def noting(call: Callable, seen: list[int]) -> Callable:
    """A model's method that notes the memory of the process after every photo."""

    def noted(*given: Any) -> Any:
        found = call(*given)
        seen.append(psutil.Process().memory_info().rss)
        return found

    return noted


def checked(photos: pathlib.Path, out: pathlib.Path, kind: str) -> list[str]:
    """What is wrong with the results of a folder, a line each."""
    wrong, told = [], set()
    for line in (out / dense_photos.DONE).read_text().splitlines():
        row = json.loads(line)
        told.add(row["path"])
        with Image.open(out / kind / f"{row['name']}.png") as made:
            size = made.height, made.width
        if size != images.decode(row["path"]).shape[:2]:
            wrong.append(f"{row['path']}: {kind} of {size}")
    with (out / dense_photos.SKIPPED).open(encoding="utf-8") as file:
        told |= {row["path"] for row in csv.DictReader(file)}
    missing = [path for path in sorted(photos.iterdir()) if str(path) not in told]
    return wrong + [f"{path}: neither done nor skipped" for path in missing]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--run", required=True, help="a run of task=depth")
    parser.add_argument("--photos", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    hardware.keep_programs()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        root = pathlib.Path(temporary).resolve()
        photos = root / "photos"
        photos.mkdir()
        write(photos, args.photos, args.seed)
        for kind in ("masks", "depth"):
            out = root / kind
            seen: list[int] = []
            if kind == "masks":
                model: Any = Segmenter()
                model.segment = noting(model.segment, seen)
                done = dense_photos.segment_photos([str(photos)], out, model, WORDS)
            else:
                model = DepthEstimator.from_run(args.run)
                model.estimate = noting(model.estimate, seen)
                done = dense_photos.depth_photos([str(photos)], out, model, "")
            wrong += checked(photos, out, kind)
            first, second = np.array_split(np.array(seen) / 1e6, 2)
            grown = float(second.max() - first.max())
            print(
                f"{kind}: {done.made} of {args.photos} photos, {len(done.skipped)} "
                f"skipped; {first.max():.0f} MB, the second half {grown:+.0f} MB"
            )
            if grown * 1e6 > ALLOWED:
                wrong.append(f"{kind}: memory grew by {grown:.0f} MB")
    print("\n".join(wrong))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
