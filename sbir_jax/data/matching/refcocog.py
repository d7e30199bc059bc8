"""RefCOCOg: which of ten expressions is of a thing in the image.

    ROOT/refs(umd).p, or refs(google).p    lists of expressions, pickled as published
    ROOT/instances.json                    file names of the images
    ROOT/train2014, ROOT/images/train2014, or ROOT itself

The umd split has images in one part only (Nagaraja et al., 2016). Negatives are ours:
seeded, of the same part, and never of the same image. The release of DSD instead takes
the google list, cuts all pairs by position (few-shot from the first 5 %, the test from
the rest), and draws negatives that need only be other strings.
"""

import os
import pathlib
from typing import Any

import numpy as np

from sbir_jax.data.matching import files
from sbir_jax.data.matching.items import Item, MatchingSet
from sbir_jax.data.tree import DataError

FOLDERS = ("train2014", "images/train2014", "images", ".")
NEGATIVES, RECALL = 9, (1, 5)
PROTOCOLS = ("umd", "release")
RELEASE_SHARE = 0.05


def refcocog(
    root: str | os.PathLike, split: str, protocol: str = "umd", seed: int = 0
) -> MatchingSet:
    """One question for every expression.

    Args:
      split: "train", "val" or "test".
      protocol: one of PROTOCOLS; "release" has no "val".
      seed: of the negatives.
    Raises: DataError.
    """
    if protocol not in PROTOCOLS:
        raise DataError(f"protocol={protocol!r}; choose from {', '.join(PROTOCOLS)}.")
    folder = files.root_folder(root, "refs(umd).p, instances.json and train2014")
    said = _expressions(folder, "umd" if protocol == "umd" else "google")
    if protocol == "umd":
        said = [one for one in said if one[0] == split]
        candidates, apart = said, "image"
    else:
        cut = int(RELEASE_SHARE * len(said))
        candidates, apart = said, "text"
        said = said[:cut] if split == "train" else said[cut:]
    pictures, items = files.Pictures(folder, FOLDERS), []
    rng = np.random.default_rng(seed)
    for _, name, image, text in said:
        others = _negatives(candidates, image, text, apart, rng)
        shown = (pictures.number(image),)
        kinds = ("other",) * len(others)
        items.append(Item(name, shown, (text, *others), kinds))
    notes = (f"negatives: {NEGATIVES} of other images, seed {seed} (ours)",)
    if protocol == "release":
        notes = (
            "protocol of DSD's release: train and test may share images, and negatives "
            "may be true of the image",
        )
    name = f"refcocog-{protocol}/{split}"
    return MatchingSet(name, "text", pictures.paths, items, RECALL, notes)


def _expressions(folder: pathlib.Path, kind: str) -> list[tuple[str, str, str, str]]:
    """Part, id, image file and text of each expression."""
    refs: Any = files.read_plain_pickle(files.first_file(folder, [f"refs({kind}).p"]))
    known = files.read_json(files.first_file(folder, ["instances.json"]))
    names = {image["id"]: image["file_name"] for image in known["images"]}
    return [
        (
            ref["split"],
            str(said["sent_id"]),
            names[ref["image_id"]],
            said["raw"].strip(),
        )
        for ref in refs
        for said in ref["sentences"]
    ]


def _negatives(said, image: str, text: str, apart: str, rng) -> list[str]:
    """Different texts of other images; or as the release, texts that only differ.

    Raises: DataError where there are not enough.
    """
    found: list[str] = []
    for i in _shuffled(len(said), rng):
        _, _, of, other = said[i]
        if other == text or other in found or (apart == "image" and of == image):
            continue
        found.append(other)
        if len(found) == NEGATIVES:
            return found
    raise DataError(
        f"refcocog: {len(found)} expressions of other images than {image}; "
        f"{NEGATIVES} negatives are needed."
    )


def _shuffled(count: int, rng):
    """Numbers below `count` in a random order, drawn as they are asked for."""
    seen: set[int] = set()
    while len(seen) < count:
        i = int(rng.integers(count))
        if i not in seen:
            seen.add(i)
            yield i
