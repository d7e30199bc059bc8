import numpy as np
import pytest
import pytrec_eval
from sklearn.metrics import average_precision_score, precision_recall_curve

from sbir_jax.metrics import ranking

CUTOFFS = (1, 5, 20, 60, 200)


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


@pytest.fixture(scope="module")
def rankings():
    """3,000 queries, from one photo to 90, from one right to all, ties everywhere.

    Each is a ranked list of right and wrong, by Python's own sort; and, by name, what
    every metric here makes of its scores.
    """
    lists, found = [], {}
    for seed in range(60):
        g = 1 + seed * 3 // 2
        scores, right = problem(seed, q=200, g=g, classes=1 + seed % 9)
        scores, right = scores[:50], right[:50]
        place = np.argsort(ranking.tie_order(g)).tolist()
        for row, line in zip(scores.tolist(), right, strict=True):
            order = sorted(range(g), key=lambda i: (-row[i], place[i]))
            lists.append(line[order])
        ranks = ranking.relevant_ranks(scores, right)
        table = ranking.category_metrics(CUTOFFS)
        table |= {f"Acc@{k}": lambda r, k=k: ranking.accuracy_at(r, k) for k in CUTOFFS}
        for name, metric in table.items():
            found.setdefault(name, []).append(metric(ranks))
    found = {name: np.concatenate(parts) for name, parts in found.items()}
    assert len(lists) == 3000 == len(found["mAP@all"])
    return lists, found


def test_every_query_has_the_figures_of_trec_eval(rankings):
    lists, found = rankings
    qrels, run = {}, {}
    for q, line in enumerate(lists):
        qrels[str(q)] = {str(i): int(x) for i, x in enumerate(line)}
        run[str(q)] = {str(i): float(len(line) - i) for i in range(len(line))}
    cuts = ",".join(map(str, CUTOFFS))
    asked = {"map", "Rprec"} | {f"{m}.{cuts}" for m in ("map_cut", "P", "success")}
    said = pytrec_eval.RelevanceEvaluator(qrels, asked).evaluate(run)
    theirs = {m: np.array([said[str(q)][m] for q in range(3000)]) for m in said["0"]}
    total = np.array([line.sum() for line in lists])
    np.testing.assert_allclose(found["mAP@all"], theirs["map"], atol=1e-9)
    for k in CUTOFFS:
        cut, exact = theirs[f"map_cut_{k}"], theirs[f"P_{k}"]
        for name, value in {
            f"mAP@{k} (over R)": cut,
            f"mAP@{k}": cut * total / np.minimum(k, total),
            f"P@{k}": exact,
            f"P@{k} (capped)": np.where(total <= k, theirs["Rprec"], exact),
            f"Acc@{k}": theirs[f"success_{k}"],
        }.items():
            np.testing.assert_allclose(found[name], value, atol=1e-9, err_msg=name)


def test_every_other_query_has_the_figures_of_scikit_learn(rankings):
    """Also what SEM-PCYC makes of a cut list, and SAKE's envelope, as VOC has it."""
    lists, found = rankings

    def both(line):
        """Average precision, plain and with the envelope; 0 where nothing is right."""
        if not line.any():
            return 0.0, 0.0
        scores = -np.arange(len(line), dtype=float)
        precision, recall, _ = precision_recall_curve(line, scores)
        best = np.maximum.accumulate(precision)  # from the end of the list up
        plain = average_precision_score(line, scores)
        return plain, float(np.sum(-np.diff(recall) * best[:-1]))

    for q in range(0, len(lists), 2):
        line = lists[q]
        plain, best = both(line)
        assert found["mAP@all"][q] == pytest.approx(plain, abs=1e-9)
        assert found["mAP@all (envelope)"][q] == pytest.approx(best, abs=1e-9)
        k = CUTOFFS[q % 5]
        plain, best = both(line[:k])
        share = line[:k].sum() / min(k, line.sum())
        assert found[f"mAP@{k} (over hits)"][q] == pytest.approx(plain, abs=1e-9)
        assert found[f"mAP@{k}"][q] == pytest.approx(plain * share, abs=1e-9)
        assert found[f"mAP@{k} (envelope)"][q] == pytest.approx(best * share, abs=1e-9)


