"""Memory of `sbir index` over many photos, most of them good and some hostile.

    python -m tools.memory_test --photos 2000

Every fifth picture is hostile (`hammer_cases`), or larger than most; the network is a
stand-in, so that what is measured is files, decoding and the index. Prints the memory
of the process as the photos go by, and fails where the second half needs more than
`ALLOWED` bytes above the first.
"""

import argparse
import io
import pathlib
import random
import sys
import tempfile

import numpy as np
import psutil
from PIL import Image

from sbir_jax.search.build import build
from tools.hammer_cases import hostile_image
from tools.hammer_common import ColourEmbedder

ALLOWED = 50_000_000
SIDES = (64, 256, 1024, 3000)  # of good photos, in pixels


def write(folder: pathlib.Path, count: int, rng: random.Random) -> int:
    """Photos to index; returns how many of them are hostile."""
    hostile = 0
    for i in range(count):
        if i % 5 == 4:
            name, content = hostile_image(rng)
            hostile += 1
        else:
            side = rng.choices(SIDES, (50, 30, 15, 5))[0]
            small = np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)
            picture, file = Image.fromarray(small).resize((side, side)), io.BytesIO()
            picture.save(file, "JPEG")
            name, content = "good.jpg", file.getvalue()
        (folder / f"{i:05}-{name}").write_bytes(content)
    return hostile


class Watching(ColourEmbedder):
    """Notes the memory of the process after every batch."""

    def __init__(self):
        self.seen: list[int] = []

    def start(self, pixels, modality):
        self.seen.append(psutil.Process().memory_info().rss)
        return super().start(pixels, modality)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    embedder = Watching()
    with tempfile.TemporaryDirectory() as temporary:
        photos = pathlib.Path(temporary) / "photos"
        photos.mkdir()
        hostile = write(photos, args.photos, random.Random(args.seed))
        done = build([photos], pathlib.Path(temporary) / "index", embedder)
    megabytes = np.array(embedder.seen) / 1e6
    for tenth in np.array_split(megabytes, 10):
        print(f"{tenth.max():.0f} MB", end=" ")
    first, second = np.array_split(megabytes, 2)
    grown = float(second.max() - first.max())
    print(
        f"\n{args.photos} photos, {hostile} hostile: {done.photos} indexed, "
        f"{done.skipped} refused; the second half needs {grown:+.0f} MB"
    )
    return int(grown * 1e6 > ALLOWED)


if __name__ == "__main__":
    sys.exit(main())
