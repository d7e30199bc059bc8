"""Toybox as files: FOLDER/photo/<class>/*.png and FOLDER/sketch/<class>/*.png.

python -m tools.toybox_folder FOLDER
"""

import argparse
import pathlib

from sbir_jax import data


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    args = parser.parse_args(argv)
    toybox = data.load("toybox")
    for items in (toybox.photos, toybox.sketches):
        for row, (id, label) in enumerate(zip(items.ids, items.labels, strict=True)):
            name = f"{pathlib.PurePosixPath(id).stem}.png"
            path = args.folder / items.modality / toybox.classes[label] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(items.source[row]["image"])
        print(f"{len(items):,} files in {args.folder / items.modality}")


if __name__ == "__main__":
    main()
