"""Scores of pairs: what they are, and that nothing else changes them."""

import dataclasses
import types

import coloured_sheets
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_backbone

from sbir_jax.adapters import head_weights
from sbir_jax.adapters.match_adapter import AdapterConfig
from sbir_jax.backbones import loading
from sbir_jax.backbones.frozen import encode_texts
from sbir_jax.diffusion.noise_bank import noise_bank
from sbir_jax.search import companions
from sbir_jax.tasks.matching import heat, objective, rivals, scores
from sbir_jax.tasks.matching.matcher import Matcher, initial
from sbir_jax.tasks.matching.scores import MatchRecipe
from sbir_jax.tasks.matching.setup import ShotsConfig
from sbir_jax.tasks.matching.shots import Shots

RECIPE = MatchRecipe(timesteps=4, first=10, last=700)
TEXTS = ["abc", "hd", "ggggg", "a"]


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(loading.FAMILIES, "ToyPipeline", toy_backbone.load)
        folder = toy_backbone.save(tmp_path_factory.mktemp("toy") / "model")
        yield loading.load_backbone(folder)


@pytest.fixture(scope="module")
def matcher(toy):
    return Matcher(toy, RECIPE, 16)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [coloured_sheets.sheet(rng) for _ in range(3)]


def test_pooling_is_the_log_mean_exp_of_words_alone():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 3, 4, 4, 6)).astype("f")
    words = np.array([[0, 1, 1, 1, 0, 0], [0, 1, 0, 0, 0, 0]], bool)
    found = scores.pooled(jnp.asarray(logits), jnp.asarray(words), np.log(2.0))
    for b in range(2):
        own = np.float64(logits[b][..., words[b]])
        wanted = np.log(np.exp(2 * own).mean(-1)) / 2
        np.testing.assert_allclose(found[b], wanted.mean((1, 2)), rtol=1e-5)
    # What stands in the other places, however many there are, is not seen.
    logits[..., [0, 4, 5]] = 1e4
    more = np.concatenate([logits, logits], -1), np.pad(words, ((0, 0), (0, 6)))
    again = scores.pooled(*map(jnp.asarray, more), np.log(2.0))
    np.testing.assert_allclose(found, again, rtol=1e-6)
    # A word said twice counts as once: long texts score no higher.
    twice = scores.pooled(jnp.asarray(logits[..., [1, 1]]), jnp.ones((2, 2), bool))
    once = scores.pooled(jnp.asarray(logits[..., [1]]), jnp.ones((2, 1), bool))
    np.testing.assert_allclose(twice, once, rtol=1e-5)


def test_permuted_candidates_give_permuted_scores(matcher, images):
    found = matcher.score(images, TEXTS)
    assert found.shape == (3, 4) and len(np.unique(found.round(4))) == 12
    order, turn = [2, 0, 3, 1], [1, 2, 0]
    again = matcher.score([images[i] for i in turn], [TEXTS[i] for i in order])
    np.testing.assert_allclose(again, found[turn][:, order], atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 8, 40, 256])
def test_batch_size_and_company_change_nothing(toy, matcher, images, batch_size):
    found = matcher.score(images, TEXTS)
    other = Matcher(toy, RECIPE, 16, batch_size=batch_size)
    np.testing.assert_allclose(other.score(images, TEXTS), found, atol=1e-5)
    alone = other.score(images[1:2], TEXTS[3:])
    np.testing.assert_allclose(alone, found[1:2, 3:], atol=1e-5)


def test_learned_weights_start_as_the_plain_mean(toy, matcher, images):
    """As do prompts and a gain that were not trained yet."""
    layers = scores.layer_names(toy.backbone, RECIPE)
    text = encode_texts(toy, TEXTS[:1])
    bank = noise_bank(toy.backbone.latent_shape(16), 4, 0)[None]
    adapter = initial(toy, RECIPE, AdapterConfig(gain=True), 16)
    latents = jnp.asarray(matcher.encode(images[:1]))
    steps = jnp.asarray(RECIPE.steps[None])
    heads, predicted = scores.head_scores(
        toy.backbone, toy.frozen, adapter, latents, text, bank, steps, layers
    )
    assert predicted is not None
    found = Matcher(toy, RECIPE, 16, adapter).score(images[:1], TEXTS[:1])
    np.testing.assert_allclose(found[0, 0], heads.mean(), rtol=1e-5)
    np.testing.assert_allclose(found, matcher.score(images[:1], TEXTS[:1]), atol=1e-5)
    gained = dataclasses.replace(adapter, gain=jnp.float32(3))
    moved = Matcher(toy, RECIPE, 16, gained).score(images[:1], TEXTS[:1])
    empty = encode_texts(toy, [""])
    errors = [
        scores.denoising_error(toy.backbone, toy.frozen, latents, one, bank, steps)
        for one in (empty, text)
    ]
    less = float((errors[0] - errors[1]).mean()) / scores.GAIN_UNIT
    wanted = found[0, 0] + 3 * less
    np.testing.assert_allclose(moved[0, 0], wanted, rtol=1e-4)


