"""Figures of matching, against brute force and other people's code."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import top_k_accuracy_score

from sbir_jax.data.matching import Item, MatchingSet
from sbir_jax.metrics import matching as metrics
from sbir_jax.tasks.matching import evaluation


def test_recall_is_top_k_accuracy():
    scores = np.random.default_rng(0).normal(size=(200, 10))
    for k in (1, 3, 5):
        wanted = top_k_accuracy_score(np.zeros(200), scores, k=k, labels=range(10))
        assert metrics.hits(scores, k).mean() == pytest.approx(wanted)


def test_ties_and_missing_candidates():
    scores = np.array([[1.0, 1.0, 0.0], [2.0, 1.0, -np.inf], [0.0, 1.0, 2.0]])
    assert metrics.ranks(scores).tolist() == [2, 1, 3]
    assert metrics.hits(scores).tolist() == [False, True, False]
    assert metrics.beaten(scores)[0].tolist() == [False, True]
    for bad in ([[np.nan, 1.0]], [[-np.inf, 0.0]], [[0.0, np.nan]]):
        with pytest.raises(ValueError, match="not finite"):
            metrics.ranks(np.array(bad))


def test_winoground_by_trying_all_orders():
    """All 24 orders of four scores, and ties, which are no hit."""
    for order in itertools.permutations((0.0, 1.0, 2.0, 3.0)):
        (a, b), (c, d) = grid = np.array(order).reshape(2, 2)
        found = {k: bool(v[0]) for k, v in metrics.winoground(grid[None]).items()}
        text = max((a, 0), (b, 1))[1] == 0 and max((c, 0), (d, 1))[1] == 1
        image = max((a, 0), (c, 1))[1] == 0 and max((b, 0), (d, 1))[1] == 1
        assert found == {
            "text score": text, "image score": image, "group score": text and image
        }  # fmt: skip
    tied = metrics.winoground(np.zeros((1, 2, 2)))
    assert not any(value[0] for value in tied.values())
    # Blind scores reach a quarter, a quarter and a sixth, as `chance` says.
    every = np.array(list(itertools.permutations(range(4)))).reshape(-1, 2, 2)
    means = {k: v.mean() for k, v in metrics.winoground(every.astype(float)).items()}
    assert means == pytest.approx(
        {"text score": 1 / 4, "image score": 1 / 4, "group score": 1 / 6}
    )


def test_standard_errors():
    rng = np.random.default_rng(0)
    values = rng.normal(size=500)
    plain = metrics.standard_error(values, np.arange(500))
    assert plain == pytest.approx(values.std(ddof=1) / 500**0.5)
    # The same values ten times over say no more than once.
    tenfold = metrics.standard_error(np.repeat(values, 10), np.repeat(range(500), 10))
    assert tenfold == pytest.approx(plain)
    assert np.isnan(metrics.standard_error(values, np.zeros(500)))


def test_metrics_have_one_definition():
    assert "fewer than 5 others" in metrics.metric("R@5").definition
    assert metrics.metric("Acc (colour)").better == "higher"
    assert "mean of Acc over the kinds" in metrics.metric("Acc (kinds)").definition
    with pytest.raises(ValueError, match="unknown metric 'R@x'"):
        metrics.metric("R@x")


def several_kinds():
    items = [
        Item("0", (0,), ("a", "b", "c"), ("noun", "colour")),
        Item("1", (1,), ("a", "c"), ("colour",)),
        Item("2", (2,), ("b", "a", "c"), ("noun", "colour")),
    ]
    return MatchingSet("three", "text", [b""] * 3, items, recall=(2,))


def test_figures_of_texts_by_kind():
    questions = several_kinds()
    found = evaluation.pairs(questions)
    assert len(found.images) == 8 and sorted(found.texts) == ["a", "b", "c"]
    said = {(0, "a"): 3, (0, "b"): 2, (0, "c"): 4, (1, "a"): 5, (1, "c"): 1}
    said |= {(2, "b"): 1, (2, "a"): 0, (2, "c"): 0}
    scores = np.array(
        [
            said[image, found.texts[row]]
            for image, row in zip(found.images.tolist(), found.rows, strict=True)
        ],
        float,
    )
    values = {
        name: figure.value
        for name, figure in evaluation.figures(questions, found, scores).items()
    }
    assert values == pytest.approx(
        {
            "Acc (kinds)": (1 + 2 / 3) / 2,
            "Acc (noun)": 1.0,
            "Acc (colour)": 2 / 3,
            "Acc": 2 / 3,
            "R@2": 1.0,
        }
    )
    assert next(iter(values)) == "Acc (kinds)"
    blind = evaluation.chance(questions, found)
    assert blind["Acc"] == pytest.approx((1 / 3 + 1 / 2 + 1 / 3) / 3)
    assert blind["R@2"] == pytest.approx((2 / 3 + 1 + 2 / 3) / 3)
    assert set(blind) == set(values)


def test_blind_scores_are_at_chance():
    rng = np.random.default_rng(0)
    items = [
        Item(str(i), (i,), ("a", "b", "c"), ("noun", "colour")) for i in range(3000)
    ]
    questions = MatchingSet("many", "text", [b""] * 3000, items, recall=(2,))
    found = evaluation.pairs(questions)
    figures = evaluation.figures(questions, found, rng.normal(size=len(found.images)))
    for name, value in evaluation.chance(questions, found).items():
        assert abs(figures[name].value - value) < 4 * figures[name].error


def test_figures_of_images_and_of_pairs():
    items = [Item("0", (0, 1), ("a",), ("verb",)), Item("1", (2, 0), ("b",), ("verb",))]
    questions = MatchingSet("two", "image", [b""] * 3, items)
    found = evaluation.pairs(questions)
    figures = evaluation.figures(questions, found, np.array([1.0, 0.0, 0.0, 1.0]))
    assert figures["Acc"].value == 0.5 and set(figures) == {"Acc"}
    items = [Item("0", (0, 1), ("a", "b"), ("Noun",))]
    pairs = MatchingSet("one", "pairs", [b""] * 2, items)
    found = evaluation.pairs(pairs)
    figures = evaluation.figures(pairs, found, np.array([2.0, 1.0, 0.0, 3.0]))
    assert {k: v.value for k, v in figures.items()} == {
        "group score": 1.0, "text score": 1.0, "image score": 1.0
    }  # fmt: skip


def test_fewer_timesteps_are_evenly_spaced():
    assert evaluation.counts(10) == [1, 2, 5, 10] and evaluation.counts(4) == [1, 2, 4]
    assert evaluation.evenly(1, 10).tolist() == [5]
    assert evaluation.evenly(5, 10).tolist() == [1, 3, 5, 7, 9]
    assert evaluation.evenly(10, 10).tolist() == list(range(10))
