import numpy as np
import pytest

from sbir_jax import data
from sbir_jax.data import DataError
from sbir_jax.data.toybox import builder, world

SMALL = {
    "size": 32,
    "instances": 2,
    "sketches": 2,
    "categories": ("teapot", "key", "mug", "chair"),  # one novel, one unseen
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def small(cache):
    return data.load("toybox", "", cache_dir=cache, **SMALL)


def test_counts_and_groups(small):
    assert small.classes == ("teapot", "key", "mug", "chair")
    assert (small.seen, small.unseen) == (("mug", "chair"), ("key",))
    assert small.novel == ("teapot",) and small.val == ()
    assert len(small.photos) == 8 and len(small.sketches) == 16
    assert small.hold_out(1).val[0] in small.seen
    assert not small.skipped and not small.notes


def test_pixels_labels_instances_and_captions_fit_together(small):
    assert len(set(small.photos.instances)) == 8
    by_instance = dict(zip(small.photos.instances, small.photos.ids, strict=True))
    for items in (small.photos, small.sketches):
        for i, name in enumerate(items.ids):
            category = small.classes[items.labels[i]]
            assert name.startswith(f"{items.modality}/{category}/{category}_000")
            assert category in items.captions[i]
            photo = by_instance[items.instances[i]]
            stem = photo.removeprefix("photo").removesuffix(".png")
            assert name.removeprefix("sketch").removeprefix("photo").startswith(stem)
    mug = [world.instance("mug", i) for i in (0, 1)]
    found = small.photos.pixels([4, 5], 32).astype(int)
    assert np.abs(found - world.render_photos(mug, 32).rgb).max() <= 2
    found = small.sketches.pixels([8, 9, 10, 11], 32).astype(int)
    drawn = world.render_sketches([mug[0]] * 2 + [mug[1]] * 2, [0, 1] * 2, 32)
    assert np.abs(found - drawn).max() <= 2
    assert small.sketches.images(range(16), 32).mean() > 0.3  # lines on white


def test_every_option_changes_the_key():
    keys = {
        builder.ToyboxConfig(name="x", **(SMALL | change)).key()
        for change in (
            {}, {"size": 64}, {"instances": 3}, {"sketches": 3}, {"world": 1},
            {"categories": ("mug", "key")},
        )
    }  # fmt: skip
    assert len(keys) == 6
    assert builder.ToyboxConfig(name="x", **SMALL).key() in keys


def test_one_key_is_one_folder(monkeypatch, tmp_path):
    def opened(name, key, make, root, cache_dir):
        return key, make(tmp_path).data_dir

    monkeypatch.setattr(data, "_open", opened)
    plain, said, other = (
        data._toybox(None, None, options)[0]
        for options in ({}, {"size": 64, "sketches": 3}, {"size": 32})
    )
    assert plain == said and plain[1].endswith("toybox/default/1.0.0")
    assert other[0] != plain[0] and other[1].endswith("toybox/custom/1.0.0")


def test_changed_drawing_code_changes_the_key_and_that_of_scenes_does_not(
    tmp_path, monkeypatch
):
    drawing, scenes = tmp_path / "parts.py", tmp_path / "scenes" / "grammar.py"
    scenes.parent.mkdir()
    for file in (drawing, scenes):
        file.write_text("a = 1")
    monkeypatch.setattr(builder.importlib.resources, "files", lambda _: tmp_path)
    config = builder.ToyboxConfig(name="x")
    before = config.key()
    scenes.write_text("a = 2")
    assert config.key() == before
    drawing.write_text("a = 2")
    assert config.key() != before


@pytest.mark.parametrize(
    "options, message",
    [
        ({"size": 8}, "size=8; allowed are 16 to 1024"),
        ({"size": 40}, "multiple of 16"),
        ({"instances": 0}, "instances=0"),
        ({"categories": ("mugg",)}, r"mugg \(near: mug\)"),
        (
            {"count": 3},
            "known are aligned, categories, instances, size, sketches, world",
        ),
        ({"root": "data"}, "takes no root"),
    ],
)
def test_wrong_options(options, message, tmp_path):
    with pytest.raises(DataError, match=message):
        data.load("toybox", cache_dir=tmp_path, **options)


def test_default_size_is_modest():
    config = builder.Toybox.BUILDER_CONFIGS[0]
    images = len(world.CATEGORIES) * config.instances * (1 + config.sketches)
    assert images <= 2500 and config.size == 64
