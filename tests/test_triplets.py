import numpy as np
import pytest
from hand_made import items
from PIL import Image

from sbir_jax import data
from sbir_jax.data import DataError, triplets
from sbir_jax.data.dataset import Dataset, Items
from sbir_jax.data.triplets import pixel_reader, triplet_indices, triplet_table

CLASSES = ("cup", "car", "dog", "hat", "sky", "ufo")


def made(seen=CLASSES[:5], unseen=CLASSES[5:]):
    """Classes of very different sizes; hat has no instances, sky no sketches."""
    rng = np.random.default_rng(0)
    n_photos = dict(cup=4, car=30, dog=7, hat=3, sky=5, ufo=9)
    n_sketches = dict(cup=6, car=90, dog=3, hat=5, sky=0, ufo=20)
    photos, sketches = [], []
    for label, name in enumerate(CLASSES):
        first = len(photos)
        photos += [(label, first + i) for i in range(n_photos[name])]
        for _ in range(n_sketches[name]):
            instance = int(rng.integers(first, len(photos)))
            sketches.append((label, -1 if name == "hat" else instance))
    rng.shuffle(sketches)  # nothing may rely on the order of classes
    return Dataset(
        "made", CLASSES, tuple(seen), tuple(unseen),
        items("sketch", *zip(*sketches, strict=True)),
        items("photo", *zip(*photos, strict=True)),
        skipped=(), fingerprint="",
    )  # fmt: skip


@pytest.fixture(params=triplets.TASKS)
def task(request):
    return request.param


def test_triplets_are_what_they_say(task):
    dataset = made()
    table = triplet_table(dataset, task)
    sketches, photos = dataset.sketches, dataset.photos
    met = set()
    for step in range(300):
        s, p, n = triplet_indices(0, step, 0, 1, 16, table)
        assert s.shape == p.shape == n.shape == (16,)
        np.testing.assert_array_equal(sketches.labels[s], photos.labels[p])
        if task == "category":
            assert (photos.labels[n] != sketches.labels[s]).all()
        else:
            np.testing.assert_array_equal(photos.labels[n], sketches.labels[s])
            np.testing.assert_array_equal(photos.instances[p], sketches.instances[s])
            assert (photos.instances[n] != sketches.instances[s]).all()
        met |= {("s", i) for i in s} | {("p", i) for i in p} | {("n", i) for i in n}
    names = {"s": sketches, "p": photos, "n": photos}
    classes = {
        k: {CLASSES[names[k].labels[i]] for j, i in met if j == k} for k in names
    }
    if task == "category":
        assert classes["s"] == classes["p"] == {"cup", "car", "dog", "hat"}
        assert classes["n"] == {"cup", "car", "dog", "hat", "sky"}  # ufo is unseen
        # Everything that is seen turns up sooner or later, at either end.
        assert {i for k, i in met if k == "n"} == set(range(4 + 30 + 7 + 3 + 5))
        assert len({i for k, i in met if k == "s"}) == 6 + 90 + 3 + 5
    else:
        assert classes["s"] == classes["p"] == classes["n"] == {"cup", "car", "dog"}


def test_pure(task):
    table = triplet_table(made(), task)
    np.random.seed(1)
    one = triplet_indices(3, 5, 1, 2, 8, table)
    np.random.seed(2)
    two = triplet_indices(3, 5, 1, 2, 8, triplet_table(made(), task))
    np.testing.assert_array_equal(one, two)


def test_seeds_and_steps_differ(task):
    table = triplet_table(made(), task)
    draws = [
        np.stack(triplet_indices(seed, step, 0, 1, 8, table)).tobytes()
        for seed in range(5)
        for step in range(20)
    ]
    assert len(set(draws)) == 100


