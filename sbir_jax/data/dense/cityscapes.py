"""Cityscapes with fine annotations: 19 classes.

ROOT/leftImg8bit/{train,val}/CITY/*_leftImg8bit.png
ROOT/gtFine/{train,val}/CITY/*_gtFine_labelIds.png
"""

import pathlib

import numpy as np

from sbir_jax.data.dense.base import (
    IGNORED,
    DataError,
    DenseData,
    digest,
    pairs_split,
    read_labels,
)

# By their number in the files; what is not here does not count.
CLASSES = {
    7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole",
    19: "traffic light", 20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky",
    24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 31: "train",
    32: "motorcycle", 33: "bicycle",
}  # fmt: skip
RENUMBERED = np.full(256, IGNORED, np.uint8)
RENUMBERED[list(CLASSES)] = np.arange(len(CLASSES))


def load(root: pathlib.Path) -> DenseData:
    """Raises: DataError where files are not as above."""
    splits, files = {}, []
    for name in ("train", "val"):
        photos = sorted((root / "leftImg8bit" / name).glob("*/*_leftImg8bit.png"))
        if not photos:
            raise DataError(
                f"cityscapes: no pictures CITY/*_leftImg8bit.png in "
                f"{root / 'leftImg8bit' / name}"
            )
        pairs = []
        for photo in photos:
            stem = photo.name.removesuffix("_leftImg8bit.png")
            truth = root / "gtFine" / name / photo.parent.name
            pairs.append((photo, truth / f"{stem}_gtFine_labelIds.png"))
        splits[name] = pairs_split(pairs, lambda path: RENUMBERED[read_labels(path)])
        files += photos
    train, names = splits.pop("train"), tuple(CLASSES.values())
    return DenseData("cityscapes", digest(*files), train, splits, names, len(names))
