"""What features are held to while the embedded model is trained."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax.data.toybox import geometry, world
from sbir_jax.data.toybox.scenes.spoken import OF_THINGS
from tools.toybox_losses import (
    COARSE,
    FINE,
    LEAST,
    WEIGHTS,
    alignment,
    grounding,
    new_heads,
)

B, CHANNELS = 3, {COARSE: 20, FINE: 18}


@pytest.fixture
def given(getkey):
    """Features that hold the maps themselves, and the heads that read them out."""
    maps = jax.random.normal(getkey(), (B, 16, 16, geometry.CHANNELS))
    maps = maps.at[..., 0].set(jnp.array([0.0, 1.0, 0.5])[:, None, None])
    coarse = maps.reshape(B, 8, 2, 8, 2, -1).mean((2, 4))
    taps = {
        COARSE: jnp.pad(coarse, ((0, 0), (0, 0), (0, 0), (0, 3))),
        FINE: jnp.pad(maps, ((0, 0), (0, 0), (0, 0), (0, 1))),
    }
    heads = new_heads(CHANNELS)
    for name, tap in (("coarse", COARSE), ("fine", FINE)):
        heads[name]["kernel"] = jnp.eye(CHANNELS[tap], geometry.CHANNELS)
    categories = jnp.array([1, 2, 3])[:, None, None]
    return heads, taps, maps, jnp.broadcast_to(categories, (B, 16, 16))


ALL = jnp.ones(B), jnp.ones(B, bool)


def test_features_that_say_everything_have_no_error(given):
    shape, name = alignment(*given, *ALL)
    np.testing.assert_allclose(shape, 0, atol=1e-6)
    # Heads that know nothing of categories are as far off as guessing; the first
    # picture shows nothing anywhere, so no place of it is asked.
    np.testing.assert_allclose(name, 2 / 3 * np.log(len(world.CATEGORIES)), rtol=1e-5)


def test_error_is_the_mean_square_of_each_map(given):
    heads, taps, maps, labels = given
    heads["fine"]["bias"] = heads["fine"]["bias"].at[3].set(0.5).at[12].set(0.25)
    shape, _ = alignment(heads, taps, maps, labels, *ALL)
    expected = (0.5**2 * WEIGHTS[3] + 0.25**2 * WEIGHTS[12]) / geometry.CHANNELS
    np.testing.assert_allclose(shape, expected, rtol=1e-4)


def test_noisy_pictures_count_less(given):
    heads, taps, maps, labels = given
    wrong = taps | {FINE: taps[FINE].at[2].add(1.0)}
    clean, _ = alignment(heads, wrong, maps, labels, *ALL)
    noisy, _ = alignment(heads, wrong, maps, labels, jnp.array([1.0, 1.0, 0.1]), ALL[1])
    np.testing.assert_allclose(noisy / clean, 0.1 / 2.1 * 3, rtol=1e-4)


def test_only_uncaptioned_pictures_are_asked_their_name(given):
    heads, taps, maps, labels = given
    heads["category"]["bias"] = heads["category"]["bias"].at[2].set(50.0)
    signal = jnp.ones(B)

    def asked(*rows):
        unnamed = jnp.zeros(B, bool).at[jnp.array(rows)].set(True)
        return alignment(heads, taps, maps, labels, signal, unnamed)[1]

    np.testing.assert_allclose(asked(1), 0, atol=1e-5)
    np.testing.assert_allclose(asked(2), 50, rtol=1e-3)
    nobody = alignment(heads, taps, maps, labels, signal, jnp.zeros(B, bool))[1]
    assert nobody == 0


def test_each_place_is_asked_what_it_shows(given):
    heads, taps, maps, labels = given
    kernel = heads["category"]["kernel"]
    heads["category"]["kernel"] = kernel.at[-1, 5].set(60.0).at[-2, 2].set(60.0)
    two = labels.at[1, :, 8:].set(5).at[1, 0].set(-1)
    taps[COARSE] = taps[COARSE].at[1, :, 4:, -1].set(1).at[1, :, :4, -2].set(1)
    second = jnp.array([False, True, False])
    _, name = alignment(heads, taps, maps, two, ALL[0], second)
    np.testing.assert_allclose(name, 0, atol=1e-5)
    _, turned = alignment(heads, taps, maps, two[:, :, ::-1], ALL[0], second)
    np.testing.assert_allclose(turned, 60, rtol=1e-3)


# "a red mug and a chair": thing 0 on the left half, thing 1 in the last column.
SPOKEN = jnp.array([[0, 0, OF_THINGS | 1, OF_THINGS | 1, 0, 0, OF_THINGS | 2, 0]])
THINGS = np.zeros((1, 3, 8, 8), np.float32)
THINGS[0, 0, :, :4], THINGS[0, 1, :, 6:] = 1, 1


def attention(left, middle, right):
    """Of one head on 4 x 4 places: to which token each column of a third looks."""
    tokens = np.array([left, left, middle, right])
    return jax.nn.one_hot(jnp.broadcast_to(tokens, (1, 1, 4, 4)), SPOKEN.shape[1])


def ground(*maps, things=THINGS, spoken=SPOKEN, signal=1.0, told=True):
    layers = {str(i): found for i, found in enumerate(maps)}
    return grounding(
        layers,
        spoken,
        jnp.asarray(things),
        jnp.array([signal]),
        jnp.array([told]),
    )


def test_attention_to_the_words_of_what_is_there_has_no_error():
    for word in (2, 3):  # either word of the phrase
        for nothing in (0, 1, 4, 7):  # any word that speaks of no thing
            found = ground(attention(word, nothing, 6))
            np.testing.assert_allclose(found, 0, atol=1e-4)


def test_grounding_is_the_cross_entropy_of_each_place():
    wrong = -np.log(LEAST)
    for maps, places in (
        (attention(6, 0, 6), 2 / 4),  # the other thing's word on the first
        (attention(0, 0, 6), 2 / 4),  # no word on the first
        (attention(2, 3, 6), 1 / 4),  # a word where nothing is
    ):
        np.testing.assert_allclose(ground(maps), places * wrong, rtol=1e-3)
    both = ground(attention(6, 0, 6), attention(2, 0, 6))
    np.testing.assert_allclose(both, wrong / 4, rtol=1e-3)
    even = jnp.full((1, 2, 4, 4, 8), 1 / 8)
    expected = 2 / 4 * np.log(8 / 2) + 1 / 4 * np.log(8) + 1 / 4 * np.log(8 / 5)
    np.testing.assert_allclose(ground(even), expected, rtol=1e-3)


def test_heads_are_asked_together_and_half_covered_places_halfway():
    two = jnp.concatenate([attention(2, 0, 6), attention(4, 0, 6)], 1)
    np.testing.assert_allclose(ground(two), np.log(2) / 2, rtol=1e-3)
    things = THINGS.copy()
    things[0, 0, ::2] = 0  # thing 0 covers half of its places
    np.testing.assert_allclose(ground(two, things=things), np.log(2) / 2, rtol=1e-3)


def test_what_is_not_said_or_not_shown_asks_for_no_word():
    lie = SPOKEN.at[0, 2:4].set(OF_THINGS)
    np.testing.assert_allclose(ground(attention(0, 0, 6), spoken=lie), 0, atol=1e-4)
    assert ground(attention(2, 0, 6), spoken=lie) > 1
    silent = SPOKEN.at[0, 2:4].set(0)
    np.testing.assert_allclose(ground(attention(0, 0, 6), spoken=silent), 0, atol=1e-4)
    assert ground(attention(6, 0, 6), told=False) == 0


def test_grounding_of_noisy_pictures_counts_less():
    wrong, right = attention(6, 0, 6), attention(2, 0, 6)
    found = grounding(
        {"a": jnp.concatenate([wrong, right])},
        jnp.concatenate([SPOKEN, SPOKEN]),
        jnp.asarray(np.concatenate([THINGS, THINGS])),
        jnp.array([0.1, 1.0]),
        jnp.array([True, True]),
    )
    np.testing.assert_allclose(found, -np.log(LEAST) / 2 * 0.1 / 1.1, rtol=1e-3)
