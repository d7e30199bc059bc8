"""PixArt's diffusion transformer, handing out named activations and attention maps.

After Chen et al. (PixArt-alpha, 2023; PixArt-Sigma, 2024): patches of the latent with
fixed positions, blocks of self-attention, cross-attention to T5's states and a
feed-forward layer, and one network of the timestep that scales, shifts and gates all
blocks, each with its own table of offsets. Runs as `UNet` does.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float

from sbir_jax.models.block_names import attention_names, residual_names, tap_names
from sbir_jax.models.diffusion_transformer import (
    FeedForward,
    Table,
    attend_patches,
    check_patches,
    modulated,
    picture,
)
from sbir_jax.models.kernels.convolutions import Conv
from sbir_jax.models.kernels.products import dense
from sbir_jax.models.run import Names, Run, check_batch, collect
from sbir_jax.models.time_embedding import TimeEmbedding, sinusoids
from sbir_jax.models.transformer import Attention, KeyValues, Shift
from sbir_jax.models.transformer_configs import PixArtConfig
from sbir_jax.types import Readout

SINUSOIDS = 256  # of the timestep, and of each size
OUT_EPS = 1e-6  # of the last norm, whatever the config says of the blocks'


def positions(
    config: PixArtConfig, rows: int, columns: int
) -> Float[np.ndarray, "..."]:
    """Sines and cosines of the place of each patch, float32 [1 rows columns width].

    The first half of the channels is of the column, the second of the row. The range is
    that of the size the network was trained at, however many patches there are.
    """
    base = config.sample_size // config.patch_size
    quarter = config.width // 4
    frequencies = 10000.0 ** -(np.arange(quarter) / quarter)

    def of(count: int) -> np.ndarray:
        place = np.arange(count) * base / count / config.scale
        angles = np.outer(place, frequencies)
        return np.concatenate([np.sin(angles), np.cos(angles)], -1)

    shape = (rows, columns, config.width // 2)
    across = np.broadcast_to(of(columns)[None], shape)
    down = np.broadcast_to(of(rows)[:, None], shape)
    return np.concatenate([across, down], -1, dtype=np.float32)[None]


class Patches(nn.Module):
    """A vector for each patch of the latent."""

    config: PixArtConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b y x f"]:
        side = self.config.patch_size
        conv = Conv(
            self.config.width, side, side, (0, 0), dtype=self.dtype, name="proj"
        )
        x = conv(x)
        return x + positions(self.config, *x.shape[1:3]).astype(x.dtype)


class Moment(nn.Module):
    """A vector of the timestep and, where the network is told, the picture's size."""

    config: PixArtConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, t: Float[Array, "b"], size: tuple[int, int]
    ) -> Float[Array, "b f"]:
        """`size` is the picture's height and width in pixels."""
        width = self.config.width

        def embed(values, features, name):
            waves = sinusoids(values, SINUSOIDS, cosine_first=True, shift=0)
            return TimeEmbedding(features, self.dtype, name=name)(
                waves.astype(self.dtype)
            )

        found = embed(t, width, "timestep_embedder")
        if not self.config.conditioned:
            return found
        sizes = embed(jnp.array(size, jnp.float32), width // 3, "resolution_embedder")
        ratio = jnp.array([size[0] / size[1]], jnp.float32)
        shape = embed(ratio, width // 3, "aspect_ratio_embedder")
        return found + jnp.concatenate([sizes.reshape(1, -1), shape], axis=-1)


class Modulation(nn.Module):
    """The timestep's vector, and the six that all blocks share."""

    config: PixArtConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, t: Float[Array, "b"], size: tuple[int, int]
    ) -> tuple[Float[Array, "b f"], Float[Array, "b g"]]:
        moment = Moment(self.config, self.dtype, name="emb")(t, size)
        linear = nn.Dense(6 * self.config.width, dtype=self.dtype, name="linear")
        return moment, linear(nn.silu(moment))


class CaptionProjection(nn.Module):
    """Text states at the width of the blocks."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "s n d"]) -> Float[Array, "s n f"]:
        x = nn.Dense(self.features, dtype=self.dtype, name="linear_1")(x)
        x = nn.gelu(x, approximate=True)
        return nn.Dense(self.features, dtype=self.dtype, name="linear_2")(x)


class Block(nn.Module):
    """The layers of one block. It has no call: the network runs them one by one."""

    config: PixArtConfig
    dtype: Any = jnp.float32

    def setup(self):
        c = self.config
        self.scale_shift_table = Table((6, c.width))
        self.attn1 = Attention(c.num_attention_heads, True, self.dtype)
        self.attn2 = Attention(c.num_attention_heads, True, self.dtype)
        self.ff = FeedForward(self.dtype)


class PixArt(nn.Module):
    """The noise-predicting network, with every intermediate result by name."""

    config: PixArtConfig
    dtype: Any = jnp.float32

    def setup(self):
        c = self.config
        self.pos_embed = Patches(c, self.dtype)
        self.adaln_single = Modulation(c, self.dtype)
        self.caption_projection = CaptionProjection(c.width, self.dtype)
        self.transformer_blocks = [Block(c, self.dtype) for _ in range(c.num_layers)]
        self.scale_shift_table = Table((2, c.width))
        self.proj_out = dense(c.patch_size**2 * c.predicted, self.dtype)

    def __call__(
        self,
        latents: Float[Array, "b h w c"],
        t: ArrayLike,
        context: Float[Array, "s n d"],
        seen: Bool[Array, "s n"] | None = None,
        size: tuple[int, int] = (1, 1),
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
          latents: height and width are multiples of `config.patch_size`.
          context: text states, d = `config.caption_channels`.
          seen: which of them are attended to; all without it.
          size: the picture's height and width in pixels, which some configs need.
          taps, maps and so on: by the names of `block_names`. A tap has a place for
            each patch. `out` is the predicted noise without the variance.
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
        c_in, c_text = c.in_channels, c.caption_channels
        check_patches(latents.shape, context.shape[-1], c.patch_size, c_in, c_text)
        check_batch(len(latents), len(context), jnp.shape(t))
        time = jnp.atleast_1d(jnp.asarray(t, jnp.float32))[:, None]
        run = Run(time, context, asked, kv, residuals, kv_shift)
        return collect(self._run(run, latents, seen, size), asked)

    def _run(self, run: Run, latents, seen, size) -> Iterator[tuple[str, str, Any]]:
        """Yield (kind, name, value) of everything, in the order it is computed in."""
        x = run.plus("patches", self.pos_embed(latents))
        yield "taps", "patches", x
        moment, time = self.adaln_single(run.time[:, 0], size)
        run, text = run._replace(time=time), None
        for i, block in enumerate(self.transformer_blocks):
            name, six = f"block.{i}", _rows(block.scale_shift_table(), run.time)
            y = modulated(x, six[0], six[1], self.config.norm_eps)
            yield "taps", f"{name}.modulated", y
            y = yield from attend_patches(
                run, f"{name}.self", block.attn1, y, gate=six[2]
            )
            x = x + y
            if text is None:  # only where a run comes to it
                text = self.caption_projection(run.context)
            y = yield from attend_patches(
                run, f"{name}.cross", block.attn2, x, text, seen
            )
            x = x + y
            y = block.ff(modulated(x, six[3], six[4], self.config.norm_eps))
            x = run.plus(name, x + (six[5] * y).astype(x.dtype))
            yield "taps", name, x
        shift, scale = _rows(self.scale_shift_table(), jnp.tile(moment, 2))
        y = self.proj_out(modulated(x, shift, scale, OUT_EPS))
        c = self.config
        yield "taps", "out", picture(y, c.patch_size)[..., : c.in_channels]


def _rows(table, time) -> list[Float[Array, "_ 1 1 f"]]:
    """Each row of a table with its part of the timestep's vector, in float32."""
    rows = table[None] + time.astype(jnp.float32).reshape(len(time), *table.shape)
    return [row[:, None, None] for row in jnp.moveaxis(rows, 1, 0)]
