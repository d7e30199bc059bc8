"""3x3 convolution with a kernel that never changes, by Winograd's minimal filtering.

After Lavin and Gray (CVPR 2016). The kernel is transformed once, when the weights are
loaded, in one of two forms:

* tiles, their F(2x2, 3x3): 2 x 2 results come from the 4 x 4 inputs around them as
  A^T [(G k G^T) * (B^T d B)] A.  Summed over channels these are 16 matrix products with
  4/9 of the direct form's multiplications; 16/9 of the kernel's memory.
* lines, F(4, 3) along a row: 4 results in a row come from 6 inputs, and six direct
  convolutions of 3 x 1 do the rest, with 1/2 of the multiplications; twice the memory.

Lines move less, 3/2 of the image in place of four times: they win on the large images
of an autoencoder, tiles on small ones with many channels.
"""

import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sbir_jax.models.kernels.blocking import largest_divisor
from sbir_jax.models.kernels.products import times_transposed
from sbir_jax.runtime import hardware

# The paper's B^T, G and A^T. Turning a kernel round swaps the outer two rows of G k,
# which gives the transposed convolution, and so the gradient, the same kernel.
INPUT = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)
OUTPUT = ((1, 1, 1, 0), (0, 1, -1, -1))
SIDE = len(INPUT)
TURNED = (3, 1, 2, 0)

# The same for lines: the paper's matrices of F(4x4, 3x3), used along one axis.
LINE_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
LINE_KERNEL = np.array(
    [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]
) / np.array([[24]])
LINE_OUTPUT = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)
# From G k to G k' where k' is k turned round.
LINE_TURN = LINE_KERNEL[:, ::-1] @ np.linalg.pinv(LINE_KERNEL)
LINE = (6, 3)

# Narrower convolutions gain less than the longer compilation costs (measured on CPU).
CHANNELS = 128
# An autoencoder's kernels with fewer inputs than this see large images.
LARGE_IMAGES = 512
# A UNet's innermost layers have a third of its kernels and 4 x 4 pixels for an image of
# 256: reading the kernel is what takes the time there, and a larger one gains nothing.
INNERMOST = ("unet/down_blocks_3/", "unet/mid_block/", "unet/up_blocks_0/")
# A tiny encoder's strided layers have no scope of their own between them and it.
STRIDED = re.compile(r"downsamplers|encoder/layers_\d+/kernel")
# Tiles up to which the gradient's products put the kernel first (measured on CPU).
FEW = 64
# Transformed inputs of this size still fit a processor's cache.
CACHE = 2**23


def prepare(kernel: np.ndarray, path: str) -> np.ndarray:
    """A kernel in the form that convolves fastest on `hardware.platform()`.

    Any parameter may be handed in; all but wide float32 3x3 kernels of stride 1 come
    back as they are, and all do where the platform has good convolutions of its own.

    Args:
      path: where the parameter is, which tells strided convolutions from others.
    Returns: [4 4 in out] for tiles, [6 3 in out] for lines.
    """
    if (
        hardware.platform() != "cpu"
        or kernel.dtype != np.float32
        or kernel.shape[:-2] != (3, 3)
        or min(kernel.shape[-2:]) < CHANNELS
        or STRIDED.search(path)
        or path.startswith(INNERMOST)
    ):
        return kernel
    if path.startswith("vae/") and kernel.shape[2] < LARGE_IMAGES:
        lines = np.einsum("sw,hwcf->shcf", LINE_KERNEL, kernel)
        return lines.astype(np.float32)
    # G k G^T as one product with all nine weights of k.
    both = np.kron(KERNEL, KERNEL)
    tiles = np.tensordot(both, kernel.reshape(9, *kernel.shape[2:]), 1)
    return tiles.reshape(SIDE, SIDE, *kernel.shape[2:])


