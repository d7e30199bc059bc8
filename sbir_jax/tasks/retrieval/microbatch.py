"""How many triplets go through the networks together."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from sbir_jax.runtime import hardware, multiprocess


def check(at_once: int, batch_size: int, mesh: Mesh) -> None:
    """Raises: ValueError where a batch cannot be cut like that, or the devices cannot
    share the parts; `at_once` is 0 where it is found later."""
    devices, group = mesh.shape["data"], at_once or batch_size
    if group % devices or batch_size % group:
        raise ValueError(
            f"triplets_at_once is {at_once}; give a divisor of train.batch_size "
            f"({batch_size}), or 0 for what fits, and multiples of {devices} "
            "for both, since so many devices share them"
        )


def fitting(batch: dict[str, Any], size: int, mesh: Mesh, program: Callable) -> int:
    """As many as are worth while and the memory holds, over all hosts.

    Args:
      batch: this process's rows of one.
      size: side of the images, in pixels.
      program: compiled for so many triplets on each device.
    """
    devices, mine = mesh.shape["data"], mesh.local_devices
    each = len(batch["sketch"]) * jax.process_count() // devices
    images = hardware.image_counts(size, mine[0].platform)[0]
    counts = [
        n for n in range(each, 0, -1) if each % n == 0 and len(batch) * n <= images
    ]
    rows = sum(rows.nbytes for rows in batch.values()) * jax.process_count() // devices
    return devices * hardware.largest_fitting(
        program,
        counts or [1],
        lambda count: rows,  # All of the batch is there, however it is cut.
        multiprocess.smallest(hardware.free_bytes(mine)),
    )
