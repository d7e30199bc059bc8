"""Loaders of benchmarks, on miniatures in the layouts that people have."""

import json
import pickle

import numpy as np
import pytest
from miniature import picture

from sbir_jax.data import matching
from sbir_jax.data.matching import DataError, Item, MatchingSet
from sbir_jax.data.matching.scenes import _start


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = value if isinstance(value, str) else json.dumps(value)
    path.write_text(text)


def test_comvg(tmp_path):
    head = "id,sentence,pos_triplet,neg_triplet,pos_image_id,neg_image_id,neg_value\n"
    rows = (
        "7,a man is walking on grass.,\"man,walk,grass\",\"('a', 'b', 'c')\",11,12,"
        "subject\n"
        "8,a cat sits,\"cat,sit,mat\",\"('a', 'b', 'c')\",12,13,verb\n"
    )
    write(tmp_path / "ComVG.csv", head + rows)
    write(tmp_path / "ComVG_train.csv", head + rows)
    for name in ("VG_100K/11", "VG_100K_2/12", "VG_100K/13"):
        picture(tmp_path / f"{name}.jpg")
    found = matching.load("comvg", root=tmp_path)
    assert found.test.asks == "image" and found.test.kinds == ("subject", "verb")
    first = found.test.items[0]
    assert first == Item("7", (0, 1), ("a man is walking on grass.",), ("subject",))
    assert found.test.items[1].images == (1, 2)
    assert found.test.images[1].endswith("VG_100K_2/12.jpg")
    assert "published are 5,400" in found.test.notes[0]
    (tmp_path / "VG_100K" / "13.jpg").unlink()
    with pytest.raises(DataError, match=r"no image 13\.jpg in .*VG_100K_2"):
        matching.load("comvg", root=tmp_path)
    (tmp_path / "ComVG_train.csv").unlink()
    picture(tmp_path / "VG_100K" / "13.jpg")
    assert matching.load("comvg", root=tmp_path, train=False).train is None
    with pytest.raises(DataError, match=r"has no ComVG_train\.csv"):
        matching.load("comvg", root=tmp_path)


def refs(count=14):
    """Two expressions of each of two things in every image."""
    made = []
    for i in range(count):
        part = "train" if i < 8 else "val" if i < 9 else "test"
        for thing in (0, 1):
            said = [
                {"sent_id": 10 * i + 2 * thing + j, "raw": f"thing {thing} of {i}, {j}"}
                for j in (0, 1)
            ]
            made.append({"split": part, "image_id": i, "sentences": said})
    return made


def refcocog(root):
    for kind in ("umd", "google"):
        (root / f"refs({kind}).p").write_bytes(pickle.dumps(refs(), protocol=2))
    names = [{"id": i, "file_name": f"COCO_{i}.jpg"} for i in range(14)]
    write(root / "instances.json", {"images": names})
    for i in range(14):
        picture(root / "train2014" / f"COCO_{i}.jpg")


def test_refcocog(tmp_path):
    refcocog(tmp_path)
    found = matching.load("refcocog", root=tmp_path, seed=3)
    # Parts as published: 8 images to train on, 5 to test.
    assert len(found.train.items) == 32 and len(found.test.items) == 20
    for part in (found.train, found.test):
        mine = {text for item in part.items for text in item.texts[:1]}
        for item in part.items:
            image = item.texts[0].split(" of ")[1].split(",")[0]
            assert len(set(item.texts)) == 10
            # Never of the same image, and of the same part.
            assert all(f" of {image}," not in text for text in item.texts[1:])
            assert set(item.texts) <= mine
    again = matching.load("refcocog", root=tmp_path, seed=3)
    assert again.fingerprint == found.fingerprint
    other = matching.load("refcocog", root=tmp_path, seed=4)
    assert other.fingerprint != found.fingerprint
    # The release cuts all pairs by position, and may take negatives of the image.
    release = matching.load("refcocog", root=tmp_path, protocol="release")
    assert len(release.train.items) == 2 and len(release.test.items) == 54
    assert "release" in release.test.name and "may share" in release.test.notes[0]


class Trap:
    def __reduce__(self):
        return print, ("code ran",)


def test_pickles_run_no_code(tmp_path, capsys):
    refcocog(tmp_path)
    (tmp_path / "refs(umd).p").write_bytes(pickle.dumps([Trap()]))
    with pytest.raises(DataError, match=r"asks for builtins\.print"):
        matching.load("refcocog", root=tmp_path)
    assert "code ran" not in capsys.readouterr().out
    (tmp_path / "refs(umd).p").write_bytes(pickle.dumps([1, 2])[:-4])
    with pytest.raises(DataError, match="is damaged"):
        matching.load("refcocog", root=tmp_path)


def vqa(root):
    for part in ("train", "val"):
        asked, answers = [], []
        for i in range(24):
            asked.append({"question_id": i, "image_id": i, "question": f"what {i}?"})
            kind, answer = ("other", f"a{i}") if i % 2 else ("yes/no", "yes")
            answers.append(
                {
                    "question_id": i,
                    "image_id": i,
                    "answer_type": kind,
                    "multiple_choice_answer": answer,
                }
            )
            picture(root / f"{part}2014" / f"COCO_{part}2014_{i:012d}.jpg")
        start = f"v2_OpenEnded_mscoco_{part}2014"
        write(root / f"{start}_questions.json", {"questions": asked})
        end = f"v2_mscoco_{part}2014_annotations.json"
        write(root / end, {"annotations": answers})


