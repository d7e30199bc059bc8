"""What the tools of token matching count."""

import numpy as np
import pytest

from tools import token_parts, token_table


def test_a_place_shows_the_part_of_most_of_its_pixels_on_the_thing():
    shown = np.full((8, 8), -2)
    shown[0, :2] = 3, 3
    shown[1, 0] = 1
    shown[4:, 4:] = -1
    shown[7, 7] = 5  # one pixel of sixteen is too little
    assert token_parts.on_grid(shown, 2).tolist() == [3, -1, -1, -1]


def test_the_share_is_of_places_with_strokes_on_the_thing():
    own, their = np.array([0, 1, 1, -1]), np.array([1, 0, -1, 1])
    ink = np.array([True, True, False, True])
    strength = np.zeros((4, 4))
    strength[0, 1] = strength[1, 2] = 1.0  # 2 is off the thing, so 1 goes to its first
    assert token_parts.shares(strength, own, their, ink) == 1.0
    strength[1, 1] = 0.5
    assert token_parts.shares(strength, own, their, ink) == 0.5


def test_places_and_cosines():
    near = token_parts.near(3)
    assert near.argmax(1).tolist() == list(range(9))
    assert near[0, 4] == pytest.approx(-np.sqrt(2))
    a = np.random.default_rng(0).normal(size=(3, 5))
    np.testing.assert_allclose(np.diag(token_parts.alike(a, 7 * a)), 1.0)


def report(value, depth):
    rows = {"learned": value, "chance": 0.1}
    return {
        "primary": "mAP@all",
        "results": [{"name": n, "metrics": {"mAP@all": v}} for n, v in rows.items()],
        "cost": {"pairs_a_second": 1000 * value},
        "depth": {"photos": [5, 8], "value": [depth, value], "enough": 8},
        "hardware": "cpu x1",
    }


def test_the_table_has_means_and_errors_over_seeds():
    found = token_table.lines([report(0.5, 0.3), report(0.7, 0.4)])
    assert found[:3] == [
        "| learned | 0.600 ± 0.100 |",
        "| chance | 0.100 ± 0.000 |",
        "| pairs a second | 600 |",
    ]
    assert "| re-ranked 5 | 0.350 ± 0.050 |" in found
    assert "| photos for 99 % of the last | 8, 8 |" in found
    assert token_table.lines([report(0.5, 0.3)])[0] == "| learned | 0.500 |"


@pytest.mark.slow
def test_strokes_lie_on_the_parts_of_the_thing():
    from sbir_jax.data.toybox import world

    names, numbers, variants = ["mug", "train"], [3, 5], [0, 2]
    own = token_parts.parts(names, numbers, variants, 16)
    things = [world.instance(*given) for given in zip(names, numbers, strict=True)]
    drawn = world.render_sketches(things, variants, 64)
    for shown, picture in zip(own, drawn, strict=True):
        ink = token_parts.correspondences.inked(picture, 16)
        assert len(np.unique(shown)) > 2
        # Outlines lie on the thing's edge, so a few places hold little of it.
        assert np.mean(shown[ink] != token_parts.NONE) > 0.8
