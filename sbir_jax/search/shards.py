"""The index on disk: descriptors as `.npy`, photos as parquet, in shards.

    INDEX/index.json             {"format", "id", "fingerprint", "dim", "shard_rows",
                                  "embedder": how to make the embedder again, or null}
    INDEX/shards/000000.npy      float16 [n, dim], rows of unit length
    INDEX/shards/000000.parquet  n rows: path (absolute), hash (BLAKE2b of the file's
                                 bytes, 32 hex digits), size (bytes), mtime_ns
    INDEX/rows.json              {"rows"}: how many there are at least; indexes from
                                 before there was a count have none
    INDEX/removed.npy            int64, sorted: rows that no longer count
    INDEX/skipped.csv            path, reason: files that could not be used
    INDEX/exclude.txt            globs of what is passed over, one a line
    INDEX/checked.json           which files were found whole, by size and time
    INDEX/lock, writer.json      held by the one process that may write

Row i of a `.npy` belongs to row i of the parquet beside it, and rows count on through
the shards. This is also the export: `np.load` and any parquet reader open it, as they
do the embedding folders that other retrieval tools write.

Rules. Every shard but the last holds `shard_rows` rows. A file appears or changes by
rename, the parquet after its `.npy`, so a shard is whole once it has a parquet. The
last shard is replaced by longer ones that start alike, so a `.npy` may for a moment
be longer than its parquet, which is what counts. Rows are never deleted or reordered:
they are named in removed.npy. Of rows with the same path that are not, the last counts.
A reader therefore needs no lock, and a writer that was killed leaves a whole index.

A parquet has checksums of its pages, and in its header the one of its rows in the
`.npy`; indexes from before there were any have none. They are checked when a file is
read for the first time (`integrity`).
"""

import csv
import dataclasses
import functools
import os
import pathlib
import re
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Bool, Float16, Int
from pydantic import Field

from sbir_jax.data.image_files import means_machine
from sbir_jax.data.tree import Skipped
from sbir_jax.runtime import schema
from sbir_jax.runtime.digests import digest
from sbir_jax.search.head import REMEDY, SHARD_ROWS, Head, read_head
from sbir_jax.search.integrity import Checked

__all__ = ["SHARD_ROWS", "Head", "Snapshot", "read", "read_head"]

SUM = b"sbir_jax.descriptors"  # in a parquet's header: checksum of its rows' `.npy`
ROWS = "rows.json"
LONGEST = 8192  # bytes of a path
SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("hash", pa.string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
    ]
)


@dataclasses.dataclass(frozen=True)
class _Rows:
    rows: Annotated[int, Field(ge=0)]


@dataclasses.dataclass(frozen=True, eq=False)
class Snapshot:
    """An index as it was at one moment.

    Attributes:
      descriptors: memory-mapped, one array per shard.
      table: the columns of the parquet files, over all shards.
      alive: rows that count.
    """

    head: Head
    descriptors: tuple[Float16[np.ndarray, "_ d"], ...]
    table: pa.Table
    alive: Bool[np.ndarray, " rows"]
    signature: tuple
    shards: tuple[pa.Table, ...]

    def descriptor(self, row: int | np.integer) -> Float16[np.ndarray, " d"]:
        shard, inside = divmod(row, self.head.shard_rows)
        return np.asarray(self.descriptors[shard][inside])


