"""An index as it was opened at one moment, kept as long as somebody uses it."""

import collections
import contextlib
import functools
import hashlib
import os
import threading
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from jaxtyping import Float32

from sbir_jax.search.backend import Backend
from sbir_jax.search.shards import Snapshot

SAMPLE = 1000  # photos that tell how scores spread


class UnknownPhoto(KeyError):
    """No photo of this index has the id."""

    def __str__(self) -> str:
        return self.args[0]


class Opened:
    """A snapshot, its backend, and the ids of its photos.

    A search that began before a newer one took its place ends with what it began with:
    the backend is closed when the last user leaves.
    """

    def __init__(self, snapshot: Snapshot, backend: Backend):
        self.snapshot, self.backend = snapshot, backend
        self._prefixes = _prefixes(snapshot.table["hash"])
        self._users, self._retired = 0, False
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def used(self) -> Iterator["Opened"]:
        """Keeps the backend open for the block. Raises: Retired if it is too late."""
        with self._lock:
            if self._retired:
                raise Retired
            self._users += 1
        try:
            yield self
        finally:
            with self._lock:
                self._users -= 1
                last = self._retired and not self._users
            if last:
                self.backend.close()

    def retire(self) -> None:
        """Closes the backend, now or when its last user leaves."""
        with self._lock:
            last = not self._retired and not self._users
            self._retired = True
        if last:
            self.backend.close()

    def path(self, row: int) -> str:
        return self.snapshot.table["path"][row].as_py()

    def id(self, row: int) -> str:
        return photo_id(self.snapshot.table["hash"][row].as_py(), self.path(row))

    def content(self, row: int) -> str:
        """The hash of a photo's contents."""
        return self.snapshot.table["hash"][row].as_py()

    @functools.cached_property
    def sample(self) -> Float32[np.ndarray, "m d"]:
        """Descriptors of some photos, the same ones each time."""
        rows = np.flatnonzero(self.snapshot.alive)
        if len(rows) > SAMPLE:
            rows = np.sort(np.random.default_rng(0).choice(rows, SAMPLE, replace=False))
        found = [self.snapshot.descriptor(row) for row in rows]
        return np.array(found, np.float32).reshape(len(rows), self.snapshot.head.dim)

    @functools.cached_property
    def folders(self) -> dict[str, int]:
        """How many photos lie below each folder, for all that hold some; sorted.

        Of "/a/b/c.jpg" and "/a/d/e.jpg" the first is "/a", the folder of all.
        """
        paths = self.snapshot.table["path"].filter(pa.array(self.snapshot.alive))
        own = collections.Counter(os.path.dirname(p.as_py()) for p in paths)
        if not own:
            return {}
        root = os.path.commonpath(own) if len({"://" in o for o in own}) == 1 else ""
        below: collections.Counter[str] = collections.Counter()
        for folder, count in own.items():
            while True:
                below[folder] += count
                if folder == root or len(folder) <= len(root):
                    break
                folder = os.path.dirname(folder)
        return dict(sorted(below.items()))

    def row(self, wanted: str, where: str) -> int:
        """The row of a photo's id. Raises: UnknownPhoto, naming the index `where`."""
        first = self._prefixes == wanted[:8].encode()
        for row in np.flatnonzero(first & self.snapshot.alive).tolist():
            if self.id(row) == wanted:
                return row
        raise UnknownPhoto(
            f"no photo of {where} has the id {wanted!r}; ids come from the hits of a "
            "search"
        )


class Retired(Exception):
    """A newer state of the index took the place of this one."""


def photo_id(content_hash: str, path: str) -> str:
    """Short and safe in a URL: 8 hex digits of the contents, 8 of the path.

    Copies of a photo share the first half; a photo keeps its id as long as it stays
    where it is and is not edited.
    """
    place = hashlib.blake2b(path.encode(), digest_size=4).hexdigest()
    return content_hash[:8] + place


def _prefixes(hashes: pa.ChunkedArray) -> np.ndarray:
    """The first 8 of 32 digits, without a Python object for each of a million rows."""
    parts = [np.zeros(0, "S8")]
    for chunk in hashes.chunks:
        digits = chunk.cast(pa.binary()).cast(pa.binary(32)).buffers()[1]
        parts.append(np.frombuffer(digits, "S32", count=len(chunk)).astype("S8"))
    return np.concatenate(parts)
