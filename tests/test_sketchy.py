import numpy as np
import pytest
from miniature import picture

from configs.sketchy import get_config
from sbir_jax import data
from sbir_jax.data import DataError, layouts, published, sketchy

CLASSES = published.classes("sketchy")
DRAWN = ("bat", "bear", "cat", "scissors")  # of 21, of 25, of none, of both


def official(root, rendering="tx_000000000000"):
    """Two photos and three sketches a class; another rendering as a decoy."""
    base = root / "256x256"
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


def extended(folder):
    for c, name in enumerate(DRAWN):
        for stem in (f"n0{c}_0", f"n0{c}_1", f"ext_{c}", f"ext_{c}1"):
            picture(folder / name / f"{stem}.jpg", 77)


@pytest.mark.parametrize("start", ["", "256x256"])
def test_one_rendering_is_read_and_each_sketch_finds_its_photo(tmp_path, start):
    root = official(tmp_path / "data") / start
    dataset = data.load("sketchy", root, unseen=["bat"], cache_dir=tmp_path / "cache")
    assert dataset.classes == DRAWN and dataset.unseen == ("bat",)
    assert len(dataset.photos) == 8 and len(dataset.sketches) == 12
    assert not dataset.skipped
    lost, sketches, photos, match = dataset.notes
    assert lost.startswith("121 of 125 classes not there: airplane, alarm_clock")
    assert "12 sketches, published 75,481" in sketches
    assert (
        "8 photos, published 12,500 (the official archive): a part, 0.064 %" in photos
    )
    assert "nearest to Sketchy's split 21, without its cabin" in match
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


@pytest.mark.parametrize("place", sketchy.EXTENDED)
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
            doubled = [n for n in dataset.notes if "more than once" in n]
            assert bool(doubled) == (photos == "both")
            assert not doubled or "8 photo(s)" in doubled[0]


def test_a_photo_twice_is_said(tmp_path):
    root = official(tmp_path / "data")
    picture(root / "256x256/photo/tx_000000000000/bat/sub/n00_0.png", 9)
    dataset = data.load("sketchy", root, unseen=[], cache_dir=tmp_path / "cache")
    assert len(dataset.photos) == 9
    assert "1 photo(s) are in the gallery more than once" in dataset.notes


def test_the_misnamed_camel_is_its_photo_again(tmp_path):
    root = official(tmp_path / "data")
    rendering = "tx_000000000000"
    picture(root / f"256x256/photo/{rendering}/camel/n02437136_5405.jpg", 1)
    picture(root / f"256x256/sketch/{rendering}/camel/n02437136_5405-1.png", 2)
    picture(root / "EXTEND_image_sketchy/camel/c.jpg", 3)
    picture(root / "EXTEND_image_sketchy/bat/c.jpg", 4)  # no camel
    tree = sketchy.read_sketchy(root, "extended")
    stems = [f.stem for f in tree.photos]
    assert stems == ["c", "n02437136_5405"]
    # The lists of SAKE and ZSE-SBIR name it twice, and both are there.
    (root / "zeroshot1").mkdir()
    (root / "zeroshot1" / "all_photo_filelist_train.txt").write_text(
        f"256x256/photo/{rendering}_ready/camel/n02437136_5405.jpg 0\n"
        "EXTEND_image_sketchy_ready/camel/c.jpg 0\n"
    )
    for photos in ("extended", "both"):
        tree = sketchy.read_sketchy(root, photos)
        assert not layouts.list_notes(root, sketchy.TOPS, "sketchy", tree, photos)


def lists(folder, unseen, photos=(), sketches=()):
    """List files as SAKE and ZSE-SBIR write them."""
    folder.mkdir(parents=True)

    def write(name, lines):
        text = "".join(f"{line} {i}\n" for i, line in enumerate(lines))
        (folder / name).write_text(text)

    write("cname_cid_zero.txt", unseen)
    write("cname_cid.txt", [c for c in CLASSES if c not in unseen])
    write("all_photo_filelist_zero.txt", photos)
    write("sketch_tx_000000000000_ready_filelist_zero.txt", sketches)


