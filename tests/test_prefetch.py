import threading

import pytest

from sbir_jax.runtime.prefetch import Waiting, one_in_flight, read_ahead


def test_reading_runs_ahead_in_order_and_no_further():
    begun = [threading.Event() for _ in range(10)]

    def read(i):
        begun[i].set()
        return 10 * i

    results = read_ahead(read, range(10))
    assert next(results) == 0
    # While the first is looked at, the next two are read without being asked for.
    assert begun[2].wait(10) and not begun[3].wait(0.1)
    assert list(results) == [10 * i for i in range(1, 10)]


def test_an_error_comes_where_the_result_would_have():
    def read(i):
        if i == 2:
            raise OSError("two cannot be read")
        return i

    results = read_ahead(read, range(5))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(OSError, match="two cannot"):
        next(results)


def test_a_result_is_fetched_when_the_next_is_under_way():
    log = []

    def start(i):
        log.append(f"start {i}")
        return lambda: log.append(f"fetch {i}") or i

    assert list(one_in_flight(map(start, range(3)))) == [0, 1, 2]
    assert log == ["start 0", "start 1", "fetch 0", "start 2", "fetch 1", "fetch 2"]
    assert list(one_in_flight([])) == []


@pytest.mark.parametrize("reading, working", [(9.0, 1.0), (0.25, 4.75)])
def test_waiting_is_the_time_blocked_on_input(reading, working):
    now = 100.0

    def tick(seconds):
        nonlocal now
        now += seconds

    def slow():
        for i in range(4):
            tick(reading)
            yield i

    waiting = Waiting(clock=lambda: now)
    assert waiting.share == 0.0
    for _ in range(2):  # one meter over several loops
        seen = []
        with waiting:
            for item in waiting(slow()):
                seen.append(item)
                tick(working)
            assert waiting.share == pytest.approx(reading / (reading + working))
        tick(1000.0)  # between the loops nobody waits
        assert seen == [0, 1, 2, 3]
    assert waiting.share == pytest.approx(reading / (reading + working))
