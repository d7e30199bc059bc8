import ir_measures
import numpy as np
import pytest
from ir_measures import AP, P, Success
from sklearn.metrics import average_precision_score

from sbir_jax import metrics


def problem(seed, q=20, g=60, classes=5):
    rng = np.random.default_rng(seed)
    # Few distinct scores, so that ties are everywhere.
    scores = rng.integers(0, 12, (q, g)).astype(np.float64) / 12
    right = rng.integers(0, classes, q)[:, None] == rng.integers(0, classes, g)[None]
    keep = right.any(axis=1)
    return scores[keep], right[keep]


def ranks_of(right):
    """Ranks from relevance in ranked order, as one reads them off a result list."""
    out = np.full((len(right), max(1, right.sum(axis=1).max())), np.inf)
    for row, line in zip(out, right, strict=True):
        where = 1 + np.flatnonzero(line)
        row[: len(where)] = where
    return out


@pytest.mark.parametrize("seed", range(20))
def test_ranks_are_those_of_the_stable_order(seed):
    scores, right = problem(seed)
    if seed % 2:  # no ties, or few
        scores += np.random.default_rng(seed).normal(size=scores.shape).round(1 + seed)
    ranked = np.take_along_axis(right, metrics.rank(scores), axis=1)
    np.testing.assert_array_equal(
        metrics.relevant_ranks(scores, right), ranks_of(ranked)
    )


def test_right_photos_that_tie_need_no_order():
    # Two copies of one right photo, and a wrong one that ties with nothing.
    scores = np.array([[0.5, 0.9, 0.5], [0.5, 0.1, 0.5]])
    right = np.array([[True, False, True], [True, False, True]])
    np.testing.assert_array_equal(
        metrics.relevant_ranks(scores, right), [[2, 3], [1, 2]]
    )


@pytest.mark.parametrize("seed", range(50))
def test_average_precision_equals_scikit_learn(seed):
    scores, right = problem(seed, q=40)
    ours = metrics.average_precision(metrics.relevant_ranks(scores, right))
    # scikit-learn pools ties; give it the order that our rule for ties makes.
    untied = -np.argsort(metrics.rank(scores), axis=1).astype(float)
    theirs = [average_precision_score(r, s) for r, s in zip(right, untied, strict=True)]
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("k", [1, 7, 20, 60, 90])
def test_cut_metrics_equal_ir_measures(k):
    scores, right = problem(9, q=100)
    ranks = metrics.relevant_ranks(scores, right)
    position = np.argsort(metrics.rank(scores), axis=1)
    run, qrels = [], []
    for q in range(len(right)):
        for g in range(right.shape[1]):
            score = float(right.shape[1] - position[q, g])
            run.append(ir_measures.ScoredDoc(str(q), str(g), score))
            qrels.append(ir_measures.Qrel(str(q), str(g), int(right[q, g])))
    found = ir_measures.calc_aggregate([AP @ k, P @ k, Success @ k], qrels, run)
    assert metrics.average_precision(ranks, k, "R").mean() == pytest.approx(
        found[AP @ k], abs=1e-9
    )
    assert metrics.precision_at(ranks, k).mean() == pytest.approx(
        found[P @ k], abs=1e-9
    )
    assert metrics.accuracy_at(ranks, k).mean() == pytest.approx(
        found[Success @ k], abs=1e-9
    )


