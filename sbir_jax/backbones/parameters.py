"""Parameters of frozen networks: read from files, or drawn, one after the other."""

import dataclasses
import math
import zlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from sbir_jax.backbones.tensor_names import path_keys, tensor_name, to_file
from sbir_jax.backbones.tensors import Tensors
from sbir_jax.models.kernels import winograd
from sbir_jax.runtime import hardware

Sharding = jax.sharding.Sharding
# From the path of a parameter ("unet/conv_in/kernel") and its shape.
ShardingRule = Callable[[str, tuple[int, ...]], Sharding]

OUTPUTS = 64  # of a kernel, copied at a time (measured)


@dataclasses.dataclass(frozen=True)
class Placing:
    """How parameters are kept.

    Attributes:
      dtype: of the parameters and of the computation.
      sharding: where they go; one for all, or a rule. The default device without it.
      prepare: they will only be run, neither trained nor saved, so they may take the
        form that runs fastest on their devices (`kernels.winograd.prepare`).
    """

    dtype: Any
    sharding: Sharding | ShardingRule | None = None
    prepare: bool = False

    def __call__(self, path: str, value: np.ndarray) -> jax.Array:
        """Where one parameter belongs, in the form it belongs there."""
        where = self.sharding(path, value.shape) if callable(self.sharding) else None
        where = where or self.sharding
        if self.prepare:
            on = jax.devices()[0]
            if isinstance(where, Sharding):
                on = min(where.addressable_devices, key=lambda device: device.id)
            with jax.default_device(on):
                value = winograd.prepare(value, path)
            if callable(self.sharding):  # by the shape that it has now
                where = self.sharding(path, value.shape)
        return jax.device_put(value, where)


def place(
    network: str, tensors: Tensors, expected: dict[str, Any], placing: Placing
) -> dict[str, Any]:
    """Read, turn, cast, prepare and place one tensor at a time.

    Args:
      expected: a tree of the parameters that are wanted, with their shapes.
    """

    def one(path, leaf):
        keys = path_keys(path)
        value = tensors.read(tensor_name(keys))
        # Files have outputs first; the inverse permutation puts them last.
        turned = value.transpose(np.argsort(to_file(keys, leaf.ndim)))
        return placing("/".join((network, *keys)), _copied(turned, placing.dtype))

    return jax.tree_util.tree_map_with_path(one, expected)


def _copied(turned: np.ndarray, dtype: Any) -> np.ndarray:
    """A copy in order, some outputs at a time, so that the cache holds what is read."""
    copy = np.empty(turned.shape, dtype)
    for first in range(0, turned.shape[-1], OUTPUTS):
        some = np.s_[..., first : first + OUTPUTS]
        copy[some] = turned[some]
    return copy


def drawn(shapes: dict[str, Any], seed: np.ndarray) -> dict[str, Any]:
    """Random float32 parameters; each depends on the seed and its own path only.

    Kernels and tables are normal with variance 1 / inputs, norms start as the identity.
    """

    def one(path, leaf):
        return _random(seed, path_keys(path), leaf.shape)

    return jax.tree_util.tree_map_with_path(one, shapes)


def redrawn(frozen: dict[str, Any], seed: int) -> dict[str, Any]:
    """As `drawn` in the place of loaded ones: their form, type and placement."""

    def one(path, leaf):
        keys, shape = path_keys(path), winograd.plain_shape(leaf.shape)
        value = _random(np.array([seed]), keys, shape)
        if shape != leaf.shape:
            with jax.default_device(hardware.device_of(leaf)):
                value = winograd.prepare(value, "/".join(keys))
        return jax.device_put(value.astype(leaf.dtype), leaf.sharding)

    return jax.tree_util.tree_map_with_path(one, frozen)


def _random(seed: np.ndarray, keys: tuple[str, ...], shape: tuple[int, ...]) -> Any:
    """Drawn by numpy: compiling Flax's initialisers for a UNet takes a minute."""
    if keys[-1] in ("bias", "scale"):
        return np.full(shape, float(keys[-1] == "scale"), np.float32)
    looked_up = keys[-1] in ("embedding", "table")
    inputs = shape[-1] if looked_up else math.prod(shape[:-1])
    generator = np.random.default_rng([*seed, zlib.crc32("/".join(keys).encode())])
    return generator.standard_normal(shape, np.float32) / np.float32(inputs**0.5)
