"""Attention of patches and text to one another, in one softmax over both.

After Esser et al. (2024), section 4: each stream has its own projections; queries of
both see the keys of both.
"""

from collections.abc import Collection, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sbir_jax.models.kernels.attention import attend, attend_with_map
from sbir_jax.models.kernels.products import dense
from sbir_jax.models.transformer import (
    Found,
    KeyValues,
    Shift,
    norm_heads,
    with_given,
)
from sbir_jax.models.unet_names import ATTENTIONS

# The projections of each stream to queries, keys and values, and its result's.
PATCHES = ("to_q", "to_k", "to_v", "to_out_0")
TEXT = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
MAPPED = {"maps", "logits", "outputs"}  # what needs all probabilities


class JointAttention(nn.Module):
    """Attention to the patches ("self") and to the text ("cross") at once.

    Attributes:
      normed: whether queries and keys are normalised, by `norm_heads`.
      last: nothing reads what it would make of the text.
    """

    heads: int
    normed: bool = False
    last: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n c"],
        text: Float[Array, "b m c"],
        asked: Mapping[str, Collection[str]],
        extra: Mapping[str, KeyValues | None],
        shift: Mapping[str, Shift | None],
    ) -> tuple[Float[Array, "b n c"], Float[Array, "b m c"] | None, dict[str, Found]]:
        """The results for patches and for the text, and what was asked for.

        Args:
          asked: as of `Attention`, of either kind of keys. Maps of both kinds are 1 in
            all together; outputs are the parts that both kinds of values have in the
            patches' result, the bias in that of "self".
          extra: keys and values beside those of either kind, for all queries; they come
            last in that kind's maps.
          shift: is added to all keys and values of either kind.
        """
        q, *own = self._projected(x, PATCHES, "norm_")
        # Those of the last layer's text are not used, but they are in the files.
        q_text, *told = self._projected(text, TEXT, "norm_added_")
        pairs = {
            kind: with_given((k, v), extra[kind], shift[kind])
            for kind, (k, v) in zip(ATTENTIONS, (own, told), strict=True)
        }
        k, v = (jnp.concatenate(rows, 1) for rows in zip(*pairs.values(), strict=True))
        out = dense(x.shape[-1], self.dtype, PATCHES[-1])
        queries = q.reshape(*q.shape[:2], self.heads, -1).swapaxes(1, 2)
        found: dict[str, Found] = {kind: {"queries": queries} for kind in ATTENTIONS}
        # Patches and text ask one after the other: kernels for long sequences take an
        # even number of queries, as patches mostly are.
        if MAPPED & {what for whats in asked.values() for what in whats}:
            y, maps, logits = attend_with_map(q, k, v, self.heads)
            first = pairs["self"][0].shape[1]
            for kind, part in zip(
                ATTENTIONS, (np.s_[..., :first], np.s_[..., first:]), strict=True
            ):
                found[kind] |= {"maps": maps[part], "logits": logits[part]}
                read = _read(maps[part], pairs[kind][1])
                found[kind]["outputs"] = out(read)
            found["cross"]["outputs"] -= out(jnp.zeros_like(x[:1, :1]))
        else:
            y = attend(q, k, v, self.heads)
        words = None
        if not self.last:
            words = attend(q_text, k, v, self.heads)
            words = dense(x.shape[-1], self.dtype, TEXT[-1])(words)
        handed = {k: {name: found[k][name] for name in asked[k]} for k in ATTENTIONS}
        return out(y), words, handed

    def _projected(
        self, x: Float[Array, "b n c"], names: tuple[str, ...], norm: str
    ) -> list[Float[Array, "b n c"]]:
        """Queries, keys and values, by layers of these names."""
        q, k, v = (dense(x.shape[-1], self.dtype, name)(x) for name in names[:3])
        if self.normed:
            q, k = (
                norm_heads(f"{norm}{name}", rows, self.heads)
                for name, rows in (("q", q), ("k", k))
            )
        return [q, k, v]


def _read(
    maps: Float[Array, "b heads n m"], values: Float[Array, "b m c"]
) -> Float[Array, "b n c"]:
    """Values of all heads by these shares."""
    v = values.reshape(*values.shape[:2], maps.shape[1], -1)
    y = jnp.einsum("bhnm,bmhd->bnhd", maps.astype(v.dtype), v)
    return y.reshape(*y.shape[:2], -1)
