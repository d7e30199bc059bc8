"""Every layout that docs/benchmarks.md names: right, otherwise spelt, and hostile."""

import unicodedata

import numpy as np
import pytest
from miniature import SKIPPED, all_names, hostile, picture

from sbir_jax import data
from sbir_jax.data import DataError, published
from sbir_jax.tasks.retrieval import evaluation, protocols

# Below each of these come class folders. {part} stands for train and val.
TX = "tx_000000000000"
LAYOUTS = {
    "sketchy official": (f"256x256/sketch/{TX}", f"256x256/photo/{TX}"),
    "sketchy bare": (f"sketch/{TX}", f"photo/{TX}"),
    "sketchy sake": (f"256x256/sketch/{TX}_ready", f"256x256/photo/{TX}_ready"),
    "sketchy pcyc": (f"Sketchy/sketch/{TX}", f"Sketchy/photo/{TX}"),
    "sketchy archive": (
        f"rendered_256x256/256x256/sketch/{TX}",
        f"rendered_256x256/256x256/photo/{TX}",
    ),
    "sketchy flat": ("sketch", "photo"),
    "sketchy clipprompt": ("{part}/sketch", "{part}/photo"),
    "sketchy extended": (f"256x256/sketch/{TX}", "EXTEND_image_sketchy"),
    "sketchy extended sake": (
        f"Sketchy/256x256/sketch/{TX}_ready",
        "Sketchy/EXTEND_image_sketchy_ready",
    ),
    "sketchy extended pcyc": (f"Sketchy/sketch/{TX}", "Sketchy/extended_photo"),
    "tuberlin official": ("png", "ImageResized"),
    "tuberlin nested": ("png/png", "ImageResized/ImageResized"),
    "tuberlin ready": ("png_ready", "ImageResized_ready"),
    "tuberlin ready inside": ("TUBerlin/png_ready", "TUBerlin/ImageResized_ready"),
    "tuberlin pcyc": ("TU-Berlin/sketches", "TU-Berlin/images"),
    "tuberlin flat": ("Sketch", "PHOTOS"),
    "tuberlin parts": ("{part}/sketch", "{part}/photo"),
    "quickdraw official": ("QuickDraw_sketches_final", "QuickDraw_images_final"),
    "quickdraw zse": ("sketches", "images"),
    "quickdraw zse inside": ("QuickDraw/sketches", "QuickDraw/images"),
    "quickdraw flat": ("sketch", "photo"),
    "quickdraw parts": ("QuickDraw/{part}/sketch", "QuickDraw/{part}/photo"),
    "folder flat": ("sketch", "photo"),
    "folder plural": ("Sketches", "PHOTOS"),
}
CLASSES = {
    "sketchy": ("airplane", "car_(sedan)", "hot-air_balloon", "jack-o-lantern"),
    "tuberlin": ("giraffe", "mouse (animal)", "t-shirt", "wrist-watch"),
    "quickdraw": ("cruise ship", "hot-air_balloon", "palm tree", "zebra"),
    "folder": ("cup", "Hot Air Balloon", "palm-tree", "Éclair"),
}
# How the photo archives spell these, and other people.
ALIASES = {
    "giraffe": "griaffe",
    "mouse (animal)": "mouse",
    "wrist-watch": "wristwatching",
    "Éclair": unicodedata.normalize("NFD", "éclair"),
}


class Copy:
    """A miniature in one layout: a photo a class, and two sketches of it."""

    def __init__(self, tmp_path, layout, classes):
        self.name, _, kind = layout.partition(" ")
        self.root, self.cache = tmp_path / "data", tmp_path / "cache"
        self.places = LAYOUTS[layout]
        self.options = {"photos": "extended"} if "extended" in kind else {}
        if self.options:  # these lie beside the photos that were drawn
            drawn = self.root / self.places[0].replace("sketch/", "photo/")
            drawn.mkdir(parents=True)
        for i, (sketches, photos) in enumerate(classes):
            for k in (1, 2):
                picture(self.sketch(sketches, f"n{i}-{k}.png"), 100 + 10 * i)
            picture(self.photo(photos, f"n{i}.jpg"), 10 * i)

    def path(self, place, name, file):
        # Parts divide classes, as the first letters of their names here.
        part = "train" if name[0].casefold() < "m" else "val"
        return self.root / place.format(part=part) / name / file

    def sketch(self, name, file):
        return self.path(self.places[0], name, file)

    def photo(self, name, file):
        return self.path(self.places[1], name, file)

    def load(self, unseen=()):
        return data.load(
            self.name, self.root, unseen=unseen, cache_dir=self.cache, **self.options
        )


