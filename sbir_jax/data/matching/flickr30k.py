"""Flickr30k with preselected candidates: R@k among the ten that another model found.

    ROOT/dataset_flickr30k.json    captions and parts (Karpathy and Fei-Fei, 2015)
    ROOT/<part>_top10_RN50x64.json       caption: ten images
    ROOT/<part>_top10_RN50x64_text.json  image: ten captions
    ROOT/images, ROOT/flickr30k-images, or ROOT itself

The lists are those of DiffusionITM (Krojer et al., 2023), chosen by CLIP. Of candidates
that are right the first counts; further ones are left out, and so are questions whose
list has no right one.
"""

import os
import pathlib
from typing import Any

from sbir_jax.data.matching import files
from sbir_jax.data.matching.items import Item, MatchingSet
from sbir_jax.data.tree import DataError

RECALL = (1, 5)
PROTOCOLS = {"text": "_text", "image": ""}  # what is asked for, as in files' names
PARTS = {"train": "train", "test": "val"}


def flickr30k(
    root: str | os.PathLike, split: str, protocol: str = "text"
) -> MatchingSet:
    """One question for each entry of a list.

    Args:
      split: "train", or "test", for which the published lists are of the part "val".
      protocol: what is asked for, "text" or "image".
    Raises: DataError.
    """
    if protocol not in PROTOCOLS:
        raise DataError(f"protocol={protocol!r}; choose from {', '.join(PROTOCOLS)}.")
    folder = files.root_folder(root, "dataset_flickr30k.json and images")
    known = files.read_json(files.first_file(folder, ["dataset_flickr30k.json"]))
    captions = {
        image["filename"]: [said["raw"].strip() for said in image["sentences"]]
        for image in known["images"]
    }
    part = PARTS[split]
    name = f"{part}_top10_RN50x64{PROTOCOLS[protocol]}.json"
    listed = files.read_json(files.first_file(folder, [name]))
    pictures = files.Pictures(folder, ("images", "flickr30k-images", "."))
    items, missing = [], 0
    for asked, candidates in listed.items():
        item = _item(asked.strip(), candidates, captions, protocol, pictures)
        missing += item is None
        items += [item] if item else []
    notes = [f"candidates: {name}"]
    if missing:
        notes.append(f"{missing:,} lists without a right candidate were left out")
    name = f"flickr30k-{protocol}/{split}"
    made: Any = (name, protocol, pictures.paths, items, RECALL, tuple(notes))
    return MatchingSet(*made)


def _item(asked, candidates, captions, protocol, pictures) -> Item | None:
    def name(path: str) -> str:
        return pathlib.PurePosixPath(path).name

    def right(candidate: str) -> bool:
        if protocol == "text":
            return candidate.strip() in captions.get(name(asked), ())
        return asked in captions.get(name(candidate), ())

    true = [one for one in candidates if right(one)]
    false = [one for one in candidates if not right(one)]
    if not true or not false:
        return None
    order, kinds = [true[0], *false], ("other",) * len(false)
    if protocol == "text":
        shown = (pictures.number(name(asked)),)
        return Item(name(asked), shown, tuple(t.strip() for t in order), kinds)
    shown = tuple(pictures.number(name(path)) for path in order)
    return Item(asked, shown, (asked,), kinds)
