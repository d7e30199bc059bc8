import ir_measures
import numpy as np
import pytest
from ir_measures import AP, P
from sklearn.metrics import average_precision_score

from sbir_jax import metrics


def problem(seed, q=20, g=60, classes=5):
    rng = np.random.default_rng(seed)
    # Few distinct scores, so that ties are everywhere.
    scores = rng.integers(0, 12, (q, g)).astype(np.float64) / 12
    right = rng.integers(0, classes, q)[:, None] == rng.integers(0, classes, g)[None]
    keep = right.any(axis=1)
    return scores[keep], right[keep]


def ranked_of(scores, right):
    order = metrics.rank(scores)
    return order, np.take_along_axis(right, order, axis=1), right.sum(axis=1)


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_equals_scikit_learn(seed):
    scores, right = problem(seed)
    order, ranked, relevant = ranked_of(scores, right)
    ours = metrics.average_precision(ranked, relevant)
    # scikit-learn pools ties; give it the order that our rule for ties makes.
    untied = -np.argsort(order, axis=1).astype(float)
    theirs = [average_precision_score(r, s) for r, s in zip(right, untied, strict=True)]
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("k", [1, 7, 20, 60])
def test_cut_metrics_equal_ir_measures(k):
    scores, right = problem(9)
    order, ranked, relevant = ranked_of(scores, right)
    position = np.argsort(order, axis=1)
    run, qrels = [], []
    for q in range(len(right)):
        for g in range(right.shape[1]):
            score = float(right.shape[1] - position[q, g])
            run.append(ir_measures.ScoredDoc(str(q), str(g), score))
            qrels.append(ir_measures.Qrel(str(q), str(g), int(right[q, g])))
    found = ir_measures.calc_aggregate([AP @ k, P @ k], qrels, run)
    ours = metrics.average_precision(ranked, relevant, k, "R").mean()
    assert ours == pytest.approx(found[AP @ k], abs=1e-9)
    assert metrics.precision_at(ranked, relevant, k).mean() == pytest.approx(
        found[P @ k], abs=1e-9
    )


def test_one_query_by_hand():
    # Right photos at ranks 1, 4, 5 of six, and one more that is not ranked.
    ranked = np.array([[True, False, False, True, True, False]])
    relevant = np.array([4])
    total = 1 + 2 / 4 + 3 / 5
    ap = metrics.average_precision
    assert ap(ranked, relevant)[0] == pytest.approx(total / 4)
    assert ap(ranked, relevant, 4)[0] == pytest.approx(1.5 / 4)
    assert ap(ranked, relevant, 2)[0] == pytest.approx(1 / 2)
    assert ap(ranked, relevant, 4, "R")[0] == pytest.approx(1.5 / 4)
    assert ap(ranked, relevant, 4, "hits")[0] == pytest.approx(1.5 / 2)
    # Envelope: from rank 2 on the best precision still to come is 3 / 5.
    assert ap(ranked, relevant, envelope=True)[0] == pytest.approx((1 + 1.2) / 4)
    assert metrics.precision_at(ranked, relevant, 5)[0] == pytest.approx(3 / 5)
    assert metrics.precision_at(ranked, relevant, 5, capped=True)[0] == pytest.approx(
        2 / 4
    )
    assert metrics.precision_at(ranked, relevant, 10)[0] == pytest.approx(3 / 10)


def test_known_inequalities():
    scores, right = problem(3, q=50, g=80, classes=3)
    _, ranked, relevant = ranked_of(scores, right)
    ap = metrics.average_precision
    assert np.all(ap(ranked, relevant, envelope=True) >= ap(ranked, relevant))
    k = int(relevant.min())
    strict, precise = ap(ranked, relevant, k), metrics.precision_at(ranked, relevant, k)
    assert np.all(strict <= precise + 1e-12)
    assert np.all(ap(ranked, relevant, k, "hits") >= strict)


def test_equal_scores_keep_the_gallerys_order():
    order = metrics.rank(np.array([[0.5, 0.9, 0.5, 0.5]]))
    np.testing.assert_array_equal(order, [[1, 0, 2, 3]])


def test_accuracy_by_hand():
    ranked = np.array([[False, True, False], [False, False, False]])
    np.testing.assert_array_equal(metrics.accuracy_at(ranked, 1), [0, 0])
    np.testing.assert_array_equal(metrics.accuracy_at(ranked, 2), [1, 0])


def test_queries_with_nothing_to_find_are_refused():
    with pytest.raises(ValueError, match="1 queries have no relevant photo"):
        metrics.average_precision(np.zeros((1, 3), bool), np.array([0]))


def test_nan_scores_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        metrics.rank(np.array([[0.1, np.nan]]))


def test_every_computed_metric_has_a_definition():
    for name in metrics.category_metrics((5, 100)):
        assert metrics.definition(name)
    assert "first 5 of" in metrics.definition("Acc@5")
    with pytest.raises(ValueError, match="unknown metric 'MRR'"):
        metrics.definition("MRR")
