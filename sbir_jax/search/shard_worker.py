"""The worker's side of `distribute`: some of the photos in, a shard's files out."""

import functools
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from sbir_jax.data import images
from sbir_jax.data.image_files import means_machine
from sbir_jax.runtime.digests import digest
from sbir_jax.runtime.prefetch import one_in_flight
from sbir_jax.search.photos import Photo
from sbir_jax.search.reading import read_photo
from sbir_jax.search.shard_writer import npy_bytes, parquet_bytes
from sbir_jax.search.shards import SCHEMA, SUM
from sbir_jax.search.update import Embeds

# In the header of every parquet file of a shard: who embedded it and what it lacks.
NOTES = b"sbir_jax"
_NO_HASH = "0" * 32  # of a photo that cannot be used


class Worker:
    """What Ray starts for each accelerator: an embedder, and shards in and out."""

    def __init__(self, make: Callable[[], Embeds]):
        self.embedder = make()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        plan = pa.ipc.open_stream(row["plan"]).read_all()
        npy, table = embed_shard(as_photos(plan), self.embedder)
        return {"shard": row["shard"], "npy": npy, "parquet": table}


def embed_shard(part: Sequence[Photo], embedder: Embeds) -> tuple[bytes, bytes]:
    """The contents of a shard's two files, `.npy` and `.parquet`."""
    descriptors = np.zeros((len(part), embedder.dim), np.float16)
    hashes, lost = [_NO_HASH] * len(part), {}
    good: list[int] = []

    def pictures() -> Iterator[np.ndarray]:
        read = functools.partial(read_photo, size=embedder.size)
        ahead = max(16, 2 * embedder.batch_size)
        for row, found in enumerate(images.threaded(read, part, ahead=ahead)):
            if isinstance(found, BaseException):
                if means_machine(found):
                    raise found
                lost[row] = getattr(found, "reason", None) or repr(found)
            else:
                hashes[row], pixels = found
                good.append(row)
                yield pixels

    def started() -> Iterator[Callable[[], np.ndarray]]:
        every = pictures()
        while batch := list(itertools.islice(every, embedder.batch_size)):
            yield embedder.start(images.to_float(np.stack(batch)), "photo")

    done = 0
    for found in one_in_flight(started()):
        descriptors[good[done : done + len(found)]] = found
        done += len(found)
    if not np.isfinite(descriptors).all():
        row = int(np.argmin(np.isfinite(descriptors).all(axis=1)))
        raise ValueError(
            f"the descriptor of {part[row].path} is not finite; check the model"
        )
    notes = {
        "fingerprint": embedder.fingerprint,
        "dim": embedder.dim,
        "embedder": embedder.source,
        "lost": lost,
    }
    table = as_table(part)
    table = table.add_column(1, SCHEMA.field("hash"), [hashes])
    header = {NOTES: json.dumps(notes).encode(), SUM: digest(descriptors)}
    table = table.cast(SCHEMA.with_metadata(header))
    return npy_bytes(descriptors), parquet_bytes(table)


def as_table(part: Sequence[Photo]) -> pa.Table:
    """Photos as rows of `SCHEMA`, without the hash."""
    columns = [[photo[i] for photo in part] for i in range(3)]
    return pa.table(columns, schema=SCHEMA.remove(1))


def as_photos(table: pa.Table) -> list[Photo]:
    """What `as_table` was made of."""
    return list(map(Photo, *table.to_pydict().values()))


def open_embedder(model: str, task: Any, batch_size: int) -> Embeds:
    """`open_model` in a worker, which keeps its compiled programs."""
    from sbir_jax.runtime import hardware
    from sbir_jax.search.model import open_model

    hardware.keep_programs()
    return open_model(model, task, batch_size)
