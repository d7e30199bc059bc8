"""What retrieval is measured beside, and how sure its figures are."""

import jax
import numpy as np
import pytest
from skimage.feature import hog

from sbir_jax.data.dataset import Dataset, Items
from sbir_jax.report.page import headline
from sbir_jax.report.sections import Words
from sbir_jax.tasks.retrieval import baselines, evaluation, progress, uncertainty
from sbir_jax.tasks.retrieval.protocols import Protocol
from sbir_jax.types import Metric

MAP = Metric("mAP@all")


class Pictures(Items):
    """Items of a data set that are arrays already."""

    def __init__(self, images):
        object.__setattr__(self, "arrays", images)

    def pixels(self, rows, size, fit=None):
        assert size == baselines.SIZE
        return self.arrays[rows]


def strokes(*slopes):
    """Pictures of one line each, at a slope, uint8 64 x 64."""
    y, x = np.mgrid[:64, :64] - 32.0
    lines = [np.abs(y - slope * x) < 3 for slope in slopes]
    return np.stack([np.where(line, 0, 255)[..., None].repeat(3, -1) for line in lines])


def test_hog_is_scikit_images_and_tells_slopes_apart():
    images = strokes(0.0, 1.0, -1.0).astype(np.uint8)
    found = baselines.describe(Pictures(images), np.arange(3))["hog"]
    expected = np.stack([hog(image, channel_axis=-1) for image in images])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    thicker = (255 - 0.5 * (255 - images)).astype(np.uint8)  # paler ink, same slopes
    pale = baselines.describe(Pictures(thicker), np.arange(3))["hog"]
    np.testing.assert_array_equal((pale @ found.T).argmax(1), [0, 1, 2])


def test_pixels_are_correlation():
    images = np.random.default_rng(0).integers(0, 256, (300, 24, 24, 3), np.uint8)
    rows = np.arange(299, -1, -1)  # more than a batch, in another order
    found = baselines.describe(Pictures(images), rows)["pixels"]
    expected = np.corrcoef(images.reshape(300, -1))[rows][:, rows]
    np.testing.assert_allclose(found @ found.T, expected, atol=1e-5)
    blank = Pictures(np.full((1, 64, 64, 3), 7, np.uint8))
    assert not baselines.describe(blank, np.arange(1))["pixels"].any()


def protocol(task="category"):
    labels = np.repeat([0, 1, 2, 3], 6)
    instances = np.arange(24) // 2
    return Protocol(
        task,
        np.arange(24),
        np.arange(24),
        labels,
        labels,
        instances,
        instances,
        0,
        (2,),
    )


class Photos(Pictures):
    """Counts how often they are decoded."""

    def __init__(self, images):
        super().__init__(images)
        names = [f"photo {i}" for i in range(len(images))]
        object.__setattr__(self, "ids", names)
        object.__setattr__(self, "decoded", [0])

    def pixels(self, rows, size, fit=None):
        self.decoded[0] += len(rows)
        return super().pixels(rows, size, fit)


class Set(Dataset):
    """The same photos as sketches and as photos."""

    fingerprint = "one"  # pyright: ignore

    def __init__(self, items):
        object.__setattr__(self, "sketches", items)
        object.__setattr__(self, "photos", items)


def test_they_are_kept_and_pictures_are_decoded_once(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (24, 64, 64, 3), np.uint8)
    items = Photos(images)
    dataset = Set(items)
    asked = protocol()
    first = baselines.cached_measure(dataset, asked, tmp_path)
    assert items.decoded == [48]
    again = baselines.cached_measure(dataset, asked, tmp_path)
    assert items.decoded == [48]
    jax.tree.map(np.testing.assert_array_equal, first, again)
    fresh = baselines.measure(dataset, asked)
    jax.tree.map(np.testing.assert_array_equal, first, fresh)
    assert list(fresh) == list(again) == ["hog", "pixels"]
    assert list(fresh["hog"]) == list(again["hog"])
    object.__setattr__(dataset, "fingerprint", "another")
    baselines.cached_measure(dataset, asked, tmp_path)
    assert items.decoded == [3 * 48]


def test_intervals_are_over_classes_or_photos():
    values = np.repeat([0.1, 0.2, 0.3, 0.9], 6)
    primary = {"frozen": values, "learned": values + 0.05, "hog": 0 * values}
    found = uncertainty.uncertainty(protocol(), primary)
    assert (found["over"], found["groups"]) == ("classes", 4)
    low, high = found["intervals"]["frozen"]
    assert low < values.mean() < high and high - low > 0.3
    assert found["intervals"]["hog"] == [0, 0]
    np.testing.assert_allclose(found["gain"], 0.05, atol=1e-9)  # paired
    fine = uncertainty.uncertainty(protocol("fine_grained"), primary)
    assert (fine["over"], fine["groups"]) == ("photos", 12)
    rows = uncertainty.section(found, {"frozen": "Frozen backbone"}).rows
    assert rows[0] == ("Frozen backbone", f"{low:.3f}", f"{high:.3f}")
    assert rows[-1] == ("Learned minus frozen", "+0.050", "+0.050")
    one = protocol()
    one.query_labels[:] = 1
    assert uncertainty.uncertainty(one, primary) == {}
    assert uncertainty.section({}, {}).empty


@pytest.mark.parametrize(
    ("learned", "gain", "said"),
    [
        (0.5, [0.1, 0.3], None),
        (0.5, [-0.01, 0.3], "does not show to be more"),
        (0.2, [-0.2, 0.0], "no better than without them"),
    ],
)
def test_the_headline_claims_what_the_interval_shows(learned, gain, said):
    results = {"frozen": 0.3, "learned": learned, "hog": 0.6}
    report = {
        "results": [{"name": n, "metrics": {"mAP@all": v}} for n, v in results.items()],
        "uncertainty": {"gain": gain},
    }
    found = headline(report, MAP, Words(claim="find the right photos"))
    assert (said in found) if said else ("without them" not in found)
    assert "hog 0.600" in found


def test_measuring_in_parts_is_scoring():
    rng = np.random.default_rng(0)
    descriptors = rng.normal(size=(24, 8)).astype(np.float32)
    rows = evaluation.similarity(descriptors, descriptors)
    values = evaluation.measure(protocol(), rows)
    means, per_class = evaluation.summarise(protocol(), values)
    assert (means, per_class) == evaluation.score(protocol(), rows)
    assert per_class[2] == pytest.approx(values["mAP@all"][12:18].mean())


def test_a_loss_at_the_margin_and_a_score_that_never_rises_are_told():
    def history(losses, scores):
        return [{"loss": x} for x in losses] + [{"val/mAP@all": x} for x in scores]

    falling, rising = [0.3, 0.28, 0.2, 0.1], [0.1, 0.2, 0.15, 0.12]
    assert progress.problems(history(falling, rising), 0.3, "mAP@all") == []
    stuck = progress.problems(
        history([0.4] * 4 + [0.3005, 0.3002] * 2, rising), 0.3, "mAP@all"
    )
    assert len(stuck) == 1 and "0.300" in stuck[0]
    worse = [0.2, 0.2, 0.19, 0.1]
    flat = progress.problems(history(falling, worse), 0.3, "mAP@all")
    assert len(flat) == 1 and "never rose above its first 0.200" in flat[0]
    early = progress.problems(history([0.3] * 7, worse[:3]), 0.3, "mAP@all")
    assert early == []  # too soon to say