def test_hosts_cut_up_one_batch(task):
    table = triplet_table(made(), task)
    whole = np.stack(triplet_indices(0, 7, 0, 1, 12, table))
    for hosts in (2, 3, 4):
        parts = [
            np.stack(triplet_indices(0, 7, host, hosts, 12 // hosts, table))
            for host in range(hosts)
        ]
        np.testing.assert_array_equal(np.concatenate(parts, 1), whole)


def test_no_sketch_twice_in_a_step_while_they_last(task):
    table = triplet_table(made(), task)
    for step in range(50):
        parts = [triplet_indices(0, step, host, 3, 3, table)[0] for host in range(3)]
        sketches = np.concatenate(parts)
        assert len(set(sketches)) == 9
    s = triplet_indices(0, 0, 0, 1, 40, table)[0]
    counts = np.unique(s[np.isin(s, table.sketches[2])], return_counts=True)[1]
    assert counts.max() - counts.min() <= 1  # dog has only 3


def test_classes_are_balanced(task):
    dataset = made()
    table = triplet_table(dataset, task)
    n = len(table.sketches)
    for step in range(20):
        s = triplet_indices(0, step, 0, 1, 3 * n + 1, table)[0]
        counts = np.unique(dataset.sketches.labels[s], return_counts=True)[1]
        assert len(counts) == n and counts.max() - counts.min() <= 1


def test_held_out_classes_never_enter(task):
    dataset = made().hold_out(1, seed=4)
    table = triplet_table(dataset, task)
    out = [CLASSES.index(c) for c in (*dataset.val, *dataset.unseen)]
    for step in range(100):
        s, p, n = triplet_indices(0, step, 0, 1, 8, table)
        assert not np.isin(dataset.sketches.labels[s], out).any()
        assert not np.isin(dataset.photos.labels[np.append(p, n)], out).any()


def test_one_class_with_distractors_is_enough():
    table = triplet_table(made(seen=("cup", "sky")))
    s, _, n = triplet_indices(0, 0, 0, 1, 8, table)
    labels = made().photos.labels[n]
    assert len(s) == 8 and (labels == CLASSES.index("sky")).all()


def test_impossible_triplets_are_errors():
    with pytest.raises(DataError, match=r"0 with photos only.*fine_grained"):
        triplet_table(made(seen=("cup",)))
    with pytest.raises(DataError, match="0 with both and 1 with photos only"):
        triplet_table(made(seen=("sky",)))
    with pytest.raises(DataError, match=r"<photo>-1\.png.*task='category'"):
        triplet_table(made(seen=("hat", "sky")), "fine_grained")
    with pytest.raises(DataError, match="no seen classes"):
        triplet_table(made(seen=()))
    for host, hosts, size in ((1, 1, 4), (-1, 1, 4), (0, 1, 0)):
        with pytest.raises(ValueError, match="allowed are"):
            triplet_indices(0, 0, host, hosts, size, triplet_table(made()))


def test_flips_are_pure_shared_and_half():
    whole = triplets.flips(0, 3, 0, 1, 8)
    np.testing.assert_array_equal(whole, triplets.flips(0, 3, 0, 1, 8))
    parts = [triplets.flips(0, 3, host, 2, 4) for host in range(2)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    many = np.concatenate([triplets.flips(0, s, 0, 1, 64) for s in range(64)])
    assert 0.47 < many.mean() < 0.53


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    """Images that tell what they are: class and number as colour, left half dark."""
    root = tmp_path_factory.mktemp("triplets")
    for c, name in enumerate(CLASSES):
        for modality, ending in (("photo", ""), ("sketch", "-1")):
            for i in range(5):
                pixels = np.full((16, 16, 3), 255, np.uint8)
                pixels[:, :8] = 40 * c, 40 * i, 100 if modality == "photo" else 0
                path = root / modality / name / f"{name}{i}{ending}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return data.load("folder", root, unseen=["ufo"], cache_dir=root / "cache")


def batches(dataset, start, steps, **kwargs):
    options = {"seed": 0, "batch_size": 6, "size": 16} | kwargs
    found = list(
        triplets.triplet_batches(dataset, start_step=start, steps=steps, **options)
    )
    assert len(found) == steps - start
    return found


def test_batches_hold_the_images_of_the_indices(on_disk, task):
    table = triplet_table(on_disk, task)
    for step, batch in enumerate(batches(on_disk, 0, 6, task=task)):
        indices = triplet_indices(0, step, 0, 1, 6, table)
        flip = triplets.flips(0, step, 0, 1, 6)
        if task == "fine_grained":
            flip[:] = False
        sources = (on_disk.sketches, on_disk.photos, on_disk.photos)
        assert list(batch) == ["sketch", "positive", "negative"]
        for image, rows, source in zip(batch.values(), indices, sources, strict=True):
            assert image.shape == (6, 16, 16, 3) and image.dtype == np.float32
            plain = source.images(rows, 16)
            plain[flip] = plain[flip, :, ::-1]
            np.testing.assert_array_equal(image, plain)
        assert image.min() >= -1 and image.max() == 1


@pytest.mark.parametrize("cache_bytes", [0, 2**20])
def test_resumed_run_sees_what_an_uninterrupted_one_would(on_disk, cache_bytes):
    whole, resumed = (
        batches(on_disk, start, 12, read=pixel_reader(on_disk, 16, cache_bytes))
        for start in (0, 5)
    )
    for a, b in zip(whole[5:], resumed, strict=True):
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])
    assert not np.array_equal(whole[0]["sketch"], whole[1]["sketch"])


def test_hosts_read_their_own_rows(on_disk):
    (whole,) = batches(on_disk, 3, 4)
    parts = [batches(on_disk, 3, 4, batch_size=3, host=h, hosts=2)[0] for h in (0, 1)]
    for name in whole:
        np.testing.assert_array_equal(
            whole[name], np.concatenate([part[name] for part in parts])
        )


def test_cache_reads_each_image_once_and_only_if_all_fit(on_disk, monkeypatch):
    reads = []
    pixels = Items.pixels

    def counted(self, indices, size, fit=None):
        reads.extend(indices)
        return pixels(self, indices, size, fit)

    monkeypatch.setattr(Items, "pixels", counted)
    need = len(on_disk.photos) * 16 * 16 * 3
    for limit, times in ((need, 1), (need - 1, 2)):
        reads.clear()
        read = triplets.cached_pixels(on_disk.photos, 16, limit)
        for _ in range(2):
            found = read(np.array([3, 9, 4]))
        np.testing.assert_array_equal(found, pixels(on_disk.photos, [3, 9, 4], 16))
        assert len(reads) == 3 * times


def test_start_beyond_the_end(on_disk):
    assert batches(on_disk, 4, 4) == []
    with pytest.raises(ValueError, match="allowed are 0 to steps=4"):
        triplets.triplet_batches(on_disk, 0, 5, 4, 6)