def check_classes(dataset, names):
    """Each image is in the class it was made for, each sketch with its photo."""
    for items, start in ((dataset.sketches, 100), (dataset.photos, 0)):
        grey = items.pixels(range(len(items)), 16)[:, 8, 8, 0].astype(int)
        for value, label, name in zip(grey, items.labels, items.ids, strict=True):
            wanted = names.index(dataset.classes[label])
            assert abs(value - start - 10 * wanted) <= 3, name
    paired = dataset.name in ("sketchy", "folder")
    photo_of = dict(zip(dataset.photos.labels, dataset.photos.instances, strict=True))
    for label, instance in zip(
        dataset.sketches.labels, dataset.sketches.instances, strict=True
    ):
        assert instance == (photo_of[label] if paired else -1)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_right_names(tmp_path, layout):
    names = CLASSES[layout.split()[0]]
    dataset = Copy(tmp_path, layout, zip(names, names, strict=True)).load([names[1]])
    assert sorted(dataset.classes) == sorted(names)
    assert dataset.unseen == (names[1],) and len(dataset.seen) == 3
    assert (len(dataset.sketches), len(dataset.photos)) == (8, 4)
    assert not dataset.skipped
    check_classes(dataset, names)
    if layout.startswith("folder"):
        assert not dataset.notes
    else:
        lost, sketches = dataset.notes[:2]
        total = len(published.classes(dataset.name))
        assert lost.startswith(f"{total - 4} of {total} classes not there: ")
        assert sketches.startswith("8 sketches, published " * (total != 110))
        assert "nearest to" in dataset.notes[-1] and len(dataset.notes) <= 4


