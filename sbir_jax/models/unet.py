"""Stable Diffusion's UNet, handing out named activations and attention maps.

The layers run one by one from a generator, and the run stops at the last thing asked
for: what comes later is neither traced nor given parameters.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from sbir_jax.models.kernels.convolutions import Conv
from sbir_jax.models.kernels.norms import GroupNorm
from sbir_jax.models.layers import Downsample, Resnet, Upsample
from sbir_jax.models.run import Names, Run, check_batch, collect
from sbir_jax.models.time_embedding import TimeEmbedding, sinusoids
from sbir_jax.models.transformer import KeyValues, Shift, Transformer
from sbir_jax.models.unet_config import SIZES, UNetConfig
from sbir_jax.models.unet_names import (
    attention_kinds,
    attention_names,
    residual_names,
    tap_names,
)
from sbir_jax.types import Readout


class Block(nn.Module):
    """The layers of one level. It has no call: the UNet runs its layers one by one."""

    config: UNetConfig
    features: int
    heads: int
    layers: int
    depths: tuple[int, ...]  # of the transformers, one after each of the first layers
    resample: type[nn.Module] | None
    dtype: Any = jnp.float32

    def setup(self):
        c = self.config
        self.resnets = [
            Resnet(self.features, c.norm_num_groups, c.norm_eps, self.dtype)
            for _ in range(self.layers)
        ]
        groups, linear = c.norm_num_groups, c.use_linear_projection
        self.attentions = [
            Transformer(self.heads, groups, linear, depth, self.dtype)
            for depth in self.depths
        ]
        if self.resample is Downsample:
            self.downsamplers = [Downsample(self.features, dtype=self.dtype)]
        if self.resample is Upsample:
            self.upsamplers = [Upsample(self.features, dtype=self.dtype)]


class UNet(nn.Module):
    """The noise-predicting network, with every intermediate result by name."""

    config: UNetConfig
    dtype: Any = jnp.float32

    def setup(self):
        c = self.config
        channels, levels = c.block_out_channels, len(c.block_out_channels)
        last = levels - 1

        def block(level, layers, depths, resample):
            width, heads = channels[level], c.heads[level]
            return Block(c, width, heads, layers, depths, resample, self.dtype)

        self.conv_in = Conv(channels[0], dtype=self.dtype)
        self.time_embedding = TimeEmbedding(4 * channels[0], self.dtype)
        if c.addition_embed_type:
            self.add_embedding = TimeEmbedding(4 * channels[0], self.dtype)
        layers, depths = c.side_layers("down"), c.depths("down")
        self.down_blocks = [
            block(i, layers[i], depths[i], Downsample if i < last else None)
            for i in range(levels)
        ]
        if c.mid_block_type:
            self.mid_block = block(last, 2, c.depths("mid")[0], None)
        layers, depths = c.side_layers("up"), c.depths("up")
        self.up_blocks = [
            block(last - i, layers[i], depths[i], Upsample if i < last else None)
            for i in range(levels)
        ]
        self.conv_norm_out = GroupNorm(c.norm_num_groups, c.norm_eps, silu=True)
        self.conv_out = Conv(c.out_channels, dtype=self.dtype)

    def __call__(
        self,
        latents: Float[Array, "b h w c"],
        t: ArrayLike,
        context: Float[Array, "s n d"],
        taps: tuple[str, ...] = ("out",),
        maps: tuple[str, ...] = (),
        logits: tuple[str, ...] = (),
        kv: Mapping[str, KeyValues] | None = None,
        residuals: Mapping[str, Float[Array, "_ _ _ _"]] | None = None,
        kv_shift: Mapping[str, Shift] | None = None,
        queries: tuple[str, ...] = (),
        outputs: tuple[str, ...] = (),
        pooled: Float[Array, "_ p"] | None = None,
        sizes: Float[Array, "_ 6"] | None = None,
    ) -> Readout:
        """Run up to the last thing asked for.

        Args:
          latents: scaled latents with the noise of step `t`; height and width are
            multiples of `config.stride`.
          t: timestep, one for all images or one each (shape [] or [b]).
          context: text states, d = `config.cross_attention_dim`. One serves b / s
            images in a row: its keys and values are computed once for all of them.
          taps: names out of `tap_names(config)`. `<block>.out` is taken after the
            block's down- or upsampler; `out` is the prediction.
          maps, logits, queries, outputs: names out of `attention_names(config)`.
          kv: by the names of attention layers, keys and values that they attend to as
            well: both [e c] for all images, or [s e c], each for b / s images in a
            row; c is the layer's number of channels.
          residuals: by `residual_names(config)`, what is added there: [b y x f] or
            [1 y x f] for activations [b y x f]. A tap of that name has it in.
          kv_shift: by the names of attention layers, what is added to their own keys
            and to their own values, the same at every position: [1 c] for all texts, or
            [s c], one for each.
          pooled: of each text or of all, p = `config.pooled_dim`; with
          sizes: in pixels, of each text or of all: height and width of the original
            image, top and left of the crop, height and width of what was asked for.
            Both where the config has an `addition_embed_type`, else neither.

        What kv, residuals and kv_shift hold for layers after the last thing asked for
        is not used.

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
        self._check(latents, jnp.shape(t), context)
        self._check_added(pooled, sizes, len(context))
        given = kv, residuals, kv_shift, pooled, sizes
        return collect(self._run(latents, t, context, asked, *given), asked)

    def _check(self, latents, t_shape, context):
        c = self.config
        b, h, w, channels = latents.shape
        if h % c.stride or w % c.stride or not h or not w:
            raise ValueError(
                f"latents are {h} x {w}; this UNet halves them "
                f"{len(c.block_out_channels) - 1} times, so both must be multiples of "
                f"{c.stride}"
            )
        if channels != c.in_channels or context.shape[-1] != c.cross_attention_dim:
            raise ValueError(
                f"latents have {channels} channels and context {context.shape[-1]}; "
                f"this UNet takes {c.in_channels} and {c.cross_attention_dim}"
            )
        check_batch(b, len(context), t_shape)

    def _check_added(self, pooled, sizes, texts):
        width = self.config.pooled_dim
        if not width and pooled is None and sizes is None:
            return
        given = [None if x is None else x.shape for x in (pooled, sizes)]
        fits = [rows is not None and rows[0] in (1, texts) for rows in given]
        widths = [rows[1] for rows in given if rows is not None]
        if not all(fits) or widths != [width, SIZES]:
            need = f"[{texts}, {width}] and [{texts}, {SIZES}], or 1 row for all texts"
            raise ValueError(
                f"pooled and sizes have shapes {given[0]} and {given[1]}; give "
                f"{need if width else 'neither: this UNet takes none'}"
            )

    def _sinusoids(self, numbers, width):
        """In the type that the network computes in."""
        c = self.config
        numbers = jnp.atleast_1d(jnp.asarray(numbers, jnp.float32))
        order = {"cosine_first": c.flip_sin_to_cos, "shift": c.freq_shift}
        return sinusoids(numbers, width, **order).astype(self.dtype)

    def _run(
        self, latents, t, context, asked, kv, residuals, kv_shift, pooled, sizes
    ) -> Iterator[tuple[str, str, Any]]:
        """Yield (kind, name, value) of everything, in the order it is computed in."""
        c = self.config
        time = self._sinusoids(t, c.block_out_channels[0])
        run = Run(time, context, asked, kv, residuals, kv_shift)
        x = run.plus("conv_in", self.conv_in(latents))
        yield "taps", "conv_in", x
        time = self.time_embedding(run.time)
        if c.addition_embed_type:
            time = time + self._added(pooled, sizes, len(latents))
        run = run._replace(time=time)
        x, skips = yield from self._down(run, x)
        for j in range(2 if c.mid_block_type else 0):
            _, x = yield from _layer(run, "mid", self.mid_block, j, x)
        x = run.plus("mid.out", x)
        yield "taps", "mid.out", x
        x = yield from self._up(run, x, skips)
        yield "taps", "out", self.conv_out(self.conv_norm_out(x))

    def _added(self, pooled, sizes, b):
        """What texts and sizes add to the time embedding, a row for each image."""
        width = self.config.addition_time_embed_dim
        sizes = self._sinusoids(sizes.reshape(-1), width).reshape(len(sizes), -1)
        rows = max(len(pooled), len(sizes))
        both = [jnp.repeat(x, rows // len(x), axis=0) for x in (pooled, sizes)]
        joined = jnp.concatenate([x.astype(self.dtype) for x in both], axis=-1)
        added = self.add_embedding(joined)
        return added if rows == 1 else jnp.repeat(added, b // rows, axis=0)

    def _down(self, run, x):
        """The encoder; returns its last state, and those that the decoder reads."""
        skips = [run.plus("skip.conv_in", x)]
        for i, block in enumerate(self.down_blocks):
            for j in range(block.layers):
                name, x = yield from _layer(run, f"down.{i}", block, j, x)
                skips.append(run.plus(f"skip.{name}", x))
            name = f"down.{i}.out"
            x = run.plus(name, block.downsamplers[0](x) if block.resample else x)
            if block.resample:
                skips.append(run.plus(f"skip.{name}", x))
            yield "taps", name, x
        return x, skips

    def _up(self, run, x, skips):
        """The decoder; returns its last state."""
        for i, block in enumerate(self.up_blocks):
            for j in range(block.layers):
                x = jnp.concatenate([x, skips.pop()], -1)
                _, x = yield from _layer(run, f"up.{i}", block, j, x)
            name = f"up.{i}.out"
            x = run.plus(name, block.upsamplers[0](x) if block.resample else x)
            yield "taps", name, x
        return x


def _layer(run, side, block, j, x):
    """A residual layer and, where the block has one, the transformer after it.

    Yields what they compute; returns the last activation and its name.
    """
    name = f"{side}.res.{j}"
    x = run.plus(name, block.resnets[j](x, run.time))
    yield "taps", name, x
    if j >= len(block.depths):
        return name, x
    name = f"{side}.attn.{j}"
    kinds = sum(attention_kinds(block.depths[j]), ())
    parts = {kind: f"{name}.{kind}" for kind in kinds}
    asked = {kind: run.parts(part) for kind, part in parts.items()}
    extra = {kind: run.extra(part, x) for kind, part in parts.items()}
    shift = {kind: run.shift(part, x) for kind, part in parts.items()}
    x, found = block.attentions[j](x, run.context, asked, extra, shift)
    for kind, values in found.items():
        for what, value in values.items():
            yield what, parts[kind], value
    x = run.plus(name, x)
    yield "taps", name, x
    return name, x
