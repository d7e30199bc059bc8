"""VQAv2 as statements: a question and its answer in a row, "Is this a cat? yes".

    ROOT/v2_OpenEnded_mscoco_<part>2014_questions.json
    ROOT/v2_mscoco_<part>2014_annotations.json
    ROOT/<part>2014, ROOT/images, or ROOT itself   COCO_<part>2014_<12 digits>.jpg
    ROOT/vqa_text_test.csv                         the release's 1,000 questions

Training is on the part "train", the test on "val", whose answers are public. A question
with "yes" or "no" for an answer has ten images to choose from, any other ten answers:
these are the release's protocols; which ones is seeded here (ours).
"""

import os
import pathlib

import numpy as np

from sbir_jax.data.matching import files
from sbir_jax.data.matching.items import Item, MatchingSet
from sbir_jax.data.tree import DataError

RELEASE = "vqa_text_test.csv"
PROTOCOLS = ("other", "binary", "release")
PARTS = {"train": "train", "test": "val"}
NEGATIVES, RECALL = 9, (1, 5)


def vqa(
    root: str | os.PathLike, split: str, protocol: str = "other", seed: int = 0
) -> MatchingSet:
    """One question for each line.

    Args:
      split: "train" or "test".
      protocol: "other": an image and ten statements; "binary": a statement and ten
        images; "release": the test of its CSV, for which training is on "other".
    Raises: DataError.
    """
    if protocol not in PROTOCOLS:
        raise DataError(f"protocol={protocol!r}; choose from {', '.join(PROTOCOLS)}.")
    folder = files.root_folder(root, "VQAv2's questions, annotations and images")
    if protocol == "release" and split == "test":
        return _release(folder)
    part = PARTS[split]
    asked = _answers(folder, part, protocol == "binary")
    pictures, items = _pictures(folder, part), []
    rng = np.random.default_rng(seed)
    for name, image, question, answer in asked:
        first = pictures.number(_file(part, image))
        if protocol == "binary":
            others = _others([one[1] for one in asked], image, rng)
            shown = (first, *(pictures.number(_file(part, i)) for i in others))
            texts: tuple[str, ...] = (f"{question} {answer}",)
        else:
            others = _others([one[3] for one in asked], answer, rng)
            shown = (first,)
            texts = tuple(f"{question} {said}" for said in (answer, *others))
        items.append(Item(name, shown, texts, ("other",) * len(others)))
    asks = "image" if protocol == "binary" else "text"
    notes = (f"negatives: seed {seed} (ours)",)
    name = f"vqav2-{protocol}/{split}"
    return MatchingSet(name, asks, pictures.paths, items, RECALL, notes)


def _release(folder: pathlib.Path) -> MatchingSet:
    wrong = [f"neg_sentence_{i}" for i in range(1, NEGATIVES + 1)]
    columns = ["sentence", "pos_image_id", *wrong]
    rows = files.read_csv(files.first_file(folder, [RELEASE]), columns)
    pictures, items = _pictures(folder, "train"), []
    for number, row in enumerate(rows, start=1):
        image = int(row["pos_image_id"])
        shown = (pictures.number([_file(part, image) for part in ("train", "val")]),)
        texts = (row["sentence"], *(row[name] for name in wrong))
        items.append(Item(str(number), shown, texts, ("other",) * NEGATIVES))
    return MatchingSet("vqav2-release/test", "text", pictures.paths, items, RECALL)


def _answers(
    folder: pathlib.Path, part: str, binary: bool
) -> list[tuple[str, int, str, str]]:
    """Id, image, question and answer of each question of this kind."""
    first = f"v2_OpenEnded_mscoco_{part}2014_questions.json"
    second = f"v2_mscoco_{part}2014_annotations.json"
    questions = files.read_json(files.first_file(folder, [first]))["questions"]
    answers = files.read_json(files.first_file(folder, [second]))["annotations"]
    texts = {one["question_id"]: one["question"] for one in questions}
    return [
        (
            str(one["question_id"]),
            one["image_id"],
            texts[one["question_id"]],
            one["multiple_choice_answer"],
        )
        for one in answers
        if (one["answer_type"] == "yes/no") == binary
    ]


def _others(values: list, right, rng) -> list:
    """Nine different ones that are not the right one. Raises: DataError."""
    found: list = []
    for _ in range(1000):
        value = values[int(rng.integers(len(values)))]
        if value != right and value not in found:
            found.append(value)
        if len(found) == NEGATIVES:
            return found
    raise DataError(
        f"vqav2: {len(found)} others than {right!r}; {NEGATIVES} are needed."
    )


def _pictures(folder: pathlib.Path, part: str) -> files.Pictures:
    folders = (f"{part}2014", "val2014", f"images/{part}2014", "images", ".")
    return files.Pictures(folder, folders)


def _file(part: str, image: int) -> str:
    return f"COCO_{part}2014_{image:012d}.jpg"
