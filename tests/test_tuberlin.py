import pytest
import tensorflow_datasets as tfds
from miniature import picture

from configs.tuberlin import get_config
from sbir_jax import data
from sbir_jax.config import Experiment
from sbir_jax.data import DataError, published

# Classes of the sketches, and the folder their photos lie in.
FOLDERS = {
    "ant": "ant",
    "giraffe": "griaffe",
    "mouse (animal)": "mouse",
    "pipe (for smoking)": "pipe",
    "space shuttle": "spacesshuttle",
    "t-shirt": "tshirt",
    "wrist-watch": "wristwatching",
}


def copy(root, folders=FOLDERS):
    """Two sketches and one photo a class; the photo shows which class it is of."""
    for c, (name, folder) in enumerate(folders.items()):
        for i in (1, 2):
            picture(root / "png" / name / f"{2 * c + i}.png", 100 + c)
        picture(root / "ImageResized" / folder / f"{folder}_1.JPEG", c)


def test_load(tmp_path):
    root = tmp_path / "data"
    unseen = published.split("tuberlin", "sake").unseen
    folders = {n: published._squeezed(n) for n in unseen} | FOLDERS
    copy(root, folders)
    picture(root / "png" / "ant" / "ant_1-1.png", 100 + list(folders).index("ant"))
    (root / "zeroshot").mkdir()
    names = "".join(f"{n} {i}\n" for i, n in enumerate(unseen))
    (root / "zeroshot" / "cname_cid_zero.txt").write_text(names)
    listed = "ImageResized_ready/t-shirt/tshirt_1.jpg 0\npng_ready/ant/99.png 1\n"
    (root / "zeroshot" / "ImageResized_ready_filelist_zero.txt").write_text(listed)
    dataset = data.load("tuberlin", root, cache_dir=tmp_path / "cache")
    (prepared,) = (p for p in (tmp_path / "cache").iterdir() if p.is_dir())
    assert len(tfds.data_source("tuberlin", data_dir=prepared, split="photo")) == len(
        dataset.photos
    )
    assert set(dataset.unseen) == set(unseen) and len(dataset.seen) == len(folders) - 30
    assert (dataset.sketches.instances == -1).all()  # whatever a sketch is called
    for items, start in ((dataset.sketches, 100), (dataset.photos, 0)):
        red = items.pixels(range(len(items)), 16)[:, 8, 8, 0]
        wanted = [start + list(folders).index(dataset.classes[l]) for l in items.labels]
        assert abs(red.astype(int) - wanted).max() <= 3
    said = "; ".join(dataset.notes)
    lost = 250 - len(folders)
    assert f"{lost} of 250 classes not there: airplane" in said
    assert "published 204,070 (ImageResized on disk; papers say 204,489)" in said
    assert "30 of 30 unseen classes of TU-Berlin's split sake differ" in said
    assert "ant 3 sketches of 80, 1 photos of 424" in said
    assert "cname_cid_zero.txt: equal to TU-Berlin's split sake" in said
    assert "1 of 2 images listed are not there: png_ready/ant/99.png" in said
    with pytest.raises(DataError, match=r"(?s)split sempcyc.*backpack"):
        data.load("tuberlin", root, "sempcyc", cache_dir=tmp_path / "cache")


def test_errors_name_the_remedy(tmp_path):
    with pytest.raises(DataError, match=r"(?s)no copy of TU-Berlin.*sketches_png\.zip"):
        data.load("tuberlin", tmp_path)
    with pytest.raises(DataError, match=r"(?s)needs root.*Where a link is dead"):
        data.load("tuberlin")
    with pytest.raises(DataError, match="no split '21'; known are sake, sempcyc"):
        data.load("tuberlin", tmp_path, "21")
    copy(tmp_path)
    with pytest.raises(DataError, match="takes no option photos"):
        data.load("tuberlin", tmp_path, unseen=[], photos="both")


def test_config():
    setup = Experiment.from_config(get_config("split=sempcyc"))
    assert setup.task == "category"
    given = {"name": "tuberlin", "root": "", "split": "sempcyc", "share": 1.0}
    assert given.items() <= setup.data.items()
    with pytest.raises(ValueError, match="split=sake"):
        get_config("sort=fine_grained")
    with pytest.raises(ValueError, match="of no photo; give task=category"):
        get_config("task=fine_grained")
