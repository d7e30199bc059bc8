"""Where arrays live: one mesh, the batch on "data", everything else replicated."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def make_mesh() -> Mesh:
    """All devices on the axis "data"; "model" is there for weights sharded by rule.

    The axes are Auto: under Explicit ones a gather across the sharded batch raises.
    """
    return jax.make_mesh(
        (jax.device_count(), 1), ("data", "model"), axis_types=(AxisType.Auto,) * 2
    )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis is split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def pad_batch(images: np.ndarray, size: int) -> np.ndarray:
    """Repeats the last row up to `size` rows, so that one program serves all batches.

    A descriptor then does not depend on how many neighbours its image came with.
    """
    missing = size - len(images)
    return np.concatenate([images, np.repeat(images[-1:], missing, axis=0)])
