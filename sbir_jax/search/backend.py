"""What finds nearest descriptors: one small protocol, and what all backends share."""

import functools
from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float16, Float32, Int
from tqdm.auto import tqdm

from sbir_jax.search.shards import Snapshot


@runtime_checkable
class Backend(Protocol):
    """Finds the nearest of many unit descriptors by cosine.

    A descriptor is known by its row, an integer that never changes its meaning.
    """

    def add(self, start: int, descriptors: Float16[np.ndarray, "n d"]) -> None:
        """Adds rows start, start + 1, ...; rows come in ascending order, once."""
        ...

    def remove(self, rows: Int[np.ndarray, " n"]) -> None:
        """These rows are never found again; rows that are gone already are no error."""
        ...

    def search(
        self, queries: Float32[np.ndarray, "q d"], k: int
    ) -> tuple[Float32[np.ndarray, "q j"], Int[np.ndarray, "q j"]]:
        """Scores, descending, and rows of the j = min(k, count()) nearest.

        Of equal scores the lower row comes first.
        """
        ...

    def count(self) -> int:
        """How many rows can be found."""
        ...

    def close(self) -> None:
        """Lets files and connections go."""
        ...


def fill(
    backend: Backend, snapshot: Snapshot, known: int = 0, label: str | None = None
) -> None:
    """Gives a backend that has the first `known` rows the rest of a snapshot.

    Args:
      label: of a progress bar, where this takes time.
    """
    start, total = 0, len(snapshot.alive) - known
    bar = tqdm(total=total, desc=label, unit="photo", disable=not (label and total))
    with bar:
        for array in snapshot.descriptors:
            fresh = max(known - start, 0)
            if fresh < len(array):
                backend.add(start + fresh, array[fresh:])
                bar.update(len(array) - fresh)
            start += len(array)
    backend.remove(np.flatnonzero(~snapshot.alive))


def best_first(
    scores: Float32[np.ndarray, "q k"], rows: Int[np.ndarray, "q k"]
) -> tuple[Float32[np.ndarray, "q k"], Int[np.ndarray, "q k"]]:
    """Sorted by score, descending, then by row."""
    order = np.lexsort((rows, -scores), axis=1)
    take = functools.partial(np.take_along_axis, indices=order, axis=1)
    return take(scores), take(rows)


def check_k(k: int) -> int:
    """Raises: ValueError for anything but a whole number from 1 on."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(f"k is {k!r}; give a whole number of photos, 1 or more")
    return int(k)


def check_descriptors(descriptors: Iterable, dim: int) -> Float32[np.ndarray, "q d"]:
    """float32 [q, dim]. Raises: ValueError for another shape."""
    array = np.asarray(descriptors, np.float32)
    if array.ndim != 2 or array.shape[1] != dim:
        raise ValueError(
            f"descriptors have shape {list(array.shape)}; this index takes [q, {dim}]"
        )
    return array
