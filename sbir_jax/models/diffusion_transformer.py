"""What diffusion transformers have in common: layers on patches, and patches joined.

Running states have a row and a column for each patch: [b y x f].
"""

from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from sbir_jax.models.kernels.products import dense
from sbir_jax.models.run import Run
from sbir_jax.models.transformer import Attention, Found


class Table(nn.Module):
    """Learned rows, the last axis of which are features."""

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self) -> Float[Array, "..."]:
        start = nn.initializers.normal(self.shape[-1] ** -0.5)
        return self.param("table", start, self.shape)


class GELU(nn.Module):
    """A projection and the GELU, by its approximation with tanh."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b f"]:
        return nn.gelu(dense(self.features, self.dtype, "proj")(x), approximate=True)


class FeedForward(nn.Module):
    """Four times the width, and back."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        width = x.shape[-1]
        wide = GELU(4 * width, self.dtype, name="net_0")(x)
        return dense(width, self.dtype, "net_2")(wide)


def modulated(
    x: Float[Array, "b *n f"],
    shift: Float[Array, "_ *one f"],
    scale: Float[Array, "_ *one f"],
    eps: float,
) -> Float[Array, "b *n f"]:
    """x of mean 0 and variance 1 in each place, scaled and shifted; in x's type."""
    wide = x.astype(jnp.float32)
    wide = wide - wide.mean(-1, keepdims=True)
    variance = jnp.square(wide).mean(-1, keepdims=True)
    return (wide * jax.lax.rsqrt(variance + eps) * (1 + scale) + shift).astype(x.dtype)


def attend_patches(
    run: Run,
    name: str,
    layer: Attention,
    x: Float[Array, "b y x f"],
    text: Float[Array, "s n d"] | None = None,
    seen: Bool[Array, "s n"] | None = None,
    gate: Float[Array, "_ 1 1 f"] | None = None,
) -> Iterator[tuple[str, str, Any]]:
    """An attention layer on all patches, to the text or among them. Yields what was
    asked of it; returns what is to be added to the running state, times the gate."""
    given = run.extra(name, x), run.shift(name, x)
    y, found = layer(as_rows(x), text, run.parts(name), *given, seen)
    if gate is not None:
        y = (gate[:, :, 0] * y).astype(x.dtype)
    if "outputs" in found:
        found["outputs"] = y
    yield from handed_out(name, found, x)
    return y.reshape(x.shape)


def as_rows(x: Float[Array, "b y x f"]) -> Float[Array, "b n f"]:
    """All patches one after the other."""
    return x.reshape(len(x), -1, x.shape[-1])


def handed_out(
    name: str, found: Found, x: Float[Array, "b y x f"]
) -> Iterator[tuple[str, str, Any]]:
    """What an attention layer on the patches of `x` found, with rows and columns."""
    for what, value in found.items():
        shape = (*value.shape[:-2], *x.shape[1:3], value.shape[-1])
        yield what, name, value.reshape(shape)


def picture(x: Float[Array, "b y x f"], side: int) -> Float[Array, "b h w c"]:
    """Patches of `side` x `side` pixels put side by side."""
    b, rows, columns, _ = x.shape
    cut = x.reshape(b, rows, columns, side, side, -1).transpose(0, 1, 3, 2, 4, 5)
    return cut.reshape(b, rows * side, columns * side, -1)


def check_patches(
    latents: tuple[int, ...], text: int, side: int, channels: int, width: int
) -> None:
    """Raise ValueError unless latents of this shape, b h w c, and text states of so
    many channels suit a transformer of patches of `side` x `side`."""
    _, h, w, given = latents
    if h % side or w % side or not h or not w:
        raise ValueError(
            f"latents are {h} x {w}; this transformer cuts them into patches, so both "
            f"must be multiples of {side}"
        )
    if given != channels or text != width:
        raise ValueError(
            f"latents have {given} channels and context {text}; this transformer takes "
            f"{channels} and {width}"
        )
