"""Writing an index: photos appended, moved and removed, by one process at a time.

What the files are, and the rules that let readers go on meanwhile: `shards`.
"""

import csv
import dataclasses
import io
import json
import os
import pathlib
import socket
import time
from collections.abc import Iterable, Sequence

import filelock
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Float16

from sbir_jax.data.tree import Skipped
from sbir_jax.runtime import schema
from sbir_jax.runtime.digests import digest
from sbir_jax.search.integrity import replace
from sbir_jax.search.shards import (
    ROWS,
    SCHEMA,
    SUM,
    Head,
    check_shards,
    read,
    read_head,
    read_removed,
    read_rows,
)


class IndexBusy(RuntimeError):
    """Another process is writing into the index."""


class Writer:
    """The one process that may change an index; a context manager.

    Leaving it normally or by an error writes what was appended so far.
    """

    def __init__(self, folder: str | os.PathLike, new: Head | None = None):
        """Locks the index, and makes it if it is not there.

        Args:
          new: what a new index is to be, and what an old one must agree with.
        Raises: IndexBusy naming the process that holds it; FileNotFoundError without
          an index and without `new`; ValueError where the two fingerprints differ, or
          where the folder holds something else.
        """
        self.folder = pathlib.Path(folder)
        if new is None or (self.folder / "index.json").exists():
            read_head(self.folder)
            check_shards(self.folder)
        elif self.folder.is_dir() and not (self.folder / "index.json").exists():
            others = {p.name for p in self.folder.iterdir()}
            others -= {"lock", "writer.json", "shards"}
            others = {name for name in others if not name.endswith(".part")}
            if others:
                raise ValueError(
                    f"{self.folder} is no index and holds other things "
                    f"({sorted(others)[0]}); give a new folder for the index"
                )
        (self.folder / "shards").mkdir(parents=True, exist_ok=True)
        self._lock = filelock.FileLock(self.folder / "lock")
        try:
            self._lock.acquire(blocking=False)
        except filelock.Timeout:
            raise IndexBusy(
                f"{self.folder} is being written by {self._holder()}; wait for it, or "
                "stop it"
            ) from None
        try:
            self._open(new)
        except BaseException:
            self._lock.release()
            raise

    def _open(self, new: Head | None) -> None:
        for left in (*self.folder.glob("*.part"), *self.folder.glob("*/*.part")):
            left.unlink(missing_ok=True)  # of a process that was killed
        owner = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        _write_json(self.folder / "writer.json", owner)
        path = self.folder / "index.json"
        self._made = new is not None and not self._begun()
        if new is not None and self._made:
            _write_json(path, dataclasses.asdict(new))
        self.head = read_head(self.folder)
        if new is not None:
            self.head.check(new.fingerprint, str(self.folder))
        snapshot = read(self.folder)
        columns = snapshot.table.to_pydict()
        self.paths: list[str] = columns["path"]
        self.hashes: list[str] = columns["hash"]
        self.sizes: list[int] = columns["size"]
        self.mtimes: list[int] = columns["mtime_ns"]
        self.alive: list[bool] = snapshot.alive.tolist()
        self._snapshot = snapshot
        # The rows of an unfinished last shard, which is written again with more.
        rows = len(self.paths)
        self._start = rows - rows % self.head.shard_rows
        self._tail = [snapshot.descriptor(row) for row in range(self._start, rows)]
        self._written = rows
        self._changed: set[int] = set()
        self._removed_count = len(read_removed(self.folder))
        self._counted = read_rows(self.folder)
        self.flush()  # names the rows that were replaced when a writer was killed

    def _begun(self) -> bool:
        """Whether there is an index that holds anything, or did.

        Who was killed before the first row leaves a head alone: it binds nobody to its
        model.
        """
        left = {path.name for path in self.folder.iterdir()}
        left -= {"index.json", "lock", "writer.json", "shards", "exclude.txt"}
        rows = next((self.folder / "shards").glob("*.parquet"), None)
        return (self.folder / "index.json").exists() and bool(left or rows)

    def _holder(self) -> str:
        try:
            owner = schema.read_json(self.folder / "writer.json")
            return "process {pid} on {host} since {since}".format(**owner)
        except (OSError, ValueError, KeyError):
            return "another process"

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind, error, trace) -> None:
        try:
            self.flush()
            if kind is not None and self._made and not self.paths:
                # Nothing was embedded: the next try may take another model.
                (self.folder / "index.json").unlink(missing_ok=True)
        finally:
            (self.folder / "writer.json").unlink(missing_ok=True)
            self._lock.release()

    def descriptor(self, row: int | np.integer) -> Float16[np.ndarray, " d"]:
        if row >= self._start:
            return self._tail[row - self._start]
        shard, inside = divmod(row, self.head.shard_rows)
        if shard < len(self._snapshot.descriptors):
            return np.asarray(self._snapshot.descriptors[shard][inside])
        path = self._shard(int(shard)).with_suffix(".npy")  # written by this process
        return np.load(path, mmap_mode="r")[inside]

    def append(
        self,
        path: str,
        hash: str,
        size: int,
        mtime_ns: int,
        descriptor: Float[np.ndarray, " d"],
    ) -> int:
        """Adds a photo and returns its row; on disk after `flush`."""
        if descriptor.shape != (self.head.dim,):
            raise ValueError(
                f"descriptor of {path} has shape {descriptor.shape}; this index takes "
                f"({self.head.dim},)"
            )
        if not np.isfinite(descriptor).all():
            raise ValueError(f"the descriptor of {path} is not finite; check the model")
        self.paths.append(path)
        self.hashes.append(hash)
        self.sizes.append(size)
        self.mtimes.append(mtime_ns)
        self.alive.append(True)
        self._tail.append(np.asarray(descriptor, np.float16))
        if len(self._tail) == self.head.shard_rows:
            self.flush()
        return len(self.paths) - 1

    def restamp(self, row: int, path: str, size: int, mtime_ns: int) -> None:
        """The photo of this row, unchanged, now has this path, size and time."""
        stamp = (self.paths[row], self.sizes[row], self.mtimes[row])
        if stamp != (path, size, mtime_ns):
            self.paths[row], self.sizes[row], self.mtimes[row] = path, size, mtime_ns
            self._changed.add(row // self.head.shard_rows)

    def mark_removed(self, rows: Iterable[int]) -> None:
        """These rows no longer count."""
        for row in rows:
            self.alive[row] = False

    def flush(self) -> None:
        """Puts everything on disk."""
        if self._written < len(self.paths):
            shard = self._start // self.head.shard_rows
            tail = npy_bytes(np.stack(self._tail))
            replace(self._shard(shard).with_suffix(".npy"), lambda f: f.write(tail))
            self._changed.add(shard)
        for shard in sorted(self._changed):
            rows = slice(
                shard * self.head.shard_rows, (shard + 1) * self.head.shard_rows
            )
            columns = (self.paths, self.hashes, self.sizes, self.mtimes)
            values = dict(
                zip(SCHEMA.names, (column[rows] for column in columns), strict=True)
            )
            schema = SCHEMA.with_metadata({SUM: digest(self._descriptors(shard))})
            content = parquet_bytes(pa.table(values, schema))
            replace(self._shard(shard), lambda f, content=content: f.write(content))
        self._changed.clear()
        if len(self.paths) > self._counted:
            self._counted = len(self.paths)
            _write_json(self.folder / ROWS, {"rows": self._counted})
        self._written = len(self.paths)
        if len(self._tail) == self.head.shard_rows:
            self._start, self._tail = self._written, []
        removed = np.flatnonzero(~np.asarray(self.alive, bool))
        if len(removed) and len(removed) != self._removed_count:
            replace(self.folder / "removed.npy", lambda f: f.write(npy_bytes(removed)))
        self._removed_count = len(removed)

    def write_skipped(self, skipped: Sequence[Skipped]) -> None:
        """Replaces skipped.csv."""

        text = io.StringIO(newline="")
        rows = csv.writer(text)
        rows.writerow(Skipped._fields)
        rows.writerows(sorted(skipped))
        content = text.getvalue().encode("utf-8", "replace")
        replace(self.folder / "skipped.csv", lambda file: file.write(content))

    def _descriptors(self, shard: int) -> Float16[np.ndarray, "n d"]:
        if shard * self.head.shard_rows == self._start:
            return np.stack(self._tail)
        if shard < len(self._snapshot.descriptors):
            return self._snapshot.descriptors[shard]
        return np.load(self._shard(shard).with_suffix(".npy"), mmap_mode="r")

    def _shard(self, number: int) -> pathlib.Path:
        return self.folder / "shards" / f"{number:06d}.parquet"


def npy_bytes(array: np.ndarray) -> bytes:
    """A `.npy` file; `np.save` does not say why it could not write one."""
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def parquet_bytes(table: pa.Table) -> bytes:
    """A parquet file, with a checksum of each of its pages."""
    content = io.BytesIO()
    pq.write_table(table, content, compression="zstd", write_page_checksum=True)
    return content.getvalue()


def _write_json(path: pathlib.Path, value: dict) -> None:
    text = json.dumps(value, indent=2) + "\n"
    replace(path, lambda file: file.write(text.encode()))
