"""Scenes as a prepared data set: what is read is what was drawn."""

import numpy as np
import pytest

from sbir_jax.data import DataError
from sbir_jax.data.toybox import builder as single
from sbir_jax.data.toybox import world
from sbir_jax.data.toybox.scenes import builder, words
from sbir_jax.data.toybox.scenes.render import render_scenes
from sbir_jax.data.toybox.scenes.scene import draw_scene
from sbir_jax.data.toybox.scenes.truth import RELATIONS, truths

SMALL = {"size": 32, "train": 9, "val": 2, "test": 2, "novel": 2, "world": 3}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def test_records_are_the_pictures_the_truth_and_the_texts(cache):
    found = builder.load_scenes("train", cache, **SMALL)
    assert len(found) == 9
    scene = draw_scene(8, 3, world.SEEN)
    pictures = render_scenes([scene], 32, looks=(0,), hands=(0,))
    (truth,) = truths([scene], pictures)
    record = found[8]
    for name, expected in (
        ("photo", pictures.photos[0, 0]), ("sketch", pictures.sketches[0, 0]),
        ("depth", truth.depth), ("instances", truth.instances),
        ("categories", truth.category_map),
    ):  # fmt: skip
        assert record[name].dtype == expected.dtype
        np.testing.assert_array_equal(record[name], expected)
    k = truth.number
    for how, table in zip(RELATIONS, record["relations"], strict=True):
        np.testing.assert_array_equal(table[:k, :k], truth.relations[how])
        assert (table[k:] == -1).all() and (table[:, k:] == -1).all()
    things = record["things"]
    names = [world.CATEGORIES[i] for i in things["category"]]
    assert tuple(names) == truth.categories
    np.testing.assert_array_equal(things["box"], truth.boxes)
    rng = scene.rng("words")
    said = words.statement(truth, rng)
    assert record["caption"].decode() == words.caption(said, rng)


def test_splits_have_their_own_scenes_and_categories(cache):
    groups = {"train": world.SEEN, "val": world.SEEN, "test": world.UNSEEN,
              "novel": world.NOVEL}  # fmt: skip
    photos = []
    for split, allowed in groups.items():
        for record in builder.load_scenes(split, cache, **SMALL):
            names = {world.CATEGORIES[i] for i in record["things"]["category"]}
            assert names <= set(allowed)
            assert record["id"].decode().startswith(f"{split}/")
            photos.append(record["photo"].tobytes())
    assert len(set(photos)) == len(photos) == 15


@pytest.mark.parametrize(
    "options, message",
    [
        ({"size": 40}, "multiple of 16"),
        ({"size": 8}, "size=8; allowed are 16 to 1024"),
        ({"train": 0}, "train=0"),
        ({"aspect": "2:1"}, "'2:1'; choose from 1:1, 4:3, 16:9"),
        ({"sketches": 3}, "known are size, aspect, train, val, test, novel, world"),
        ({"split": "dev"}, "'dev'; choose from train, val, test, novel"),
    ],
)
def test_wrong_options(options, message, tmp_path):
    with pytest.raises(DataError, match=message):
        builder.load_scenes(**{"split": "val", "cache_dir": tmp_path, **options})
    assert not list(tmp_path.iterdir())


def test_every_option_changes_the_key():
    changes = ({}, {"size": 64}, {"aspect": "4:3"}, {"train": 8}, {"val": 3},
               {"test": 3}, {"novel": 3}, {"world": 4})  # fmt: skip
    keys = {builder.ScenesConfig(name="x", **(SMALL | c)).key() for c in changes}
    assert len(keys) == len(changes)


def test_code_of_scenes_changes_their_key_and_that_of_single_things_changes_both(
    tmp_path, monkeypatch
):
    folders = {name: tmp_path / name for name in builder._FOLDERS}
    for folder in folders.values():
        folder.mkdir()
        (folder / "code.py").write_text("a = 1")
    (folders["sbir_jax.data.toybox"] / "scenes").mkdir()
    for module in (single, builder):
        monkeypatch.setattr(module.importlib.resources, "files", folders.__getitem__)

    def keys():
        kinds = single.ToyboxConfig, builder.ScenesConfig
        return [kind(name="x").key() for kind in kinds]

    before = keys()
    (folders["sbir_jax.data.toybox.scenes"] / "code.py").write_text("a = 2")
    between = keys()
    assert between[0] == before[0] and between[1] != before[1]
    (folders["sbir_jax.data.toybox"] / "code.py").write_text("a = 2")
    assert all(a != b for a, b in zip(keys(), between, strict=True))


def test_aspects_are_those_of_scenes():
    from sbir_jax.data.toybox.scenes import scene

    assert tuple(scene.ASPECTS) == builder.ASPECTS
