"""ComVG, Compositional Visual Genome: one text, two images.

    ROOT/ComVG.csv        sentence, pos_image_id, neg_image_id, neg_value
    ROOT/ComVG_train.csv  likewise, for few-shot training
    ROOT/VG_100K, ROOT/VG_100K_2, ROOT/images, or ROOT itself    <id>.jpg

`neg_value` names the part of the sentence that the other image does not show.
"""

import os

from sbir_jax.data.matching import files
from sbir_jax.data.matching.items import Item, MatchingSet

PUBLISHED = 5400  # rows: 2,584 of objects, 1,536 of subjects, 1,280 of verbs
FOLDERS = ("VG_100K", "VG_100K_2", "images", ".")
COLUMNS = ("sentence", "pos_image_id", "neg_image_id", "neg_value")
NAMES = {"train": "ComVG_train.csv", "test": "ComVG.csv"}


def comvg(root: str | os.PathLike, split: str) -> MatchingSet:
    """The rows of `NAMES[split]`, as they are."""
    folder = files.root_folder(root, "ComVG.csv and Visual Genome's images")
    rows = files.read_csv(files.first_file(folder, [NAMES[split]]), COLUMNS)
    pictures = files.Pictures(folder, FOLDERS)
    items = []
    for number, row in enumerate(rows, start=1):
        both = (row["pos_image_id"], row["neg_image_id"])
        shown = tuple(pictures.number(f"{name}.jpg") for name in both)
        kind = row["neg_value"].strip().lower()
        name = row.get("id") or str(number)
        items.append(Item(name, shown, (row["sentence"].strip(),), (kind,)))
    notes = ()
    if split == "test" and len(items) != PUBLISHED:
        notes = (f"{len(items):,} rows; published are {PUBLISHED:,}",)
    return MatchingSet(f"comvg/{split}", "image", pictures.paths, items, (), notes)
