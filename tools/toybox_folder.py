"""Toybox as files: FOLDER/photo/<class>/*.png and FOLDER/sketch/<class>/*.png.

python -m tools.toybox_folder FOLDER
python -m tools.toybox_folder FOLDER --classes mug,fork,duck --instances 4
"""

import argparse
import pathlib

from sbir_jax import data
from sbir_jax.runtime import hardware


def write(folder: pathlib.Path, classes: str = "", instances: int = 12) -> None:
    """Renders, and writes what was rendered.

    Args:
      classes: names with commas between them; "" for all 48.
      instances: photos a class; each has three sketches.
    Raises: DataError for a class that Toybox has not, naming those it has.
    """
    names = tuple(classes.split(",")) if classes else None
    toybox = data.load("toybox", categories=names, instances=instances)
    for items in (toybox.photos, toybox.sketches):
        for row, (id, label) in enumerate(zip(items.ids, items.labels, strict=True)):
            name = f"{pathlib.PurePosixPath(id).stem}.png"
            path = folder / items.modality / toybox.classes[label] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(items.source[row]["image"])
        print(f"{len(items):,} files in {folder / items.modality}")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--classes", default="", help="mug,fork,...; by default all 48")
    parser.add_argument("--instances", type=int, default=12, help="photos a class")
    args = parser.parse_args(argv)
    hardware.keep_programs()
    write(args.folder, args.classes, args.instances)


if __name__ == "__main__":
    main()
