"""Stable Diffusion 3's diffusion transformer, handing out named activations.

After Esser et al. (2024), a multimodal diffusion transformer: patches of the latent and
text states are two streams of the same width. Each block has weights of its own for
either, scales, shifts and gates them by the timestep and the pooled text, and lets them
attend to one another in one layer. Those of 3.5 normalise queries and keys, and some of
its blocks attend among patches once more. Runs as `UNet` does.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from sbir_jax.models.block_names import (
    DUAL,
    attention_names,
    residual_names,
    tap_names,
)
from sbir_jax.models.diffusion_transformer import (
    FeedForward,
    Table,
    as_rows,
    attend_patches,
    check_patches,
    handed_out,
    modulated,
    picture,
)
from sbir_jax.models.joint_attention import JointAttention
from sbir_jax.models.kernels.convolutions import Conv
from sbir_jax.models.kernels.products import dense
from sbir_jax.models.mmdit_config import MMDiTConfig
from sbir_jax.models.run import Names, Run, check_batch, collect
from sbir_jax.models.time_embedding import TimeEmbedding, sinusoids
from sbir_jax.models.transformer import Attention, KeyValues, Shift
from sbir_jax.models.unet_names import ATTENTIONS
from sbir_jax.types import Readout

SINUSOIDS = 256  # of the timestep
EPS = 1e-6  # of every norm


class Patches(nn.Module):
    """A vector for each patch of the latent, with its position.

    Positions are those of the middle of one large table, which are not stretched.
    """

    config: MMDiTConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b y x f"]:
        c = self.config
        side, most = c.patch_size, c.pos_embed_max_size
        proj = Conv(c.width, side, side, (0, 0), dtype=self.dtype, name="proj")
        table = Table((1, most**2, c.width), name="pos_embed")()
        x = proj(x)
        rows, columns = x.shape[1:3]
        top, left = (most - rows) // 2, (most - columns) // 2
        places = table.reshape(1, most, most, c.width)
        places = places[:, top : top + rows, left : left + columns]
        return x + places.astype(x.dtype)


class Moment(nn.Module):
    """One vector of the timestep and of the pooled text."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, t: Float[Array, "_"], pooled: Float[Array, "b e"]
    ) -> Float[Array, "b f"]:
        waves = sinusoids(t, SINUSOIDS, cosine_first=True, shift=0)
        time, text = (
            TimeEmbedding(self.features, self.dtype, name=name)(x.astype(self.dtype))
            for name, x in (("timestep_embedder", waves), ("text_embedder", pooled))
        )
        return time + text


class Vectors(nn.Module):
    """What scales, shifts and gates a stream, in float32."""

    count: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, moment: Float[Array, "b f"]) -> list[Float[Array, "b 1 1 f"]]:
        width = self.count * moment.shape[-1]
        found = nn.Dense(width, dtype=self.dtype, name="linear")(nn.silu(moment))
        found = found.astype(jnp.float32)[:, None, None]
        return jnp.split(found, self.count, axis=-1)


class Block(nn.Module):
    """The layers of one block. It has no call: the network runs them one by one."""

    config: MMDiTConfig
    number: int
    dtype: Any = jnp.float32

    def setup(self):
        c, dtype = self.config, self.dtype
        heads, normed = c.num_attention_heads, c.qk_norm is not None
        self.last = self.number == c.num_layers - 1
        self.dual = self.number in c.dual_attention_layers
        self.norm1 = Vectors(9 if self.dual else 6, dtype)
        self.norm1_context = Vectors(2 if self.last else 6, dtype)
        self.attn = JointAttention(heads, normed, self.last, dtype)
        self.attn2 = Attention(heads, True, dtype, normed)
        self.ff = FeedForward(dtype)
        self.ff_context = FeedForward(dtype)