def squeezed(name):
    return "".join(filter(str.isalnum, name))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_names(tmp_path, layout):
    """Sketches and photos spelt in two ways, the unseen class in a third."""
    benchmark = layout.split()[0]
    names = CLASSES[benchmark]
    sketches = [n.title().replace("-", " ") for n in names]
    photos = [n.upper().replace(" ", "_").replace("-", "_") for n in names]
    unseen = names[1].replace(" ", "-").swapcase()
    if benchmark != "folder":  # no marks at all: only where the classes are known
        photos = [squeezed(n).upper() for n in names]
        unseen = squeezed(names[1])
    photos = [ALIASES.get(n, p) for n, p in zip(names, photos, strict=True)]
    dataset = Copy(tmp_path, layout, zip(sketches, photos, strict=True)).load([unseen])
    known = names if benchmark != "folder" else tuple(sketches)
    assert sorted(dataset.classes) == sorted(known)
    assert dataset.unseen == (known[1],) and len(dataset.seen) == 3
    assert (len(dataset.sketches), len(dataset.photos)) == (8, 4)
    assert not dataset.skipped
    check_classes(dataset, known)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_differs_is_said(tmp_path, layout):
    """Classes of one modality, strange ones, a photo twice, lists that do not fit."""
    benchmark = layout.split()[0]
    names = CLASSES[benchmark]
    copy = Copy(tmp_path, layout, zip(names, names, strict=True))
    splits = published.SPLITS.get(benchmark)
    others = published.classes(benchmark) if splits else ("ant", "bee")
    drawn, shown = [n for n in others if n not in names][:2]
    picture(copy.sketch(drawn, "n0-1.png"))
    picture(copy.photo(shown, "n0.jpg"))
    picture(copy.sketch("unicorn", "lost-1.png"))
    picture(copy.photo("unicorn", "horn.jpg"))
    picture(copy.photo(names[0], "again/n0.png"))
    if splits:
        listed = list(published.split(benchmark, next(iter(splits))).unseen)
        lists = copy.root / "zeroshot"
        lists.mkdir()
        (lists / "cname_cid_zero.txt").write_text(
            "".join(f"{n} {i}\n" for i, n in enumerate(["unicorn", *listed[1:]]))
        )
        there = copy.photo(names[2], "n2.jpg").relative_to(copy.root)
        gone = copy.photo(names[2], "gone.jpg").relative_to(copy.root)
        (lists / "photo_filelist.txt").write_text(f"{there} 0\n{gone} 1\n")
        (lists / "._photo_filelist.txt").write_bytes(b"\0\5\x16 7\n")
    dataset = copy.load()
    said = "\n".join(dataset.notes)
    wanted = [
        f"class {drawn}: 1 sketch(es) but no photo, left out",
        f"class {shown}: 1 photo(s) but no sketch, distractors only",
        "1 photo(s) are in the gallery more than once",
    ]
    if splits:
        total, title = len(others), published.TITLES[benchmark]
        wanted += [
            f"{total - 5} of {total} classes not there: ",
            f"1 class(es) that {title} has not: unicorn",
            f"zeroshot/cname_cid_zero.txt: nearest to {title}'s split ",
            f", without its {listed[0]}, with unicorn besides",
            "zeroshot/photo_filelist.txt: 1 of 2 images listed are not there: "
            f"{gone.as_posix()}",
        ]
    if benchmark == "sketchy":
        wanted.append("1 sketch(es) without their photo: ")
    for note in wanted:
        assert note in said
    assert ("lost-1.png" in said) == (benchmark == "sketchy") and "._photo" not in said
    assert [s.path for s in dataset.skipped] == [
        copy.sketch(drawn, "n0-1.png").relative_to(copy.root).as_posix()
    ]
    assert (len(dataset.sketches), len(dataset.photos)) == (9, 7)
    assert drawn not in dataset.seen and shown in dataset.seen
    if splits:  # the published unseen classes are not there
        with pytest.raises(DataError, match=r"(?s)are not among the .*unseen="):
            copy.load(None)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_is_dropped_without_a_line(tmp_path, layout):
    copy = Copy(tmp_path, layout, [])
    sketches, photos = (place.format(part="train") for place in copy.places)
    hostile(copy.root, sketches, photos)
    dataset = copy.load()
    places = {"sketch": sketches, "photo": photos}
    skipped = {
        f"{places[modality]}/{rest}": reason
        for path, reason in SKIPPED.items()
        for modality, _, rest in [path.partition("/")]
    }
    assert sorted(s.path for s in dataset.skipped) == sorted(skipped)
    for path, reason in dataset.skipped:
        assert skipped[path] in reason, (path, reason)
    listed = [*dataset.sketches.ids, *dataset.photos.ids, *skipped]
    assert sorted(listed) == sorted(all_names(copy.root))
    said = " ".join(dataset.notes)
    assert "class unicorn: 1 sketch(es) but no photo" in said
    assert "class Öl Fässer: 1 photo(s) but no sketch" in said
    (prepared,) = (p for p in copy.cache.iterdir() if p.is_dir())
    # All but the sketch of a class without photos: that file is sound.
    assert len((prepared / "skipped.jsonl").read_bytes().splitlines()) == (
        len(skipped) - 1
    )
    # And what is left can be scored.
    protocol = protocols.make_protocol(dataset, dataset.classes, "category", (5,))
    assert (len(protocol.queries), len(protocol.gallery)) == (15, 13)
    assert all(0 < value < 1 for value in evaluation.chance(protocol, 1).values())
    if dataset.name in ("sketchy", "folder"):
        fine = protocols.make_protocol(dataset, dataset.classes, "fine_grained")
        assert (len(fine.queries), fine.left_out) == (12, 3)  # drawn from no photo


@pytest.mark.parametrize(
    "layout, other",
    [
        ("sketchy flat", "sketches"),
        ("tuberlin official", "png_ready"),
        ("quickdraw official", "images"),
        ("tuberlin parts", "val/images"),
    ],
)
def test_a_second_copy_is_said_not_read(tmp_path, layout, other):
    names = CLASSES[layout.split()[0]]
    copy = Copy(tmp_path, layout, zip(names, names, strict=True))
    picture(copy.root / other / names[0] / "n9.png")
    dataset = copy.load()
    assert dict(dataset.skipped) == {other: "another folder is read"}
    assert (len(dataset.sketches), len(dataset.photos)) == (8, 4)


def test_a_folder_of_ones_own_is_read_whole(tmp_path):
    copy = Copy(tmp_path, "folder flat", [("cup", "cup"), ("car", "car")])
    picture(copy.root / "Photo" / "cup" / "m.jpg")
    picture(copy.root / "sketches" / "cup" / "m-1.png")
    dataset = copy.load()
    assert (len(dataset.sketches), len(dataset.photos)) == (5, 3)
    assert np.all(dataset.sketches.instances >= 0) and not dataset.skipped


def test_a_list_that_is_no_text_stops_nothing(tmp_path):
    names = CLASSES["tuberlin"]
    copy = Copy(tmp_path, "tuberlin official", zip(names, names, strict=True))
    (copy.root / "zeroshot").mkdir()
    (copy.root / "zeroshot" / "cname_cid_zero.txt").write_bytes(b"caf\xe9 0\n")
    assert "cname_cid_zero.txt: split" in "".join(copy.load().notes)
