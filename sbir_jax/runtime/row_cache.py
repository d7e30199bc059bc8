"""Rows that are computed once and then read from disk.

    PATH.bin        the rows, one after the other
    PATH.json       all that they depend on
    PATH.sums       a checksum of each batch of rows, one a line
    PATH.checked    the size and time of PATH.bin when all were found right

A stopped run goes on where its file ends, and from the first rows that are not as they
were written. Rows are mapped, not read, so that memory does not grow with their number;
a file that was found right is not read again for its checksums.
"""

import contextlib
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import logging
from tqdm.auto import tqdm

from sbir_jax.runtime import checkpoint, digests, multiprocess, schema

DTYPE = np.dtype(np.float16)
BATCH = 32  # rows at a time
LINE = 2 * digests.BYTES + 1  # bytes of a checksum in its file


def keep(
    path: pathlib.Path,
    whose: dict[str, Any],
    shape: tuple[int, ...],
    make: Callable[[slice], np.ndarray],
    desc: str,
    dtype: np.dtype = DTYPE,
) -> np.ndarray:
    """An array on disk, row by row from `make`; rows that are there already are not.

    Args:
      whose: all that the rows depend on, as JSON values.
      make: gives these rows, at most `BATCH` of them.
      desc: beside the progress bar.
      dtype: what they are kept as.
    Returns: `shape` of `dtype`, mapped from the file, not read.
    """
    stamp, sums = path.with_suffix(".json"), path.with_suffix(".sums")
    row = dtype.itemsize * int(np.prod(shape[1:]))
    if _read(stamp) != whose:
        path.parent.mkdir(parents=True, exist_ok=True)
        stamp.unlink(missing_ok=True)
        path.write_bytes(b"")
        sums.write_text("")
        checkpoint.write_own_json(stamp, whose)
    done = _right(path, row, shape[0])
    with path.open("ab") as file, sums.open("a") as lines:
        file.truncate(done * row)  # a row may have been cut short by a kill
        lines.truncate(-(-done // BATCH) * LINE)
        bar = tqdm(
            desc=desc,
            unit="image",
            initial=done,
            total=shape[0],
            disable=not multiprocess.is_first(),
        )
        with bar:
            for start in range(done, shape[0], BATCH):
                rows = slice(start, min(start + BATCH, shape[0]))
                made = make(rows).astype(dtype)
                file.write(made.tobytes())
                file.flush()  # before its checksum, which says that it is there
                lines.write(digests.digest(made) + "\n")
                lines.flush()
                bar.update(rows.stop - rows.start)
    _remember(path)
    return np.memmap(path, dtype, "r", shape=shape)


def _right(path: pathlib.Path, row: int, count: int) -> int:
    """How many of so many rows are there as they were written, from the first on."""
    if not path.exists():
        return 0
    size = path.stat().st_size
    if size == count * row and _read(path.with_suffix(".checked")) == _mark(path):
        return count
    done, sums = 0, path.with_suffix(".sums")
    wanted = sums.read_bytes().split() if sums.exists() else []
    with path.open("rb") as file:
        for known in wanted[: -(-count // BATCH)]:
            some = min(BATCH, count - done)
            part = np.frombuffer(file.read(some * row), np.uint8)
            if len(part) < some * row or digests.digest(part).encode() != known:
                logging.warning(
                    "%s is not as it was written: it is made again from row %d on",
                    *(path, done),
                )
                break
            done += some
    return done


def _mark(path: pathlib.Path) -> dict[str, int]:
    info = os.stat(path)
    return {"size": info.st_size, "mtime_ns": info.st_mtime_ns}


def _remember(path: pathlib.Path) -> None:
    with contextlib.suppress(OSError):  # a read-only folder: checked again then
        if _read(path.with_suffix(".checked")) != _mark(path):
            checkpoint.write_own_json(path.with_suffix(".checked"), _mark(path))


def _read(stamp: pathlib.Path) -> dict[str, Any]:
    """Whose rows are kept; nothing where there is no stamp, or a damaged one."""
    try:
        return schema.read_json(stamp)
    except (FileNotFoundError, ValueError):
        return {}
