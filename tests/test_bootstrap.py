"""The bootstrap over groups, against SciPy's and against drawing by hand."""

import numpy as np
import pytest
import scipy.stats

from sbir_jax.metrics import bootstrap


def test_groups_of_one_are_the_plain_bootstrap():
    values = np.random.default_rng(0).normal(2.0, 1.0, 60)
    found = bootstrap.interval(values, np.arange(60), draws=20_000)
    expected = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=1
    ).confidence_interval
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_whole_groups_are_drawn():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(8), rng.integers(1, 9, 8))
    values = rng.normal(groups, 0.1)
    members = [values[groups == name] for name in range(8)]
    means = [
        np.concatenate([members[i] for i in rng.integers(8, size=8)]).mean()
        for _ in range(20_000)
    ]
    found = bootstrap.interval(values, groups, draws=20_000)
    np.testing.assert_allclose(found, np.quantile(means, [0.025, 0.975]), atol=0.08)
    alone = bootstrap.interval(values, np.arange(len(values)))
    assert np.ptp(found) > 1.5 * np.ptp(alone)  # queries of a class are alike


def test_level_widens():
    values, groups = np.arange(12.0), np.arange(12) // 2
    narrow = bootstrap.interval(values, groups, level=0.5)
    wide = bootstrap.interval(values, groups, level=0.99)
    assert wide[0] < narrow[0] < values.mean() < narrow[1] < wide[1]
    assert bootstrap.interval(values, groups) == bootstrap.interval(values, groups)


@pytest.mark.parametrize(
    ("values", "groups", "level", "said"),
    [
        ([], [], 0.95, "0 values"),
        ([1.0], [1, 2], 0.95, "1 values and 2 groups"),
        ([1.0, 2.0], ["a", "a"], 0.95, "one group"),
        ([1.0, 2.0], [0, 1], 1.0, "level is 1.0"),
    ],
)
def test_what_cannot_be(values, groups, level, said):
    with pytest.raises(ValueError, match=said):
        bootstrap.interval(np.array(values, float), np.array(groups), level=level)
