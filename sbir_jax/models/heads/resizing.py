"""Resizing of activations by the conventions of published heads, which differ.

A resize along one axis is a matrix; jax.image has neither the sampling that puts
corners on corners nor PyTorch's cubic kernel.
"""

import functools
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Kind = Literal["linear", "corners", "cubic"]
CUBIC = -0.75  # of Keys' kernels the one that PyTorch and OpenCV take


@functools.cache
def matrix(old: int, new: int, kind: Kind) -> Float[np.ndarray, "new old"]:
    """Weights of the old samples in each new one; every row sums to 1.

    Args:
      kind: "linear" between pixel centres, "corners" where the first and the last
        samples stay in place (align_corners), or "cubic" between pixel centres.
    """
    if kind == "corners":
        at = np.arange(new) * ((old - 1) / max(new - 1, 1))
    else:
        at = (np.arange(new) + 0.5) * old / new - 0.5
    if kind != "cubic":
        at = np.clip(at, 0, old - 1)
    low = np.floor(at).astype(int)
    reach = (-1, 0, 1, 2) if kind == "cubic" else (0, 1)
    found = np.zeros((new, old))
    for step in reach:
        weight = _kernel(np.abs(at - low - step), kind)
        # Beyond the border its last sample goes on.
        np.add.at(found, (np.arange(new), np.clip(low + step, 0, old - 1)), weight)
    return found.astype(np.float32)


def _kernel(distance: np.ndarray, kind: Kind) -> np.ndarray:
    if kind != "cubic":
        return 1 - distance
    a, x = CUBIC, distance
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, far)


def resize(
    x: Float[Array, "b h w c"], size: tuple[int, int], kind: Kind = "linear"
) -> Float[Array, "b y x c"]:
    """To `size` rows and columns, without smoothing where that is smaller."""
    if x.shape[1:3] == size:
        return x
    rows, columns = (
        jnp.asarray(matrix(old, new, kind), x.dtype)
        for old, new in zip(x.shape[1:3], size, strict=True)
    )
    return jnp.einsum("yh,bhwc,xw->byxc", rows, x, columns)


def double(x: Float[Array, "b h w c"]) -> Float[Array, "b y x c"]:
    """Twice the rows and columns, linear between pixel centres."""
    return resize(x, (2 * x.shape[1], 2 * x.shape[2]))


def nearest(x: Float[Array, "b h w c"], size: tuple[int, int]) -> Array:
    """Each sample repeated, to a multiple of the rows and columns."""
    for axis, new in zip((1, 2), size, strict=True):
        x = jnp.repeat(x, new // x.shape[axis], axis)
    return x
