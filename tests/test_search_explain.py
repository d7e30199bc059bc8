import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import EARLY
from PIL import Image

from sbir_jax.adapters.prompts import PromptConfig, init_prompts
from sbir_jax.backbones.frozen import text_states
from sbir_jax.data import BadImage
from sbir_jax.embedder import Embedder
from sbir_jax.features import Recipe
from sbir_jax.report.correspondences import Seen
from sbir_jax.reranker import Reranker
from sbir_jax.search import answers
from sbir_jax.search import explain as lib

RNG = np.random.default_rng(0)
SKETCH, PHOTO = RNG.integers(0, 256, (2, 40, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=[("max", 1), ("mean", 1), ("max", 3)])
def embedder(tiny, request):
    prompts = init_prompts(PromptConfig(), 32, text_states(tiny, [""])[0])
    prompts.visual["photo"] = jax.tree.map(lambda x: x + 0.3, prompts.visual["photo"])
    pooling, grid = request.param
    recipe = Recipe(("down.1.out", "down.0.out"), copies=3, pooling=pooling, grid=grid)
    return Embedder(tiny, prompts, recipe, 32, visual_scale=2.0, batch_size=8)


def test_both_heat_maps_sum_to_the_score(embedder):
    sketch = embedder.embed([SKETCH], "sketch")[0]
    score = float(sketch @ embedder.embed([PHOTO], "photo")[0])
    found = lib.explain(embedder, SKETCH, PHOTO)
    assert found.sketch_heat.shape == found.photo_heat.shape == (4, 4)
    assert found.score == pytest.approx(score, abs=1e-5)
    assert found.sketch_heat.sum() == pytest.approx(score, abs=1e-5)
    assert found.photo_heat.sum() == pytest.approx(score, abs=1e-5)
    assert not np.allclose(found.sketch_heat, found.photo_heat)


def test_frames_in_latent_space_count(tiny):
    config, states = PromptConfig(space="latent"), text_states(tiny, [""])[0]
    prompts = init_prompts(config, 32, states, tiny.backbone.latent_shape(32))
    prompts.latent["photo"] = jax.tree.map(lambda x: x + 0.3, prompts.latent["photo"])
    embedder = Embedder(tiny, prompts, Recipe(EARLY, copies=2), 32)
    score = float(
        embedder.embed([SKETCH], "sketch")[0] @ embedder.embed([PHOTO], "photo")[0]
    )
    assert lib.explain(embedder, SKETCH, PHOTO).score == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("grid", [1, 2])
@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_credit_is_value_times_gradient_at_fixed_lengths(pooling, grid):
    """Autodiff knows which place each pooled value came from."""
    levels = [RNG.normal(size=(3, 2, 2, 5)), RNG.normal(size=(3, 4, 4, 7))]
    other = RNG.normal(size=12 * grid**2).astype(np.float32)
    reduce = jnp.max if pooling == "max" else jnp.mean

    def score(levels):
        rows = []
        for maps in levels:
            k, h, w, c = maps.shape
            cells = maps.reshape(k, grid, h // grid, grid, w // grid, c)
            values = reduce(cells, axis=(2, 4)).reshape(k, -1)
            length = jnp.linalg.norm(values, axis=1)[:, None]
            rows.append(values / jax.lax.stop_gradient(length))
        joined = jnp.concatenate(rows, axis=1).mean(0)
        return joined @ other / jax.lax.stop_gradient(jnp.linalg.norm(joined))

    slopes = jax.grad(score)([jnp.asarray(maps, jnp.float32) for maps in levels])
    credit = [
        (maps * np.asarray(slope)).sum((0, 3))
        for maps, slope in zip(levels, slopes, strict=True)
    ]
    expected = credit[1] + np.repeat(np.repeat(credit[0], 2, 0), 2, 1) / 4
    recipe = Recipe(("up.0.out", "up.1.out"), pooling=pooling, grid=grid)
    np.testing.assert_allclose(lib.heat(levels, other, recipe), expected, atol=1e-6)


def test_matches_follow_a_shifted_pattern():
    """The photo is the sketch moved one cell right: every line has that slope."""
    sketch = RNG.normal(size=(2, 6, 6, 16))
    photo = np.roll(sketch, 1, axis=2)
    even = np.ones((6, 6))
    found = lib.matches([sketch], [photo], even, even)
    assert len(found) == lib.MATCHES
    for match in found:
        x, y = match.sketch
        assert match.photo == pytest.approx(((x + 1 / 6) % 1, y))
        assert match.similarity == pytest.approx(1.0)
    cells = np.array([match.sketch for match in found]) * 6
    gaps = np.abs(cells[:, None] - cells[None]).max(-1) + 9 * np.eye(len(found))
    assert gaps.min() > 1.5


def test_matches_are_nearest_both_ways():
    sketch, photo = RNG.normal(size=(2, 1, 12, 12, 4))
    even = np.ones((12, 12))
    found = lib.matches([sketch], [photo], even, even, 99)
    assert found
    for match in found:
        one, other = (
            maps[0, int(y * 12), int(x * 12)]
            for maps, (x, y) in zip((sketch, photo), match[:2], strict=True)
        )
        for maps, point, end in ((photo, one, other), (sketch, other, one)):
            cosines = maps[0] @ point / np.linalg.norm(maps[0], axis=-1)
            best = np.unravel_index(cosines.argmax(), (12, 12))
            np.testing.assert_array_equal(maps[0][best], end)


def test_places_without_credit_are_not_matched():
    maps = RNG.normal(size=(2, 4, 4, 16))
    credit = np.zeros((4, 4))
    credit[1, 2] = 1.0
    [match] = lib.matches([maps], [maps], credit, np.ones((4, 4)))
    assert match.sketch == match.photo == (2.5 / 4, 1.5 / 4)


def test_overlay_is_warm_where_the_credit_is():
    white, credit = np.full((8, 8, 3), 255, np.uint8), np.full((4, 4), -1.0)
    credit[0, 3] = 2.0
    picture = lib._overlaid(white, credit)
    assert picture.size == (lib.EDGE, lib.EDGE)
    pixels = np.asarray(picture).astype(int)
    redness = pixels[..., 0] - pixels[..., 2]
    assert redness[10, -10] > 60 and redness[-10, 10] == 0


def test_sheet_is_written_whole(tmp_path):
    heat = np.zeros((4, 4))
    heat[1, 1] = 1.0
    pictures = np.full((2, 8, 8, 3), 255, np.uint8)
    match = lib.Match((0.1, 0.5), (0.9, 0.5), 1.0)
    lib.save_sheet(
        lib.Explanation(0.5, *pictures, heat, heat, [match]), tmp_path / "why.png"
    )
    assert [file.name for file in tmp_path.iterdir()] == ["why.png"]
    pixels = np.asarray(Image.open(tmp_path / "why.png"))
    middle = pixels[:, pixels.shape[1] // 2].astype(int)
    assert (middle[:, 2] - middle[:, 0]).max() > 100  # the line crosses the gap


def test_bad_images_are_named(embedder):
    with pytest.raises(BadImage, match="sketch: not an image file"):
        lib.explain(embedder, b"no picture", PHOTO)
    with pytest.raises(BadImage, match="photo: empty file"):
        lib.explain(embedder, SKETCH, b"")


class Looks(Reranker):
    """A re-ranker whose tokens answer each other crosswise."""

    def __init__(self):
        self.size = 32

    def look(self, sketch, photo):
        alike = np.full((16, 16), 0.1)
        alike[np.arange(16), np.arange(16)[::-1]] = 0.85
        places = np.arange(16)
        return Seen(sketch, photo, alike, places, places, 4, 2.0)


def test_a_re_ranker_explains_by_tokens(tmp_path):
    found = lib.explain(Looks(), SKETCH, PHOTO)
    assert found.score == pytest.approx(1 / (1 + np.exp(-2)))
    for match in found.matches:
        assert match.photo == pytest.approx((1 - match.sketch[0], 1 - match.sketch[1]))
        assert re.fullmatch("#[0-9a-f]{6}", match.colour)
    assert found.matches and len({m.colour for m in found.matches}) > 1
    lib.save_sheet(found, tmp_path / "why.png")
    sheet = np.asarray(Image.open(tmp_path / "why.png").convert("RGB"))
    colour = [int(found.matches[0].colour[i : i + 2], 16) for i in (1, 3, 5)]
    assert (sheet == colour).all(-1).any()
    told = answers.explained(found)
    assert told.tokens and told.matches[0].colour == found.matches[0].colour
    assert told.sketch.startswith("data:image/png;base64,")
