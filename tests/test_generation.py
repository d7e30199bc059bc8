"""Metrics of generated pictures against known answers and a brute force."""

import numpy as np
import pytest

from sbir_jax.metrics import generation


def lines(*columns, size=64):
    found = np.zeros((size, size), bool)
    for column in columns:
        found[8:-8, column] = True
    return found


def test_edges_agree_within_two_pixels():
    wanted = np.stack([lines(20)] * 4)
    found = np.stack([lines(22), lines(23), lines(20, 40), lines()])
    agreed = generation.edge_agreement(found, wanted)
    np.testing.assert_allclose(agreed["precision"], [1, 0, 0.5, 0])
    np.testing.assert_allclose(agreed["recall"], [1, 0, 1, 0])
    np.testing.assert_allclose(agreed["F"], [1, 0, 2 / 3, 0], atol=1e-9)


def test_a_drawing_of_a_picture_agrees_with_its_edges():
    picture = np.full((1, 64, 64, 3), 230, np.uint8)
    picture[0, 20:44, 16:40] = (40, 60, 120)
    sketch = np.full((1, 64, 64, 3), 255, np.uint8)
    sketch[0, 19:22, 16:40] = sketch[0, 42:45, 16:40] = 0
    sketch[0, 20:44, 15:18] = sketch[0, 20:44, 38:41] = 0
    edges = generation.edges(picture)
    here = generation.edge_agreement(edges, generation.strokes(sketch))["F"][0]
    away = np.roll(sketch, 10, axis=2)
    there = generation.edge_agreement(edges, generation.strokes(away))["F"][0]
    assert here > 0.95 and there < 0.7


def test_frechet_distance_of_known_gaussians():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200_000, 2))
    np.testing.assert_allclose(generation.frechet(x, x), 0, atol=1e-6)
    np.testing.assert_allclose(
        generation.frechet(x, x + np.array([3, 0])), 9, rtol=1e-6
    )
    np.testing.assert_allclose(generation.frechet(x, 3 * x), 2 * 4, rtol=1e-2)
    with pytest.raises(ValueError, match="1 and 5 feature vectors; give 2"):
        generation.frechet(x[:1], x[:5])


def test_inception_score_of_sure_and_of_unsure_classifiers():
    np.testing.assert_allclose(generation.inception_score(np.eye(7)), 7, rtol=1e-6)
    np.testing.assert_allclose(generation.inception_score(np.full((5, 4), 0.25)), 1)
    one = np.eye(4)[np.zeros(9, int)]
    np.testing.assert_allclose(generation.inception_score(one), 1)


def test_coverage_is_that_of_brute_force():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 3)), 1.5 * rng.standard_normal((40, 3))
    count = 0
    for a in y:
        for b in x:
            own = sorted(np.sqrt(((b - c) ** 2).sum()) for c in x)[3]
            if np.sqrt(((a - b) ** 2).sum()) <= own:
                count += 1
                break
    np.testing.assert_allclose(generation.coverage(x, y), count / 40)
    assert 0 < count < 40
    assert generation.coverage(x, x) == 1
    with pytest.raises(ValueError, match="3 feature vectors have no 3 neighbours"):
        generation.coverage(x[:3], y)


def test_diversity_is_the_mean_distance_of_a_request():
    features = np.zeros((2, 3, 2))
    features[0] = [[0, 0], [3, 4], [0, 0]]
    np.testing.assert_allclose(generation.diversity(features), (5 + 5 + 0) / 3 / 2)
    with pytest.raises(ValueError, match="2 or more pictures"):
        generation.diversity(features[:, :1])
