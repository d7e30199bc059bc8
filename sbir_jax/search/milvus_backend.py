"""Approximate search on a Milvus server or cluster, by address; the same verbs.

The vectors are copied from the shards into a collection of the index's own, which can
be dropped and filled again at any time. A local .db file starts Milvus Lite in this
process, to try it: there the search is exact and slow past 100,000 photos.
"""

from typing import Any

import numpy as np
from jaxtyping import Float16, Float32, Int
from pymilvus import DataType, MilvusClient  # pyright: ignore[reportMissingImports]

from sbir_jax.search.backend import best_first, fill
from sbir_jax.search.shards import Snapshot

# A server takes 64 MB and 16,384 results a call.
INSERT_BYTES, MAX_RESULTS = 16 << 20, 16_384
LINKS, ADD_CANDIDATES, SEARCH_CANDIDATES = 32, 100, 256


class Milvus:
    """A backend; see `backend.Backend`. Rows are the primary keys of a collection."""

    def __init__(self, address: str, collection: str, dim: int):
        """Connects, and makes the collection where there is none.

        Args:
          address: http://host:19530, or a file name that ends in .db.
        Raises: OSError naming an address that does not answer.
        """
        self.name, self.dim = collection, dim
        self.lite = address.endswith(".db")
        try:
            self.client = MilvusClient(address)
            there = self.client.has_collection(collection)
        except Exception as error:  # of a kind of its own, not derived from OSError
            raise OSError(f"no Milvus at {address}: {error}") from error
        if not there:
            self._create()
        self.client.load_collection(collection)

    def _create(self) -> None:
        schema = MilvusClient.create_schema(auto_id=False)
        schema.add_field("row", DataType.INT64, is_primary=True)
        schema.add_field("descriptor", DataType.FLOAT_VECTOR, dim=self.dim)
        index = MilvusClient.prepare_index_params()
        options: dict[str, Any] = {"index_type": "FLAT"}
        if not self.lite:
            params = {"M": LINKS, "efConstruction": ADD_CANDIDATES}
            options = {"index_type": "HNSW", "params": params}
        index.add_index("descriptor", metric_type="IP", **options)
        self.client.create_collection(
            self.name,
            schema=schema,
            index_params=index,
            # A search sees everything that was added before it.
            consistency_level="Strong",
        )

    def rows(self) -> int:
        """One more than the highest row that was ever added and is there still."""
        # Found by halving: the client has no maximum.
        low, high = 0, 1
        while self._any_from(high):
            low, high = high, 2 * high
        while low < high:
            middle = (low + high) // 2
            if self._any_from(middle):
                low = middle + 1
            else:
                high = middle
        return low

    def _any_from(self, row: int) -> bool:
        found = self.client.query(
            self.name, filter=f"row >= {row}", output_fields=["row"], limit=1
        )
        return bool(found)

    def add(self, start: int, descriptors: Float16[np.ndarray, "n d"]) -> None:
        step = max(1, INSERT_BYTES // (4 * self.dim))
        for first in range(0, len(descriptors), step):
            part = np.asarray(descriptors[first : first + step], np.float32)
            self.client.upsert(
                self.name,
                [
                    {"row": start + first + i, "descriptor": vector}
                    for i, vector in enumerate(part)
                ],
            )

    def remove(self, rows: Int[np.ndarray, " n"]) -> None:
        for first in range(0, len(rows), MAX_RESULTS):
            self.client.delete(
                self.name, ids=rows[first : first + MAX_RESULTS].tolist()
            )

    def count(self) -> int:
        (found,) = self.client.query(self.name, output_fields=["count(*)"])
        return int(found["count(*)"])

    def close(self) -> None:
        self.client.close()

    def search(
        self, queries: Float32[np.ndarray, "q d"], k: int
    ) -> tuple[Float32[np.ndarray, "q j"], Int[np.ndarray, "q j"]]:
        """Raises: ValueError for a k above the 16,384 that a server gives."""
        if k > MAX_RESULTS:
            raise ValueError(f"k is {k:,}; Milvus gives at most {MAX_RESULTS:,}")
        found = min(k, self.count())
        shape = (len(queries), found)
        if not found or not len(queries):
            return np.zeros(shape, np.float32), np.zeros(shape, np.int64)
        params = {} if self.lite else {"ef": max(SEARCH_CANDIDATES, 2 * found)}
        hits = self.client.search(
            self.name,
            data=list(queries),
            limit=found,
            search_params={"metric_type": "IP", "params": params},
        )
        # Short answers of a graph are cut to the shortest.
        shortest = min(len(line) for line in hits)
        scores = [[hit["distance"] for hit in line[:shortest]] for line in hits]
        rows = [[hit["row"] for hit in line[:shortest]] for line in hits]
        return best_first(np.array(scores, np.float32), np.array(rows, np.int64))


def open_milvus(address: str, snapshot: Snapshot) -> Milvus:
    """The collection of an index, made or filled up as far as the shards go."""
    backend = Milvus(address, f"sbir_{snapshot.head.id}", snapshot.head.dim)
    known = backend.rows()
    fill(backend, snapshot, known, label="milvus")
    return backend
