"""RefCOCO, RefCOCO+ and RefCOCOg with the pictures of COCO 2014.

    ROOT/refcoco/refs(unc).p, instances.json        ROOT/refcoco+/ likewise
    ROOT/refcocog/refs(umd).p, instances.json
    ROOT/images/mscoco/images/train2014/COCO_train2014_*.jpg    or ROOT/train2014

The lists are pickles of plain lists and dictionaries, and are read as such: one that
names any class or function is refused.
"""

import io
import json
import pathlib
import pickle
from typing import Any

import numpy as np
from jaxtyping import Bool

from sbir_jax.data import images
from sbir_jax.data.dense.base import DataError, DenseData, Example, Split, digest

# By whom each was divided, and its tests; the first is what papers lead with.
SPLITS = {
    "refcoco": ("unc", ("val", "testA", "testB")),
    "refcoco+": ("unc", ("val", "testA", "testB")),
    "refcocog": ("umd", ("val", "test")),
}
PICTURES = ("images/mscoco/images/train2014", "images/train2014", "train2014")


def load(root: pathlib.Path, split: str = "refcoco") -> DenseData:
    """Every sentence is an example.

    Raises: DataError where files are not as above.
    """
    if split not in SPLITS:
        raise DataError(f"data.split is {split!r}; give {', '.join(SPLITS)}")
    by, tests = SPLITS[split]
    refs_file = root / split / f"refs({by}).p"
    things_file = root / split / "instances.json"
    for path in (refs_file, things_file):
        if not path.is_file():
            raise DataError(f"{split}: {path} is not there; give the folder above it")
    folders = [root / below for below in PICTURES if (root / below).is_dir()]
    if not folders:
        raise DataError(f"{split}: no pictures in {root}; give {' or '.join(PICTURES)}")
    refs = read_plain_pickle(refs_file)
    things = json.loads(things_file.read_text())
    masks = {thing["id"]: thing["segmentation"] for thing in things["annotations"]}
    photos = {photo["id"]: photo for photo in things["images"]}
    splits = {
        name: _split([r for r in refs if r["split"] == name], photos, masks, folders[0])
        for name in ("train", *tests)
    }
    train = splits.pop("train")
    return DenseData(split, digest(refs_file, things_file), train, splits)


def _split(refs: list, photos: dict, masks: dict, folder: pathlib.Path) -> Split:
    refs = sorted(refs, key=lambda ref: (ref["image_id"], ref["ref_id"]))
    said = [(ref, one["sent"]) for ref in refs for one in ref["sentences"]]
    numbers = np.array([ref["image_id"] for ref, _ in said], np.int64)

    def read(i: int) -> Example:
        ref, text = said[i]
        photo = photos[ref["image_id"]]
        image = images.decode(folder / photo["file_name"])
        mask = read_mask(masks[ref["ann_id"]], photo["height"], photo["width"])
        return Example(image, mask, text)

    return Split(np.unique(numbers, return_inverse=True)[1], read)


def read_mask(
    found: Any, height: int, width: int
) -> Bool[np.ndarray, "{height} {width}"]:
    """COCO's polygons, or its run lengths, as COCO's own code draws them.

    Raises: ModuleNotFoundError without pycocotools, saying how to get it.
    """
    try:
        from pycocotools import mask
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "COCO's masks need pycocotools: pip install 'sbir_jax[coco]'"
        ) from error
    if isinstance(found, list):
        code = mask.merge(mask.frPyObjects(found, height, width))
    elif isinstance(found["counts"], list):
        code = mask.frPyObjects(found, height, width)
    else:
        code = found
    return mask.decode(code).astype(bool)  # pyright: ignore


class _Plain(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        raise DataError(
            f"it names {module_name}.{global_name}, and plain lists name nothing"
        )


def read_plain_pickle(path: pathlib.Path) -> Any:
    """Lists, dictionaries, texts and numbers; nothing of it is run.

    Raises: DataError for a file that holds anything else.
    """
    try:
        return _Plain(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except (DataError, pickle.UnpicklingError, EOFError, IndexError) as error:
        raise DataError(f"{path} is refused: {error}") from error
