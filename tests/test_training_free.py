"""DiffSeg, DiffCut, OVAM and DAAM by brute force, and where the answer is known."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from sbir_jax.backbones.frozen import encode_texts
from sbir_jax.dense import daam, diffcut, diffseg, naming, ovam, reading
from sbir_jax.types import TextStates


def two_halves(side, rng, noise=0.05):
    """Maps of places that look at their own half of the picture."""
    left = np.arange(side) < side // 2
    same = left[:, None] == left[None]
    maps = np.where(same[None, :, None, :], 1.0, noise) * np.ones(
        (side, side, side, side)
    )
    maps *= rng.uniform(0.9, 1.1, maps.shape)
    maps /= maps.sum((2, 3), keepdims=True)
    return jnp.asarray(maps.reshape(side, side, side * side), jnp.float32)


def test_divergence_is_half_the_sum_of_both():
    p, q = np.random.default_rng(0).dirichlet(np.ones(12), (2, 3))
    found = diffseg.divergence(p, q)
    for i, j in itertools.product(range(3), range(3)):
        both = scipy.stats.entropy(p[i], q[j]) + scipy.stats.entropy(q[j], p[i])
        assert found[i, j] == pytest.approx(both / 2)


def test_aggregate_weighs_layers_by_their_side():
    rng = np.random.default_rng(0)
    fine, coarse = (rng.random((n, n, n * n)).astype("f") for n in (4, 2))
    fine /= fine.sum(-1, keepdims=True)
    found = np.asarray(diffseg.aggregate({"fine": fine, "coarse": coarse}))
    for y, x in itertools.product(range(4), range(4)):
        small = coarse[y // 2, x // 2].reshape(2, 2)
        large = np.asarray(jax.image.resize(small, (4, 4), "linear"))
        wanted = (4 * fine[y, x] + 2 * (large / large.sum()).ravel()) / 6
        np.testing.assert_allclose(found[4 * y + x], wanted, atol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


def test_diffseg_finds_the_two_halves():
    maps = {"a": two_halves(8, np.random.default_rng(0)),
            "b": two_halves(4, np.random.default_rng(1))}  # fmt: skip
    found = diffseg.segments(maps)
    assert found.shape == (64, 64)
    assert len(np.unique(found)) == 2
    assert len(np.unique(found[:, :30])) == len(np.unique(found[:, 34:])) == 1
    # With every pair near each other all is one.
    assert not diffseg.segments(maps, near=1e9).any()


def test_best_cut_is_the_cheapest_of_all_thresholds():
    rng = np.random.default_rng(0)
    graph = diffcut.affinity(rng.normal(size=(7, 3)))
    cost, part = diffcut.best_cut(graph)
    every = [
        diffcut.cut_cost(graph, np.array(bits, bool))
        for bits in itertools.product((0, 1), repeat=7)
        if 0 < sum(bits) < 7
    ]
    assert cost == pytest.approx(diffcut.cut_cost(graph, part))
    assert min(every) <= cost + 1e-12
    # Of two groups without links between them the cut is free, and exact.
    blocks = np.kron(np.eye(2), np.ones((3, 3))) + 1e-9
    cost, part = diffcut.best_cut(blocks)
    assert cost < 1e-6
    assert sorted([part[:3].all(), part[3:].all()]) == [False, True]


def test_cut_cost_by_hand():
    graph = np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1]], float)
    # One link of weight 1 is cut; the sides hold links of 2 and of 5.
    part = np.array([True, False, False])
    assert diffcut.cut_cost(graph, part) == pytest.approx(1 / 2 + 1 / 5)


def test_diffcut_finds_three_regions_in_a_picture_of_any_shape():
    directions = np.eye(3)
    feature = np.zeros((4, 6, 3), "f")
    for i in range(3):
        feature[:, 2 * i : 2 * i + 2] = directions[i]
    found = diffcut.segments(feature, (32, 48))
    assert found.shape == (32, 48)
    assert [len(np.unique(found[:, 16 * i + 4 : 16 * i + 12])) for i in range(3)] == [
        1
    ] * 3
    assert len({int(found[0, x]) for x in (4, 24, 44)}) == 3


def test_names_by_mean_and_by_vote():
    segments = np.array([[0, 0, 0], [1, 1, 1]])
    heat = np.zeros((2, 3, 2))
    heat[..., 0] = [[0, 0, 9], [0, 0, 0]]  # one very hot pixel
    heat[..., 1] = [[2, 2, 0], [3, 3, 3]]
    assert naming.name_segments(segments, heat, "mean")[0, 0] == 0
    assert naming.name_segments(segments, heat, "vote")[0, 0] == 1
    assert naming.name_segments(segments, heat)[1, 0] == 1


@pytest.fixture(scope="module")
def pass_of(tiny):
    backbone = tiny.backbone
    image = np.random.default_rng(0).uniform(-1, 1, (1, 32, 64, 3)).astype("f")
    latents = jax.jit(backbone.encode_image)(tiny.frozen, image)
    text = encode_texts(tiny, ["a red mug"])
    layers = reading.attention(backbone, "cross", middle=True)

    @jax.jit
    def run(frozen, latents, text):
        given = reading.noised(backbone, latents, 100, noise=True)
        found = backbone.read(
            frozen, given, 100, text, queries=layers, logits=layers, maps=layers
        )
        return found, ovam.read_queries(backbone, frozen, latents, text, 100)

    return tiny, latents, text, *run(tiny.frozen, latents, text)


def test_queries_and_keys_make_the_logits_of_the_pass(pass_of):
    loaded, _, text, found, queries = pass_of
    keys = loaded.backbone.keys(loaded.frozen, text, tuple(queries))
    assert len(queries) > 4
    for name, wanted in found.logits.items():
        q, k = queries[name], keys[name]
        scores = jnp.einsum("bhyxd,bhnd->bhyxn", q, k) * q.shape[-1] ** -0.5
        np.testing.assert_allclose(scores, wanted, atol=2e-5)


def test_ovam_is_the_mean_over_layers_of_sums_over_heads(pass_of):
    loaded, latents, text, found, queries = pass_of
    keys = loaded.backbone.keys(loaded.frozen, text, tuple(queries))
    heat = np.asarray(ovam.heat(queries, keys))
    assert heat.shape == (1, *latents.shape[1:3], text.states.shape[1])
    wanted = np.mean(
        [
            jax.image.resize(
                logits.sum(1), (1, *latents.shape[1:3], logits.shape[-1]), "linear"
            )
            for logits in found.logits.values()
        ],
        axis=0,
    )
    np.testing.assert_allclose(heat, wanted, atol=1e-4)
    words = np.asarray(ovam.of_words(jnp.asarray(heat), text.mask))
    tokens = np.flatnonzero(text.mask[0])
    np.testing.assert_allclose(words[..., 0], heat[..., tokens].mean(-1), atol=1e-5)


def test_words_of_one_text_do_not_depend_on_other_texts(pass_of):
    loaded, _, _, _, queries = pass_of
    backbone, names = loaded.backbone, tuple(queries)
    both = encode_texts(loaded, ["mug", "two chairs"])
    one = TextStates(both.states[:1], both.mask[:1])
    together, alone = (
        ovam.of_words(
            ovam.heat(queries, backbone.keys(loaded.frozen, t, names)), t.mask
        )
        for t in (both, one)
    )
    np.testing.assert_allclose(together[..., :1], alone, atol=1e-6)


def test_token_optimisation_finds_a_mask_better(pass_of, monkeypatch):
    loaded, latents, _, _, queries = pass_of
    mask = np.zeros(latents.shape[1:3], bool)
    mask[:, : mask.shape[1] // 2] = True
    start = encode_texts(loaded, ["mug"]).pooled

    def error(tokens):
        keys = loaded.backbone.keys(
            loaded.frozen, TextStates(tokens[None]), tuple(queries)
        )
        heat = ovam.between_0_and_1(ovam.heat(queries, keys))[0, ..., 0]
        return float(jnp.abs(heat - mask).mean())

    found = ovam.optimise_tokens(
        loaded.backbone, loaded.frozen, queries, [mask], start, steps=30
    )
    assert found.shape == start.shape
    assert error(found) < error(start)


@pytest.mark.slow
def test_daam_sums_what_is_not_coarse(pass_of):
    loaded, latents, text, found, _ = pass_of
    backbone = loaded.backbone
    heat = np.asarray(daam.heat(backbone, loaded.frozen, latents, text, 100))
    assert heat.shape == (1, *latents.shape[1:3], text.states.shape[1])
    used = [n for n in found.maps if not n.startswith("mid")]
    blocks = 4
    assert all(reading.level_of(n, blocks) < 3 for n in used)
    # At the size of the latent itself nothing is interpolated.
    fine = [
        found.maps[n] for n in used if found.maps[n].shape[2:4] == latents.shape[1:3]
    ]
    assert 0 < len(fine) < len(used)
    assert heat.min() >= 0
    total = sum(maps.shape[1] for maps in (found.maps[n] for n in used))
    share = sum(np.asarray(maps).sum(1) for maps in fine) / total
    assert (heat >= share - 1e-5).all()


def test_token_spans_are_where_the_words_stand(tiny):
    words = ("mug", "ice cream", "chair")
    spans = daam.token_spans(tiny.backbone, words, 77)
    ids = tiny.backbone.tokenize([daam.prompt_of(words)])[0]
    for word, span in zip(words, spans, strict=True):
        assert tiny.backbone.tokenizer.decode(ids[span]).strip() == word
