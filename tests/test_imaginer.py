"""Pictures of drawings, edited ones, and what lies between two drawings."""

import dataclasses

import jax
import numpy as np
import pytest

from sbir_jax.adapters import sketch_adapter
from sbir_jax.backbones.loading import load_backbone
from sbir_jax.backbones.sampling import generate
from sbir_jax.tasks.synthesis.drawing import Sampling
from sbir_jax.tasks.synthesis.imaginer import Imaginer, changed

# Minutes of compiling: `make test-all` runs it.
pytestmark = pytest.mark.slow

FAST = Sampling(steps="3")


@pytest.fixture(scope="module")
def whole(tiny_folder):
    return load_backbone(tiny_folder)


@pytest.fixture(scope="module")
def imaginer(whole):
    """With an adapter of random weights, which every drawing moves."""
    key = jax.random.key(3)
    adapter = sketch_adapter.init_adapter(whole.backbone, whole.frozen, key, 3)
    moved = jax.tree.map(lambda x: 0.3 * jax.random.normal(key, x.shape), adapter)
    return Imaginer(whole, moved, FAST)


@pytest.fixture(scope="module")
def drawings():
    found = np.full((3, 32, 32, 3), 255, np.uint8)
    found[0, 4:28, 10:12] = found[1, 20:22, 4:28] = found[2, 6:8, 6:26] = 0
    return found


def test_a_picture_for_each_drawing_that_follows_drawing_words_and_seed(
    imaginer, drawings
):
    texts = ["a mug", "a mug", "a hat"]
    found = imaginer.imagine(drawings, texts)
    assert found.shape == (3, 32, 32, 3) and found.dtype == np.uint8
    np.testing.assert_array_equal(found, imaginer.imagine(drawings, texts))
    for other in (
        imaginer.imagine(drawings[::-1], texts),
        imaginer.imagine(drawings, ["a hat"] * 3),
        imaginer.imagine(drawings, texts, seed=1),
    ):
        assert (found != other).any((1, 2, 3))[[0, 2]].all() or (found != other).any()


def test_a_picture_does_not_depend_on_what_is_drawn_beside_it(imaginer, drawings):
    texts = ["a mug", "a red hat", "a hat"]
    together = imaginer.imagine(drawings, texts).astype(int)
    alone = imaginer.imagine(drawings[:1], texts[:1]).astype(int)
    assert np.abs(together[0] - alone[0]).max() <= 1


def test_more_pictures_than_go_at_once(imaginer, drawings, monkeypatch):
    from sbir_jax.tasks.synthesis import imaginer as module

    whole = imaginer.imagine(drawings, ["a mug"] * 3).astype(int)
    monkeypatch.setattr(module, "AT_ONCE", 2)
    parts = imaginer.imagine(drawings, ["a mug"] * 3).astype(int)
    assert np.abs(whole - parts).max() <= 1


def test_hold_0_and_no_adapter_are_words_alone_bit_for_bit(imaginer, whole, drawings):
    texts = ["a mug", "a mug", "a hat"]
    plain = Imaginer(whole, None, FAST).imagine(None, texts)
    loose = Imaginer(
        whole, imaginer.adapter, dataclasses.replace(FAST, hold=0.0)
    ).imagine(drawings, texts)
    np.testing.assert_array_equal(loose, plain)
    untrained = sketch_adapter.init_adapter(
        whole.backbone, whole.frozen, jax.random.key(0), 3
    )
    found = Imaginer(whole, untrained, FAST).imagine(drawings, texts)
    np.testing.assert_array_equal(found, plain)
    # The library's plain generation takes the same steps; its noise is drawn for all.
    assert generate(whole, texts, steps=3).shape == plain.shape


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling("euler", "3"),
        Sampling("dpm-solver", "3"),
        Sampling("ddim", "ddim4"),
        Sampling("ddim", "3", eta=1.0),
        Sampling("ddim", "3", guidance=1.0),
    ],
)
def test_every_sampler_draws(imaginer, drawings, sampling):
    other = Imaginer(imaginer.loaded, imaginer.adapter, sampling)
    found = other.imagine(drawings[:1], ["a mug"])
    plain = imaginer.imagine(drawings[:1], ["a mug"])
    # Euler's steps are those of DDIM, see `samplers.euler`.
    assert (found != plain).any() == (sampling.sampler != "euler")
    np.testing.assert_array_equal(found, other.imagine(drawings[:1], ["a mug"]))


