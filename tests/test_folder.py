import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from miniature import hostile, picture
from PIL import Image

from sbir_jax import data
from sbir_jax.data import DataError, prepare
from sbir_jax.data.builders import PairedFolders
from sbir_jax.data.folder import read_folder


@pytest.fixture
def root(tmp_path):
    return hostile(tmp_path / "my data", "sketch", "photo")


@pytest.fixture
def load(root, tmp_path):
    def load(**kwargs):
        return data.load("folder", root, cache_dir=tmp_path / "cache", **kwargs)

    return load


def test_warnings_hold_nothing_that_a_terminal_obeys(tmp_path, monkeypatch):
    root, told = tmp_path / "few", []
    picture(root / "photo" / "cup" / "a.png", 1)
    picture(root / "sketch" / "cup" / "a-1.png", 2)
    (root / "photo" / "cup" / "\x1b[31mred.png").write_bytes(b"no picture")
    monkeypatch.setattr(data.logging, "warning", lambda *words: told.append(words))
    data.load("folder", root, cache_dir=tmp_path / "cache")
    text = " ".join(str(word) for words in told for word in words)
    assert "\\x1b[31mred.png" in text and "\x1b" not in text


def test_each_line_of_a_published_file_is_a_drawing(tmp_path):
    """QuickDraw's, of a class each; a damaged line is left out by its number."""
    root = tmp_path / "drawn"
    picture(root / "photo" / "cup" / "cup.png", 1)
    (root / "sketch" / "cup").mkdir(parents=True)
    square = {"word": "cup", "drawing": [[[20, 20, 80, 80], [20, 80, 80, 20]]]}
    stroke = {"word": "cup", "drawing": [[[0, 255], [0, 255]]]}
    lines = [json.dumps(square), json.dumps(stroke), "", '{"word": "cup"}']
    published = root / "sketch" / "cup" / "cup.ndjson"
    published.write_text("\n".join(lines) + "\n")
    alone = root / "sketch" / "cup" / "one.ndjson"
    alone.write_text(json.dumps(square, indent=1))
    found = data.load("folder", root, cache_dir=tmp_path / "cache")
    ids = [
        "sketch/cup/cup.ndjson#1",
        "sketch/cup/cup.ndjson#2",
        "sketch/cup/one.ndjson",
    ]
    assert list(found.sketches.ids) == ids
    assert [s.path for s in found.skipped] == ["sketch/cup/cup.ndjson#3"]
    assert "no drawing" in found.skipped[0].reason
    assert (found.sketches.instances == -1).all()  # of the class, not of cup.png
    first, second, same = found.sketches.images(np.arange(3), 64)
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - second).mean() > 0.01
    published.write_text(json.dumps(square) + "\n" + json.dumps(square))
    again = data.load("folder", root, cache_dir=tmp_path / "cache")
    assert again.fingerprint != found.fingerprint


def test_classes_and_notes(load):
    dataset = load()
    assert dataset.classes == (
        "car_(sedan)", "cup", "Hot-Air Balloon", "nothing", "unicorn", "Öl Fässer",
    )  # fmt: skip
    assert dataset.drawn == {"car_(sedan)", "cup", "Hot-Air Balloon"}
    assert sorted(dataset.notes) == [
        "class nothing: no readable image, left out",
        "class unicorn: 1 sketch(es) but no photo, left out",
        "class Öl Fässer: 1 photo(s) but no sketch, distractors only",
    ]
    balloon = dataset.classes.index("Hot-Air Balloon")
    ids = [i for i, l in zip(dataset.photos.ids, dataset.photos.labels, strict=True)
           if l == balloon]  # fmt: skip
    assert "photo/hot_air_balloon/extra.png" in ids and len(ids) == 4
    assert "photo/Öl Fässer/ß [1].png" in dataset.photos.ids
    assert "photo/cup/sub/deep.png" in dataset.photos.ids