def test_list_files_beside_the_images(tmp_path):
    root = official(tmp_path / "data" / "Sketchy", "tx_000000000000_ready")
    extended(root / "EXTEND_image_sketchy_ready")
    photo, sketch = (f"256x256/{m}/tx_000000000000_ready" for m in ("photo", "sketch"))
    lists(
        root / "zeroshot1",
        published.split("sketchy", "25").unseen,
        photos=[
            f"{photo}/bat/n00_0.jpg",
            f"{photo}/bat/gone.jpg",
            "EXTEND_image_sketchy_ready/bat/ext_0.jpg",
            "EXTEND_image_sketchy_ready/bat/ext_gone.jpg",
        ],
        sketches=[f"{sketch}/bat/n00_0-1.png", f"{sketch}/cat/n02_1-1.png"],
    )
    wrong = ["ape", *published.split("sketchy", "21").unseen[1:]]
    lists(root / "zeroshot0", wrong)

    def notes(photos):
        dataset = data.load(
            "sketchy",
            tmp_path / "data",
            unseen=[],
            photos=photos,
            cache_dir=tmp_path / "cache",
        )
        return [n for n in dataset.notes if "zeroshot" in n]

    zero, lost, one = notes("both")
    assert zero.startswith("Sketchy/zeroshot0/cname_cid_zero.txt: nearest to")
    assert "split 21, without its bat, with ape besides" in zero
    assert one.startswith("Sketchy/zeroshot1/cname_cid_zero.txt: equal to Sketchy's")
    assert "all_photo_filelist_zero.txt: 2 of 4 images listed are not there" in lost
    assert "bat/gone.jpg" in lost and "bat/ext_gone.jpg" in lost
    # Extended photos are not wanted here, so that their lack is no loss.
    (_, *about_files, _) = notes("basic")
    assert "1 of 2 images listed are not there: 256x256" in about_files[0]


def test_a_list_file_gives_the_unseen_classes(tmp_path):
    root = official(tmp_path / "data")
    (tmp_path / "cname_cid_zero.txt").write_text("bat 0\nscissors 1\n")
    dataset = data.load(
        "sketchy",
        root,
        unseen=tmp_path / "cname_cid_zero.txt",
        cache_dir=tmp_path / "cache",
    )
    assert dataset.unseen == ("bat", "scissors")


def test_odd_spellings_and_strange_classes(tmp_path):
    root = tmp_path / "data"
    for name in ("Hot Air Balloon", "jack_o_lantern", "car (sedan)", "teddybear"):
        picture(root / "photo" / name / "p.jpg", 1)
        picture(root / "sketch" / name.lower() / "p-1.png", 2)
    picture(root / "photo" / "unicorn" / "p.jpg", 3)
    picture(root / "sketch" / "bat" / "p-1.png", 4)
    dataset = data.load("sketchy", root, unseen=[], cache_dir=tmp_path / "cache")
    assert dataset.classes == (
        "bat", "car_(sedan)", "hot-air_balloon", "jack-o-lantern", "teddy_bear",
        "unicorn",
    )  # fmt: skip
    assert dataset.drawn == set(dataset.classes) - {"bat", "unicorn"}
    said = "; ".join(dataset.notes)
    assert "class bat: 1 sketch(es) but no photo, left out" in said
    assert "class unicorn: 1 photo(s) but no sketch, distractors only" in said
    assert "1 class(es) that Sketchy has not: unicorn" in said
    assert [s.path for s in dataset.skipped] == ["sketch/bat/p-1.png"]


def test_which_photos_by_default(tmp_path):
    root = official(tmp_path / "data")

    def count(split, **options):
        tree = {}

        def read(root, photos):
            tree["photos"] = photos
            raise DataError("enough")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sketchy, "read_sketchy", read)
            with pytest.raises(DataError, match="enough"):
                data.load("sketchy", root, split, **options)
        return tree["photos"]

    assert [count(s) for s in ("21", "25", None)] == ["basic"] * 3
    extended(root / "EXTEND_image_sketchy")
    assert [count(s) for s in ("21", "25", None)] == ["extended", "both", "extended"]
    # As configs have it: by instance the drawn photos, and what is asked for.
    for task, wanted in (("category", "extended"), ("fine_grained", "basic")):
        options = get_config(f"task={task}").data
        assert count(options.split, photos=options.photos) == wanted
    assert count("21", photos="both") == "both"


def test_errors_name_the_remedy(tmp_path):
    root = official(tmp_path / "data")
    load = data.load
    with pytest.raises(DataError, match="no EXTEND_image_sketchy"):
        load("sketchy", root, photos="both")
    with pytest.raises(DataError, match="'all'; allowed are basic"):
        load("sketchy", root, photos="all")
    with pytest.raises(DataError, match="known are photos"):
        load("sketchy", root, photo="both")
    with pytest.raises(DataError, match="known are 21, 25, 25-sempcyc"):
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
    # It is a part of Sketchy, and says so.
    sketches, photos, classes = dataset.notes
    assert "3,125 sketches, published 75,481 (the official archive): a part" in sketches
    assert "3,125 photos, published 12,500 (the official archive): a part" in photos
    assert f"{unseen} of {unseen} unseen classes of Sketchy's split" in classes
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
