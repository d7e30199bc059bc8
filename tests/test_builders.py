"""What tfds writes of each data set and reads back is what lies in the folders."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from chairs import by_folder, by_strokes, line, pairs
from miniature import picture

from sbir_jax import data
from sbir_jax.data import DataError, images, pen, qmul, sketchy
from sbir_jax.data.builders import keyed, photo_stems
from sbir_jax.data.tree import Tree

DRAWN = "256x256/sketch/tx_000000000000", "256x256/photo/tx_000000000000"
PLACES = {
    "sketchy": DRAWN,
    "sketchy/both": DRAWN,
    "tuberlin": ("png", "ImageResized"),
    "quickdraw": ("QuickDraw_sketches_final", "QuickDraw_images_final"),
    "folder": ("sketch", "photo"),
}


def miniature(root, name):
    """Three classes with three photos, and two sketches of each of these."""
    if name == "chairv2":
        return by_strokes(root)
    if name == "shoev2":
        return by_folder(root)
    for c, folder in enumerate(("zebra", "hot_air_balloon", "ant")):
        for i in range(3):
            value = 20 * (3 * c + i)
            picture(root / PLACES[name][1] / folder / f"p{i}.jpg", value)
            for k in (1, 2):
                picture(root / PLACES[name][0] / folder / f"p{i}-{k}.png", value + k)
            if name == "sketchy/both":
                picture(root / "EXTEND_image_sketchy" / folder / f"p{i}.jpg", value)
    return root


def read(name, root) -> Tree:
    if name.startswith("sketchy"):
        return sketchy.read_sketchy(root, name.partition("/")[2] or "basic")
    return data.READERS[name](root)


@pytest.mark.parametrize("name", [*data.BUILDERS, "sketchy/both"])
def test_what_is_read_back_is_what_lies_there(tmp_path, name):
    root = miniature(tmp_path / "data", name)
    builder = tfds.builder(name, data_dir=tmp_path / "tfds")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=root),
        file_format="array_record",
    )
    assert not builder.skipped and any(tmp_path.rglob("*.array_record-*"))
    tree = read(name, root)
    assert builder.info.features["label"].names == list(tree.classes)
    stem_of = {}
    for modality, files in (("photo", tree.photos), ("sketch", tree.sketches)):
        found = tfds.data_source(name, data_dir=tmp_path / "tfds", split=modality)
        assert len(found) == len(files) > 0
        for record, file in zip(found, files, strict=True):
            assert record["id"].decode() == file.id
            assert record["label"] == file.label
            instance = record["instance"]
            if modality == "photo":
                pair = (file.label, file.stem)
                assert stem_of.setdefault(int(instance), pair) == pair
            elif name in ("tuberlin", "quickdraw"):  # of a class, not of a photo
                assert instance == -1
            else:
                mark = "_" if name.endswith("v2") else "-"
                assert stem_of[int(instance)][1] == file.stem.rpartition(mark)[0]
                assert stem_of[int(instance)][0] == file.label
            if file.path.endswith(qmul.STROKES):
                number = {sketch: n for _, _, sketch, n in pairs()}[file.stem]
                wanted = pen.draw_strokes(line(number).astype(np.float32))
            else:
                wanted = images.decode(file.path)
            np.testing.assert_array_equal(record["image"], wanted)
    twice = 2 if name.endswith("both") else 1
    assert len(stem_of) * twice == len(tree.photos)


ARCHIVES = {
    "sketchy": "https://sketchy.eye.gatech.edu rendered_256x256.7z EXTEND_image",
    "tuberlin": "https://cybertron.cg.tu-berlin.de sketches_png.zip ImageResized",
    "quickdraw": "QuickDraw_sketches_final.zip QuickDraw_images_final.zip https://",
    "chairv2": "https://sketchx.eecs.qmul.ac.uk ChairV2_Coordinate trainA/ pairs.csv",
    "shoev2": "https://sketchx.eecs.qmul.ac.uk ShoeV2/ Baseline_FGSBIR",
    "folder": "<root>/sketch/<class>/ <root>/photo/<class>/",
}


@pytest.mark.parametrize("name", data.BUILDERS)
def test_instructions_name_the_archives_and_what_to_do_without(name, tmp_path):
    wanted = [*ARCHIVES[name].split(), "--config configs/toybox.py"]
    if name != "folder":
        wanted += ["link is dead", "research" if name == "sketchy" else "<root>"]

    def from_tfds():
        builder = tfds.builder(name, data_dir=tmp_path / "tfds")
        config = tfds.download.DownloadConfig(manual_dir=tmp_path)
        builder.download_and_prepare(download_config=config)

    for use in (
        lambda: data.load(name),
        lambda: data.load(name, tmp_path),
        from_tfds,
    ):
        with pytest.raises(DataError) as caught:
            use()
        for word in wanted:
            assert word in str(caught.value), word


@pytest.mark.parametrize(
    "sketch, photos",
    [
        ("n02691156_10151-1", ["n02691156_10151", "n02691156"]),
        ("00140128_v1_12", ["00140128_v1"]),
        ("10118lem-662-ver_1", ["10118lem-662-ver", "10118lem-662"]),
        ("plain", []),
        ("-1", []),
    ],
)
def test_photo_stems(sketch, photos):
    assert list(photo_stems(sketch)) == photos


def test_keys_keep_order_and_spread():
    keys = [key for key, _ in keyed([{}] * 1000, 1000)]
    assert keys == sorted(set(keys)) and 0.99 * 2**128 < keys[-1] < 2**128
