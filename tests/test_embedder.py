import jax
import numpy as np
import pytest
from PIL import Image

from sbir_jax.data import BadImage
from sbir_jax.embedder import Embedder, text_states
from sbir_jax.features import Recipe
from sbir_jax.prompts import PromptConfig, init_prompts
from sbir_jax.sharding import make_mesh

RECIPE = Recipe(("up.0.out",), copies=2)


@pytest.fixture(scope="module")
def prompts(tiny):
    return init_prompts(PromptConfig(), 32, text_states(tiny, [""])[0])


@pytest.fixture(scope="module")
def embedder(tiny, prompts):
    return Embedder(tiny, prompts, RECIPE, 32, batch_size=8)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (11, 32, 32, 3)).astype(np.float32)


def test_descriptor_is_the_same_alone_and_in_any_batch(embedder, images):
    whole = embedder.embed_arrays(images, "photo")
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1.0, atol=1e-5)
    for i in (0, 4, 10):
        alone = embedder.embed_arrays(images[i : i + 1], "photo")
        # Bitwise on one device; a row may land on another of the fake ones.
        np.testing.assert_allclose(alone[0], whole[i], atol=1e-6)


def test_descriptor_does_not_depend_on_batch_size_or_devices(
    tiny, prompts, embedder, images
):
    whole = embedder.embed_arrays(images, "sketch")
    assert embedder.batch_size == 8 == jax.device_count()
    wide = Embedder(tiny, prompts, RECIPE, 32, batch_size=24)
    np.testing.assert_allclose(wide.embed_arrays(images, "sketch"), whole, atol=2e-6)
    alone = make_mesh(devices=jax.devices()[:1])
    one = Embedder(tiny, prompts, RECIPE, 32, batch_size=8, mesh=alone)
    np.testing.assert_allclose(one.embed_arrays(images, "sketch"), whole, atol=2e-6)


def test_takes_paths_bytes_pil_and_arrays(embedder, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    path = tmp_path / "cup.png"
    Image.fromarray(pixels).save(path)
    found = embedder.embed(
        [path, str(path), path.read_bytes(), Image.open(path), pixels], "photo"
    )
    assert found.shape == (5, embedder.dim) and found.dtype == np.float32
    np.testing.assert_allclose(found, np.repeat(found[:1], 5, axis=0), atol=1e-6)


def test_words_beside_the_drawing_change_the_descriptor(embedder, images):
    pixels = ((images[:2] + 1) * 127.5).astype(np.uint8)
    plain = embedder.embed(pixels, "sketch")
    one = embedder.embed(pixels, "sketch", text="a red mug")
    each = embedder.embed(pixels, "sketch", text=["a red mug", "a blue chair"])
    assert np.abs(one - plain).max() > 1e-4
    np.testing.assert_allclose(each[0], one[0], atol=1e-6)
    assert np.abs(each[1] - one[1]).max() > 1e-4
    with pytest.raises(ValueError, match="3 texts for 2 images"):
        embedder.embed(pixels, "sketch", text=["a"] * 3)


def test_words_can_be_mixed_with_the_text_prompt(embedder, images):
    pixels = ((images[:2] + 1) * 127.5).astype(np.uint8)

    def embed(**words):
        return embedder.embed(pixels, "sketch", **words)

    text = "a red cup"
    np.testing.assert_allclose(embed(text=text, text_share=0.0), embed(), atol=1e-6)
    half = embed(text=text, text_share=0.5)
    assert np.abs(half - embed()).max() > 1e-4
    assert np.abs(half - embed(text=text)).max() > 1e-4
    with pytest.raises(ValueError, match=r"text_share is 2.0; give 0"):
        embed(text=text, text_share=2.0)


class Drawn:
    """Images in memory in a data set's place."""

    def __init__(self, images):
        self.all = images

    def images(self, indices, size):
        return self.all[indices]


def test_items_keep_their_words_across_batches(tiny, prompts, images):
    embedder = Embedder(tiny, prompts, RECIPE, 32, batch_size=8)
    many = np.repeat(np.asarray(images[:1]), 11, axis=0)
    texts = [f"word {'abc'[i % 3]}" for i in range(11)]
    found = embedder.embed_items(Drawn(many), np.arange(11), "sketch", texts)
    for i in (0, 8, 10):
        again = embedder.embed_items(Drawn(many), np.array([i]), "sketch", [texts[i]])
        np.testing.assert_allclose(found[i], again[0], atol=1e-6)
    assert np.abs(found[8] - found[0]).max() > 1e-4


def test_fingerprint_follows_everything_that_counts(tiny, prompts, embedder):
    same = Embedder(tiny, prompts, RECIPE, 32, batch_size=16)
    assert same.fingerprint == embedder.fingerprint
    moved = jax.tree.map(lambda x: x + 1e-3, prompts)
    others = [
        embedder.with_prompts(moved),
        Embedder(tiny, prompts, Recipe(("up.0.out",), copies=3), 32),
        Embedder(tiny, prompts, RECIPE, 32, visual_scale=2.0),
    ]
    assert len({e.fingerprint for e in [embedder, *others]}) == 4
    pixels = np.full((1, 32, 32, 3), 0.2, np.float32)
    rebuilt = Embedder(tiny, moved, RECIPE, 32, batch_size=8)
    np.testing.assert_array_equal(
        others[0].embed_arrays(pixels, "photo"), rebuilt.embed_arrays(pixels, "photo")
    )


def test_bad_input_is_named(embedder, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    with pytest.raises(BadImage, match=r"broken\.png"):
        embedder.embed([broken], "photo")
    with pytest.raises(ValueError, match="modality is 'drawing'"):
        embedder.embed([], "drawing")
    assert embedder.embed([], "photo").shape == (0, embedder.dim)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json is not there"):
        Embedder.from_run(tmp_path)
