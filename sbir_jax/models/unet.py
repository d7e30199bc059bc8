"""Stable Diffusion's UNet, handing out named activations and attention maps.

The layers run one by one from a generator, and the run stops at the last thing asked
for: what comes later is neither traced nor given parameters.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from sbir_jax.models.configs import DOWN_BLOCKS, UP_BLOCKS, UNetConfig
from sbir_jax.models.kernels.convolutions import Conv
from sbir_jax.models.kernels.norms import GroupNorm
from sbir_jax.models.layers import Downsample, Resnet, Upsample
from sbir_jax.models.transformer import KeyValues, Shift, Transformer
from sbir_jax.models.unet_names import (
    ATTENTION_PARTS,
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
        self._check_names(asked, kv, residuals, kv_shift)
        self._check(latents, jnp.shape(t), context)
        found: dict[str, dict] = {kind: {} for kind in asked}
        missing = {(kind, name) for kind, names in asked.items() for name in names}
        added = kv, residuals, kv_shift
        for kind, name, value in self._run(latents, t, context, asked, *added):
            if (kind, name) in missing:
                found[kind][name] = value
                missing.remove((kind, name))
            if not missing:
                break
        return Readout(**found)

    def _check_names(self, asked, kv, residuals, kv_shift):
        attentions = attention_names(self.config)
        for what, names, known in (
            ("taps", asked["taps"], tap_names(self.config)),
            *((part, asked[part], attentions) for part in ATTENTION_PARTS),
            ("kv", kv, attentions),
            ("kv_shift", kv_shift, attentions),
            ("residuals", residuals, residual_names(self.config)),
        ):
            unknown = sorted(set(names) - set(known))
            if unknown:
                raise ValueError(f"unknown {what} {unknown}; known are {list(known)}")
        if not any(asked.values()):
            raise ValueError("no taps, no maps and nothing else was asked for")

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
        if not len(context) or b % len(context):
            raise ValueError(
                f"there are {len(context)} contexts for {b} latents; give one for all, "
                "one each, or one for every few in a row"
            )
        if t_shape not in ((), (b,)):
            raise ValueError(f"t has shape {t_shape}; it must be () or ({b},)")

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
        run = _Run(time, context, asked, kv, residuals, kv_shift)
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


class _Run(NamedTuple):
    """What all layers of one run are given."""

    time: Float[Array, "_ e"]
    context: Float[Array, "s n d"]
    asked: Mapping[str, tuple[str, ...]]
    kv: Mapping[str, KeyValues]
    residuals: Mapping[str, Array]
    kv_shift: Mapping[str, Shift]

    def plus(self, name: str, x: Float[Array, "b y x f"]) -> Float[Array, "b y x f"]:
        """x with the residual of that name, if there is one.

        Raises ValueError for one that does not fit.
        """
        residual = self.residuals.get(name)
        if residual is None:
            return x
        if residual.shape not in (x.shape, (1, *x.shape[1:])):
            raise ValueError(
                f"residuals[{name!r}] has shape {residual.shape}; give {x.shape}, or 1 "
                "in the place of the first number for all images"
            )
        return x + residual.astype(x.dtype)

    def extra(self, name: str, x: Float[Array, "b y x f"]) -> KeyValues | None:
        """The keys and values beside those of an attention layer on x.

        Raises ValueError for some that do not fit.
        """
        if name not in self.kv:
            return None
        keys, values = self.kv[name]
        rows = keys.shape[0] if keys.ndim == 3 else 1
        fits = keys.ndim in (2, 3) and keys.shape[-1] == x.shape[-1]
        if not fits or keys.shape != values.shape or not rows or len(x) % rows:
            raise ValueError(
                f"kv[{name!r}] has keys of shape {keys.shape} and values of shape "
                f"{values.shape}; give both [e, {x.shape[-1]}], or [s, e, "
                f"{x.shape[-1]}] with s a divisor of the {len(x)} images"
            )
        return keys, values

    def shift(self, name: str, x: Float[Array, "b y x f"]) -> Shift | None:
        """What is added to the keys and values of an attention layer on x.

        Raises ValueError for some that do not fit.
        """
        if name not in self.kv_shift:
            return None
        texts, width = len(self.context), x.shape[-1]
        for rows in self.kv_shift[name]:
            if rows.shape not in ((1, width), (texts, width)):
                raise ValueError(
                    f"kv_shift[{name!r}] has shape {rows.shape}; give [1, {width}] for "
                    f"all texts, or [{texts}, {width}], one for each"
                )
        return self.kv_shift[name]


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
    asked = {
        kind: [what for what in ATTENTION_PARTS if part in run.asked[what]]
        for kind, part in parts.items()
    }
    extra = {kind: run.extra(part, x) for kind, part in parts.items()}
    shift = {kind: run.shift(part, x) for kind, part in parts.items()}
    x, found = block.attentions[j](x, run.context, asked, extra, shift)
    for kind, values in found.items():
        for what, value in values.items():
            yield what, parts[kind], value
    x = run.plus(name, x)
    yield "taps", name, x
    return name, x
