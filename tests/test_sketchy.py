import numpy as np
import pytest
from PIL import Image

from sbir_jax import data
from sbir_jax.data import DataError, sketchy

CLASSES = sketchy.split_names("125")
DRAWN = ("bat", "bear", "cat", "scissors")  # of 21, of 25, of none, of both


def picture(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), (value, 0, 0)).save(path)


def official(root, top="256x256", rendering="tx_000000000000"):
    """Two photos and three sketches a class; another rendering as a decoy."""
    base = root / top if top else root
    for c, name in enumerate(DRAWN):
        for i in range(2):
            stem = f"n0{c}_{i}"
            picture(base / "photo" / rendering / name / f"{stem}.jpg", 10 * c + i)
            for k in range(1, 3 - i):
                path = base / "sketch" / rendering / name / f"{stem}-{k}.png"
                picture(path, 100 + 10 * c + i)
            picture(base / "photo" / "tx_000100000000" / name / f"{stem}.jpg", 250)
            picture(base / "sketch" / "tx_000000000110" / name / f"{stem}-1.png", 250)
    return root


def flat(root):
    return official(root, "", "")


def extended(folder):
    for c, name in enumerate(DRAWN):
        for stem in (f"n0{c}_0", f"n0{c}_1", f"ext_{c}", f"ext_{c}1"):
            picture(folder / name / f"{stem}.jpg", 77)


def test_split_lists():
    assert len(CLASSES) == len(set(CLASSES)) == 125
    for split, count in (("21", 21), ("25", 25)):
        names = sketchy.split_names(split)
        assert len(set(names)) == count and set(names) <= set(CLASSES)
    both = set(sketchy.split_names("21")) & set(sketchy.split_names("25"))
    assert both == {"scissors", "tree", "wheelchair", "windmill"}


@pytest.mark.parametrize(
    "layout",
    [
        lambda root: official(root),
        lambda root: official(root, rendering="tx_000000000000_ready"),
        lambda root: official(root, ""),
        lambda root: official(root, "256x256") / "256x256",
        lambda root: official(root, "rendered_256x256/256x256"),
        lambda root: official(root, "Sketchy"),
        lambda root: flat(root),
    ],
    ids=["official", "ready", "no top", "inside", "archive", "pcyc", "flat"],
)
def test_layouts(tmp_path, layout):
    root = layout(tmp_path / "data")
    if root.name == "data" and (root / "photo" / "tx_000100000000").exists():
        if (root / "photo" / "bat").exists():  # flat: the decoys are no classes there
            for decoy in ("photo/tx_000100000000", "sketch/tx_000000000110"):
                (root / decoy).rename(tmp_path / decoy.replace("/", "_"))
    dataset = data.load("sketchy", root, unseen=["bat"], cache_dir=tmp_path / "cache")
    assert dataset.classes == DRAWN and dataset.unseen == ("bat",)
    assert len(dataset.photos) == 8 and len(dataset.sketches) == 12
    assert not dataset.skipped and not dataset.notes
    stems = [
        i.rsplit("/", 1)[1].split("-")[0].split(".")[0] for i in dataset.photos.ids
    ]
    wanted = dict(zip(stems, dataset.photos.instances, strict=True))
    for name, instance in zip(
        dataset.sketches.ids, dataset.sketches.instances, strict=True
    ):
        assert wanted[name.rsplit("/", 1)[1].rsplit("-", 1)[0]] == instance
    red = dataset.photos.pixels(range(8), 16)[:, 8, 8, 0].astype(int)
    np.testing.assert_allclose(red, [0, 1, 10, 11, 20, 21, 30, 31], atol=2)


@pytest.mark.parametrize("place", ["EXTEND_image_sketchy", "extended_photo"])
@pytest.mark.parametrize("nested", [False, True])
def test_extended_photos(tmp_path, place, nested):
    root = official(tmp_path / "data")
    folder = root / place
    extended(folder / place if nested else folder)
    counts = {"basic": 8, "extended": 16, "both": 24}
    for photos, count in counts.items():
        for start in (root, root / "256x256"):
            dataset = data.load(
                "sketchy", start, unseen=[], photos=photos, cache_dir=tmp_path / "cache"
            )
            assert len(dataset.photos) == count
            # A drawn photo is one instance, however often it is there.
            twice = np.unique(dataset.photos.instances, return_counts=True)[1]
            assert twice.max() == (2 if photos == "both" else 1)
            assert np.isin(dataset.sketches.instances, dataset.photos.instances).all()


def test_which_photos_by_default(tmp_path):
    root = official(tmp_path / "data")

    def count(split):
        tree = {}

        def read(root, photos):
            tree["photos"] = photos
            raise DataError("enough")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sketchy, "read_sketchy", read)
            with pytest.raises(DataError, match="enough"):
                data.load("sketchy", root, split)
        return tree["photos"]

    assert [count(s) for s in ("21", "25", None)] == ["basic"] * 3
    extended(root / "EXTEND_image_sketchy")
    assert [count(s) for s in ("21", "25", None)] == ["extended", "both", "extended"]


def test_errors_name_the_remedy(tmp_path):
    root = official(tmp_path / "data")
    load = data.load
    with pytest.raises(DataError, match="no EXTEND_image_sketchy"):
        load("sketchy", root, photos="both")
    with pytest.raises(DataError, match="'all'; allowed are basic"):
        load("sketchy", root, photos="all")
    with pytest.raises(DataError, match="known are photos"):
        load("sketchy", root, photo="both")
    with pytest.raises(DataError, match="known are 21 and 25"):
        load("sketchy", root, "20")
    with pytest.raises(DataError, match=r"sketchy\.eye\.gatech\.edu"):
        load("sketchy", None)
    with pytest.raises(
        DataError, match=r"(?s)holds the folders sketch.*gatech.*toybox"
    ):
        (tmp_path / "half" / "sketch").mkdir(parents=True)
        load("sketchy", tmp_path / "half")
    with pytest.raises(DataError, match=r"does not exist"):
        load("sketchy", tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"cabin.*unseen="):
        load("sketchy", root, "21", cache_dir=tmp_path / "cache")
    (root / "256x256" / "photo" / "tx_000000000000").rename(tmp_path / "away")
    with pytest.raises(DataError, match="holds tx_000100000000 but not tx_0000000000"):
        load("sketchy", root)


@pytest.mark.data
@pytest.mark.parametrize("split, unseen", [("25", 25), ("21", 21)])
def test_real_subset(sbir_data, tmp_path_factory, split, unseen):
    cache = tmp_path_factory.getbasetemp() / "sketchy_cache"  # prepared once
    dataset = data.load("sketchy", sbir_data / "sketchy125", split, cache_dir=cache)
    assert dataset.classes == tuple(sorted(CLASSES)) and not dataset.skipped
    assert len(dataset.sketches) == len(dataset.photos) == 3125
    assert len(dataset.unseen) == unseen and len(dataset.seen) == 125 - unseen
    test = dataset.subset(dataset.unseen)
    assert len(test.sketches) == len(test.photos) == 25 * unseen
    assert np.isin(dataset.sketches.instances, dataset.photos.instances).all()
    assert len(np.unique(dataset.sketches.instances)) == 578
    some = np.arange(0, 3125, 125)
    sketches = dataset.sketches.images(some, 64)
    assert sketches.mean() > 0.5  # dark lines on white
    assert -0.6 < dataset.photos.images(some, 64).mean() < 0.6
