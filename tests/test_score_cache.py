"""Scores are used again only where their file is whole."""

import numpy as np
import pytest

from sbir_jax.tasks.matching.score_cache import cached

SCORES = np.arange(2000, dtype=np.float64).reshape(1000, 2) ** 0.5


@pytest.mark.parametrize("how", ["cut", "flipped", "empty", "other", "foreign"])
def test_damaged_scores_are_made_again(tmp_path, how):
    made = []

    def compute():
        made.append(how)
        return SCORES, 1.5

    def ask():
        scores, seconds = cached(tmp_path, "a", {"of": 1}, compute)
        np.testing.assert_array_equal(scores, SCORES)
        assert seconds == 1.5
        return len(made)

    assert ask() == 1 and ask() == 1
    path = tmp_path / "a.npz"
    content = bytearray(path.read_bytes())
    if how == "cut":
        del content[len(content) // 2 :]
    elif how == "flipped":
        content[len(content) // 2] ^= 1
    elif how == "empty":
        content.clear()
    elif how == "other":
        content = b"no archive"
    path.write_bytes(content)
    if how == "foreign":
        np.savez(path, other=SCORES)
    assert ask() == 2 and ask() == 2
