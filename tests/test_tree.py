"""Names and files that systems and archives really hold."""

import os
import shutil
import unicodedata

import numpy as np
from miniature import picture

from sbir_jax import data
from sbir_jax.data.folder import read_folder
from sbir_jax.data.tree import find_names, normal_name


def test_names_that_are_no_utf8(tmp_path):
    for m in ("sketch", "photo"):
        picture(tmp_path / "root" / m / "cup" / "a-1.png")
    for name in (b"caf\xe9", b"caf\xe8"):
        for m, end in ((b"photo", b".png"), (b"sketch", b"-1.png")):
            path = os.path.join(os.fsencode(tmp_path), b"root", m, b"cup", name + end)
            shutil.copy(tmp_path / "root" / "photo" / "cup" / "a-1.png", path)
    dataset = data.load("folder", tmp_path / "root", cache_dir=tmp_path / "cache")
    assert dataset.photos.ids[1:] == (
        "photo/cup/caf\\xe8.png",
        "photo/cup/caf\\xe9.png",
    )
    # Two photos, not one twice.
    np.testing.assert_array_equal(
        dataset.sketches.instances[1:], dataset.photos.instances[1:]
    )
    assert len(set(dataset.photos.instances)) == 3


def test_composed_and_decomposed_names_are_the_same(tmp_path):
    root, names = tmp_path / "root", {}
    for form, m, end in (("NFC", "photo", ""), ("NFD", "sketch", "-1")):
        name, stem = (unicodedata.normalize(form, n) for n in ("Éclair", "crème"))
        picture(root / m / name / f"{stem}{end}.png")
        names[form] = name
    assert names["NFC"] != names["NFD"]
    dataset = data.load(
        "folder", root, unseen=[names["NFC"]], cache_dir=tmp_path / "cache"
    )
    assert dataset.classes == dataset.unseen == (names["NFD"],)
    assert dataset.sketches.instances[0] == dataset.photos.instances[0] == 0
    # Side by side they are one class, and one photo that is there twice.
    picture(
        root / "photo" / names["NFD"] / f"{unicodedata.normalize('NFD', 'crème')}.png"
    )
    dataset = data.load("folder", root, cache_dir=tmp_path / "cache")
    assert len(dataset.classes) == 1 and set(dataset.photos.instances) == {0}
    assert dataset.notes == ("1 photo(s) are in the gallery more than once",)


def test_thousands_of_files(tmp_path):
    photos = tmp_path / "root" / "photo" / "cup"
    picture(photos / "p.png")
    picture(tmp_path / "root" / "sketch" / "cup" / "p-1.png")
    for i in range(3000):
        os.link(photos / "p.png", photos / f"{i}.{'png' if i % 3 else 'txt'}")
    dataset = data.load("folder", tmp_path / "root", cache_dir=tmp_path / "cache")
    assert (len(dataset.photos), len(dataset.skipped)) == (2001, 1000)
    assert len({*dataset.photos.ids, *(s.path for s in dataset.skipped)}) == 3001


def test_what_two_paths_lead_to_is_read_by_its_own(tmp_path):
    for name in ("a", "z"):
        picture(tmp_path / "photo" / "cup" / name / f"{name}.png")
    picture(tmp_path / "sketch" / "cup" / "a-1.png")
    (tmp_path / "photo" / "cup" / "a" / "to_z").symlink_to("../z")
    (tmp_path / "photo" / "cup" / "b").symlink_to("a")
    tree = read_folder(tmp_path)
    assert [f.id for f in tree.photos] == ["photo/cup/a/a.png", "photo/cup/z/z.png"]
    assert [s.path for s in tree.skipped] == ["photo/cup/a/to_z", "photo/cup/b"]


def test_names_compare_alike():
    assert normal_name(" Hot-Air Balloon") == normal_name("hot_air_balloon")
    assert normal_name("E\u0301clair") == normal_name("\u00c9clair")
    assert find_names(["PALM TREE", "palm_tree"], ["palm-tree"], "") == ["palm-tree"]
