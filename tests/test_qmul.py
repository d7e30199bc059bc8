import csv
import io
import os
import pickle
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from configs import chairv2, shoev2
from sbir_jax import data, evaluate
from sbir_jax.config import Experiment
from sbir_jax.data import DataError, qmul, strokes
from sbir_jax.data.triplets import triplet_indices, triplet_table

# Names of both parts, with every mark that a name may have.
PHOTOS = {
    "train": ["10031_v1", "9910-02-carbon", "9910", "SOF 1"],
    "test": ["2429245009", "mc3-small_s"],
}
SKETCHES = {"train": 8, "test": 4}


def picture(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), (value, 0, 0)).save(path)


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


def by_strokes(root, name="ChairV2_Coordinate", **more):
    content = {}
    for part, photo, sketch, number in pairs():
        content[f"{part}/{sketch}"] = line(number)
        picture(root / "photo" / f"{photo}.png", number)
    (root / name).write_bytes(pickle.dumps(content | more))
    return root


LAYOUTS = {
    "folders": by_folder,
    "folders below": lambda root: by_folder(root / "ChairV2"),
    "table": by_table,
    "table, no folder": lambda root: by_table(root, ""),
    "strokes": by_strokes,
    "strokes below": lambda root: by_strokes(root / "Dataset" / "ChairV2"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path, layout):
    root = tmp_path / "data"
    LAYOUTS[layout](root)
    dataset = data.load("chairv2", root, cache_dir=tmp_path / "cache")
    assert dataset.classes == ("chair/test", "chair/train")
    assert dataset.seen == ("chair/train",) and dataset.unseen == ("chair/test",)
    assert not dataset.skipped
    # A sketch is of the photo in front of its last underscore, in its own part.
    photo_of = dict(zip(dataset.photos.instances, dataset.photos.ids, strict=True))
    found = set()
    for name, instance, label in zip(
        dataset.sketches.ids, dataset.sketches.instances, dataset.sketches.labels,
        strict=True,
    ):  # fmt: skip
        stem = name.rsplit("/", 1)[1].removesuffix(".png")
        photo = photo_of[instance].rsplit("/", 1)[1].rsplit(".", 1)[0]
        found.add((dataset.classes[label].split("/")[1], photo, stem))
    assert found == {row[:3] for row in pairs()}
    said = "; ".join(dataset.notes)
    assert "12 sketches, published 1,275 (the complete set)" in said
    assert "8 sketches for training and 4 for the test, as nobody published" in said
    assert "951 and 324 as ZSE-SBIR reports" in said


def test_fine_grained_evaluation_and_triplets(tmp_path):
    by_folder(tmp_path / "data")
    dataset = data.load("chairv2", tmp_path / "data", cache_dir=tmp_path / "cache")
    protocol = evaluate.make_protocol(dataset, dataset.unseen, "fine_grained")
    assert len(protocol.queries) == 4 and len(protocol.gallery) == 2
    assert protocol.left_out == 0
    # Perfect descriptors find every photo, and within the class is the whole gallery.
    one_hot = np.eye(8, dtype=np.float32)
    scores = evaluate.similarity(
        one_hot[protocol.query_instances], one_hot[protocol.gallery_instances]
    )
    found = evaluate.score(protocol, scores)[0]
    assert found["Acc@1"] == found["Acc@1 (whole gallery)"] == 1
    indices = triplet_indices(0, 0, 0, 1, 32, triplet_table(dataset, "fine_grained"))
    test = dataset.classes.index("chair/test")
    for items, rows in zip(
        (dataset.sketches, dataset.photos, dataset.photos), indices, strict=True
    ):
        assert (items.labels[rows] != test).all()
    anchors, positives, negatives = indices
    mine = dataset.sketches.instances[anchors]
    assert (dataset.photos.instances[positives] == mine).all()
    assert (dataset.photos.instances[negatives] != mine).all()
    assert len(np.unique(negatives)) == 4


def test_strokes_become_pictures(tmp_path):
    by_strokes(tmp_path / "data")
    dataset = data.load("chairv2", tmp_path / "data", cache_dir=tmp_path / "cache")
    names = {sketch: number for _, _, sketch, number in pairs()}
    grey = dataset.sketches.pixels(range(12), 256)[..., 0]
    for image, name in zip(grey, dataset.sketches.ids, strict=True):
        number = names[name.rsplit("/", 1)[1]]
        y, x = np.nonzero(image < 128)
        low, high = 20 + 20 * number, 40 + 20 * number
        assert abs(x.min() - low) <= 3 and abs(x.max() - high) <= 3
        assert abs(y.min() - low) <= 3 and abs(y.max() - high) <= 3
        assert (
            image[low + 10, low + 5] == 255
        )  # below the first line, left of the other


def test_tfds_alone_prepares_and_reads_a_set(tmp_path):
    by_strokes(tmp_path / "data")
    builder = tfds.builder("chairv2", data_dir=tmp_path / "tfds")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=tmp_path / "data"),
        file_format="array_record",
    )
    source = tfds.data_source("chairv2", data_dir=tmp_path / "tfds", split="sketch")
    assert len(source) == 12 and source[0]["image"].shape == (512, 512, 3)
    assert builder.info.features["label"].names == ["chair/test", "chair/train"]