class MMDiT(nn.Module):
    """The velocity-predicting network, with every intermediate result by name."""

    config: MMDiTConfig
    dtype: Any = jnp.float32

    def setup(self):
        c = self.config
        self.pos_embed = Patches(c, self.dtype)
        self.time_text_embed = Moment(c.width, self.dtype)
        self.context_embedder = dense(c.width, self.dtype)
        self.transformer_blocks = [Block(c, i, self.dtype) for i in range(c.num_layers)]
        self.norm_out = Vectors(2, self.dtype)
        self.proj_out = dense(c.patch_size**2 * c.in_channels, self.dtype)

    def __call__(
        self,
        latents: Float[Array, "b h w c"],
        t: ArrayLike,
        context: Float[Array, "s n d"],
        pooled: Float[Array, "_ e"],
        taps: tuple[str, ...] = ("out",),
        maps: tuple[str, ...] = (),
        logits: tuple[str, ...] = (),
        kv: Mapping[str, KeyValues] | None = None,
        residuals: Mapping[str, Float[Array, "_ _ _ _"]] | None = None,
        kv_shift: Mapping[str, Shift] | None = None,
        queries: tuple[str, ...] = (),
        outputs: tuple[str, ...] = (),
    ) -> Readout:
        """Run up to the last thing asked for; what is not said here is as of `UNet`.

        Args:
          latents: height and width are multiples of `config.patch_size`, with at most
            `config.pos_embed_max_size` patches along a side.
          t: 1000 times the share of noise, whole or not.
          context: text states, d = `config.joint_attention_dim`.
          pooled: of each text or of all, e = `config.pooled_projection_dim`.
          taps, maps and so on: by the names of `block_names`. A tap has a place for
            each patch. `out` is the predicted velocity, noise less clean latents.
        Raises:
          ValueError: unknown name, nothing asked for, or shapes that do not fit.
        """
        kv, residuals = dict(kv or {}), dict(residuals or {})
        kv_shift = dict(kv_shift or {})
        asked = {"taps": taps, "maps": maps, "logits": logits}
        asked |= {"queries": queries, "outputs": outputs}
        c = self.config
        names = Names(tap_names(c), attention_names(c), residual_names(c))
        names.check(asked, kv, residuals, kv_shift)
        c_in, c_text = c.in_channels, c.joint_attention_dim
        check_patches(latents.shape, context.shape[-1], c.patch_size, c_in, c_text)
        check_batch(len(latents), len(context), jnp.shape(t))
        self._check(latents.shape, pooled.shape, len(context))
        time = jnp.atleast_1d(jnp.asarray(t, jnp.float32))[:, None]
        run = Run(time, context, asked, kv, residuals, kv_shift)
        return collect(self._run(run, latents, pooled), asked)

    def _check(self, latents, pooled, texts):
        c = self.config
        most = c.patch_size * c.pos_embed_max_size
        if max(latents[1:3]) > most:
            raise ValueError(
                f"latents are {latents[1]} x {latents[2]}; this transformer has "
                f"positions for {most} x {most} (pos_embed_max_size in its config): "
                "give smaller images"
            )
        width = c.pooled_projection_dim
        if pooled not in ((1, width), (texts, width)):
            raise ValueError(
                f"the pooled text has shape {pooled}; give [1, {width}] for all texts, "
                f"or [{texts}, {width}], one for each"
            )

    def _run(self, run: Run, latents, pooled) -> Iterator[tuple[str, str, Any]]:
        """Yield (kind, name, value) of everything, in the order it is computed in."""

        def for_each(rows):
            return jnp.repeat(rows, len(latents) // len(rows), axis=0)

        x = run.plus("patches", self.pos_embed(latents))
        yield "taps", "patches", x
        moment, text = self.time_text_embed(run.time[:, 0], for_each(pooled)), None
        for i, block in enumerate(self.transformer_blocks):
            name, vectors = f"block.{i}", block.norm1(moment)
            shift, scale, gate, *wide = vectors[:6]
            y = modulated(x, shift, scale, EPS)
            yield "taps", f"{name}.modulated", y
            if text is None:  # only where a run comes to it
                text = for_each(self.context_embedder(run.context))
            shift, scale, *told = (rows[:, 0] for rows in block.norm1_context(moment))
            if block.last:  # its norm is of another class, with the scale first
                shift, scale = scale, shift
            words = modulated(text, shift, scale, EPS)
            y, words = yield from _attend(run, name, block.attn, y, words, gate)
            again = None
            if block.dual:
                again = modulated(x, vectors[6], vectors[7], EPS)
            x = x + y
            if again is not None:
                given = f"{name}.{DUAL}", block.attn2, again
                x = x + (yield from attend_patches(run, *given, gate=vectors[8]))
            x = run.plus(name, _widened(block.ff, x, *wide))
            yield "taps", name, x
            if words is not None:
                text = text + (told[0] * words).astype(text.dtype)
                text = _widened(block.ff_context, text, *told[1:])
        scale, shift = self.norm_out(moment)
        y = self.proj_out(modulated(x, shift, scale, EPS))
        yield "taps", "out", picture(y, self.config.patch_size)


def _widened(layer, x, shift, scale, gate):
    """x and what a feed-forward layer makes of it."""
    y = layer(modulated(x, shift, scale, EPS))
    return x + (gate * y).astype(x.dtype)


def _attend(run, name, layer, x, text, gate):
    """A joint attention layer. Yields what was asked of it; returns what is to be added
    to the patches' state, times the gate, and what it made of the text."""
    names = {kind: f"{name}.{kind}" for kind in ATTENTIONS}
    asked = {kind: run.parts(full) for kind, full in names.items()}
    extra = {kind: run.extra(full, x) for kind, full in names.items()}
    shift = {kind: run.shift(full, x) for kind, full in names.items()}
    y, words, found = layer(as_rows(x), text, asked, extra, shift)
    for kind, full in names.items():
        if "outputs" in found[kind]:
            part = gate[:, :, 0] * found[kind]["outputs"]
            found[kind]["outputs"] = part.astype(x.dtype)
        yield from handed_out(full, found[kind], x)
    return (gate * y.reshape(x.shape)).astype(x.dtype), words