@pytest.mark.parametrize("k", [1, 5, 20, 60, 200])
@pytest.mark.parametrize("seed", range(5))
def test_every_metric_equals_its_formula_read_aloud(k, seed):
    scores, right = problem(seed, q=40, classes=2 + 5 * seed)
    found = {
        name: metric(metrics.relevant_ranks(scores, right))
        for name, metric in metrics.category_metrics((k,)).items()
    }
    ranked = np.take_along_axis(right, metrics.rank(scores), axis=1)
    for q, r in enumerate(ranked):
        n, total = len(r), r.sum()
        h = [int(r[:i].sum()) for i in range(n + 1)]
        p = [0.0] + [h[i] / i for i in range(1, n + 1)]
        up = [max(p[i:]) for i in range(n + 1)]
        ap, best = (sum(x[i] * r[i - 1] for i in range(1, n + 1)) for x in (p, up))
        m, last = min(k, total), min(k, n)
        cut = sum(p[i] * r[i - 1] for i in range(1, last + 1))
        up_cut = sum(max(p[i : last + 1]) * r[i - 1] for i in range(1, last + 1))
        expected = {
            f"mAP@{k} (envelope)": up_cut / m,
            "mAP@all": ap / total,
            "mAP@all (envelope)": best / total,
            f"mAP@{k}": cut / m,
            f"mAP@{k} (over R)": cut / total,
            f"mAP@{k} (over hits)": cut / h[last] if h[last] else 0.0,
            f"P@{k}": h[last] / k,
            f"P@{k} (capped)": h[m] / m,
        }
        assert set(expected) == set(found)
        for name, value in expected.items():
            assert found[name][q] == pytest.approx(value, abs=1e-12), name


def test_one_query_by_hand():
    # Right photos at ranks 1, 4, 5 and 9.
    ranks = np.array([[1.0, 4.0, 5.0, 9.0]])
    ap = metrics.average_precision
    assert ap(ranks)[0] == pytest.approx((1 + 2 / 4 + 3 / 5 + 4 / 9) / 4)
    assert ap(ranks, 4)[0] == pytest.approx(1.5 / 4)
    assert ap(ranks, 2)[0] == pytest.approx(1 / 2)
    assert ap(ranks, 4, "R")[0] == pytest.approx(1.5 / 4)
    assert ap(ranks, 4, "hits")[0] == pytest.approx(1.5 / 2)
    # Envelope: at rank 4 the best precision still to come is 3 / 5.
    assert ap(ranks, envelope=True)[0] == pytest.approx((1 + 1.2 + 4 / 9) / 4)
    assert metrics.precision_at(ranks, 5)[0] == pytest.approx(3 / 5)
    assert metrics.precision_at(ranks, 5, capped=True)[0] == pytest.approx(2 / 4)
    assert metrics.precision_at(ranks, 10)[0] == pytest.approx(4 / 10)


def test_known_inequalities():
    ranks = metrics.relevant_ranks(*problem(3, q=50, g=80, classes=3))
    ap = metrics.average_precision
    assert np.all(ap(ranks, envelope=True) >= ap(ranks))
    k = int(np.isfinite(ranks).sum(axis=1).min())
    strict, precise = ap(ranks, k), metrics.precision_at(ranks, k)
    assert np.all(strict <= precise + 1e-12)
    assert np.all(ap(ranks, k, "hits") >= strict)


def test_equal_scores_keep_the_gallerys_order():
    order = metrics.rank(np.array([[0.5, 0.9, 0.5, 0.5]]))
    np.testing.assert_array_equal(order, [[1, 0, 2, 3]])


def test_accuracy_by_hand():
    ranks = np.array([[2.0, 3.0], [np.inf, np.inf]])
    np.testing.assert_array_equal(metrics.accuracy_at(ranks, 1), [0, 0])
    np.testing.assert_array_equal(metrics.accuracy_at(ranks, 2), [1, 0])


def test_queries_with_nothing_to_find_are_refused():
    with pytest.raises(ValueError, match="1 queries have no relevant photo"):
        metrics.average_precision(np.array([[2.0], [np.inf]]))
    # None has any: no column at all.
    with pytest.raises(ValueError, match="2 queries have no relevant photo"):
        metrics.average_precision(
            metrics.relevant_ranks(np.zeros((2, 3)), np.zeros((2, 3), bool))
        )


@pytest.mark.parametrize("use", [metrics.rank, metrics.relevant_ranks])
def test_nan_scores_are_refused(use):
    right = () if use is metrics.rank else (np.array([[True, False]]),)
    with pytest.raises(ValueError, match="NaN"):
        use(np.array([[0.1, np.nan]]), *right)


def test_every_computed_metric_has_a_definition():
    for name in metrics.category_metrics((5, 100)):
        assert metrics.definition(name)
    assert "first 5 of" in metrics.definition("Acc@5")
    with pytest.raises(ValueError, match="unknown metric 'MRR'"):
        metrics.definition("MRR")
