"""One run as several processes, one for each machine: who does what, and the joining.

Every process runs the same program. Each reads its own share of the images, the first
one writes the files, and the run folder lies where all of them see it.
"""

import contextlib
import re
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils


def start(how: str) -> None:
    """Joins the other processes; before anything else is done with JAX.

    Args:
      how: "" to run alone; "auto" where the cluster says who is who (Cloud TPU, Slurm,
        Open MPI, Kubernetes); else "HOST:PORT,PROCESSES,INDEX", the address being that
        of process 0.
    Raises: ValueError for anything else.
    """
    if not how:
        return
    if how == "auto":
        jax.distributed.initialize()
        return
    found = re.fullmatch(r"(.+:\d+),(\d+),(\d+)", how)
    if found is None or not int(found[3]) < int(found[2]):
        raise ValueError(
            f"--distributed is {how!r}; give auto, or HOST:PORT,PROCESSES,INDEX with "
            "an INDEX from 0 to PROCESSES - 1"
        )
    # Not detected as well: under Slurm that would leave all GPUs but one idle.
    jax.distributed.initialize(
        found[1],
        int(found[2]),
        int(found[3]),
        cluster_detection_method="deactivate",
    )


def is_first() -> bool:
    """Whether this process writes the files."""
    return jax.process_index() == 0


@contextlib.contextmanager
def first_goes_ahead() -> Iterator[None]:
    """The first process runs the block while the others wait, then they do."""
    if not is_first():
        barrier("ahead")
    try:
        yield
    finally:
        if is_first():
            barrier("ahead")


def barrier(name: str) -> None:
    """Waits until all processes are here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def as_first_says(value: bool) -> bool:
    """What the first process has: files may not look the same from everywhere yet."""
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.broadcast_one_to_all(np.asarray(value)))


def smallest(value: int) -> int:
    """The smallest of all processes' values."""
    if jax.process_count() == 1:
        return value
    # In two parts: JAX's integers have 32 bits.
    halves = np.array(divmod(value, 2**30), np.int32)
    found = multihost_utils.process_allgather(halves)
    return min(int(high) * 2**30 + int(low) for high, low in found)


def part(n: int) -> slice:
    """This process's part of n things; all parts in order are the whole."""
    count, index = jax.process_count(), jax.process_index()
    return slice(n * index // count, n * (index + 1) // count)


def join(rows: np.ndarray, n: int) -> np.ndarray:
    """All processes' rows, of which each has those of its `part(n)`."""
    count = jax.process_count()
    if count == 1:
        return rows
    most = -(-n // count)
    padded = np.zeros((most, *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    found = multihost_utils.process_allgather(padded)
    sizes = [n * (i + 1) // count - n * i // count for i in range(count)]
    parts = zip(np.asarray(found), sizes, strict=True)
    return np.concatenate([part[:size] for part, size in parts])