def test_large_coordinates_and_dots_are_drawn():
    dot = strokes.draw_strokes(np.array([[128.0, 64.0, 1.0]], np.float32))
    y, x = np.nonzero(dot[..., 0] < 128)
    assert abs(x.mean() - 256) < 1 and abs(y.mean() - 128) < 1
    # Of a grid of 800, the middle line is in the middle of the picture.
    line = np.array([[0, 400, 0], [800, 400, 1]], np.float32)
    y, x = np.nonzero(strokes.draw_strokes(line)[..., 0] < 128)
    assert abs(y.mean() - 256) < 1 and x.min() < 4 and x.max() > 507
    two = np.array([[0, 0, 0], [50, 0, 1], [0, 200, 0], [50, 200, 1]], np.float32)
    assert (strokes.draw_strokes(two)[100:300] == 255).all()  # the pen was lifted


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({"train/a_1": Evil()}),
        pickle.dumps([1, 2]),
        pickle.dumps({"train/a_1": np.zeros((3, 2))}),
        pickle.dumps({"train/a_1": np.full((3, 3), np.nan)}),
        pickle.dumps({5: line(0)}),
        b"not a pickle",
        pickle.dumps({"train/a_1": line(0)})[:-20],
        b"",
    ],
    ids="program list shape nan key text cut empty".split(),
)
def test_bad_strokes_are_refused_and_run_nothing(tmp_path, content, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "photo" / "a.png")
    (tmp_path / "ChairV2_Coordinate").write_bytes(content)
    with pytest.raises(
        DataError, match=r"ChairV2_Coordinate cannot be read as strokes"
    ):
        qmul.read_qmul(tmp_path, "chair")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_strokes_of_every_pickle_protocol(tmp_path, protocol):
    path = tmp_path / "ShoeV2_Coordinate"
    content = {"test/a_1": line(1), "train/b_1": line(2).astype(np.float32)}
    path.write_bytes(pickle.dumps(content, protocol))
    found = strokes.read_strokes(str(path), protocol)
    np.testing.assert_allclose(found["test/a_1"], line(1))
    np.testing.assert_allclose(found["train/b_1"], line(2))


def test_strokes_as_older_numpy_names_them(tmp_path):
    path = tmp_path / "ShoeV2_Coordinate"
    content = pickle.dumps({"test/a_1": line(1)}, 2)
    old = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert old != content or b"numpy.core" in content
    path.write_bytes(old)
    assert list(strokes.read_strokes(str(path), 99)) == ["test/a_1"]


def test_nothing_is_dropped_without_a_line(tmp_path):
    root = by_table(tmp_path / "data")
    photo, sketch = root / "photo" / "chair", root / "sketch" / "chair"
    picture(photo / "extra.jpg")
    (sketch / "10031_v1_2.png").write_bytes(b"")
    (sketch / "9910_1.png").unlink()
    (photo / "notes.txt").write_text("hello")
    (photo / "loop").symlink_to("..", target_is_directory=True)
    dataset = data.load("chairv2", root, cache_dir=tmp_path / "cache")
    assert dict(dataset.skipped) == {
        "photo/chair/extra.jpg": "not in pairs.csv, so of no part",
        "sketch/chair/10031_v1_2.png": "empty file",
        "sketch/chair/9910_1.png": "in pairs.csv but not there",
        "photo/chair/notes.txt": "extension '.txt', not an image's",
        "photo/chair/loop": "a link back to a folder that is read already",
    }
    assert len(dataset.sketches) == 10 and len(dataset.photos) == 6


def test_strokes_with_odd_entries(tmp_path):
    more = {"valid/a_1": line(0), "train/blank_1": np.zeros((0, 3))}
    root = by_strokes(tmp_path / "data", **more)
    picture(root / "photo" / "undrawn.png")
    tree = qmul.read_qmul(root, "chair")
    assert dict(tree.skipped) == {
        "ChairV2_Coordinate/valid/a_1": "neither train/ nor test/",
        "ChairV2_Coordinate/train/blank_1": "no strokes",
        "photo/undrawn.png": "no sketch of it in ChairV2_Coordinate, so of no part",
    }


