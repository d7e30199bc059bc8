"""Convolutions, channels last."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Float

from sbir_jax.models.kernels import winograd
from sbir_jax.models.kernels.products import product
from sbir_jax.runtime import hardware

# Up to this many output pixels a 3x3 convolution is done as one matrix product over
# stacked patches: XLA's CPU convolution is up to 15 times slower at 2 x 2. With large
# kernels it is at 4 x 4 too: convolutions there cost two seconds of a training step of
# Stable Diffusion at 256 px.
PATCH_PIXELS = 4
PATCH_PIXELS_LARGE, LARGE_KERNEL = 16, 2**20


class Conv(nn.Module):
    """Square convolution, mostly with bias; the kernel is (size, size, in, out).

    `padding` is (before, after) on both spatial axes, `size // 2` each by default.
    With `enlarge` the image is made twice as high and wide first, by nearest neighbour.
    Where the kernel is given in the form of `winograd.prepare`, that is what is used.
    """

    features: int
    size: int = 3
    stride: int = 1
    padding: tuple[int, int] | None = None
    use_bias: bool = True
    enlarge: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b y x f"]:
        given = self.get_variable("params", "kernel")
        window, transformed = (self.size, self.size), False
        if (self.size, self.stride, self.padding) == (3, 1, None) and given is not None:
            transformed = winograd.is_prepared(given.shape)
            window = given.shape[:2] if transformed else window
        shape = (*window, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = jnp.zeros(shape[-1:])
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, shape[-1:])
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        bias = bias[None, None, None]
        if self.enlarge:
            direct = hardware.platform() != "cpu" or transformed
            if not direct and 4 * x[0, ..., 0].size > PATCH_PIXELS_LARGE:
                return _convolve_enlarged(x, kernel) + bias
            x = x.repeat(2, axis=1).repeat(2, axis=2)
        if transformed:
            return winograd.convolve(x, kernel) + bias
        if self.size == 1:
            return product(x, kernel[0, 0]) + bias
        pad = self.padding or (self.size // 2, self.size // 2)
        rows, columns = (
            (n + sum(pad) - self.size) // self.stride + 1 for n in x.shape[1:3]
        )
        large = kernel.size >= LARGE_KERNEL
        if rows * columns <= (PATCH_PIXELS_LARGE if large else PATCH_PIXELS):
            x = jnp.pad(x, ((0, 0), pad, pad, (0, 0)))
            step = self.stride
            x = jnp.concatenate(
                [
                    x[:, i : i + step * rows : step, j : j + step * columns : step]
                    for i in range(self.size)
                    for j in range(self.size)
                ],
                axis=-1,
            )
            y = product(x, kernel.reshape(-1, self.features))
        else:
            y = _convolve(self.stride, pad, x, kernel)
        return y + bias


def _plain_convolve(stride, pad, x, kernel):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        (pad, pad),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _convolve(stride, pad, x, kernel):
    """XLA's convolution; on CPU its gradient at stride 2 would multiply by zeros."""
    if stride == 2 and hardware.platform() == "cpu":
        return _convolve_strided(pad, x, kernel)
    return _plain_convolve(stride, pad, x, kernel)


def _convolve_enlarged(x, kernel):
    """3x3 convolution of an image enlarged twice, at the size before it.

    An even row meets two rows of the small image, the upper of them once and its own
    twice; an odd one its own twice, and the lower. Four 2x2 convolutions with sums of
    the kernel's rows and columns have 4/9 of the multiplications.
    """
    sums = np.array([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]], kernel.dtype)
    parts = jnp.einsum("ary,bsx,yxcf->abrscf", sums, sums, kernel)
    rows = [
        jnp.stack(
            [
                jax.lax.conv_general_dilated(
                    x,
                    parts[i, j],
                    (1, 1),
                    ((1 - i, i), (1 - j, j)),
                    dimension_numbers=("NHWC", "HWIO", "NHWC"),
                )
                for j in (0, 1)
            ],
            axis=3,
        )
        for i in (0, 1)
    ]
    b, h, w, _ = x.shape
    return jnp.stack(rows, axis=2).reshape(b, 2 * h, 2 * w, -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _convolve_strided(pad, x, kernel):
    return _plain_convolve(2, pad, x, kernel)


def _strided_forward(pad, x, kernel):
    return _convolve_strided(pad, x, kernel), (x, kernel)


def _strided_backward(pad, kept, g):
    """Even and odd rows and columns meet other parts of the kernel: four convolutions,
    which together multiply as often as the layer does."""
    x, kernel = kept
    _, h, w, _ = x.shape

    def taps(parity):
        """Pixel 2 m + parity meets kernel row k in result m + shift, for these k by
        falling k, which is by rising shift; and the first shift."""
        rows = [k for k in range(len(kernel)) if (parity + pad[0] - k) % 2 == 0][::-1]
        return rows, (parity + pad[0] - rows[0]) // 2

    def phase(i, j):
        (rows, up), (columns, left) = taps(i), taps(j)
        lengths = (
            (-(-h // 2), len(rows), up, g.shape[1]),
            (-(-w // 2), len(columns), left, g.shape[2]),
        )
        return jax.lax.conv_general_dilated(
            g,
            kernel[np.ix_(rows, columns)],
            (1, 1),
            [(-first, n + size - 1 + first - m) for n, size, first, m in lengths],
            dimension_numbers=("NHWC", "HWOI", "NHWC"),
        )

    rows = [jnp.stack([phase(i, 0), phase(i, 1)], axis=3) for i in (0, 1)]
    y = jnp.stack(rows, axis=2)
    b, m, _, n, _, c = y.shape
    dx = y.reshape(b, 2 * m, 2 * n, c)[:, :h, :w]
    _, back = jax.vjp(functools.partial(_plain_convolve, 2, pad, x), kernel)
    return dx, *back(g)


_convolve_strided.defvjp(_strided_forward, _strided_backward)