def test_weights_of_shares_are_these():
    shares = jnp.array([0.5, 0.2, 0.3])
    found = head_weights.weights(head_weights.of_shares(7 * shares))
    np.testing.assert_allclose(found, shares, rtol=1e-5)
    np.testing.assert_allclose(head_weights.weights(head_weights.plain(4)), 0.25)


def test_importance_is_the_derivative_by_a_factor_on_a_heads_logits(toy, matcher):
    few = coloured_sheets.questions("few", 3, 5)
    shots = Shots(few, matcher, ShotsConfig(candidates=3))
    given = {"backbone": toy.backbone, "recipe": RECIPE, "draws": 2}
    key, adapter = jax.random.key(1), matcher.adapter

    def loss(batch, factor):
        gates = jnp.full((1, 1), factor, jnp.float32)
        found = objective.question_scores(
            adapter, toy.frozen, batch, key, gates, **given
        )
        scaled = jnp.exp(adapter.scale) * found
        return float(objective.softmax_loss(scaled, jnp.asarray(batch["real"]))[0])

    slopes = [
        abs(loss(batch, 1 + 1e-2) - loss(batch, 1 - 1e-2)) / 2e-2
        for batch in shots.each()
    ]
    # One head has all of the importance: so compare what it is a share of.
    total = 0.0
    for batch in shots.each():
        gradient = jax.grad(
            lambda gates, batch=batch: objective.softmax_loss(
                jnp.exp(adapter.scale)
                * objective.question_scores(
                    adapter, toy.frozen, batch, key, gates, **given
                ),
                jnp.asarray(batch["real"]),
            ).sum()
        )(jnp.ones((1, 1)))
        total += abs(float(gradient[0, 0]))
    np.testing.assert_allclose(total, sum(slopes), rtol=2e-2)
    found = objective.importance(adapter, toy.frozen, shots.each(), key, **given)
    np.testing.assert_allclose(found, [1.0])


def test_losses_see_real_candidates_alone():
    found = jnp.array([[1.0, 0.5, 9.0], [0.0, 2.0, 1.0]])
    real = jnp.array([[True, True, False], [True, True, True]])
    wanted = -np.log(np.exp(1) / (np.exp(1) + np.exp(0.5)))
    np.testing.assert_allclose(objective.softmax_loss(found, real)[0], wanted, 1e-5)
    np.testing.assert_allclose(objective.hinge_loss(found, real, 0.2), [0.0, 2.2])
    np.testing.assert_allclose(objective.hinge_loss(found, real, 0.7)[0], 0.2, 1e-4)


def test_candidates_of_a_question_share_timesteps_and_noise(toy, matcher):
    """So that the same text has the same score in any place."""
    few = coloured_sheets.questions("few", 2, 5)
    same = [dataclasses.replace(i, texts=(i.texts[0],) * 2) for i in few.items]
    shots = Shots(dataclasses.replace(few, items=same), matcher, ShotsConfig())
    items = [dataclasses.replace(i, texts=i.texts * 3) for i in same]
    batch = shots.batch(items, np.array([0, 1], np.int32))
    given = {"backbone": toy.backbone, "recipe": RECIPE, "draws": 2}
    key = jax.random.key(0)
    found = objective.question_scores(matcher.adapter, toy.frozen, batch, key, **given)
    np.testing.assert_allclose(found, np.tile(found[:, :1], (1, 6)), atol=1e-5)
    other = objective.question_scores(
        matcher.adapter, toy.frozen, batch, jax.random.key(1), **given
    )
    assert np.abs(found - other).max() > 1e-3