def test_known_inequalities(rankings):
    lists, found = rankings
    total = np.array([line.sum() for line in lists])
    assert all(np.all((v >= 0) & (v <= 1 + 1e-12)) for v in found.values())
    assert np.all(found["mAP@all (envelope)"] >= found["mAP@all"])
    for k in CUTOFFS:
        strict = found[f"mAP@{k}"]
        assert np.all(found[f"mAP@{k} (envelope)"] >= strict)
        assert np.all(found[f"mAP@{k} (over hits)"] >= strict - 1e-12)
        assert np.all(found[f"mAP@{k} (over R)"] <= strict + 1e-12)
        many = total >= k
        assert np.all(strict[many] <= found[f"P@{k}"][many] + 1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_ranks_are_those_of_the_order(seed):
    scores, right = problem(seed)
    if seed % 2:  # no ties, or few
        scores += np.random.default_rng(seed).normal(size=scores.shape).round(1 + seed)
    ranked = np.take_along_axis(right, ranking.rank(scores), axis=1)
    np.testing.assert_array_equal(
        ranking.relevant_ranks(scores, right), ranks_of(ranked)
    )


def test_right_photos_that_tie_need_no_order():
    # Two copies of one right photo, and a wrong one that ties with nothing.
    scores = np.array([[0.5, 0.9, 0.5], [0.5, 0.1, 0.5]])
    right = np.array([[True, False, True], [True, False, True]])
    np.testing.assert_array_equal(
        ranking.relevant_ranks(scores, right), [[2, 3], [1, 2]]
    )


@pytest.mark.parametrize("k", [1, 5, 20, 60, 200])
@pytest.mark.parametrize("seed", range(5))
def test_every_metric_equals_its_formula_read_aloud(k, seed):
    scores, right = problem(seed, q=40, classes=2 + 5 * seed)
    found = {
        name: metric(ranking.relevant_ranks(scores, right))
        for name, metric in ranking.category_metrics((k,)).items()
    }
    ranked = np.take_along_axis(right, ranking.rank(scores), axis=1)
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
    ap = ranking.average_precision
    assert ap(ranks)[0] == pytest.approx((1 + 2 / 4 + 3 / 5 + 4 / 9) / 4)
    assert ap(ranks, 4)[0] == pytest.approx(1.5 / 4)
    assert ap(ranks, 2)[0] == pytest.approx(1 / 2)
    assert ap(ranks, 4, "R")[0] == pytest.approx(1.5 / 4)
    assert ap(ranks, 4, "hits")[0] == pytest.approx(1.5 / 2)
    # Envelope: at rank 4 the best precision still to come is 3 / 5.
    assert ap(ranks, envelope=True)[0] == pytest.approx((1 + 1.2 + 4 / 9) / 4)
    assert ranking.precision_at(ranks, 5)[0] == pytest.approx(3 / 5)
    assert ranking.precision_at(ranks, 5, capped=True)[0] == pytest.approx(2 / 4)
    assert ranking.precision_at(ranks, 10)[0] == pytest.approx(4 / 10)


def test_equal_scores_stand_in_one_random_order():
    order = ranking.rank(np.array([[0.5, 0.9, 0.5, 0.5]]))[0]
    assert order[0] == 1 and sorted(order[1:]) == [0, 2, 3]
    one, two = ranking.rank(np.zeros((2, 200)))
    np.testing.assert_array_equal(one, two)
    assert np.abs(np.corrcoef(one, np.arange(200))[0, 1]) < 0.2


@pytest.mark.parametrize("k", [1, 3, 50])
def test_all_right_and_none_right_in_reach(k):
    whole = ranking.relevant_ranks(np.zeros((1, 4)), np.ones((1, 4), bool))
    for name, metric in ranking.category_metrics((k,)).items():
        few = {f"P@{k}": min(k, 4) / k, f"mAP@{k} (over R)": min(k, 4) / 4}
        assert metric(whole)[0] == few.get(name, 1), name
    last = np.array([[101.0, 102.0]])  # the first hundred are wrong
    for name, metric in ranking.category_metrics((k,)).items():
        zero = "@all" not in name
        assert (metric(last)[0] == 0) == zero, name
    assert ranking.average_precision(last)[0] == pytest.approx((1 / 101 + 2 / 102) / 2)


def test_accuracy_by_hand():
    ranks = np.array([[2.0, 3.0], [5.0, np.inf]])
    np.testing.assert_array_equal(ranking.accuracy_at(ranks, 1), [0, 0])
    np.testing.assert_array_equal(ranking.accuracy_at(ranks, 2), [1, 0])


def test_queries_with_nothing_to_find_are_refused():
    with pytest.raises(ValueError, match="1 queries have no relevant photo"):
        ranking.average_precision(np.array([[2.0], [np.inf]]))
    # None has any: no column at all.
    with pytest.raises(ValueError, match="2 queries have no relevant photo"):
        ranking.average_precision(
            ranking.relevant_ranks(np.zeros((2, 3)), np.zeros((2, 3), bool))
        )


@pytest.mark.parametrize("use", [ranking.rank, ranking.relevant_ranks])
def test_nan_scores_are_refused(use):
    right = () if use is ranking.rank else (np.array([[True, False]]),)
    with pytest.raises(ValueError, match="NaN"):
        use(np.array([[0.1, np.nan]]), *right)


def test_every_computed_metric_has_a_definition():
    for name in ranking.category_metrics((5, 100)):
        assert ranking.metric(name).definition
    assert "first 5 of" in ranking.metric("Acc@5").definition
    with pytest.raises(ValueError, match="unknown metric 'MRR'"):
        ranking.metric("MRR")


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_order_of_any_scores(kind):
    """Both zeros are one score; values of every size, with neighbours, and infinite."""
    rng = np.random.default_rng(3)
    scores = rng.choice([-1, 1], (4, 500)) * 10.0 ** rng.integers(-5, 5, (4, 500))
    scores[:, ::7] = rng.choice([0.0, -0.0, np.inf, -np.inf], (4, 72))
    scores = scores.astype(kind)
    scores[:, 1::2] = np.nextafter(scores[:, ::2], kind(0))
    place = np.argsort(ranking.tie_order(500))
    expected = [np.lexsort((place, -row.astype(np.float64))) for row in scores]
    np.testing.assert_array_equal(ranking.rank(scores), expected)


METRICS_AT = (
    ranking.average_precision,
    ranking.precision_at,
    ranking.accuracy_at,
)


def test_what_cannot_be_scored_says_why():
    none, one = np.zeros((2, 0)), np.array([[1.0], [np.inf]])
    empty = "2 queries and no photo: the gallery is empty"
    with pytest.raises(ValueError, match=empty):
        ranking.rank(none)
    with pytest.raises(ValueError, match=empty):
        ranking.relevant_ranks(none, none.astype(bool))
    found = one[:1]
    for k in (0, -1):
        with pytest.raises(ValueError, match=f"k is {k}; give a whole number from 1"):
            ranking.rank(np.zeros((1, 3)), k)
        for metric in METRICS_AT:
            with pytest.raises(ValueError, match=f"k is {k}; give a whole number"):
                metric(found, k)
    for metric in METRICS_AT:
        with pytest.raises(ValueError, match="1 queries have no relevant photo"):
            metric(one, 1)