def read(folder: str | os.PathLike, before: Snapshot | None = None) -> Snapshot:
    """The index as it is now.

    Args:
      before: an earlier snapshot of the same folder; its shards are taken over where
        their files are the same, and it is returned itself where nothing changed.
    Raises: FileNotFoundError, ValueError for an index that is not whole, saying which
      file.
    """
    folder = pathlib.Path(folder)
    head = read_head(folder)
    least = read_rows(folder)  # first: rows may be added meanwhile
    if before is not None and before.head != head:
        before = None
    marks: list[tuple | None] = []
    descriptors: list[np.ndarray] = []
    tables: list[pa.Table] = []
    checked = Checked(folder)
    for number in _numbers(folder, head):
        path = folder / "shards" / f"{number:06d}.parquet"
        mark = _mark(path)
        if before is not None and before.signature[number : number + 1] == (mark,):
            table, array = before.shards[number], before.descriptors[number]
        else:
            npy = path.with_suffix(".npy")
            table, array, wanted = _read_shard(path, head)
            verify = functools.partial(_verify, npy, array, wanted)
            checked.check(npy, verify, len(table))
        marks.append(mark)
        descriptors.append(array)
        tables.append(table)
    checked.save()
    for table in tables[:-1]:
        if len(table) != head.shard_rows:
            raise ValueError(
                f"a shard in {folder} has {len(table)} rows and is not the last; all "
                f"but the last have {head.shard_rows}. The index is damaged: make it "
                "again."
            )
    rows = sum(map(len, tables))
    if rows < least:
        raise ValueError(
            f"{folder} has lost photos: {ROWS} tells of {least} rows, and shards holds "
            f"{rows}. Copy the missing shards back, or delete {ROWS} and take in the "
            "photos that are lost again"
        )
    # Last: rows are only ever added here, so it is never older than the shards.
    removed = _mark(folder / "removed.npy")
    signature = (*marks, removed)
    if before is not None and before.signature == signature:
        return before
    table = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
    alive = _alive(table, read_removed(folder))
    return Snapshot(head, tuple(descriptors), table, alive, signature, tuple(tables))


def read_skipped(folder: str | os.PathLike) -> list[Skipped]:
    """What skipped.csv says; nothing where there is none.

    Raises: ValueError for a damaged file.
    """
    path = pathlib.Path(folder) / "skipped.csv"
    if not path.exists():
        return []
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        lines = csv.reader(line.replace("\0", "") for line in file)
        try:
            return [Skipped(*line) for line in lines if len(line) == 2][1:]
        except csv.Error as error:
            raise ValueError(
                f"{path} is damaged: {error}. Delete it: the next sbir index or sbir "
                "add writes it again"
            ) from error


def read_rows(folder: pathlib.Path) -> int:
    """How many rows an index has at least; 0 where that is not kept.

    Raises: ValueError for a damaged file.
    """
    path = folder / ROWS
    if not path.exists():
        return 0
    values = schema.read_json(path, REMEDY)
    return schema.validated(_Rows, values, str(path), REMEDY).rows


def read_removed(folder: pathlib.Path) -> Int[np.ndarray, " r"]:
    """The rows that no longer count. Raises: ValueError for a damaged file."""
    try:
        # Mapped, so that a header that claims more than there is takes no memory.
        removed = np.array(np.load(folder / "removed.npy", mmap_mode="r"))
        if removed.dtype != np.int64 or removed.ndim != 1 or (removed < 0).any():
            raise ValueError("not a list of rows")
        return removed
    except FileNotFoundError:
        return np.zeros(0, np.int64)
    # numpy lets nearly any exception through on a damaged header.
    except Exception as error:
        if means_machine(error):
            raise
        path = folder / "removed.npy"
        raise ValueError(f"{path} is damaged: {_flat(error)}. {REMEDY}") from error


def check_shards(folder: pathlib.Path) -> None:
    """Raises: ValueError where the folder of the shards is gone."""
    if not (folder / "shards").is_dir():
        raise ValueError(
            f"{folder} lacks its folder shards: copy it back, or delete {folder} and "
            "make the index again"
        )


def _flat(error: Exception) -> str:
    """On one line, which messages of numpy and pyarrow are not."""
    return " ".join(str(error).split())


def _numbers(folder: pathlib.Path, head: Head) -> range:
    """The numbers of the whole shards. Raises: ValueError where one is missing."""
    check_shards(folder)
    found = sorted(
        int(name[:6])
        for name in os.listdir(folder / "shards")
        if re.fullmatch(r"\d{6}\.parquet", name)
    )
    if found != list(range(len(found))):
        lost = next(i for i, number in enumerate(found) if i != number)
        raise ValueError(
            f"{folder} lacks shards/{lost:06d}.parquet though there are later ones: "
            "copy it back, or make the index again"
        )
    return range(len(found))