def test_vqa(tmp_path):
    vqa(tmp_path)
    found = matching.load("vqav2", root=tmp_path)
    item = found.test.items[0]
    assert len(found.test.items) == 12 and item.texts[0] == "what 1? a1"
    assert len(set(item.texts)) == 10 and len(item.images) == 1
    binary = matching.load("vqav2", root=tmp_path, protocol="binary").test
    item = binary.items[0]
    assert item.texts == ("what 0? yes",) and len(set(item.images)) == 10
    wrong = ",".join(f"neg_sentence_{i}" for i in range(1, 10))
    answers = ",".join(f"what is it? a dog {i}" for i in range(9))
    write(
        tmp_path / "vqa_text_test.csv",
        f"sentence,pos_image_id,{wrong}\nwhat is it? a cat,3,{answers}\n",
    )
    release = matching.load("vqav2", root=tmp_path, protocol="release").test
    assert release.items[0].texts[:2] == ("what is it? a cat", "what is it? a dog 0")
    with pytest.raises(DataError, match="protocol='all'; choose from other, binary"):
        matching.load("vqav2", root=tmp_path, protocol="all")


@pytest.mark.parametrize("name", ["data/examples.jsonl", "data.json"])
def test_winoground(tmp_path, name):
    rows = [
        {"id": i, "caption_0": f"a {i} on b", "caption_1": f"b on a {i}"}
        for i in range(2)
    ]
    rows[0]["image_0"], rows[0]["image_1"] = "ex_0_img_0", "ex_0_img_1"
    text = json.dumps(rows)
    if name.endswith("l"):
        text = "\n".join(map(json.dumps, rows)) + "\n"
    write(tmp_path / name, text)
    for i in range(4):
        picture(tmp_path / "images" / f"ex_{i // 2}_img_{i % 2}.png")
    found = matching.load("winoground", root=tmp_path)
    assert found.train is None and found.test.asks == "pairs"
    assert found.test.items[1].images == (2, 3)
    assert found.test.items[1].texts == ("a 1 on b", "b on a 1")
    assert found.test.notes == ("2 examples; published are 400",)


def test_flickr30k(tmp_path):
    known = [
        {"filename": f"{i}.jpg", "sentences": [{"raw": f"{i} {n}"} for n in said]}
        for i, said in enumerate([("one", "two")] * 4)
    ]
    known = {"images": known}
    write(tmp_path / "dataset_flickr30k.json", known)
    texts = {
        "datasets/flickr30k/images/1.jpg": ["0 one", "1 two", "1 one", "2 two"],
        "datasets/flickr30k/images/2.jpg": ["0 one", "1 two"],
    }
    write(tmp_path / "val_top10_RN50x64_text.json", texts)
    images = {"3 two": ["x/0.jpg", "x/3.jpg", "x/1.jpg"]}
    write(tmp_path / "val_top10_RN50x64.json", images)
    for i in range(4):
        picture(tmp_path / "images" / f"{i}.jpg")
    found = matching.load("flickr30k", root=tmp_path, train=False).test
    # The second caption of its own is left out, and so is a list without any.
    assert [item.texts for item in found.items] == [("1 two", "0 one", "2 two")]
    assert "1 lists without a right candidate" in found.notes[1]
    shown = matching.load("flickr30k", root=tmp_path, train=False, protocol="image")
    names = [path.rpartition("/")[2] for path in shown.test.images]
    assert [names[i] for i in shown.test.items[0].images] == ["3.jpg", "0.jpg", "1.jpg"]


def test_a_few_are_the_same_first_ones():
    items = [Item(str(i), (i,), ("a", "b")) for i in range(200)]
    whole = MatchingSet("many", "text", [b""] * 200, items)
    few, more = ({item.id for item in whole.some(n, 0).items} for n in (16, 64))
    assert len(few) == 16 and few < more and len(more) == 64
    assert len(whole.some(0.05, 0).items) == 10
    assert {i.id for i in whole.some(16, 1).items} != few
    with pytest.raises(DataError, match="300 shots of 200 pairs"):
        whole.some(300, 0)


@pytest.mark.parametrize(
    "asks, item",
    [
        ("text", Item("x", (0, 1), ("a",))),
        ("image", Item("x", (0,), ("a", "b"))),
        ("pairs", Item("x", (0, 1), ("a",))),
    ],
)
def test_questions_that_ask_for_something_else(asks, item):
    with pytest.raises(DataError, match=f"x has .* does not ask for {asks}"):
        MatchingSet("odd", asks, [b""] * 2, [item])


def test_unknown_sets_and_options(tmp_path):
    with pytest.raises(DataError, match="data set 'coco'; known are toybox_scenes"):
        matching.load("coco")
    with pytest.raises(DataError, match="colour"):
        matching.load("comvg", root=tmp_path, colour=1)
    with pytest.raises(DataError, match="is no folder; give one with ComVG"):
        matching.load("comvg", root="")
    with pytest.raises(DataError, match="scored='all'; choose from train, val"):
        matching.load("toybox_scenes", scored="all")


def test_captions_begin_as_photos_do():
    assert _start("a photograph of a red mug") == "a photograph of"
    assert _start("a photo of a red mug") == "a photo of"


def test_scenes(tmp_path):
    """Each false text differs from the caption by its kind, and begins as it does."""
    few = {"train": 4, "val": 1, "test": 1, "novel": 1, "cache_dir": str(tmp_path)}
    found = matching.load("toybox_scenes", size=16, **few)
    assert found.train.asks == "text" and 1 <= len(found.train.items) <= 4
    for item in found.train.items:
        start = _start(item.texts[0])
        assert all(text.startswith(start) for text in item.texts)
        assert len(item.kinds) == len(item.texts) - 1 == len(set(item.texts)) - 1
        assert set(item.kinds) <= {"noun", "colour", "pattern", "relation", "swap"}
    assert isinstance(found.train.images[0], bytes)
    assert np.all([item.images[0] == i for i, item in enumerate(found.train.items)])
