"""Photos of any size through `sbir segment` and `sbir depth`, and views and paint."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from sbir_jax.data import images
from sbir_jax.data.image_files import BadImage
from sbir_jax.dense import painting, photo_sizes, views
from sbir_jax.dense.depth_estimator import DepthEstimator, Estimate
from sbir_jax.dense.segmenter import Masks, Segmenter
from sbir_jax.search import dense_photos


class Bright:
    """Finds the bright half, and no photo with "broken" in its name."""

    def __init__(self):
        self.unit, self.places = "m", ("",)
        self.asked = []

    def checked(self, words):
        return tuple(words)

    def _photo(self, path):
        self.asked.append(path)
        return images.decode(path)

    def segment(self, path, words):
        if "odd" in path:
            raise BadImage(path, "is odd")
        photo = self._photo(path)
        return Masks(photo, words, (photo[..., 0] > 127).astype(np.uint8))

    def estimate(self, path, place):
        photo = self._photo(path)
        return Estimate(photo, 1 + photo[..., 0].astype(np.float32) / 255)


class Finds(Bright, Segmenter):
    pass


class Estimates(Bright, DepthEstimator):
    pass


@pytest.fixture
def photos(tmp_path):
    sizes = [(20, 300), (300, 20), (40, 40), (33, 47)]
    for i, (height, width) in enumerate(sizes):
        folder = tmp_path / "photos" / str(i % 2)
        folder.mkdir(parents=True, exist_ok=True)
        picture = np.zeros((height, width, 3), np.uint8)
        picture[height // 2 :] = 200
        Image.fromarray(picture).save(folder / f"same{i // 2}.png")
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no picture")
    Image.new("RGB", (40, 40)).save(tmp_path / "photos" / "odd.png")
    return tmp_path / "photos"


def test_masks_have_the_photos_sizes_and_bad_files_are_listed(photos, tmp_path):
    out, fake = tmp_path / "masks", Finds()
    done = dense_photos.segment_photos([str(photos)], out, fake, ["mug"])
    rows = [
        json.loads(line) for line in (out / "photos.jsonl").read_text().splitlines()
    ]
    assert done.made == len(rows) == 4
    assert len({row["name"] for row in rows}) == 4
    for row in rows:
        photo = np.asarray(Image.open(row["path"]))
        mask = np.asarray(Image.open(out / "masks" / f"{row['name']}.png"))
        np.testing.assert_array_equal(mask, photo[..., 0] > 127)
        assert row["shares"]["mug"] == pytest.approx(mask.mean())
        assert (out / f"{row['name']}.jpg").exists()
    with (out / "skipped.csv").open() as file:
        skipped = {row["path"].rsplit("/", 1)[-1] for row in csv.DictReader(file)}
    assert {"odd.png"} <= skipped
    # Again: nothing but what could not be used is asked for.
    again = Finds()
    done = dense_photos.segment_photos([str(photos)], out, again, ["mug"])
    assert (done.made, done.before) == (0, 4)
    assert [path.rsplit("/", 1)[-1] for path in again.asked] == ["broken.jpg"]
    with pytest.raises(ValueError, match="give another --out"):
        dense_photos.segment_photos([str(photos)], out, again, ["chair"])


def test_a_killed_run_makes_the_last_photo_again(photos, tmp_path):
    out = tmp_path / "masks"
    dense_photos.segment_photos([str(photos)], out, Finds(), ["mug"])
    lines = out / "photos.jsonl"
    lines.write_text(lines.read_text()[:-20])
    again = Finds()
    done = dense_photos.segment_photos([str(photos)], out, again, ["mug"])
    assert (done.made, done.before) == (1, 3)


@pytest.mark.parametrize("line", ["[1]", '{"path": 1}', "[" * 100_000])
def test_a_line_that_names_no_photo_counts_for_none(photos, tmp_path, line):
    out = tmp_path / "masks"
    dense_photos.segment_photos([str(photos)], out, Finds(), ["mug"])
    lines = (out / "photos.jsonl").read_text().splitlines()
    (out / "photos.jsonl").write_text("\n".join([*lines[1:], line, ""]))
    done = dense_photos.segment_photos([str(photos)], out, Finds(), ["mug"])
    assert (done.made, done.before) == (1, 3)


@pytest.mark.parametrize("told", ["[1]", "[" * 100_000, "{"])
def test_damaged_settings_are_told(photos, tmp_path, told):
    out = tmp_path / "masks"
    dense_photos.segment_photos([str(photos)], out, Finds(), ["mug"])
    (out / "settings.json").write_text(told)
    with pytest.raises(ValueError, match=r"settings\.json .*give another --out"):
        dense_photos.segment_photos([str(photos)], out, Finds(), ["mug"])


def test_depth_is_written_in_thousandths(photos, tmp_path):
    out = tmp_path / "depth"
    done = dense_photos.depth_photos([str(photos / "0")], out, Estimates(), "")
    assert done.made == 2
    row = json.loads((out / "photos.jsonl").read_text().splitlines()[0])
    stored = Image.open(out / "depth" / f"{row['name']}.png")
    depth = np.asarray(stored)
    assert depth.dtype == np.uint16
    assert depth.shape == np.asarray(Image.open(row["path"])).shape[:2]
    assert depth.max() == round(1000 * row["farthest"])
    assert row["unit"] == "m"


@pytest.mark.parametrize(
    ("photo", "wanted"),
    [((64, 64), (64, 64)), ((64, 100), (64, 96)), ((100, 64), (96, 64)),
     ((10, 1000), (64, 128)), ((1, 1), (64, 64)), ((3000, 2900), (64, 64))],
)  # fmt: skip
def test_photos_get_few_shapes(photo, wanted):
    assert photo_sizes.network_size(*photo, side=64, stride=32) == wanted


def test_windows_cover_a_picture_and_merge_back():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (30, 100, 3)).astype(np.uint8)
    found = views.windows(image, 30, flip=True)
    assert {v.left for v in found} == {0, 20, 40, 60, 70}
    assert len(found) == 10
    results = [v.image[..., :1].astype(np.float32) for v in found]
    merged = views.merge(found, results, (30, 100))
    np.testing.assert_allclose(merged[..., 0], image[..., 0], atol=1e-3)


def test_windows_of_512_are_341_apart_and_scales_are_padded():
    assert views.starts(1024, 512, 341) == [0, 341, 512]
    assert views.starts(300, 512, 341) == [0]
    image = np.full((20, 40, 3), 9, np.uint8)
    half = views.windows(image, 20, scales=(0.5,))
    assert [v.canvas for v in half] == [(10, 20)]
    assert half[0].image.shape == (20, 20, 3)
    assert (half[0].image[10:] == views.GREY).all()


def test_views_of_many_pictures_share_batches():
    seen = []

    def run(squares, texts):
        seen.append((len(squares), texts))
        return squares[..., :1].astype(np.float32)

    items = [
        (i, views.stretched(np.full((4, 4, 3), i, np.uint8), 4, text=i))
        for i in range(5)
    ]
    found = list(views.run_views(items, run, batch=2))
    assert [item for item, _, _ in found] == list(range(5))
    assert all((results[0] == item).all() for item, _, results in found)
    assert [count for count, _ in seen] == [2, 2, 2]


def test_paint_leaves_bare_pixels_and_tells_labels_apart():
    picture = np.full((8, 8, 3), 100, np.uint8)
    labels = np.zeros((4, 4), int)
    labels[:, 2:] = 1
    painted = painting.paint_labels(picture, labels, bare=(0,))
    np.testing.assert_array_equal(painted[:, :3], 100)
    assert (painted[:, 5:] != 100).any()
    assert len({painting.colour(i) for i in range(60)}) == 60
    shown = painting.paint_depth(np.array([[1.0, 4.0, 0.0]]))
    assert shown[0, 0].sum() > shown[0, 1].sum()  # near is bright
    assert painting.legend(picture, [(1, "mug")]).shape[0] > 8
