import csv
import io
import os
import pickle
import shutil
import unicodedata

import numpy as np
import pytest
from chairs import by_folder, by_strokes, by_table, line, pairs, table
from miniature import all_names, picture
from PIL import Image

from configs import chairv2, shoev2
from sbir_jax import data
from sbir_jax.config import Experiment
from sbir_jax.data import DataError, pen, qmul, strokes
from sbir_jax.data.triplets import triplet_indices, triplet_table
from sbir_jax.tasks.retrieval import evaluation, protocols

LAYOUTS = {
    "folders": lambda root, kind: by_folder(root),
    "folders below": lambda root, kind: by_folder(root / f"{kind}v2"),
    "table": by_table,
    "table, no folder": lambda root, kind: by_table(root, ""),
    "strokes": by_strokes,
    "strokes below": lambda root, kind: by_strokes(
        root / "Dataset" / f"{kind.capitalize()}V2", kind
    ),
}


@pytest.mark.parametrize("kind", qmul.DIVISIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path, layout, kind):
    root = tmp_path / "data"
    LAYOUTS[layout](root, kind)
    dataset = data.load(f"{kind}v2", root, cache_dir=tmp_path / "cache")
    assert dataset.classes == (f"{kind}/test", f"{kind}/train")
    assert dataset.seen == (f"{kind}/train",)
    assert dataset.unseen == (f"{kind}/test",)
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
    whole = "1,275 (the complete set)" if kind == "chair" else "6,648"
    assert f"12 sketches, published {whole}" in said
    assert "8 sketches for training and 4 for the test, as nobody published" in said
    reported = "951 and 324" if kind == "chair" else "6,051 and 679"
    assert f"{reported} as ZSE-SBIR reports" in said
    assert "without their photo" not in said


def test_fine_grained_evaluation_and_triplets(tmp_path):
    by_folder(tmp_path / "data")
    dataset = data.load("chairv2", tmp_path / "data", cache_dir=tmp_path / "cache")
    protocol = protocols.make_protocol(dataset, dataset.unseen, "fine_grained")
    assert len(protocol.queries) == 4 and len(protocol.gallery) == 2
    assert protocol.left_out == 0
    # Perfect descriptors find every photo, and within the class is the whole gallery.
    one_hot = np.eye(8, dtype=np.float32)
    scores = evaluation.similarity(
        one_hot[protocol.query_instances], one_hot[protocol.gallery_instances]
    )
    found = evaluation.score(protocol, scores)[0]
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


def test_large_coordinates_and_dots_are_drawn():
    dot = pen.draw_strokes(np.array([[128.0, 64.0, 1.0]], np.float32))
    y, x = np.nonzero(dot[..., 0] < 128)
    assert abs(x.mean() - 256) < 1 and abs(y.mean() - 128) < 1
    # Of a grid of 800, the middle line is in the middle of the picture.
    line = np.array([[0, 400, 0], [800, 400, 1]], np.float32)
    y, x = np.nonzero(pen.draw_strokes(line)[..., 0] < 128)
    assert abs(y.mean() - 256) < 1 and x.min() < 4 and x.max() > 507
    two = np.array([[0, 0, 0], [50, 0, 1], [0, 200, 0], [50, 200, 1]], np.float32)
    assert (pen.draw_strokes(two)[100:300] == 255).all()  # the pen was lifted


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


def test_a_hostile_copy_in_folders(tmp_path):
    root = by_folder(tmp_path / "data")
    (root / "trainB" / "zero.png").write_bytes(b"")
    os.mkfifo(root / "testA" / "pipe.png")
    (root / "trainA" / "round.png").symlink_to("round.png")
    picture(root / "testA" / "9910_3.png")  # its photo is in the other part
    picture(root / "trainB" / "again" / "9910.png")
    dataset = data.load("chairv2", root, cache_dir=tmp_path / "cache")
    assert {s.path: s.reason.split(":")[0] for s in dataset.skipped} == {
        "trainB/zero.png": "empty file",
        "testA/pipe.png": "not a regular file",
        "trainA/round.png": "cannot be reached",
    }
    said = "; ".join(dataset.notes)
    assert "1 sketch(es) without their photo: testA/9910_3.png" in said
    assert "1 photo(s) are in the gallery more than once" in said
    listed = (*dataset.sketches.ids, *dataset.photos.ids)
    assert len(listed) + len(dataset.skipped) == len(all_names(root)) - 4  # the lists


def test_a_hostile_copy_of_strokes(tmp_path):
    more = {"valid/a_1": line(0), "train/blank_1": np.zeros((0, 3))}
    more["train/gone_1"] = line(0)
    root = by_strokes(tmp_path / "data", **more)
    picture(root / "photo" / "undrawn.png")
    (root / "._ChairV2_Coordinate").write_bytes(b"what a Mac leaves beside a file")
    (root / "ShoeV2_Coordinate").write_bytes(b"of another set")
    dataset = data.load("chairv2", root, cache_dir=tmp_path / "cache")
    assert dict(dataset.skipped) == {
        "ChairV2_Coordinate/valid/a_1": "neither train/ nor test/",
        "ChairV2_Coordinate/train/blank_1": "no strokes",
        "photo/undrawn.png": "no sketch of it in ChairV2_Coordinate, so of no part",
    }
    said = "; ".join(dataset.notes)
    assert "without their photo: ChairV2_Coordinate/train/gone_1" in said
    # Shoes are no chairs, and a pipe is no file.
    (root / "ChairV2_Coordinate").unlink()
    os.mkfifo(root / "ChairV2_Coordinate")
    with pytest.raises(DataError, match="no copy of ChairV2"):
        qmul.read_qmul(root, "chair")


def test_a_table_in_another_form_of_unicode(tmp_path):
    root = by_table(tmp_path, "")
    rows = rows_of(root)
    for place, end in (("sketch", "_1.png"), ("photo", ".jpg")):
        old = root / place / f"9910{end}"
        old.rename(old.with_name(unicodedata.normalize("NFD", f"éa{end}")))
        for row in rows:
            row[place] = row[place].replace(f"/9910{end}", f"/éa{end}")
    rows = [r for r in rows if "9910_2" not in r["sketch"]]
    tree = qmul.read_qmul(table(root, rows), "chair")
    assert [s.path for s in tree.skipped] == ["sketch/9910_2.png"]
    assert "éa_1" in [f.stem for f in tree.sketches]


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
    given = {"name": name, "root": "", "share": 1.0}
    assert given.items() <= setup.data.items()
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
    protocol = protocols.make_protocol(dataset, dataset.unseen, "fine_grained")
    assert len(protocol.queries) == 323 and len(protocol.gallery) == 100
    assert evaluation.chance(protocol, 2)["Acc@10"] == pytest.approx(0.1, abs=0.04)
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
        mine = Image.fromarray(pen.draw_strokes(drawn[name])[..., 0])
        ours = np.asarray(mine.resize((64, 64)), float).ravel()
        assert np.corrcoef(real, ours)[0, 1] > 0.9, name
