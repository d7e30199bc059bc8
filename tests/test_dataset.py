import itertools

import numpy as np
import pytest
from PIL import Image

from sbir_jax import data
from sbir_jax.data import DataError
from sbir_jax.data.dataset import _first
from sbir_jax.data.triplets import triplet_indices, triplet_table

FRACTIONS = (0.01, 0.1, 0.3, 0.5, 0.7, 1.0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Pairs, photos nobody drew, sketches of no photo, and a class of photos only."""
    root = tmp_path_factory.mktemp("data")

    def picture(path, value=0):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), value).save(path)

    for name in ("cup", "pear", "tree"):
        for i in range(10):
            picture(root / "photo" / name / f"drawn{i}.png")
            for k in range(i % 3 + 1):
                picture(root / "sketch" / name / f"drawn{i}-{k}.png")
        for i in range(20):
            picture(root / "photo" / name / f"more{i}.png")
        for i in range(10):
            picture(root / "sketch" / name / f"free{i}.png")
        picture(root / "photo" / name / "sub" / "drawn0.png")  # the same photo again
    for i in range(10):
        picture(root / "photo" / "rock" / f"rock{i}.png")
    cache = tmp_path_factory.mktemp("cache")
    return data.load("folder", root, unseen=["tree"], cache_dir=cache)


def ids(dataset):
    return set(dataset.sketches.ids) | set(dataset.photos.ids)


def count(names, modality, kind, name="cup"):
    return sum(i.startswith(f"{modality}/{name}/{kind}") for i in names)


@pytest.mark.parametrize("seed", [0, 1])
def test_smaller_shares_lie_inside_larger_ones(whole, seed):
    parts = [ids(whole.share(f, seed)) for f in FRACTIONS]
    for small, large in itertools.pairwise(parts):
        assert small < large
    assert parts[-1] == ids(whole)


@pytest.mark.parametrize(
    "fraction, drawn, more, free",
    [(0.01, 1, 1, 1), (0.1, 1, 2, 1), (0.3, 3, 6, 3), (0.7, 7, 14, 7)],
)
def test_each_seen_class_gives_its_share(whole, fraction, drawn, more, free):
    part = whole.share(fraction)
    found = ids(part)
    assert part.classes == whole.classes and part.seen == whole.seen
    for name in ("cup", "pear"):
        assert count(found, "photo", "drawn", name) == drawn
        assert count(found, "photo", "more", name) == more
        assert count(found, "sketch", "free", name) == free
    assert count(found, "photo", "rock", "rock") == max(1, round(10 * fraction))
    # Unseen classes are the test, and stay as they were.
    tree = {i for i in ids(whole) if "/tree/" in i}
    assert len(tree) == 31 + 29 and tree <= found


def test_a_share_is_not_rounded_up_by_a_hair():
    assert 0.07 * 100 > 7
    assert len(_first([f"p{i}" for i in range(100)], 0.07, 0)) == 7


def test_photos_keep_all_their_sketches(whole):
    part = whole.share(0.3)
    for name in ("cup", "pear"):
        kept = {i for i in part.photos.ids if f"/{name}/drawn" in i}
        stems = {i.rsplit("/", 1)[1].removesuffix(".png") for i in kept}
        wanted = {
            i
            for i in whole.sketches.ids
            if f"/{name}/drawn" in i and i.rsplit("/", 1)[1].split("-")[0] in stems
        }
        assert wanted == {i for i in part.sketches.ids if f"/{name}/drawn" in i}
        # A photo that is there twice is one instance, kept or left as one.
        twice = f"photo/{name}/sub/drawn0.png" in part.photos.ids
        assert twice == (f"photo/{name}/drawn0.png" in part.photos.ids)
    for task in ("category", "fine_grained"):
        triplet_indices(0, 0, 0, 1, 8, triplet_table(part, task))


def test_shares_are_drawn_by_seed_alone(whole):
    assert ids(whole.share(0.3, 5)) == ids(whole.share(0.3, 5))
    assert len({frozenset(ids(whole.share(0.3, s))) for s in range(8)}) == 8
    prints = {whole.share(f, s).fingerprint for f in (0.3, 0.5, 1) for s in (0, 1)}
    assert len(prints) == 5 and whole.fingerprint in prints
    assert whole.share(0.3, 5).fingerprint == whole.share(0.3, 5).fingerprint
    assert "trained on 0.3 of each seen class" in whole.share(0.3).notes


def test_held_out_classes_are_the_same_for_every_share(whole):
    held = [whole.share(f).hold_out(1, seed=3) for f in FRACTIONS]
    assert len({d.val for d in held}) == 1
    for part in held:
        assert not set(part.val) & {*part.seen, *part.unseen}
        assert {*part.val, *part.seen} == set(whole.seen)


def test_labels_and_pixels_stay_together(whole):
    part = whole.share(0.5, 2)
    for name in ("sketches", "photos"):
        before, after = getattr(whole, name), getattr(part, name)
        rows = [before.ids.index(i) for i in after.ids]
        assert rows == sorted(rows)
        np.testing.assert_array_equal(after.labels, before.labels[rows])
        np.testing.assert_array_equal(after.instances, before.instances[rows])
        assert after.source[3]["id"].decode() == after.ids[3]


@pytest.mark.parametrize("fraction", [0, -0.1, 1.01, float("nan")])
def test_impossible_shares(whole, fraction):
    with pytest.raises(DataError, match="above 0 and at most 1"):
        whole.share(fraction)


def test_share_of_load(tmp_path):
    root = tmp_path / "data"
    for modality, end in (("photo", ".png"), ("sketch", "-1.png")):
        for name in ("cup", "pear"):
            (root / modality / name).mkdir(parents=True)
            for i in range(4):
                Image.new("L", (8, 8)).save(root / modality / name / f"p{i}{end}")
    cache = tmp_path / "cache"
    part = data.load("folder", root, unseen=["pear"], share=0.5, cache_dir=cache)
    assert len(part.subset(["cup"]).photos) == len(part.subset(["cup"]).sketches) == 2
    assert len(part.subset(["pear"]).photos) == 4
