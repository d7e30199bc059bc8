"""Approximate search with faiss: a graph of near neighbours (HNSW) over the shards.

The graph is kept in INDEX/faiss and filled up when the index has grown. It holds the
same float16 values as the shards, in memory, so scores are those of the exact search
and only some neighbours may be missed. Removed rows stay in the graph, unseen.

Source: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search
using Hierarchical Navigable Small World graphs", 2016.
"""

import functools
import importlib
import os
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Bool, Float16, Float32, Int

from sbir_jax.runtime import digests
from sbir_jax.search import integrity
from sbir_jax.search.backend import best_first, fill
from sbir_jax.search.shards import Snapshot

# Much of its Python face is put on at run time, where type checkers do not see it.
faiss: Any = importlib.import_module("faiss")

# Neighbours of a node, and candidates looked at when adding and, at least, searching.
LINKS, ADD_CANDIDATES, SEARCH_CANDIDATES = 32, 100, 256
LAYOUT = "hnsw-v1"


class Hnsw:
    """A backend; see `backend.Backend`."""

    def __init__(self, dim: int):
        kind = faiss.ScalarQuantizer.QT_fp16
        inner = faiss.METRIC_INNER_PRODUCT
        self.graph = faiss.IndexHNSWSQ(dim, kind, LINKS, inner)
        self.graph.hnsw.efConstruction = ADD_CANDIDATES
        self._removed: Bool[np.ndarray, " n"] = np.zeros(0, bool)

    @classmethod
    def load(cls, path: pathlib.Path, dim: int) -> "Hnsw":
        """Raises: RuntimeError for a file that faiss cannot read."""
        made = cls(dim)
        made.graph = faiss.read_index(str(path))
        made._removed = np.zeros(made.graph.ntotal, bool)
        return made

    def save(self, path: pathlib.Path) -> None:
        """Writes aside and renames; its checksum is in a file beside it."""
        path.parent.mkdir(exist_ok=True)
        aside = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            faiss.write_index(self.graph, str(aside))
            wanted = digests.file_digest(aside)
            os.replace(aside, path)
            integrity.replace(_sum(path), lambda file: file.write(wanted.encode()))
        finally:
            aside.unlink(missing_ok=True)

    def add(self, start: int, descriptors: Float16[np.ndarray, "n d"]) -> None:
        if start != self.graph.ntotal:
            raise ValueError(
                f"rows {start}... after {self.graph.ntotal} rows; add them in order"
            )
        self.graph.add(np.asarray(descriptors, np.float32))
        self._removed = np.append(self._removed, np.zeros(len(descriptors), bool))

    def remove(self, rows: Int[np.ndarray, " n"]) -> None:
        removed = self._removed.copy()  # searches on other threads go on with theirs
        removed[rows] = True
        self._removed = removed

    def count(self) -> int:
        return int(np.sum(~self._removed))

    def close(self) -> None:
        self.graph.reset()
        self._removed = np.zeros(0, bool)

    def search(
        self, queries: Float32[np.ndarray, "q d"], k: int
    ) -> tuple[Float32[np.ndarray, "q j"], Int[np.ndarray, "q j"]]:
        removed = self._removed
        found = min(k, int(np.sum(~removed)))
        if not found or not len(queries):
            shape = (len(queries), found)
            return np.zeros(shape, np.float32), np.zeros(shape, np.int64)
        queries = np.ascontiguousarray(queries)
        bits = np.packbits(~removed, bitorder="little")
        alive = faiss.IDSelectorBitmap(bits)
        candidates = max(SEARCH_CANDIDATES, 2 * found)
        params = faiss.SearchParametersHNSW(sel=alive, efSearch=candidates)
        scores, rows = self.graph.search(queries, found, params=params)
        # Parts of the graph can be out of reach; then all of it is looked at.
        short = np.flatnonzero((rows < 0).any(axis=1))
        if len(short):
            params = faiss.SearchParameters(sel=alive)
            again = self.graph.storage.search(queries[short], found, params=params)
            scores[short], rows[short] = again
        return best_first(scores, rows)


def open_faiss(folder: pathlib.Path, snapshot: Snapshot) -> Hnsw:
    """The graph over an index, made or filled up as far as the shards go."""
    head = snapshot.head
    path = pathlib.Path(folder) / "faiss" / f"{LAYOUT}-{head.id}"
    rows = len(snapshot.alive)
    backend = Hnsw(head.dim)
    if path.exists():
        try:
            checked = integrity.Checked(pathlib.Path(folder))
            checked.check(path, functools.partial(_verify, path))
            backend = Hnsw.load(path, head.dim)
            checked.save()
        except (RuntimeError, OSError, ValueError):
            pass  # damaged, or from before there were checksums: made again below
        if backend.graph.ntotal > rows:  # of an index that lost shards
            backend = Hnsw(head.dim)
    known = backend.graph.ntotal
    fill(backend, snapshot, known, label="faiss")
    if known < rows and os.access(folder, os.W_OK):
        backend.save(path)
    return backend


def _sum(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(f"{path.name}.sum")


def _verify(path: pathlib.Path) -> None:
    """Raises: ValueError for a graph that is not the one that was written."""
    if _sum(path).read_text() != digests.file_digest(path):
        raise ValueError(f"{path} is not what was written")
