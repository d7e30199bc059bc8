"""Searching an index: drawings, words or both in, photos out.

with Index.open("photos.index") as index:
    for hit in index.search("cup.png", text="a red cup", k=5):
        print(hit.score, hit.path)
"""

import functools
import hashlib
import os
import pathlib
import threading
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int

from sbir_jax import text_queries
from sbir_jax.search import shards
from sbir_jax.search.backends import Backend, check_descriptors, check_k, open_backend

WORDS = 64  # texts whose descriptors are remembered


class Hit(NamedTuple):
    """A photo that was found. `score` is the cosine, from -1 to 1, larger is nearer."""

    id: str  # 16 hex digits, see `photo_id`
    path: str
    score: float


class UnknownPhoto(KeyError):
    """No photo of this index has the id."""

    def __str__(self) -> str:
        return self.args[0]


@runtime_checkable
class Describes(Protocol):
    """What an index needs of an embedder; `sbir_jax.embedder.Embedder` is one."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def dim(self) -> int: ...

    def embed(self, images: Iterable, modality: str) -> np.ndarray: ...

    def embed_words(self, texts: Sequence[str]) -> np.ndarray: ...


class _State(NamedTuple):
    snapshot: shards.Snapshot
    backend: Backend
    prefixes: np.ndarray  # the first 8 hex digits of each row's content hash, S8


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


class Index:
    """An index that is open for searching; a context manager.

    Many threads may search at once. A writer may add photos meanwhile: `reload` shows
    them.
    """

    def __init__(self, folder: pathlib.Path, embedder: Describes | None, backend: str):
        self.folder, self._backend = folder, backend
        self._lock = threading.Lock()
        self._state: _State | None = self._read(None)
        if embedder is not None:
            self.head.check(embedder.fingerprint, str(folder))
        self._embedder = embedder
        # While one draws, the words stay as they are.
        self._words = functools.lru_cache(WORDS)(
            lambda text: self.embedder.embed_words([text])
        )

    @classmethod
    def open(
        cls,
        path: str | os.PathLike,
        embedder: Describes | None = None,
        backend: str = "exact",
    ) -> "Index":
        """Opens an index; descriptors stay on disk, memory-mapped.

        Args:
          path: the folder that `sbir index` made.
          embedder: for drawings; made again as index.json says, at the first one, if
            it is None.
          backend: "exact", "faiss", or "milvus:URI"; see `backends.open_backend`.
        Raises: FileNotFoundError without an index there; ValueError for an index that
          is damaged, and for an embedder other than the one that made it, naming both
          fingerprints; ImportError naming the extra that a backend needs.
        """
        return cls(pathlib.Path(path), embedder, backend)

    @property
    def head(self) -> shards.Head:
        return self._open_state.snapshot.head

    @property
    def embedder(self) -> Describes:
        """The embedder that made this index, loaded when it is first asked for."""
        with self._lock:
            if self._embedder is None:
                from sbir_jax.search.model import make_embedder

                made = make_embedder(self.head.embedder, str(self.folder))
                self.head.check(made.fingerprint, str(self.folder))
                self._embedder = made
            return self._embedder

    def search(
        self,
        sketch: Any = None,
        text: str | None = None,
        k: int = 20,
        min_score: float | None = None,
        text_share: float = text_queries.SHARE,
    ) -> list[Hit]:
        """The k photos nearest to a drawing, to words, or to both, best first.

        Args:
          sketch: a path, the bytes of an image file, a PIL image, or a uint8 array.
          text: what the photos show: "a red cup". See `words`.
          min_score: leaves out photos with a lower score.
          text_share: of the words beside a drawing, 0 to 1.
        Raises: BadImage for a drawing that cannot be read; ValueError for neither a
          drawing nor words, for a k below 1 and for a share outside of 0 to 1.
        """
        k, share = check_k(k), text_queries.check_share(text_share)
        text = (text or "").strip()
        if sketch is None and not text:
            raise ValueError("nothing to search for; give a sketch, text, or both")
        if sketch is None:
            found = self._words(text)
        else:
            found = self.embedder.embed([sketch], "sketch")
            if text and share:
                found = text_queries.mix(found, self._words(text), share)
        return self._hits(found, k, min_score)

    def similar(self, photo_id: str, k: int = 20) -> list[Hit]:
        """The k photos nearest to one of the index, itself left out.

        Raises: UnknownPhoto; ValueError for a k below 1.
        """
        k, state = check_k(k), self._open_state
        row = self._row(state, photo_id)
        own = state.snapshot.descriptor(row).astype(np.float32)
        scores, rows = state.backend.search(own[None], k + 1)
        others = rows[0] != row
        return self._named(state, scores[0][others][:k], rows[0][others][:k])

    def search_descriptors(
        self, descriptors: Iterable, k: int
    ) -> tuple[Float32[np.ndarray, "q j"], Int[np.ndarray, "q j"]]:
        """Scores and rows of the j = min(k, photos) nearest to each descriptor.

        Args:
          descriptors: [q, dim] of unit length, as an embedder makes them.
        Returns: cosines, descending, equal ones by row; `path` has a row's path.
        Raises: ValueError for another shape, or a k below 1.
        """
        state = self._open_state
        queries = check_descriptors(descriptors, state.snapshot.head.dim)
        return state.backend.search(queries, check_k(k))

    def path(self, row: int | np.integer) -> str:
        """Where the photo of a row lies."""
        return self._open_state.snapshot.table["path"][int(row)].as_py()

    def photo(self, photo_id: str) -> str:
        """The path of the photo with this id. Raises: UnknownPhoto."""
        state = self._open_state
        return self._path(state, self._row(state, photo_id))

    def info(self) -> dict[str, Any]:
        """What the index holds, in plain values."""
        snapshot = self._open_state.snapshot
        return {
            "path": str(self.folder),
            "photos": len(self),
            "dim": snapshot.head.dim,
            "fingerprint": snapshot.head.fingerprint,
            "embedder": snapshot.head.embedder,
            "backend": self._backend,
            "shards": len(snapshot.shards),
            "removed_rows": len(snapshot.alive) - len(self),
            "skipped": len(shards.read_skipped(self.folder)),
            "descriptor_bytes": sum(a.nbytes for a in snapshot.descriptors),
        }

    def __len__(self) -> int:
        return int(np.sum(self._open_state.snapshot.alive))

    def reload(self) -> bool:
        """Takes up what was added or removed on disk since; whether there was any."""
        with self._lock:
            before = self._open_state
            after = self._read(before)
            self._state = after
        return after is not before

    def close(self) -> None:
        """Lets the files go; the index cannot be used any more."""
        if self._state is not None:
            self._state.backend.close()
            self._state = None

    def __enter__(self) -> "Index":
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.close()

    @property
    def _open_state(self) -> _State:
        if self._state is None:
            raise ValueError(f"{self.folder} was closed; open it again")
        return self._state

    def _read(self, before: _State | None) -> _State:
        snapshot = shards.read(self.folder, before.snapshot if before else None)
        if before is not None and snapshot is before.snapshot:
            return before
        if before is not None and snapshot.head != before.snapshot.head:
            raise ValueError(
                f"{self.folder} was made anew meanwhile; close it and open it again"
            )
        backend = open_backend(self._backend, self.folder, snapshot)
        return _State(snapshot, backend, _prefixes(snapshot.table["hash"]))

    def _hits(
        self, descriptors: np.ndarray, k: int, min_score: float | None
    ) -> list[Hit]:
        state = self._open_state
        scores, rows = state.backend.search(descriptors, k)
        hits = self._named(state, scores[0], rows[0])
        if min_score is None:
            return hits
        return [hit for hit in hits if hit.score >= min_score]

    def _named(self, state: _State, scores: np.ndarray, rows: np.ndarray) -> list[Hit]:
        hashes = state.snapshot.table["hash"]
        hits = []
        for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
            path = self._path(state, row)
            hits.append(Hit(photo_id(hashes[row].as_py(), path), path, score))
        return hits

    def _row(self, state: _State, wanted: str) -> int:
        alike = np.flatnonzero(
            (state.prefixes == wanted[:8].encode()) & state.snapshot.alive
        )
        hashes = state.snapshot.table["hash"]
        for row in alike.tolist():
            path = self._path(state, row)
            if photo_id(hashes[row].as_py(), path) == wanted:
                return row
        raise UnknownPhoto(
            f"no photo of {self.folder} has the id {wanted!r}; ids come from the hits "
            "of a search"
        )

    def _path(self, state: _State, row: int) -> str:
        return state.snapshot.table["path"][row].as_py()
