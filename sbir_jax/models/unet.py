"""Stable Diffusion's UNet, handing out named activations and attention maps.

The layers run one by one from a generator, and the run stops at the last thing asked
for: what comes later is neither traced nor given parameters.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from sbir_jax.models.configs import DOWN_BLOCKS, UP_BLOCKS, UNetConfig
from sbir_jax.models.kernels.convolutions import Conv
from sbir_jax.models.kernels.norms import GroupNorm
from sbir_jax.models.layers import Downsample, Resnet, Upsample
from sbir_jax.models.run import Names, Run, check_batch, collect
from sbir_jax.models.time_embedding import TimeEmbedding, sinusoids
from sbir_jax.models.transformer import KeyValues, Shift, Transformer
from sbir_jax.models.unet_names import (
    ATTENTIONS,
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
    attention_layers: int
    resample: type[nn.Module] | None
    dtype: Any = jnp.float32

    def setup(self):
        c = self.config
        self.resnets = [
            Resnet(self.features, c.norm_num_groups, c.norm_eps, self.dtype)
            for _ in range(self.layers)
        ]
        self.attentions = [
            Transformer(
                self.heads, c.norm_num_groups, c.use_linear_projection, self.dtype
            )
            for _ in range(self.attention_layers)
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

        def block(level, attention, layers, attention_layers, resample):
            return Block(
                c,
                channels[level],
                c.heads[level],
                layers,
                attention_layers if attention else 0,
                resample,
                self.dtype,
            )

        n = c.layers_per_block
        self.conv_in = Conv(channels[0], dtype=self.dtype)
        self.time_embedding = TimeEmbedding(4 * channels[0], self.dtype)
        self.down_blocks = [
            block(i, DOWN_BLOCKS[kind], n, n, Downsample if i < last else None)
            for i, kind in enumerate(c.down_block_types)
        ]
        self.mid_block = block(last, True, 2, 1, None)
        self.up_blocks = [
            block(
                last - i, UP_BLOCKS[kind], n + 1, n + 1, Upsample if i < last else None
            )
            for i, kind in enumerate(c.up_block_types)
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

        What these three hold for layers after the last thing asked for is not used.

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
        steps = self._run(latents, t, context, asked, kv, residuals, kv_shift)
        return collect(steps, asked)

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

    def _run(
        self, latents, t, context, asked, kv, residuals, kv_shift
    ) -> Iterator[tuple[str, str, Any]]:
        """Yield (kind, name, value) of everything, in the order it is computed in."""
        c = self.config
        time = sinusoids(
            jnp.atleast_1d(jnp.asarray(t, jnp.float32)),
            c.block_out_channels[0],
            cosine_first=c.flip_sin_to_cos,
            shift=c.freq_shift,
        )
        time = time.astype(self.dtype)
        run = Run(time, context, asked, kv, residuals, kv_shift)
        x = run.plus("conv_in", self.conv_in(latents))
        yield "taps", "conv_in", x
        run = run._replace(time=self.time_embedding(run.time))
        x, skips = yield from self._down(run, x)
        for j in range(2):
            _, x = yield from _layer(run, "mid", self.mid_block, j, x)
        x = run.plus("mid.out", x)
        yield "taps", "mid.out", x
        x = yield from self._up(run, x, skips)
        yield "taps", "out", self.conv_out(self.conv_norm_out(x))

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
    if j >= block.attention_layers:
        return name, x
    name = f"{side}.attn.{j}"
    parts = {kind: f"{name}.{kind}" for kind in ATTENTIONS}
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
