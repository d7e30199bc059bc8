"""Data sets of dense tasks, as miniatures of the layouts that people have."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image

from sbir_jax.data import dense
from sbir_jax.data.dense import DataError
from sbir_jax.data.dense.base import Example, Split
from sbir_jax.data.dense.refcoco import read_plain_pickle


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def photo(seed, shape=(12, 16)):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 255, (*shape, 3)).astype(np.uint8)


@pytest.fixture
def ade(tmp_path):
    root = tmp_path / "ADEChallengeData2016"
    for split in ("training", "validation"):
        for i in range(2):
            stem = f"ADE_{split}_{i:08d}"
            save(root / "images" / split / f"{stem}.jpg", photo(i))
            labels = np.full((12, 16), i, np.uint8)
            labels[0] = 150
            save(root / "annotations" / split / f"{stem}.png", labels)
    rows = "".join(f"{i}\t0.1\t1\t1\tclass{i}, also{i}\n" for i in range(1, 151))
    (root / "objectInfo150.txt").write_text("Idx\tRatio\tTrain\tVal\tName\n" + rows)
    return tmp_path


def test_ade20k_counts_classes_from_one_and_ignores_none(ade):
    data = dense.load("segmentation", "ade20k", ade)
    assert (len(data.train), list(data.tests)) == (2, ["validation"])
    assert (data.known, data.classes[0], data.classes[149]) == (
        150,
        "class1",
        "class150",
    )
    nothing, first = data.train[0].target, data.train[1].target
    assert set(np.unique(nothing)) == {149, 255}
    assert set(np.unique(first)) == {0, 149}


def test_ade20k_says_what_is_missing(ade):
    gone = ade / "ADEChallengeData2016/annotations/training/ADE_training_00000001.png"
    gone.unlink()
    with pytest.raises(DataError, match="1 files are missing: "):
        dense.load("segmentation", "ade20k", ade)
    with pytest.raises(DataError, match="no pictures"):
        dense.load("segmentation", "cityscapes", ade)


def test_voc_reads_palette_numbers(tmp_path):
    root = tmp_path / "VOCdevkit" / "VOC2012"
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for name, stem in (("train", "2007_000032"), ("val", "2007_000033")):
        (lists / f"{name}.txt").write_text(f"{stem}\n")
        save(root / "JPEGImages" / f"{stem}.jpg", photo(0))
        labels = np.zeros((12, 16), np.uint8)
        labels[2, :5], labels[3] = 15, 255
        image = Image.fromarray(labels)
        image.putpalette(list(range(256)) * 3)
        (root / "SegmentationClass").mkdir(exist_ok=True)
        image.save(root / "SegmentationClass" / f"{stem}.png")
    data = dense.load("segmentation", "voc", tmp_path)
    assert data.classes[15] == "person"
    assert set(np.unique(data.tests["val"][0].target)) == {0, 15, 255}


def test_cityscapes_keeps_19_classes(tmp_path):
    for split in ("train", "val"):
        stem = "aachen_000000_000019"
        save(tmp_path / "leftImg8bit" / split / "aachen" / f"{stem}_leftImg8bit.png",
             photo(0))  # fmt: skip
        labels = np.array([[7, 8, 33, 4]], np.uint8).repeat(12, 0).repeat(4, 1)
        save(
            tmp_path / "gtFine" / split / "aachen" / f"{stem}_gtFine_labelIds.png",
            labels,
        )
    data = dense.load("segmentation", "cityscapes", tmp_path)
    assert len(data.classes) == 19
    assert set(np.unique(data.train[0].target)) == {0, 1, 18, 255}
    assert (data.classes[0], data.classes[18]) == ("road", "bicycle")


def test_nyuv2_reads_the_lists_of_bts(tmp_path):
    depth = np.full((12, 16), 2500, np.uint16)
    depth[0] = 0
    for below, scene in (
        ("sync", "living_room_0012a"),
        ("official_splits/test", "kitchen"),
    ):
        save(tmp_path / below / scene / "rgb_00001.jpg", photo(0))
        save(tmp_path / below / scene / "sync_depth_00001.png", depth)
    line = "{0}/rgb_00001.jpg {0}/sync_depth_00001.png 518.8579\n"
    train = line.format("/living_room_0012a") + "/gone/rgb_0.jpg None 518.8579\n"
    (tmp_path / "nyudepthv2_train_files_with_gt.txt").write_text(train)
    (tmp_path / "nyudepthv2_test_files_with_gt.txt").write_text(line.format("kitchen"))
    data = dense.load("depth", "nyuv2", tmp_path)
    assert data.places == ("kitchen", "living room")
    assert (len(data.train), data.unit, data.most, data.crop) == (1, "m", 10.0, True)
    example = data.train[0]
    assert data.places[example.place] == "living room"
    assert data.places[data.tests["test"][0].place] == "kitchen"
    assert set(np.unique(example.target)) == {np.float32(0), np.float32(2.5)}


@pytest.fixture
def refcoco(tmp_path):
    name = "COCO_train2014_000000000009.jpg"
    save(tmp_path / "train2014" / name, photo(0))
    things = {
        "images": [{"id": 9, "file_name": name, "height": 12, "width": 16}],
        "annotations": [
            {"id": 5, "image_id": 9, "segmentation": [[2, 2, 10, 2, 10, 8, 2, 8]]}
        ],
    }
    refs = [
        {"ref_id": i, "ann_id": 5, "image_id": 9, "split": split,
         "sentences": [{"sent": "the left one"}, {"sent": f"in {split}"}]}
        for i, split in enumerate(("train", "val", "testA", "testB"))
    ]  # fmt: skip
    folder = tmp_path / "refcoco+"
    folder.mkdir()
    (folder / "instances.json").write_text(json.dumps(things))
    (folder / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))
    return tmp_path


def test_refcoco_makes_an_example_of_every_sentence(refcoco):
    data = dense.load("referring", "refcoco", refcoco, "refcoco+")
    assert list(data.tests) == ["val", "testA", "testB"]
    assert len(data.train) == 2
    with pytest.raises(DataError, match="refcocog: "):
        dense.load("referring", "refcoco", refcoco, "refcocog")
    pytest.importorskip("pycocotools")
    example = data.tests["testA"][1]
    assert example.text == "in testA"
    assert example.target.sum() == 8 * 6
    assert example.target[4, 5]


def test_pickles_that_name_anything_are_refused(tmp_path):
    path = tmp_path / "refs.p"
    path.write_bytes(pickle.dumps([{"a": [1, 2.5, "é", None]}], protocol=2))
    assert read_plain_pickle(path) == [{"a": [1, 2.5, "é", None]}]
    path.write_bytes(pickle.dumps(print))
    with pytest.raises(DataError, match=r"it names builtins\.print"):
        read_plain_pickle(path)


def test_wrong_names_say_what_there_is(tmp_path):
    with pytest.raises(DataError, match="did you mean ade20k"):
        dense.load("segmentation", "ade20", tmp_path)
    with pytest.raises(DataError, match="nyuv2 has nothing for referring"):
        dense.load("referring", "nyuv2", tmp_path)
    with pytest.raises(DataError, match="is no folder"):
        dense.load("depth", "nyuv2", tmp_path / "nothing")


def test_no_picture_is_on_both_sides_of_a_hold_out():
    pictures = np.array([0, 0, 1, 2, 2, 2, 3])

    def read(i):
        return Example(np.zeros((1, 1, 3), np.uint8), i)

    split = Split(pictures, read)
    rest, held = split.held_out(2)
    assert [e.target for e in held] == [3, 4, 5, 6]
    assert [e.target for e in rest] == [0, 1, 2]
    assert len(split.held_out(0)[1]) == 0
    with pytest.raises(DataError, match="there are 7 examples"):
        split.held_out(7)
