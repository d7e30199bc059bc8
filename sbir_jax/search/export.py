"""Descriptors for other programs: those of the photos that count, and nothing else.

    OUT/img_emb/img_emb_000000.npy          float16 [n, dim], rows of unit length
    OUT/metadata/metadata_000000.parquet    n rows: image_path, hash

The folders and names are those that clip-retrieval writes, and the readers of its
embeddings take. An index itself also holds rows that were removed.
"""

import os
import pathlib
import shutil

import numpy as np
import pyarrow as pa

from sbir_jax.runtime import stops
from sbir_jax.search.integrity import replace
from sbir_jax.search.shard_writer import npy_bytes, parquet_bytes
from sbir_jax.search.shards import Snapshot, read


def export(index: str | os.PathLike, out: str | os.PathLike) -> int:
    """Writes the descriptors of an index to a new folder, which appears all at once.

    Returns: how many photos were written.
    Raises: FileExistsError where `out` is there already; FileNotFoundError and
      ValueError for an index that is not there or damaged; DiskFull.
    """
    out = pathlib.Path(out)
    if out.exists():
        raise FileExistsError(f"{out} is there already; give a new folder")
    snapshot = read(index)
    aside = out.with_name(f".{out.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    kept = f"the index is as it was, and {out} is not there"
    try:
        with stops.told_where_full(out, kept):
            for part in ("img_emb", "metadata"):
                (aside / part).mkdir(parents=True)
            for shard in range(len(snapshot.shards)):
                _write(aside, snapshot, shard)
            aside.rename(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return int(np.sum(snapshot.alive))


def _write(out: pathlib.Path, snapshot: Snapshot, shard: int) -> None:
    start, table = shard * snapshot.head.shard_rows, snapshot.shards[shard]
    rows = np.flatnonzero(snapshot.alive[start : start + len(table)])
    array = npy_bytes(snapshot.descriptors[shard][rows])
    place = out / "img_emb" / f"img_emb_{shard:06d}.npy"
    replace(place, lambda file: file.write(array))
    kept = table.take(rows)
    columns = {"image_path": kept["path"], "hash": kept["hash"]}
    content = parquet_bytes(pa.table(columns))
    place = out / "metadata" / f"metadata_{shard:06d}.parquet"
    replace(place, lambda file: file.write(content))
