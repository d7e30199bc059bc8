"""ADE20K as of the scene parsing challenge of 2016: 150 classes.

    ROOT/images/{training,validation}/*.jpg
    ROOT/annotations/{training,validation}/*.png     0 for none, then the class from 1
    ROOT/objectInfo150.txt                           their names

ROOT may be the folder above as well (ADEChallengeData2016).
"""

import csv
import pathlib

import numpy as np

from sbir_jax.data.dense.base import (
    IGNORED,
    DataError,
    DenseData,
    Split,
    digest,
    names_in,
    pairs_split,
    read_labels,
)

SPLITS = {"train": "training", "validation": "validation"}


def load(root: pathlib.Path) -> DenseData:
    """Raises: DataError where files are not as above."""
    if (root / "ADEChallengeData2016").is_dir():
        root = root / "ADEChallengeData2016"
    classes = class_names(root / "objectInfo150.txt")
    splits, files = {}, []
    for name, folder in SPLITS.items():
        photos = sorted((root / "images" / folder).glob("*.jpg"))
        if not photos:
            raise DataError(
                f"ade20k: no pictures (*.jpg) in {root / 'images' / folder}"
            )
        pairs = [
            (photo, root / "annotations" / folder / f"{photo.stem}.png")
            for photo in photos
        ]
        splits[name] = pairs_split(pairs, _labels)
        files += photos
    train: Split = splits.pop("train")
    return DenseData(
        "ade20k", digest(*files), train, splits, classes, known=len(classes)
    )


def class_names(path: pathlib.Path) -> tuple[str, ...]:
    """The first of each class's synonyms."""
    rows = list(csv.reader(names_in(path, "ade20k"), delimiter="\t"))
    header = [cell.strip().lower() for cell in rows[0]]
    if "name" not in header:
        raise DataError(f"{path} has no column Name; it has {', '.join(header)}")
    column = header.index("name")
    return tuple(
        row[column].replace(";", ",").split(",")[0].strip() for row in rows[1:]
    )


def _labels(path: pathlib.Path) -> np.ndarray:
    # 0 is no class; in eight bits 0 - 1 is 255, which does not count.
    found = read_labels(path) - np.uint8(1)
    assert IGNORED == 255
    return found
