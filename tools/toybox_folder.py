"""Toybox as files: FOLDER/photo/<class>/*.png and FOLDER/sketch/<class>/*.png.

python -m tools.toybox_folder FOLDER
"""

import argparse
import pathlib

from PIL import Image

from sbir_jax import data

STEP = 64


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--size", type=int, default=128, help="pixels (default: 128)")
    args = parser.parse_args(argv)
    toybox = data.load("toybox")
    for items in (toybox.photos, toybox.sketches):
        for start in range(0, len(items), STEP):
            rows = range(start, min(start + STEP, len(items)))
            for row, pixels in zip(rows, items.pixels(rows, args.size), strict=True):
                folder = toybox.classes[items.labels[row]].replace(" ", "_")
                name = f"{pathlib.PurePosixPath(items.ids[row]).stem}.png"
                path = args.folder / items.modality / folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
        print(f"{len(items):,} files in {args.folder / items.modality}")


if __name__ == "__main__":
    main()
