import numpy as np
import pytest

from sbir_jax.backbones.loading import load_backbone
from sbir_jax.backbones.sampling import generate


@pytest.fixture(scope="module")
def whole(tiny_folder):
    return load_backbone(tiny_folder)


@pytest.mark.slow
def test_a_picture_for_each_text_that_follows_text_and_seed(whole):
    texts = ["a red mug", "a red mug", "a blue chair"]
    found = generate(whole, texts, steps=3)
    assert found.shape == (3, 32, 32, 3) and found.dtype == np.uint8
    np.testing.assert_array_equal(found, generate(whole, texts, steps=3))
    assert not np.array_equal(found, generate(whole, texts, seed=1, steps=3))
    # Same noise, other words: guidance alone moves the picture.
    one = generate(whole, ["a red mug"], steps=3)
    other = generate(whole, ["a blue chair"], steps=3)
    assert not np.array_equal(one, other)
