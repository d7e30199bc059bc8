"""NYU Depth v2 by the lists of BTS (Lee et al., 2019): 24,231 to train, 654 to test.

    ROOT/nyudepthv2_train_files_with_gt.txt    lines: picture, depth, focal length
    ROOT/nyudepthv2_test_files_with_gt.txt
    ROOT/sync/SCENE/rgb_*.jpg, sync_depth_*.png          16 bits, millimetres
    ROOT/official_splits/test/PLACE/rgb_*.jpg, sync_depth_*.png

The kind of scene ("kitchen") is the folder's name without its number: a label that VPD
reads at test time as well.
"""

import pathlib
import re

import numpy as np
from PIL import Image

from sbir_jax.data.dense.base import DataError, DenseData, digest, names_in, pairs_split
from sbir_jax.data.image_files import BadImage

LISTS = {
    "train": ("nyudepthv2_train_files_with_gt.txt", "sync"),
    "test": ("nyudepthv2_test_files_with_gt.txt", "official_splits/test"),
}
MOST = 10.0  # metres


def load(root: pathlib.Path) -> DenseData:
    """Raises: DataError where files are not as above."""
    listed = {
        name: (_pairs(root / file, root / folder), root / file)
        for name, (file, folder) in LISTS.items()
    }
    kinds = {place_of(p) for pairs, _ in listed.values() for p, _ in pairs}
    places = tuple(sorted(kinds))
    splits = {
        name: pairs_split(
            pairs, read_depth, [places.index(place_of(p)) for p, _ in pairs]
        )
        for name, (pairs, _) in listed.items()
    }
    fingerprint = digest(*(path.read_text() for _, path in listed.values()))
    train = splits.pop("train")
    return DenseData(
        "nyuv2", fingerprint, train, splits, places=places, most=MOST, unit="m",
        crop=True,
    )  # fmt: skip


def _pairs(
    file: pathlib.Path, folder: pathlib.Path
) -> list[tuple[pathlib.Path, pathlib.Path]]:
    pairs = []
    for line in names_in(file, "nyuv2"):
        words = line.split()
        if len(words) < 2:
            raise DataError(f"{file}: {line!r} names no picture and depth")
        if "None" in words[:2]:  # BTS's mark of a picture without depth
            continue
        photo, depth = (folder / word.lstrip("/") for word in words[:2])
        pairs.append((photo, depth))
    return pairs


def place_of(path: pathlib.Path) -> str:
    """ "living room" for living_room_0012a/rgb_00001.jpg."""
    return re.sub(r"_\d+\w?$", "", path.parent.name).replace("_", " ")


def read_depth(path: pathlib.Path) -> np.ndarray:
    """Metres, float32; 0 where it is not known. Raises: BadImage."""
    try:
        with Image.open(path) as image:
            found = np.asarray(image)
    except OSError as error:
        raise BadImage(str(path), str(error)) from error
    if found.ndim != 2 or found.dtype == np.uint8:
        raise BadImage(str(path), "depth is a PNG of one channel of 16 bits")
    return found.astype(np.float32) / 1000
