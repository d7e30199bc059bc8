"""Stable Diffusion's UNet, handing out named features and cross-attention maps.

The layers run one by one from a generator, and the run stops at the last thing asked
for: what comes later is neither traced nor given parameters.
"""

from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from sbir_jax.models.configs import (
    DOWN_BLOCKS,
    UP_BLOCKS,
    UNetConfig,
    map_names,
    tap_names,
)
from sbir_jax.models.kernels.convolutions import Conv
from sbir_jax.models.kernels.norms import GroupNorm
from sbir_jax.models.layers import Downsample, Resnet, Upsample
from sbir_jax.models.transformer import Transformer


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


class TimeEmbedding(nn.Module):
    """Two dense layers on the sinusoids of the timestep."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b c"]) -> Float[Array, "b e"]:
        x = nn.Dense(self.features, dtype=self.dtype, name="linear_1")(x)
        return nn.Dense(self.features, dtype=self.dtype, name="linear_2")(nn.silu(x))


def sinusoids(
    t: Float[Array, "b"], width: int, *, cosine_first: bool, shift: int
) -> Float[Array, "b {width}"]:
    """Sines and cosines of `t` at `width // 2` frequencies from 1 down to 1e-4."""
    half = width // 2
    exponent = jnp.arange(half, dtype=jnp.float32) / (half - shift)
    angles = t[:, None] * jnp.exp(-jnp.log(10000.0) * exponent)[None]
    parts = [jnp.sin(angles), jnp.cos(angles)]
    return jnp.concatenate(parts[::-1] if cosine_first else parts, axis=-1)


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
    ) -> tuple[dict[str, Float[Array, "..."]], dict[str, Float[Array, "..."]]]:
        """Run up to the last of the named features and maps.

        Args:
          latents: scaled latents with the noise of step `t`; height and width are
            multiples of `config.stride`.
          t: timestep, one for all images or one each (shape [] or [b]).
          context: text states, d = `config.cross_attention_dim`. One serves b / s
            images in a row: its keys and values are computed once for all of them.
          taps: names out of `tap_names(config)`. `<block>.out` is taken after the
            block's down- or upsampler; `out` is the prediction.
          maps: names out of `map_names(config)`.

        Returns:
          The features by name, [b h w channels] in the compute type, and the
          cross-attention probabilities by name, [b heads h w n] in float32.

        Raises:
          ValueError: unknown name, nothing asked for, or shapes that do not fit.
        """
        self._check(latents, jnp.shape(t), context, taps, maps)
        found_taps, found_maps = {}, {}
        for name, value, probabilities in self._run(latents, t, context, maps):
            if name in taps:
                found_taps[name] = value
            if name in maps:
                found_maps[name] = probabilities
            if len(found_taps) + len(found_maps) == len(set(taps)) + len(set(maps)):
                break
        return found_taps, found_maps

    def _check(self, latents, t_shape, context, taps, maps):
        c = self.config
        for kind, asked, known in (
            ("tap", taps, tap_names(c)),
            ("map", maps, map_names(c)),
        ):
            unknown = sorted(set(asked) - set(known))
            if unknown:
                raise ValueError(f"unknown {kind}s {unknown}; known are {list(known)}")
        if not taps and not maps:
            raise ValueError("no taps and no maps were asked for")
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
        if not len(context) or b % len(context):
            raise ValueError(
                f"there are {len(context)} contexts for {b} latents; give one for all, "
                "one each, or one for every few in a row"
            )
        if t_shape not in ((), (b,)):
            raise ValueError(f"t has shape {t_shape}; it must be () or ({b},)")

    def _run(self, latents, t, context, maps) -> Iterator[tuple[str, Any, Any]]:
        """Yield (name, feature, map if asked for) in the order of `tap_names`."""
        c = self.config
        x = self.conv_in(latents)
        yield "conv_in", x, None
        time = sinusoids(
            jnp.atleast_1d(jnp.asarray(t, jnp.float32)),
            c.block_out_channels[0],
            cosine_first=c.flip_sin_to_cos,
            shift=c.freq_shift,
        )
        time = self.time_embedding(time.astype(self.dtype))
        skips = [x]

        for i, block in enumerate(self.down_blocks):
            for j in range(block.layers):
                x = block.resnets[j](x, time)
                yield f"down.{i}.res.{j}", x, None
                if block.attention_layers:
                    name = f"down.{i}.attn.{j}"
                    x, probabilities = block.attentions[j](x, context, name in maps)
                    yield name, x, probabilities
                skips.append(x)
            if block.resample:
                x = block.downsamplers[0](x)
                skips.append(x)
            yield f"down.{i}.out", x, None

        x = self.mid_block.resnets[0](x, time)
        yield "mid.res.0", x, None
        name = "mid.attn.0"
        x, probabilities = self.mid_block.attentions[0](x, context, name in maps)
        yield name, x, probabilities
        x = self.mid_block.resnets[1](x, time)
        yield "mid.res.1", x, None
        yield "mid.out", x, None

        for i, block in enumerate(self.up_blocks):
            for j in range(block.layers):
                x = block.resnets[j](jnp.concatenate([x, skips.pop()], -1), time)
                yield f"up.{i}.res.{j}", x, None
                if block.attention_layers:
                    name = f"up.{i}.attn.{j}"
                    x, probabilities = block.attentions[j](x, context, name in maps)
                    yield name, x, probabilities
            if block.resample:
                x = block.upsamplers[0](x)
            yield f"up.{i}.out", x, None

        yield "out", self.conv_out(self.conv_norm_out(x)), None
