"""Winoground: two images and two texts of the same words (Thrush et al., 2022).

    ROOT/examples.jsonl, data/examples.jsonl, or data.json
        id, caption_0, caption_1, collapsed_tag
    ROOT/images    ex_<id>_img_0.png, ex_<id>_img_1.png

There is nothing to train on: it is a test of 400.
"""

import os

from sbir_jax.data.matching import files
from sbir_jax.data.matching.items import Item, MatchingSet

PUBLISHED = 400
NAMES = ("examples.jsonl", "data/examples.jsonl", "data.json")


def winoground(root: str | os.PathLike) -> MatchingSet:
    """All examples. Raises: DataError."""
    folder = files.root_folder(root, "examples.jsonl and images")
    rows = files.read_json(files.first_file(folder, NAMES))
    pictures = files.Pictures(folder, ("images", "data/images", "."))
    items = []
    for row in rows:
        names = [row.get(f"image_{i}") or f"ex_{row['id']}_img_{i}" for i in (0, 1)]
        shown = tuple(
            pictures.number([f"{str(n).removesuffix('.png')}.png"]) for n in names
        )
        texts = (row["caption_0"].strip(), row["caption_1"].strip())
        items.append(
            Item(str(row["id"]), shown, texts, (row.get("collapsed_tag", "other"),))
        )
    notes = ()
    if len(items) != PUBLISHED:
        notes = (f"{len(items)} examples; published are {PUBLISHED}",)
    return MatchingSet("winoground/test", "pairs", pictures.paths, items, (), notes)