def test_instances(load):
    dataset = load()
    photos = dict(zip(dataset.photos.ids, dataset.photos.instances, strict=True))
    assert len(set(photos.values())) == len(photos) and min(photos.values()) >= 0
    for name, instance in zip(
        dataset.sketches.ids, dataset.sketches.instances, strict=True
    ):
        folder, stem = os.path.split(name)
        if stem == "free.png":
            assert instance == -1
        else:
            photo = folder.replace("sketch", "photo") + f"/{stem[:5]}.jpg"
            assert instance == photos[photo], name


def test_sketch_of_an_unreadable_photo_has_no_instance(load, root):
    (root / "photo" / "cup" / "p-x_1.jpg").write_bytes(b"")
    dataset = load()
    instances = dict(zip(dataset.sketches.ids, dataset.sketches.instances, strict=True))
    assert instances["sketch/cup/p-x_1-1.png"] == -1
    assert instances["sketch/cup/p-x_2-1.png"] >= 0


def test_pixels_come_from_the_right_file(load, root):
    dataset = load()
    for items in (dataset.sketches, dataset.photos):
        found = items.pixels(range(len(items)), 8)
        for name, image in zip(items.ids, found, strict=True):
            with Image.open(root / name) as expected:
                assert abs(int(image[4, 4, 0]) - expected.getpixel((8, 8))[0]) < 3, name
    floats = dataset.photos.images([3, 1], 8)
    assert floats.shape == (2, 8, 8, 3) and floats.dtype == np.float32
    np.testing.assert_allclose(
        floats, dataset.photos.pixels([3, 1], 8) / 127.5 - 1, atol=1e-6
    )
    record = dataset.photos.source[1]
    assert record["id"].decode() == dataset.photos.ids[1]
    assert record["image"] == (root / dataset.photos.ids[1]).read_bytes()


def test_subset_keeps_labels_and_order(load):
    dataset = load()
    subset = dataset.subset(["Cup", "hot air balloon"])
    assert subset.classes == dataset.classes
    for name in ("sketches", "photos"):
        all_items, items = getattr(dataset, name), getattr(subset, name)
        keep = np.isin(all_items.labels, [1, 2])
        assert items.ids == tuple(np.array(all_items.ids)[keep])
        np.testing.assert_array_equal(items.labels, all_items.labels[keep])
        np.testing.assert_array_equal(items.instances, all_items.instances[keep])
        np.testing.assert_array_equal(
            items.pixels([0, len(items) - 1], 8),
            all_items.pixels(np.flatnonzero(keep)[[0, -1]], 8),
        )
    assert set(subset.seen + subset.unseen) == {"cup", "Hot-Air Balloon"}
    assert subset.fingerprint != dataset.fingerprint
    with pytest.raises(DataError, match=r"cups \(near: cup\)"):
        dataset.subset(["cups"])


def test_unseen_is_drawn_by_seed_among_drawn_classes(load):
    dataset = load()
    assert len(dataset.unseen) == 1 and set(dataset.unseen) <= dataset.drawn
    assert "unicorn" not in dataset.seen and "nothing" not in dataset.seen
    assert "Öl Fässer" in dataset.seen  # a source of negatives
    assert load().unseen == dataset.unseen
    drawn = {load(seed=s).unseen for s in range(16)}
    assert drawn == {(c,) for c in dataset.drawn}


def test_draw_hardly_changes_with_another_class():
    many = [f"class{i}" for i in range(50)]
    one = data.draw(many, 10, seed=3)
    two = data.draw(["new", *many], 10, seed=3)
    assert len(one) == 10 and len(set(one) & set(two)) >= 9


@pytest.mark.parametrize("form", ["list", "commas", "file"])
def test_unseen_by_name(load, tmp_path, form):
    path = tmp_path / "unseen.txt"
    path.write_text("\ufeff# my split\nhot_air_balloon\n\n  CUP \r\n", encoding="utf-8")
    unseen = {"list": ["hot_air_balloon", "CUP"], "commas": "hot_air_balloon, CUP",
              "file": path}[form]  # fmt: skip
    dataset = load(unseen=unseen)
    assert dataset.unseen == ("Hot-Air Balloon", "cup")
    assert dataset.seen == ("car_(sedan)", "Öl Fässer")