def rows_of(root):
    with open(root / "pairs.csv", newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.parametrize(
    "change, said",
    [
        (
            lambda rows: rows[1].update(split="test"),
            "photo/chair/10031_v1.jpg is in tr",
        ),
        (lambda rows: rows[0].update(split="val"), "split being train or test"),
        (lambda rows: rows[0].update(photo=rows[4]["photo"]), "called <photo>_<k>"),
        (
            lambda rows: [r.pop("split") for r in rows],
            "Columns sketch, photo and split",
        ),
        (lambda rows: [r.update(split="test") for r in rows], "in the part train"),
    ],
    ids="both unknown pairing column empty".split(),
)
def test_wrong_division_tables(tmp_path, change, said):
    root = by_table(tmp_path)
    rows = rows_of(root)
    change(rows)
    with pytest.raises(DataError, match=said):
        qmul.read_qmul(table(root, rows), "chair")


def test_a_photo_in_both_parts_is_refused(tmp_path):
    root = by_folder(tmp_path / "folders")
    shutil.copy(root / "trainB" / "9910.png", root / "testB" / "9910.png")
    with pytest.raises(
        DataError, match=r"1 photo\(s\) are in train and in test \(9910"
    ):
        qmul.read_qmul(root, "chair")
    root = by_strokes(tmp_path / "strokes", **{"test/9910_3": line(0)})
    with pytest.raises(DataError, match=r"in train and in test \(9910\)"):
        qmul.read_qmul(root, "chair")


def test_errors_name_the_remedy(tmp_path):
    with pytest.raises(
        DataError, match=r"(?s)no copy of ShoeV2.*Where the link is dead"
    ):
        data.load("shoev2", tmp_path)
    with pytest.raises(DataError, match="chairv2 needs root"):
        data.load("chairv2")
    with pytest.raises(DataError, match="a split is a published one"):
        data.load("chairv2", tmp_path, "25")
    for name in ("trainA", "trainB", "testA"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=r"but not testB\. All of trainA"):
        data.load("chairv2", tmp_path)
    # Without any division it is a folder like any other.
    picture(tmp_path / "flat" / "photo" / "chair" / "a.jpg")
    picture(tmp_path / "flat" / "sketch" / "chair" / "a_1.png")
    with pytest.raises(DataError, match=r"pairs\.csv"):
        data.load("chairv2", tmp_path / "flat")


@pytest.mark.parametrize("module, name", [(chairv2, "chairv2"), (shoev2, "shoev2")])
def test_configs(module, name):
    setup = Experiment.from_config(module.get_config())
    assert (setup.task, setup.val_classes) == ("fine_grained", 0)
    assert setup.data == {"name": name, "root": "", "share": 1.0}
    with pytest.raises(ValueError, match="after the colon"):
        module.get_config("task=category")


@pytest.fixture(scope="module")
def real_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("real")


@pytest.mark.data
def test_real_chairs(sbir_data, real_cache):
    dataset = data.load("chairv2", sbir_data / "chairv2", cache_dir=real_cache)
    assert not dataset.skipped
    train, test = (dataset.subset([f"chair/{p}"]) for p in ("train", "test"))
    assert (len(train.sketches), len(train.photos)) == (952, 300)
    assert (len(test.sketches), len(test.photos)) == (323, 100)
    for part in (train, test):
        assert set(part.sketches.instances) == set(part.photos.instances)
    # Complete, so nothing to say but whose division it is.
    (note,) = dataset.notes
    assert note.startswith("952 sketches for training and 323 for the test, as in the")
    protocol = evaluate.make_protocol(dataset, dataset.unseen, "fine_grained")
    assert len(protocol.queries) == 323 and len(protocol.gallery) == 100
    assert evaluate.chance(protocol, 2)["Acc@10"] == pytest.approx(0.1, abs=0.04)
    triplet_table(dataset, "fine_grained")
    tenth = dataset.share(0.1)
    assert len(tenth.subset(["chair/train"]).photos) == 30
    assert len(tenth.subset(["chair/test"]).photos) == 100


@pytest.mark.data
def test_real_strokes_look_like_the_real_pictures(sbir_data):
    drawn = np.load(sbir_data / "chairv2" / "strokes.npz")
    for name in sorted(drawn.files)[::100]:
        path = sbir_data / "chairv2" / "sketch" / "chair" / f"{name}.png"
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            real = np.asarray(image.convert("L").resize((64, 64)), float).ravel()
        mine = Image.fromarray(strokes.draw_strokes(drawn[name])[..., 0])
        ours = np.asarray(mine.resize((64, 64)), float).ravel()
        assert np.corrcoef(real, ours)[0, 1] > 0.9, name
