"""Miniatures of ShoeV2 and ChairV2, in each form that people have them."""

import csv
import pickle

import numpy as np
from miniature import picture

# Names of both parts, with every mark that a name may have.
PHOTOS = {
    "train": ["10031_v1", "9910-02-carbon", "9910", "SOF 1"],
    "test": ["2429245009", "mc3-small_s"],
}


def pairs():
    """Part, photo, sketch and a number for each of two sketches a photo."""
    number = 0
    for part, names in PHOTOS.items():
        for name in names:
            for k in (1, 2):
                yield part, name, f"{name}_{k}", number
            number += 1


def by_folder(root):
    for part, photo, sketch, number in pairs():
        picture(root / f"{part}A" / f"{sketch}.png", 100 + number)
        picture(root / f"{part}B" / f"{photo}.png", number)
    for name in ("photo_test", "photo_train", "sketch_test", "sketch_train"):
        (root / f"{name}.txt").write_text("a list\n")
    return root


def by_table(root, kind="chair"):
    rows = []
    inside = f"{kind}/" if kind else ""
    for part, photo, sketch, number in pairs():
        picture(root / "sketch" / inside / f"{sketch}.png", 100 + number)
        picture(root / "photo" / inside / f"{photo}.jpg", number)
        row = (f"sketch/{inside}{sketch}.png", f"photo/{inside}{photo}.jpg", part)
        rows.append(dict(zip(("sketch", "photo", "split"), row, strict=True)))
    return table(root, rows)


def table(root, rows):
    with open(root / "pairs.csv", "w", newline="") as out:
        writer = csv.DictWriter(out, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return root


def line(number):
    """A square of strokes whose place tells the number."""
    low, high = 20.0 + 20 * number, 40.0 + 20 * number
    return np.array([[low, low, 0], [high, low, 0], [high, high, 1]])


def by_strokes(root, kind="chair", **more):
    content = {}
    for part, photo, sketch, number in pairs():
        content[f"{part}/{sketch}"] = line(number)
        picture(root / "photo" / f"{photo}.png", number)
    name = f"{kind.capitalize()}V2_Coordinate"
    (root / name).write_bytes(pickle.dumps(content | more))
    return root
