import pytest
import tensorflow_datasets as tfds
from miniature import picture

from configs.quickdraw import get_config
from sbir_jax import data
from sbir_jax.config import Experiment
from sbir_jax.data import DataError, published


def copy(root, names):
    for c, name in enumerate(names):
        for i in range(2):
            picture(root / "sketches" / name / f"{4503626191994880 + c}{i}.png", c)
        picture(root / "images" / name / f"image_{c}.jpg", c)


def test_load(tmp_path):
    root = tmp_path / "data"
    unseen = published.split("quickdraw", "30").unseen
    names = [n.replace(" ", "_") for n in unseen] + ["ant", "cat"]  # palm_tree
    copy(root, names)
    picture(root / "sketches" / "ant" / f"image_{len(unseen)}_1.png")
    (root / "zeroshot").mkdir()
    (root / "zeroshot" / "all_photo_zero.txt").write_text("images/zebra/no.jpg 29\n")
    dataset = data.load("quickdraw", root, cache_dir=tmp_path / "cache")
    (prepared,) = (p for p in (tmp_path / "cache").iterdir() if p.is_dir())
    assert len(tfds.data_source("quickdraw", data_dir=prepared, split="photo")) == len(
        dataset.photos
    )
    assert dataset.unseen == unseen and dataset.seen == ("ant", "cat")
    assert "palm tree" in dataset.unseen  # and not left in training as in its paper
    assert (dataset.sketches.instances == -1).all()
    said = "; ".join(dataset.notes)
    assert "78 of 110 classes not there" in said
    assert "cake 2 sketches of 5262" not in said and "27 more" in said
    assert "zeroshot/all_photo_zero.txt: 1 of 1 images listed are not there" in said


def test_errors_name_the_remedy(tmp_path):
    with pytest.raises(DataError, match=r"(?s)no copy of QuickDraw-E.*https works"):
        data.load("quickdraw", tmp_path)
    with pytest.raises(DataError, match="no split '25'; known are 30"):
        data.load("quickdraw", tmp_path, "25")


def test_config():
    setup = Experiment.from_config(get_config())
    assert (setup.task, setup.data["split"], setup.data["share"]) == (
        "category", "30", 1.0,
    )  # fmt: skip
    with pytest.raises(ValueError, match="split=30"):
        get_config("split=30")
    with pytest.raises(ValueError, match="of no photo; give task=category"):
        get_config("task=fine_grained")
