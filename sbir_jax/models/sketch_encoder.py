"""From a drawing to what is added to a UNet's encoder, level by level.

After the T2I-Adapter (Mou et al., AAAI 2024, section 3.2): the picture is folded to the
side of the latents, then at each level two residual layers, and half the side for the
next. The last convolution of each level begins with zeros (ours), so that an untrained
one changes nothing.
"""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
from jaxtyping import Array, Float


class SketchEncoder(nn.Module):
    """Attributes:
    levels: for each level, the name of its output and its number of channels.
    fold: pixels of a cell of the latents, a side.
    """

    levels: Sequence[tuple[str, int]]
    fold: int

    @nn.compact
    def __call__(self, ink: Float[Array, "b h w 1"]) -> Mapping[str, Array]:
        """What to add, [b y x c] by name; `ink` is 1 where the drawing is black."""
        x = nn.Conv(self.levels[0][1], (3, 3), name="first")(_folded(ink, self.fold))
        found = {}
        for i, (name, channels) in enumerate(self.levels):
            if i:
                x = nn.avg_pool(x, (2, 2), (2, 2), "SAME", count_include_pad=False)
                x = nn.Conv(channels, (1, 1), name=f"level_{i}_in")(x)
            for k in range(2):
                y = nn.relu(nn.Conv(channels, (3, 3), name=f"level_{i}_wide_{k}")(x))
                x = x + nn.Conv(channels, (1, 1), name=f"level_{i}_thin_{k}")(y)
            zeros = nn.initializers.zeros
            last = nn.Conv(channels, (1, 1), kernel_init=zeros, name=f"level_{i}_out")
            found[name] = last(x)
        return found


def _folded(ink: Float[Array, "b h w c"], fold: int) -> Float[Array, "b y x f"]:
    """Squares of `fold` pixels side by side in the channels."""
    b, h, w, c = ink.shape
    x = ink.reshape(b, h // fold, fold, w // fold, fold, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h // fold, w // fold, -1)


def init(encoder: SketchEncoder, key: Array, side: int) -> dict:
    """Parameters for drawings of `side` pixels, and of any other size."""
    shape = jax.ShapeDtypeStruct((1, side, side, 1), "float32")
    found = jax.jit(encoder.init)(key, jax.numpy.zeros(shape.shape, shape.dtype))
    return found["params"]
