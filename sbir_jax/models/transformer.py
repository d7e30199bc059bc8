"""The transformer of the UNet's cross-attention blocks, and its layers."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from sbir_jax.models.kernels.attention import attend, attend_with_map
from sbir_jax.models.kernels.convolutions import Conv
from sbir_jax.models.kernels.norms import GroupNorm, RootMeanSquareNorm, layer_norm
from sbir_jax.models.kernels.products import dense
from sbir_jax.models.unet_names import ATTENTIONS, attention_kinds

# Keys and values beside those of an attention layer's own input: [e c] for all images,
# or [s e c], each for b / s images in a row.
KeyValues = tuple[Float[Array, "..."], Float[Array, "..."]]
# What is added to an attention layer's own keys and values: [1 c] for all texts, or
# [s c], one for each.
Shift = tuple[Float[Array, "_ _"], Float[Array, "_ _"]]
# Of what an attention layer computes, by the names of `ATTENTION_PARTS`, what was asked
# for.
Found = dict[str, Float[Array, "..."]]
HEAD_EPS = 1e-6


class Attention(nn.Module):
    """Projections around `attend`: self-attention, or cross-attention to `context`."""

    heads: int
    qkv_bias: bool = False
    dtype: Any = jnp.float32
    normed: bool = False  # queries and keys, by `norm_heads`

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n c"],
        context: Float[Array, "s m d"] | None = None,
        asked: Collection[str] = (),
        extra: KeyValues | None = None,
        shift: Shift | None = None,
        seen: Bool[Array, "s m"] | None = None,
    ) -> tuple[Float[Array, "b n c"], Found]:
        """Attention to the context, which serves b / s images in a row, or to x itself.

        Args:
          asked: of "maps" (probabilities), "logits", both float32, "queries" and
            "outputs" (the layer's own result, before it is added), what to hand out.
          extra: keys and values to attend to as well; they come last in the maps.
          shift: is added to the own keys and values, the same at every position.
          seen: which positions of the context are attended to; all without it.
        """
        source = x if context is None else context
        width = x.shape[-1]

        def project(name, bias):
            return dense(width, self.dtype, name, use_bias=bias)

        def for_each(rows):
            return jnp.repeat(rows, len(x) // len(rows), axis=0)

        q = project("to_q", self.qkv_bias)(x)
        k, v = (
            for_each(project(name, self.qkv_bias)(source)) for name in ("to_k", "to_v")
        )
        if self.normed:
            q, k = (
                norm_heads(f"norm_{name}", rows, self.heads)
                for name, rows in (("q", q), ("k", k))
            )
        k, v = with_given((k, v), extra, shift)
        found = {"queries": q.reshape(*q.shape[:2], self.heads, -1).swapaxes(1, 2)}
        mask = None
        if seen is not None:
            more = k.shape[1] - seen.shape[1]  # the extra keys, which all are seen
            mask = jnp.pad(for_each(seen), ((0, 0), (0, more)), constant_values=True)
            mask = mask[:, None]
        if mask is not None or {"maps", "logits"} & set(asked):
            mapped = attend_with_map(q, k, v, self.heads, mask)
            y, found["maps"], found["logits"] = mapped
        else:
            y = attend(q, k, v, self.heads)
        y = found["outputs"] = project("to_out_0", True)(y)
        return y, {name: found[name] for name in asked}


def norm_heads(
    name: str, x: Float[Array, "b n c"], heads: int
) -> Float[Array, "b n c"]:
    """Queries or keys with each head's over the root of its mean square, times a scale,
    so that logits stay small (Esser et al. 2024, section 5.3.2); a layer of its own."""
    rows = x.reshape(*x.shape[:2], heads, -1)
    return (
        RootMeanSquareNorm(HEAD_EPS, name=name)(rows).reshape(x.shape).astype(x.dtype)
    )


def with_given(
    own: KeyValues, extra: KeyValues | None, shift: Shift | None
) -> KeyValues:
    """A layer's own keys and values [b m c], with what is added to them, and then with
    those beside them."""

    def for_each(rows, like):
        rows = rows.astype(like.dtype)
        return jnp.repeat(rows, len(like) // len(rows), axis=0)

    k, v = own
    if shift is not None:
        k, v = (
            x + for_each(rows, x)[:, None]
            for x, rows in zip((k, v), shift, strict=True)
        )
    if extra is not None:
        more = (rows[None] if rows.ndim == 2 else rows for rows in extra)
        k, v = (
            jnp.concatenate([x, for_each(rows, x)], axis=1)
            for x, rows in zip((k, v), more, strict=True)
        )
    return k, v


class FeedForward(nn.Module):
    """Gated linear unit with the exact GELU, then a projection back."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        width = x.shape[-1]
        gated = GEGLU(4 * width, self.dtype, name="net_0")(x)
        return dense(width, self.dtype, "net_2")(gated)


class GEGLU(nn.Module):
    """One projection, split in values and gates."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n f"]:
        x = dense(2 * self.features, self.dtype, "proj")(x)
        values, gates = jnp.split(x, 2, axis=-1)
        return _gated(values, gates)


@jax.custom_vjp
def _gated(values, gates):
    """Values times the exact GELU of the gates, of which a gradient keeps just these.

    By the error function: XLA's complement of it, which `nn.gelu` takes, is dearer.
    """
    return values * (gates * _below(gates))


def _below(x):
    """The normal distribution up to x, computed in float32, returned in x's type."""
    wide = x.astype(jnp.float32)
    return (0.5 + 0.5 * jax.lax.erf(wide * 2**-0.5)).astype(x.dtype)


def _gated_forward(values, gates):
    return _gated(values, gates), (values, gates)


def _gated_backward(kept, g):
    # The barrier keeps them, and not what the forward pass computed of them.
    values, gates = jax.lax.optimization_barrier(kept)
    below = _below(gates)
    density = jnp.exp(-0.5 * jnp.square(gates)) * (2 * jnp.pi) ** -0.5
    return g * (gates * below), g * values * (below + gates * density)


_gated.defvjp(_gated_forward, _gated_backward)


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention and a feed-forward layer, each residual."""

    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n c"],
        context: Float[Array, "s m d"],
        asked: Mapping[str, Collection[str]] = MappingProxyType({}),
        kv: Mapping[str, KeyValues | None] = MappingProxyType({}),
        shift: Mapping[str, Shift | None] = MappingProxyType({}),
    ) -> tuple[Float[Array, "b n c"], dict[str, Found]]:
        """Arguments and results of `Attention`, under "self" and "cross"."""
        found = {}
        for kind, number, source in (("self", 1, None), ("cross", 2, context)):
            attention = Attention(self.heads, dtype=self.dtype, name=f"attn{number}")
            y, found[kind] = attention(
                layer_norm(f"norm{number}")(x),
                source,
                asked.get(kind, ()),
                kv.get(kind),
                shift.get(kind),
            )
            x = x + y
        return x + FeedForward(self.dtype, name="ff")(layer_norm("norm3")(x)), found


class Transformer(nn.Module):
    """Transformer blocks over the pixels of an image."""

    heads: int
    groups: int
    linear: bool
    depth: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        context: Float[Array, "s m d"],
        asked: Mapping[str, Collection[str]] = MappingProxyType({}),
        kv: Mapping[str, KeyValues | None] = MappingProxyType({}),
        shift: Mapping[str, Shift | None] = MappingProxyType({}),
    ) -> tuple[Float[Array, "b h w c"], dict[str, Found]]:
        """As `TransformerBlock`, under the names that `attention_kinds` gives to those
        of each block, and with rows and columns of pixels in what is found."""
        b, h, w, c = x.shape

        def project(name, y):
            # The same arithmetic on a kernel of another shape in the checkpoint.
            if self.linear:
                return dense(c, self.dtype, name)(y)
            return Conv(c, 1, dtype=self.dtype, name=name)(y)

        y = GroupNorm(self.groups, 1e-6, name="norm")(x)
        y = project("proj_in", y).reshape(b, h * w, c)
        found: dict[str, Found] = {}
        for k, kinds in enumerate(attention_kinds(self.depth)):
            name = f"transformer_blocks_{k}"
            own: dict[Any, str] = dict(zip(ATTENTIONS, kinds, strict=True))
            y, of_block = TransformerBlock(self.heads, self.dtype, name=name)(
                y,
                context,
                {kind: asked.get(theirs, ()) for kind, theirs in own.items()},
                {kind: kv.get(theirs) for kind, theirs in own.items()},
                {kind: shift.get(theirs) for kind, theirs in own.items()},
            )
            found |= {own[kind]: values for kind, values in of_block.items()}
        y = project("proj_out", y.reshape(b, h, w, c))
        found = {
            kind: {
                name: rows.reshape(*rows.shape[:-2], h, w, rows.shape[-1])
                for name, rows in maps.items()
            }
            for kind, maps in found.items()
        }
        return x + y, found