def plain_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape before `prepare`."""
    return (3, 3, *shape[2:]) if is_prepared(shape) else shape


def is_prepared(shape: tuple[int, ...]) -> bool:
    """No network here has plain kernels of 4 x 4 or 6 x 3."""
    return shape[:-2] in ((SIDE, SIDE), LINE)


@jax.custom_vjp
def convolve(
    x: Float[Array, "b h w c"], kernel: Float[Array, "y x c f"]
) -> Float[Array, "b h w f"]:
    """Convolution with a kernel of `prepare`, zeros outside the image.

    Differentiable in `x` only: TypeError for the gradient of a transformed kernel.
    """
    if kernel.shape[:2] == LINE:
        return _lines(x, kernel)
    return _tiles(x, _flat(kernel))


def _flat(kernel):
    return kernel.reshape(-1, *kernel.shape[2:])


def _forward(x, kernel):
    if kernel.perturbed:
        raise TypeError(
            "transformed kernels are frozen; to train them, load the backbone with "
            "frozen=False"
        )
    return convolve(x.value, kernel.value), kernel.value


def _backward(kernel, gradient):
    if kernel.shape[:2] == LINE:
        turn = LINE_TURN.astype(kernel.dtype)
        turned = jnp.einsum("st,thcf->shfc", turn, kernel[:, ::-1])
        return _lines(gradient, turned), None
    return _tiles(gradient, _flat(kernel), turned=True), None


convolve.defvjp(_forward, _backward, symbolic_zeros=True)


def _lines(x, kernel):
    """[b h w c] by [6 3 c f]; the last line may hang over the edge."""
    b, h, w, _ = x.shape
    count = -(-w // 4)
    x = jnp.pad(x, ((0, 0), (0, 0), (1, 1 + 4 * count - w), (0, 0)))
    parts = [x[:, :, j : j + 4 * count - 3 : 4] for j in range(6)]
    found = [
        jax.lax.conv_general_dilated(
            part,
            column[:, None],
            (1, 1),
            ((1, 1), (0, 0)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        for part, column in zip(_combine(LINE_INPUT, parts), kernel, strict=True)
    ]
    y = jnp.stack(_combine(LINE_OUTPUT, found), 3)
    return y.reshape(b, h, 4 * count, -1)[:, :, :w]


def _tiles(x, kernel, turned=False):
    """Strip by strip of tiles, so that no transformed input leaves the cache.

    All images of the batch are in a strip: the batch may be spread over devices.
    """
    b, h, w, channels = x.shape
    features = kernel.shape[1 if turned else 2]
    rows, columns = -(-h // 2), -(-w // 2)
    x = jnp.pad(x, ((0, 0), (1, 1 + h % 2), (1, 1 + w % 2), (0, 0)))
    # Each strip reads the kernel again, so a strip is not smaller than that.
    most = max(CACHE, kernel.nbytes) // (16 * b * columns * channels * x.itemsize)
    strip = largest_divisor(rows, most)
    if strip == rows:
        y = _strip(x, kernel, turned)
    else:

        def write(i, y):
            start = 2 * strip * i
            part = jax.lax.dynamic_slice_in_dim(x, start, 2 * strip + 2, axis=1)
            part = _strip(part, kernel, turned)
            return jax.lax.dynamic_update_slice_in_dim(y, part, start, axis=1)

        y = jnp.zeros((b, 2 * rows, 2 * columns, features), x.dtype)
        y = jax.lax.fori_loop(0, rows // strip, write, y)
    return y[:, :h, :w]


def _strip(x, kernel, turned):
    """A strip of tiles: [b 2r+2 2s+2 c], margin in place, -> [b 2r 2s f]."""
    b, h, w, channels = x.shape
    order = TURNED if turned else range(SIDE)
    rows = _combine(INPUT, [x[:, i : i + h - 3 : 2] for i in range(SIDE)])
    tiles = []
    for i in order:
        columns = [rows[i][:, :, j : j + w - 3 : 2] for j in range(SIDE)]
        found = _combine(INPUT, columns)
        tiles += [found[j].reshape(-1, channels) for j in order]
    if turned:
        y = times_transposed(jnp.stack(tiles), kernel, FEW)
    else:
        y = jnp.einsum("tpc,tcf->tpf", jnp.stack(tiles), kernel)
    y = y.reshape(SIDE, SIDE, b, h // 2 - 1, w // 2 - 1, -1)
    rows = _combine(OUTPUT, [y[i] for i in order])
    rows = [jnp.stack(_combine(OUTPUT, [row[j] for j in order]), 3) for row in rows]
    return jnp.stack(rows, 2).reshape(b, h - 2, w - 2, -1)


def _combine(matrix: Sequence[Sequence[int]], parts: Sequence[Array]) -> list[Array]:
    """A small matrix times a vector of arrays, written out."""

    def total(row: Sequence[int]) -> Array:
        pairs = [(n, part) for n, part in zip(row, parts, strict=True) if n]
        scaled = [part if abs(n) == 1 else abs(n) * part for n, part in pairs]
        found = scaled[0] if pairs[0][0] > 0 else -scaled[0]
        for (n, _), part in zip(pairs[1:], scaled[1:], strict=True):
            found = found + part if n > 0 else found - part
        return found

    return [total(row) for row in matrix]