def test_denoising_rivals_are_what_their_papers_say(toy, matcher, images):
    backbone, frozen = toy.backbone, toy.frozen
    latents = matcher.encode(images[:2])
    rows = np.array([0, 1, 1]), ["abc", "hd"], np.array([0, 0, 1])

    def error(image, text, noise, t):
        noisy = scores.noised(
            backbone, jnp.asarray(latents[image : image + 1]), noise[None, None],
            jnp.array([[t]]),
        )[0]  # fmt: skip
        seen = backbone.predict(frozen, noisy, int(t), encode_texts(toy, [text]))
        return np.asarray(seen - noise[None])

    bank = noise_bank(backbone.latent_shape(16), 4, 0)
    itm = rivals.DenoisingRival("diffusion_itm", matcher, 4, True)
    found = itm.pair_scores(latents, *rows)
    size = np.sqrt(bank[0].size)
    for i, (image, text) in enumerate([(0, "abc"), (1, "abc"), (1, "hd")]):
        for k, t in enumerate((10, 260, 510, 760)):
            norms = [
                np.linalg.norm(error(image, said, bank[k], t)) for said in ("", text)
            ]
            wanted = (norms[0] - norms[1]) / size
            np.testing.assert_allclose(found[i, k], wanted, atol=1e-5)
    classifier = rivals.DenoisingRival("diffusion_classifier", matcher, 2, False)
    found = classifier.pair_scores(latents, *rows)
    for k, t in enumerate((250, 750)):
        wanted = -np.square(error(1, "hd", bank[0], t)).mean()
        np.testing.assert_allclose(found[2, k], wanted, rtol=1e-4)


def test_without_a_run_search_re_ranks_by_denoising(toy, images, monkeypatch):
    """With the whole network, which the embedder keeps for words; and `sbir match`."""
    embedder = types.SimpleNamespace(whole=lambda: toy, size=16)
    found = companions.matcher("", embedder)
    assert isinstance(found, rivals.DenoisingRival)
    assert found.matcher.backbone is toy.backbone
    whole = Matcher(toy, MatchRecipe(), 16)
    itm = rivals.DenoisingRival("diffusion_itm", whole, 10, True)
    told = found.score(images[:2], TEXTS)
    np.testing.assert_array_equal(told, itm.score(images[:2], TEXTS))
    with pytest.raises(ValueError, match="give one or more words"):
        found.score(images[:1], [" "])
    monkeypatch.setattr(Matcher, "from_pretrained", lambda model: whole)
    assert isinstance(rivals.open_scorer("toybox"), rivals.DenoisingRival)


def test_word_maps_share_each_place_among_the_words(matcher, images):
    found = heat.word_maps(matcher, images[0], "ab c")
    assert found.words == ["ab", "c"] and found.maps.shape == (2, 4, 4)
    # The toy knows bytes, so its third token is the blank, which is of the second word.
    np.testing.assert_allclose(found.maps.sum(0), 1.0, rtol=1e-5)


def test_layers_go_by_how_their_names_begin(tiny):
    everything = scores.layer_names(tiny.backbone, MatchRecipe())
    assert len(everything) == 3 + 1 + 6
    early = scores.layer_names(tiny.backbone, MatchRecipe(layers=("mid", "down.2")))
    assert early == ("down.2.attn.0.cross", "mid.attn.0.cross")
    assert MatchRecipe(layers=("down", "mid")).taps == ("mid.out",)
    assert MatchRecipe(layers=("mid", "up.1")).taps == ("out",)
    with pytest.raises(ValueError, match=r"'left'.* there are down\.0"):
        scores.layer_names(tiny.backbone, MatchRecipe(layers=("left",)))


@pytest.mark.parametrize(
    "given, words",
    [
        ({"timesteps": 0}, "timesteps is 0"),
        ({"first": 9, "last": 3}, "first is 9 and recipe.last 3"),
    ],
)
def test_recipes_that_cannot_be(given, words):
    with pytest.raises(ValueError, match=words):
        MatchRecipe(**given)


def test_timesteps_are_evenly_spaced():
    assert MatchRecipe().steps.tolist()[:2] == [10, 119]
    assert MatchRecipe().steps.tolist()[-1] == 990
    assert MatchRecipe(timesteps=1).steps.tolist() == [500]


def test_empty_texts_are_refused(matcher, images):
    with pytest.raises(ValueError, match=r"a text is '  '; give one or more words"):
        matcher.score(images[:1], ["a", "  "])


def test_a_recipe_of_another_schedule_is_refused(toy):
    with pytest.raises(ValueError, match=r"recipe.last is 1500; .* is 999"):
        Matcher(toy, MatchRecipe(last=1500), 16)
