"""Figures of masks and depth against scikit-learn, brute force and hand-made cases."""

import numpy as np
import pytest
from sklearn import metrics as sk

from sbir_jax.metrics import depth, segmentation


def test_confusion_and_iou_equal_scikit_learn():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, (3, 16, 20)).astype(np.uint8)
    found = np.where(
        rng.random(truth.shape) < 0.6, truth, rng.integers(0, 5, truth.shape)
    )
    table = sum(
        segmentation.confusion(t, f, 5) for t, f in zip(truth, found, strict=True)
    )
    np.testing.assert_array_equal(
        table, sk.confusion_matrix(truth.ravel(), found.ravel())
    )
    ious = sk.jaccard_score(truth.ravel(), found.ravel(), average=None)
    np.testing.assert_allclose(segmentation.class_ious(table), ious)
    figures = segmentation.class_figures(table)
    assert figures["mIoU"] == pytest.approx(ious.mean())
    accuracy = sk.accuracy_score(truth.ravel(), found.ravel())
    assert figures["pixel accuracy"] == pytest.approx(accuracy)


def test_ignored_pixels_and_absent_classes_do_not_count():
    truth = np.array([[0, 0, 255], [1, 1, 255]], np.uint8)
    found = np.array([[0, 1, 3], [1, 1, 2]])
    table = segmentation.confusion(truth, found, 4)
    np.testing.assert_array_equal(table[:2, :2], [[1, 1], [0, 2]])
    assert table.sum() == 4
    assert segmentation.class_figures(table)["mIoU"] == pytest.approx(
        (1 / 2 + 2 / 3) / 2
    )


def test_labels_beyond_the_classes_are_refused():
    with pytest.raises(ValueError, match="truth has labels 0 to 7"):
        segmentation.confusion(np.array([0, 7]), np.array([0, 0]), 4)
    with pytest.raises(ValueError, match="no pixel counts"):
        segmentation.class_figures(np.zeros((2, 2), int))


def test_overall_and_mean_iou_differ_and_cuts_count_the_border():
    # A large mask found by a tenth, a small one found whole, one of exactly a half.
    found = segmentation.referring_figures([(100, 1000), (10, 10), (5, 10), (0, 0)])
    assert found["oIoU"] == pytest.approx(115 / 1020)
    assert found["mIoU of expressions"] == pytest.approx((0.1 + 1 + 0.5 + 0) / 4)
    assert found["P@0.5"] == 0.5
    assert found["P@0.6"] == 0.25


def test_overlaps_equal_scikit_learn():
    rng = np.random.default_rng(1)
    truth, found = rng.random((2, 9, 7)) < 0.4
    both, either = segmentation.overlaps(truth, found)
    assert both / either == pytest.approx(
        sk.jaccard_score(truth.ravel(), found.ravel())
    )


def test_depth_figures_equal_scikit_learn_and_plain_loops():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.5, 9, (12, 10))
    truth[0, :5], truth[1, 0] = 0, 11  # not known, and beyond the range
    found = truth * rng.uniform(0.5, 2, truth.shape)
    row = depth.figures(truth, found, most=10.0)
    pairs = [
        (g, min(max(p, 1e-3), 10))
        for g, p in zip(truth.ravel(), found.ravel(), strict=True)
        if 1e-3 < g < 10
    ]
    g, p = np.array(pairs).T
    assert row["RMSE"] == pytest.approx(sk.root_mean_squared_error(g, p))
    assert row["AbsRel"] == pytest.approx(sk.mean_absolute_percentage_error(g, p))
    assert row["RMSElog"] == pytest.approx(
        sk.root_mean_squared_error(np.log(g), np.log(p))
    )
    assert row["log10"] == pytest.approx(
        sk.mean_absolute_error(np.log10(g), np.log10(p))
    )
    assert row["SqRel"] == pytest.approx(
        sum((a - b) ** 2 / a for a, b in pairs) / len(g)
    )
    assert row["SILog"] == pytest.approx(100 * np.std(np.log(p) - np.log(g)))
    for k in (1, 2, 3):
        near = sum(max(a / b, b / a) < 1.25**k for a, b in pairs)
        assert row[f"delta {k}"] == pytest.approx(near / len(pairs))


def test_silog_figure_forgives_a_common_factor():
    truth = np.random.default_rng(0).uniform(1, 4, (6, 6))
    row = depth.figures(truth, 1.5 * truth, most=10.0)
    assert row["SILog"] == pytest.approx(0, abs=1e-4)
    assert row["AbsRel"] == pytest.approx(0.5)


def test_depth_is_the_mean_over_pictures_and_crops():
    a, b = {"RMSE": 1.0}, {"RMSE": 3.0}
    assert depth.mean([a, None, b]) == {"RMSE": 2.0}
    with pytest.raises(ValueError, match="no picture has a pixel"):
        depth.mean([None])
    crop = depth.eigen_crop(480, 640)
    rows, columns = np.nonzero(crop)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (45, 470, 41, 600)
    truth = np.ones((480, 640))
    assert depth.figures(truth, truth + ~crop, 10.0, crop)["RMSE"] == 0
    assert depth.figures(np.zeros((4, 4)), np.ones((4, 4)), 10.0) is None


def test_directions_say_which_way_is_better():
    known = depth.metrics("m")
    assert known["RMSE"].unit == "m"
    assert known["RMSE"].improves(1.0, 2.0)
    assert known["delta 1"].improves(0.9, 0.8)
    assert segmentation.METRICS["mIoU"].improves(0.5, 0.4)
