import jax
import numpy as np
import pytest
from conftest import EARLY

from sbir_jax import text_queries
from sbir_jax.adapters.prompts import PromptConfig, init_prompts
from sbir_jax.backbones.frozen import text_states
from sbir_jax.backbones.loading import load_backbone
from sbir_jax.embedder import Embedder
from sbir_jax.features import Recipe


@pytest.fixture(scope="module")
def embedder(tiny):
    prompts = init_prompts(PromptConfig(), 32, text_states(tiny, [""])[0])
    prompts.visual["photo"] = jax.tree.map(
        lambda part: part + 0.3, prompts.visual["photo"]
    )
    return Embedder(tiny, prompts, Recipe(EARLY, copies=2), 32, batch_size=8)


@pytest.mark.slow
def test_words_are_the_mean_of_the_photos_made_up_for_them(embedder, tiny_folder):
    texts = ["a red mug", "a blue chair", "a red mug"]
    found = embedder.embed_words(texts)
    assert found.shape == (3, embedder.dim) and found.dtype == np.float32
    np.testing.assert_array_equal(found[0], found[2])
    assert np.abs(found[0] - found[1]).max() > 1e-4
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    pictures = text_queries.imagine(load_backbone(tiny_folder), "a red mug")
    assert len(pictures) == text_queries.PICTURES == len(np.unique(pictures, axis=0))
    mean = embedder.embed(pictures, "photo").mean(0)
    np.testing.assert_allclose(found[0], mean / np.linalg.norm(mean), atol=1e-5)
    assert embedder.embed_words([]).shape == (0, embedder.dim)


def test_a_share_of_words(embedder):
    drawn, said = np.eye(4)[:2], np.eye(4)[2:]
    np.testing.assert_array_equal(text_queries.mix(drawn, said, 0.0), drawn)
    np.testing.assert_array_equal(text_queries.mix(drawn, said, 1.0), said)
    np.testing.assert_allclose(
        text_queries.mix(drawn, said, 0.25), (3 * drawn + said) / np.sqrt(10)
    )
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"text_weight is .*; give 0"):
            text_queries.mix(drawn, said, share)