def test_each_guide_moves_pictures(imaginer, drawings):
    texts = ["a mug", "a mug", "a hat"]

    def drawn(**scales):
        sampling = dataclasses.replace(FAST, guidance=1.0, **scales)
        given = imaginer.loaded, imaginer.adapter, sampling
        return Imaginer(*given).imagine(drawings, texts)

    before = drawn()
    scales = {"lgp": 0.5, "classifier": 50.0, "distance": 5.0}
    for name, scale in scales.items():
        assert (drawn(**{name: scale}) != before).any((1, 2, 3)).all(), name
    np.testing.assert_array_equal(drawn(**scales, guided=0.0), before)
    noisy, steered = drawn(eta=1.0), drawn(eta=1.0, **scales)
    assert (steered != noisy).any((1, 2, 3)).all()


def test_editing_changes_what_the_strokes_changed_and_nothing_else(imaginer, drawings):
    before, after = drawings[:1], drawings[:1].copy()
    after[0, 26:28, 20:28] = 0
    picture = imaginer.imagine(before, ["a mug"])
    found = imaginer.edit(picture, before, after, ["a mug"])
    mask = changed(before[0], after[0])
    assert mask[27, 24] and not mask[10, 10] and 0 < mask.mean() < 0.5
    np.testing.assert_array_equal(found[0][~mask], picture[0][~mask])
    assert (found[0][mask] != picture[0][mask]).any()
    same = imaginer.edit(picture, before, before, ["a mug"])
    np.testing.assert_array_equal(same, picture)


def test_the_ends_of_an_interpolation_are_the_two_syntheses(imaginer, drawings):
    strip = imaginer.between(drawings[0], drawings[1], 4, "a mug").astype(int)
    assert strip.shape == (4, 32, 32, 3)
    for end, drawing in ((0, drawings[:1]), (-1, drawings[1:2])):
        one = imaginer.imagine(drawing, ["a mug"]).astype(int)
        assert np.abs(strip[end] - one[0]).max() <= 1
    assert (strip[1] != strip[0]).any() and (strip[2] != strip[3]).any()


def test_redrawing_keeps_more_the_less_it_may(imaginer, drawings):
    kept = imaginer.redraw(drawings[:1], ["a mug"], 0.0).astype(int)
    some = imaginer.redraw(drawings[:1], ["a mug"], 0.34).astype(int)
    nothing = imaginer.redraw(drawings[:1], ["a mug"], 1.0).astype(int)
    # Nothing is noised at 0: what is left is what the autoencoder gives back.
    assert 0 < np.abs(some - kept).mean() < np.abs(nothing - kept).mean()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((None, None), "neither drawings nor words"),
        ((np.zeros((2, 32, 32, 3), np.uint8), ["a mug"]), "2, 1 drawings, texts"),
        ((np.zeros((1, 16, 32, 3), np.uint8), None), r"\(16, 32, 3\); this backbone"),
    ],
)
def test_requests_that_cannot_be_drawn(imaginer, given, message):
    with pytest.raises(ValueError, match=message):
        imaginer.imagine(*given)


def test_drawings_need_an_adapter(whole, drawings):
    with pytest.raises(ValueError, match="has no adapter for drawings"):
        Imaginer(whole, None, FAST).imagine(drawings)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sampler": "plms"}, "sampler is 'plms'; give ddim, euler"),
        ({"sampler": "euler", "eta": 0.5}, "euler has none, ddim has"),
        ({"eta": 1.5}, "eta is 1.5; give 0 to 1"),
        ({"guided": 2}, "guided is 2; give 0 to 1"),
        ({"lgp": -1}, "lgp is -1; give 0 or more"),
    ],
)
def test_sampling_that_cannot_be(values, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**values)
