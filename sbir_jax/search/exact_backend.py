"""Exact search, the default: no graph to build, bounded memory, recall 1.

Memory-mapped shards are scanned in blocks on the device. It is meant for up to about a
million photos.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float16, Float32, Int

from sbir_jax.runtime import hardware
from sbir_jax.search.shards import SHARD_ROWS

QUERIES = 64  # scored at a time
# Blocks that fit in this stay on an accelerator; they would be copied at each search.
RESIDENT_BYTES = 8 << 30


class _Block(NamedTuple):
    start: int
    parts: tuple[np.ndarray, ...]  # consecutive rows, at most `block_rows` together


class Exact:
    """Exact search over arrays that stay where they are, on disk."""

    def __init__(self, dim: int, block_rows: int = SHARD_ROWS):
        self.dim, self.block_rows = dim, block_rows
        self._blocks: list[_Block] = []
        self._removed = np.zeros(0, bool)
        self._resident: dict[int, Array] = {}
        self._keep = hardware.platform() != "cpu"

    def add(self, start: int, descriptors: Float16[np.ndarray, "n d"]) -> None:
        if start != len(self._removed):
            raise ValueError(
                f"rows {start}... after {len(self._removed)} rows; add them in order"
            )
        for first in range(0, len(descriptors), self.block_rows):
            part = descriptors[first : first + self.block_rows]
            last = self._blocks[-1] if self._blocks else _Block(0, ())
            joined = sum(map(len, last.parts)) + len(part)
            if self._blocks and joined <= self.block_rows:
                self._blocks[-1] = _Block(last.start, (*last.parts, part))
                self._resident.pop(last.start, None)
            else:
                self._blocks.append(_Block(start + first, (part,)))
        self._removed = np.append(self._removed, np.zeros(len(descriptors), bool))

    def remove(self, rows: Int[np.ndarray, " n"]) -> None:
        self._removed[rows] = True

    def count(self) -> int:
        return int(np.sum(~self._removed))

    def close(self) -> None:
        self._blocks, self._removed = [], np.zeros(0, bool)
        self._resident = {}

    def search(
        self, queries: Float32[np.ndarray, "q d"], k: int
    ) -> tuple[Float32[np.ndarray, "q j"], Int[np.ndarray, "q j"]]:
        found = min(k, self.count())
        scores = np.zeros((len(queries), found), np.float32)
        rows = np.zeros((len(queries), found), np.int64)
        if not found:
            return scores, rows
        for start in range(0, len(queries), QUERIES):
            part = slice(start, start + QUERIES)
            scores[part], rows[part] = self._search(queries[part], found)
        return scores, rows

    def _search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        # Powers of two, so that few programs serve all numbers of queries and results.
        q, wide = _power_of_two(len(queries)), _power_of_two(k)
        padded = np.zeros((q, self.dim), np.float32)
        padded[: len(queries)] = queries
        asked = jnp.asarray(padded)
        scores = jnp.full((q, wide), -jnp.inf, jnp.float32)
        rows = jnp.full((q, wide), -1, jnp.int32)
        for block in self._blocks:
            alive = np.zeros(self.block_rows, bool)
            length = sum(map(len, block.parts))
            alive[:length] = ~self._removed[block.start : block.start + length]
            values = self._on_device(block)
            scores, rows = _merge(
                asked, values, alive, block.start, scores, rows, k=wide
            )
        here = (slice(len(queries)), slice(k))
        return np.asarray(scores)[here], np.asarray(rows)[here].astype(np.int64)

    def _on_device(self, block: _Block) -> Any:
        if block.start in self._resident:
            return self._resident[block.start]
        values = block.parts[0]
        if len(values) < self.block_rows:
            values = np.zeros((self.block_rows, self.dim), np.float16)
            np.concatenate(block.parts, out=values[: sum(map(len, block.parts))])
        size = self.block_rows * self.dim * 2
        if self._keep and (len(self._resident) + 1) * size <= RESIDENT_BYTES:
            values = self._resident[block.start] = jax.device_put(values)
        return values


@functools.partial(jax.jit, static_argnames="k")
def _merge(
    queries: Float[Array, "q d"],
    block: Float16[Array, "n d"],
    alive: Bool[Array, " n"],
    start: Int[Array, ""],
    scores: Float[Array, "q k"],
    rows: Int[Array, "q k"],
    k: int,
) -> tuple[Float[Array, "q k"], Int[Array, "q k"]]:
    """The best k of those so far and a block's; `top_k` keeps the earlier of equals."""
    found = jnp.einsum(
        "qd,nd->qn",
        queries,
        block.astype(jnp.float32),
        precision=jax.lax.Precision.HIGHEST,
    )
    found = jnp.where(alive[None], found, -jnp.inf)
    numbers = start + jnp.arange(len(block), dtype=jnp.int32)
    numbers = jnp.broadcast_to(numbers[None], found.shape)
    best, at = jax.lax.top_k(jnp.concatenate([scores, found], axis=1), k)
    both = jnp.concatenate([rows, numbers], axis=1)
    return best, jnp.take_along_axis(both, at, axis=1)


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()
