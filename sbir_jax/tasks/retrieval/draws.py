"""Which triplets each process of a training draws."""

from typing import Any

import jax

from sbir_jax.config import TrainConfig


def draws(config: TrainConfig, task: str, size: int) -> dict[str, Any]:
    """What `data.triplets.triplet_batches` is told of this process's share.

    Args:
      task: "category" or "fine_grained".
      size: side of the images, in pixels.
    """
    return {
        "seed": config.seed,
        "steps": config.steps,
        "batch_size": config.batch_size // jax.process_count(),
        "task": task,
        "size": size,
        "host": jax.process_index(),
        "hosts": jax.process_count(),
    }