def test_unknown_unseen_names_are_errors_with_close_matches(load):
    with pytest.raises(DataError) as caught:
        load(unseen="cupp,zeppelin")
    assert "cupp (near: cup)" in str(caught.value)
    assert "zeppelin" in str(caught.value) and "unseen=" in str(caught.value)
    with pytest.raises(DataError, match="cannot be read as a list"):
        load(unseen="absent.txt")


def test_hold_out(load):
    dataset = load(unseen=[]).hold_out(1, seed=1)
    assert dataset.unseen == () and len(dataset.val) == 1 and len(dataset.seen) == 3
    assert set(dataset.val) <= dataset.drawn
    assert load(unseen=[]).hold_out(0).val == ()
    with pytest.raises(DataError, match="allowed are 0 to 2"):
        load(unseen=[]).hold_out(3)


def test_second_load_reads_the_prepared_copy(load, monkeypatch):
    first = load()
    monkeypatch.setattr(PairedFolders, "_split_generators", pytest.fail)
    second = load()
    assert second.fingerprint == first.fingerprint
    assert second.photos.ids == first.photos.ids


def test_changed_source_is_prepared_afresh(load, root, tmp_path):
    first = load()
    picture(root / "photo" / "cup" / "new.png", 9)
    added = load()
    assert len(added.photos) == len(first.photos) + 1
    os.utime(root / "photo" / "cup" / "new.png", ns=(1, 1))
    touched = load()
    assert touched.fingerprint == added.fingerprint  # same content
    (root / "photo" / "cup" / "new.png").unlink()
    removed = load()
    assert removed.photos.ids == first.photos.ids
    copies = [p for p in (tmp_path / "cache").iterdir() if p.is_dir()]
    assert len(copies) == 3  # the last load found the first copy again


def test_killed_preparation_is_not_taken_as_good(load, monkeypatch, tmp_path):
    def killed(*_):
        raise KeyboardInterrupt

    for name in ("_write_tables", "_quiet_tfds"):
        with monkeypatch.context() as patch:
            patch.setattr(prepare, name, killed)
            with pytest.raises(KeyboardInterrupt):
                load()
        left = [p.name for p in (tmp_path / "cache").iterdir() if p.is_dir()]
        assert all(name.endswith(".partial") for name in left)
    assert len(load().photos) == 13
    left = [p.name for p in (tmp_path / "cache").iterdir() if p.is_dir()]
    assert len(left) == 1 and not left[0].endswith(".partial")


KILLED = """
import os, signal, sys
from sbir_jax import data
from sbir_jax.data import images
read, paths = images.checked_bytes, []
def checked(path):
    paths.append(path)
    if len(paths) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return read(path)
images.checked_bytes = checked
data.load("folder", sys.argv[1], cache_dir=sys.argv[2])
"""


def test_a_preparation_killed_among_its_files_starts_again(load, root, tmp_path):
    cache = tmp_path / "cache"
    found = subprocess.run(
        [sys.executable, "-c", KILLED, root, cache, "20"], capture_output=True
    )
    assert found.returncode == -signal.SIGKILL
    (left,) = (p for p in cache.iterdir() if p.is_dir())
    assert left.name.endswith(".partial") and any(left.rglob("*.array_record*"))
    again = load()
    assert [p.name + ".partial" for p in cache.iterdir() if p.is_dir()] == [left.name]
    alone = data.load("folder", root, cache_dir=tmp_path / "other")
    assert again.fingerprint == alone.fingerprint and again.skipped == alone.skipped


def test_a_prepared_copy_without_its_seal_is_replaced(load, tmp_path):
    load()
    (prepared,) = (p for p in (tmp_path / "cache").iterdir() if p.is_dir())
    (prepared / "prepared.json").unlink()
    assert len(load().photos) == 13


