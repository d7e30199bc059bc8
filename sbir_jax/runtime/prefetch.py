"""Host and device at the same time: reading ahead, one batch in flight, who waited."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from sbir_jax.data import images

T = TypeVar("T")


def read_ahead(read: Callable[[Any], T], parts: Iterable) -> Iterator[T]:
    """`map(read, parts)` in order, on a thread that is two results ahead.

    Raises: what `read` raises, where its result would have been.
    """
    # `read` decodes on threads of its own; this one only keeps it busy.
    for found in images.threaded(read, parts, threads=1, ahead=3):
        if isinstance(found, BaseException):
            raise found
        yield found


def one_in_flight(started: Iterable[Callable[[], T]]) -> Iterator[T]:
    """The results in order, each fetched when the next one has been started.

    So the device has work while the host looks at a result, and never more than two
    batches are on it.

    Args:
      started: calling one waits for its result; to get the next starts that one.
    """
    before = None
    for fetch in started:
        if before is not None:
            yield before()
        before = fetch
    if before is not None:
        yield before()


class Waiting:
    """Which share of its time a loop was blocked on its input.

    The device idled at most this share: what was started before may still have run.

        with waiting:
            for batch in waiting(batches):
                ...
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self._clock = clock
        self._begun: float | None = None
        self._waited = self._ended = 0.0  # seconds: blocked, and in loops that are over

    def __enter__(self) -> "Waiting":
        self._begun = self._clock()
        return self

    def __exit__(self, *error) -> None:
        self._ended, self._begun = self._seconds(), None

    def __call__(self, items: Iterable[T]) -> Iterator[T]:
        """Hands `items` on, and counts how long each was waited for."""
        asked = self._clock()
        for item in items:
            self._waited += self._clock() - asked
            yield item
            asked = self._clock()

    def _seconds(self) -> float:
        now = 0.0 if self._begun is None else self._clock() - self._begun
        return self._ended + now

    @property
    def share(self) -> float:
        """From 0 to 1, over all loops so far; 0 before the first."""
        return self._waited / max(self._seconds(), 1e-9)
