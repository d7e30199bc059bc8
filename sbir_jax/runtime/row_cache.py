"""Rows that are computed once and then read from disk.

    PATH.bin     the rows, one after the other     PATH.json    all that they depend on

A stopped run goes on where its file ends. Rows are mapped, not read, so that memory
does not grow with their number.
"""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from sbir_jax.runtime import checkpoint, multiprocess, schema

DTYPE = np.dtype(np.float16)
BATCH = 32  # rows at a time


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
    stamp, row = path.with_suffix(".json"), dtype.itemsize * int(np.prod(shape[1:]))
    if _read(stamp) != whose:
        path.parent.mkdir(parents=True, exist_ok=True)
        stamp.unlink(missing_ok=True)
        path.write_bytes(b"")
        checkpoint.write_own_json(stamp, whose)
    with path.open("ab") as file:
        done = file.tell() // row
        file.truncate(done * row)  # a row may have been cut short by a kill
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
                file.write(make(rows).astype(dtype).tobytes())
                bar.update(rows.stop - rows.start)
    return np.memmap(path, dtype, "r", shape=shape)


def _read(stamp: pathlib.Path) -> dict[str, Any]:
    """Whose rows are kept; nothing where there is no stamp, or a damaged one."""
    try:
        return schema.read_json(stamp)
    except (FileNotFoundError, ValueError):
        return {}