def test_tfds_alone_reads_the_prepared_copy(load, tmp_path):
    dataset = load()
    (prepared,) = (p for p in (tmp_path / "cache").iterdir() if p.is_dir())
    source = tfds.data_source("folder", data_dir=prepared, split="photo")
    assert len(source) == len(dataset.photos)
    assert source[0]["image"].shape == (16, 16, 3)
    assert source[0]["id"].decode() == dataset.photos.ids[0]


def test_no_tensorflow(load):
    load()
    assert "tensorflow" not in sys.modules


def test_wrong_roots_say_what_is_there_and_what_to_do(root, tmp_path):
    with pytest.raises(DataError, match=r"(?s)does not exist .*my data.*toybox"):
        read_folder(tmp_path / "my_data")
    with pytest.raises(DataError, match=r"holds the folders .*cup"):
        read_folder(root / "photo")
    with pytest.raises(DataError, match="is a file"):
        read_folder(root / "photo" / "loose.png")
    with pytest.raises(DataError, match="folder needs root"):
        data.load("folder", "")
    for m in ("sketch", "photo"):
        (tmp_path / "other" / m / "tx_000000000000").mkdir(parents=True)
    with pytest.raises(DataError, match="as 'sketchy'"):
        read_folder(tmp_path / "other")
    with pytest.raises(DataError, match=r"known are toybox, sketchy, .*folder"):
        data.load("flickr", root)
    with pytest.raises(DataError, match="takes no option photos"):
        data.load("folder", root, photos="both")
    with pytest.raises(
        DataError, match=r"a split is a published one .*sketchy: 21, 25"
    ):
        data.load("folder", root, split="21")


def test_plural_and_capital_folder_names(root, tmp_path):
    shutil.move(root / "photo", root / "Photos")
    assert len(read_folder(root).photos) == 16


@pytest.mark.parametrize("modality", ["sketch", "photo"])
def test_no_readable_image_at_all(modality, tmp_path):
    for m in ("sketch", "photo"):
        picture(tmp_path / "root" / m / "cup" / "a-1.png")
    (tmp_path / "root" / modality / "cup" / "a-1.png").write_bytes(b"")
    with pytest.raises(DataError, match=f"no readable {modality} among 1.*empty file"):
        data.load("folder", tmp_path / "root", cache_dir=tmp_path / "cache")
    (tmp_path / "root" / modality / "cup" / "a-1.png").unlink()
    with pytest.raises(DataError, match=f"no readable {modality} among 0"):
        data.load("folder", tmp_path / "root", cache_dir=tmp_path / "cache")


def test_one_class_has_no_unseen(tmp_path):
    for m in ("sketch", "photo"):
        picture(tmp_path / "root" / m / "chair" / "a_1.png")
    dataset = data.load("folder", tmp_path / "root", cache_dir=tmp_path / "cache")
    assert dataset.seen == ("chair",) and dataset.unseen == ()


def test_cache_place(tmp_path, monkeypatch):
    monkeypatch.setenv("SBIR_CACHE", str(tmp_path / "env"))
    assert prepare.cache_folder() == tmp_path / "env"
    assert prepare.cache_folder(tmp_path) == tmp_path
    monkeypatch.delenv("SBIR_CACHE")
    assert prepare.cache_folder().parts[-3:] == (".cache", "sbir_jax", "data")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="SBIR_CACHE"):
        prepare.prepare("x", "y", pytest.fail, None, tmp_path / "file")


@pytest.mark.data
def test_real_chairs(sbir_data, tmp_path):
    dataset = data.load("folder", sbir_data / "chairv2", cache_dir=tmp_path)
    assert len(dataset.sketches) == 1275 and len(dataset.photos) == 400
    assert np.isin(dataset.sketches.instances, dataset.photos.instances).all()
    assert dataset.seen == ("chair",) and not dataset.skipped
    for i in (0, 700, 1274):
        photo = list(dataset.photos.instances).index(dataset.sketches.instances[i])
        stem = dataset.photos.ids[photo].rsplit("/")[-1].rsplit(".", 1)[0]
        assert dataset.sketches.ids[i].startswith(f"sketch/chair/{stem}_")
