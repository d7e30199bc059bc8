"""How far the model for words is: the first ones load it, which takes a while."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any


class FirstWords:
    """Watches the first search with words, for pages that wait for it."""

    def __init__(self):
        self._begin: float | None = None
        self._ready = False

    @contextlib.contextmanager
    def asked(self) -> Iterator[None]:
        """Around a search with words."""
        if self._begin is None:
            self._begin = time.monotonic()
        try:
            yield
        except BaseException:
            self._begin = None
            raise
        self._ready = True

    def stage(self, embedder: Any) -> tuple[str, float]:
        """ "" before any words, then "loading", "compiling", "ready"; and seconds.

        Args:
          embedder: tells by `words_loaded` that weights are in memory, if it can.
        """
        if self._begin is None:
            return "", 0.0
        seconds = time.monotonic() - self._begin
        if self._ready:
            return "ready", seconds
        loaded = getattr(embedder, "words_loaded", False)
        return ("compiling" if loaded else "loading"), seconds
