"""The time of a scene beside that of a single thing."""

import pytest

from tools import bench_scenes


@pytest.mark.slow
def test_both_are_timed_in_turns():
    found = bench_scenes.measure(scenes=3, runs=2, size=16)
    assert 3 <= found["things"] <= 12 and len(found["ratios"]) == 2
    assert found["scene_ms"] > 0 and found["single_ms"] > 0


def test_time_is_for_each_thing():
    def busy():
        sum(i * i for i in range(300_000))

    one, four = (bench_scenes.milliseconds(busy, things) for things in (1, 4))
    assert 2 < one / four < 8