def _mark(path: pathlib.Path) -> tuple | None:
    """Changes when a file is replaced; None where there is none."""
    try:
        info = os.stat(path)
    except FileNotFoundError:
        return None
    return info.st_mtime_ns, info.st_size, info.st_ino


def _read_shard(path: pathlib.Path, head: Head) -> tuple[pa.Table, np.ndarray, str]:
    """The rows, their descriptors, and the checksum of these; "" where there is none.

    What a parquet says of its size is compared with the `.npy` before it is read.
    """
    try:
        # Texts that repeat stay one text until their lengths are known.
        texts = ["path", "hash"]
        file = pq.ParquetFile(
            path, page_checksum_verification=True, read_dictionary=texts
        )
        header, rows = file.schema_arrow.metadata or {}, file.metadata.num_rows
        # In this order: a longer .npy beside an older parquet is all right.
        array = _map(path.with_suffix(".npy"), rows, head)
        groups = range(file.metadata.num_row_groups)
        size = sum(file.metadata.row_group(i).total_byte_size for i in groups)
        if size > 2 * LONGEST * (rows + 1):
            raise ValueError(f"{size} bytes for {rows} rows")
        table = file.read(SCHEMA.names)
        _check_values(table)
        return table.cast(SCHEMA), array, header.get(SUM, b"").decode()
    except _Descriptors:
        raise
    # pyarrow raises OSError for a page that is not what its checksum says, and KeyError
    # for a column that is not there.
    except (pa.ArrowException, ValueError, OSError, KeyError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path} is damaged: {_flat(error)}. {REMEDY}") from error


def _check_values(table: pa.Table) -> None:
    if table.column_names != SCHEMA.names:
        raise ValueError(f"it has the columns {', '.join(table.column_names)}")
    if any(column.null_count for column in table.columns):
        raise ValueError("a value is missing")
    for name, least, most in (("hash", 32, 32), ("path", 0, LONGEST)):
        for chunk in table[name].chunks:
            if not pa.types.is_dictionary(chunk.type):
                raise ValueError(f"a {name} is {chunk.type}, no text")
            found = pc.call_function("binary_length", [chunk.dictionary])
            for size in found.unique().to_pylist():
                if not least <= size <= most:
                    raise ValueError(f"a {name} has {size} bytes")


class _Descriptors(ValueError):
    """A `.npy` that does not fit its parquet."""


def _verify(path: pathlib.Path, rows: np.ndarray, wanted: str) -> None:
    """Raises: ValueError for descriptors that are not those that were written."""
    if wanted and digest(rows) != wanted:
        raise ValueError(
            f"{path} does not hold the descriptors that were written (its checksum "
            f"differs). {REMEDY}"
        )
    if not wanted and not np.isfinite(rows).all():
        raise ValueError(f"{path} is damaged: values that are not finite. {REMEDY}")


def _map(path: pathlib.Path, rows: int, head: Head) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r")
    except Exception as error:  # as of `read_removed`
        if means_machine(error):
            raise
        raise _Descriptors(
            f"{path} is damaged or missing: {_flat(error)}. {REMEDY}"
        ) from error
    if array.dtype != np.float16 or array.shape[1:] != (head.dim,):
        raise _Descriptors(
            f"{path} is {array.dtype} {list(array.shape)}; this index holds float16 "
            f"[n, {head.dim}]"
        )
    if len(array) < rows:
        raise _Descriptors(f"{path} has {len(array)} rows and its parquet {rows}")
    return array[:rows]


def _alive(
    table: pa.Table, removed: Int[np.ndarray, " r"]
) -> Bool[np.ndarray, " rows"]:
    """Of the rows that are not removed, the last of each path."""
    kept = np.ones(len(table), bool)
    kept[removed[removed < len(table)]] = False
    rows = np.flatnonzero(kept)
    paths = table["path"] if kept.all() else table["path"].take(rows)
    pairs = pa.table({"path": paths, "row": rows})
    last = pairs.group_by("path").aggregate([("row", "max")])["row_max"]
    alive = np.zeros(len(table), bool)
    alive[last.to_numpy()] = True
    return alive
