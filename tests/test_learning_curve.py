import numpy as np
import pytest

from tools import learning_curve
from tools.learning_curve import figure, nearest, ten_times


def test_what_is_missing_falls_as_a_power_of_images():
    """Half of it at ten times the images, so half again at ten times more."""
    assert ten_times([100, 1000], [0.2, 0.6]) == pytest.approx(0.8)
    assert ten_times([10, 100, 1000], [0.5, 0.5, 0.5]) == pytest.approx(0.5)


def test_drawings_that_find_another_drawing_of_their_thing():
    """Two categories of two things, two drawings each: of the second one three drawings
    are alike, and which of two alike comes first decides."""
    one, two = np.eye(2)
    rows = np.stack([one, one, two, two, one, two, two, two])
    things = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    assert nearest(rows, labels, things) == pytest.approx((4 + 2) / 8)


def test_the_primary_figure_of_a_row():
    results = [{"name": "hog", "metrics": {"mAP@all": 0.5, "P@10": 0.1}}]
    assert figure({"results": results, "primary": "mAP@all"}, "hog") == 0.5


def test_runs_are_as_short_as_can_be_and_ask_what_they_are_called():
    asked = learning_curve.setup("by instance", "toybox", "")
    assert asked.task == "fine_grained" and asked.train.steps == 1
    novel = learning_curve.setup("novel classes", "toybox", "").data["unseen"]
    assert len(novel.split(",")) == 8
    people = learning_curve.setup("Sketchy", "toybox", "DIR")
    assert people.data["root"] == "DIR" and people.score.prepare
