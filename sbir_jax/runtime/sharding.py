"""Where arrays live: a mesh of devices with the axes "data" and "model".

The batch is split over "data". Frozen weights are whole on every device, or with a
"model" axis longer than 1, each device keeps its part of them and computes its part of
the channels; the compiler puts in what has to travel. Fetching whole weights before
their use would send less, but XLA then fetches all of them first and holds them at once
(on CPU, November 2026: 1.8 GB for 1.5 GB of weights, against 32 MB this way), and to
save memory is what the axis is for.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def make_mesh(model: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """The devices, in groups of `model` neighbours that share one copy of the weights.

    The axes are Auto: under Explicit ones a gather across the sharded batch raises.

    Args:
      model: length of the axis "model".
      devices: JAX's; all, of every process, without it.
    Raises: ValueError where the devices of a process cannot be grouped like that:
      weights never travel between machines.
    """
    devices = list(jax.devices() if devices is None else devices)
    devices.sort(key=lambda device: (device.process_index, device.id))
    here = sum(device.process_index == devices[0].process_index for device in devices)
    if model < 1 or here % model:
        raise ValueError(
            f"{here} devices in one process cannot share their weights in groups of "
            f"{model}: give model_shards a divisor of {here}"
        )
    grid = np.array(devices).reshape(-1, model)
    return Mesh(grid, ("data", "model"), axis_types=(AxisType.Auto,) * 2)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis is split over the groups of devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def frozen_rule(mesh: Mesh) -> Callable[[str, tuple[int, ...]], NamedSharding]:
    """Where a frozen parameter goes, from its path and shape; for `load_backbone`.

    Kernels and embeddings are split along their longest axis that "model" divides.
    Biases and scales, a thousandth of the bytes, stay whole.
    """
    parts = mesh.shape["model"]

    def rule(path: str, shape: tuple[int, ...]) -> NamedSharding:
        axes = [axis for axis, length in enumerate(shape) if length % parts == 0]
        if parts == 1 or len(shape) < 2 or not axes:
            return replicated(mesh)
        longest = max(axes, key=lambda axis: (shape[axis], axis))
        return NamedSharding(mesh, PartitionSpec(*[None] * longest, "model"))

    return rule


def place_frozen(params: Any, mesh: Mesh) -> Any:
    """Frozen weights, wherever this process has them, on the mesh by `frozen_rule`.

    On a mesh of several processes each puts in what its own devices hold, so nothing is
    copied or sent: all have loaded the same files.
    """
    rule = frozen_rule(mesh)
    mine = jax.process_index()
    devices = [device for device in mesh.devices.flat if device.process_index == mine]
    local_rule = frozen_rule(make_mesh(mesh.shape["model"], devices))

    def place(leaf: jax.Array) -> jax.Array:
        local = jax.device_put(leaf, local_rule("", leaf.shape))
        shards = [shard.data for shard in local.addressable_shards]
        return jax.make_array_from_single_device_arrays(
            leaf.shape, rule("", leaf.shape), shards
        )

    return jax.tree.map(place, params)


def place_whole(tree: Any, mesh: Mesh) -> Any:
    """A copy of every array on all devices; all processes hand in the same values."""
    where = replicated(mesh)

    def place(leaf) -> jax.Array:
        # A copy of its own: on CPU arrays may share a buffer that one of them donates.
        value = np.array(leaf)
        return jax.make_array_from_callback(value.shape, where, lambda i: value[i])

    return jax.tree.map(place, tree)


def pad_batch(images: np.ndarray, size: int) -> np.ndarray:
    """Repeats the last row up to `size` rows, so that one program serves all batches.

    A descriptor then does not depend on how many neighbours its image came with.
    """
    missing = size - len(images)
    return np.concatenate([images, np.repeat(images[-1:], missing, axis=0)])
