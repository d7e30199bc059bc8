"""Stable Diffusion's image autoencoder: pixels to latents, eight times smaller."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from sbir_jax.models.configs import AutoencoderConfig, TinyAutoencoderConfig
from sbir_jax.models.kernels.convolutions import Conv
from sbir_jax.models.kernels.norms import GroupNorm
from sbir_jax.models.layers import Downsample, Resnet, Upsample
from sbir_jax.models.transformer import Attention

EPS = 1e-6


class PixelAttention(nn.Module):
    """Single-headed self-attention over all pixels, residual."""

    groups: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        b, h, w, c = x.shape
        y = GroupNorm(self.groups, EPS, name="group_norm")(x).reshape(b, h * w, c)
        # A scope of its own would add a level that the checkpoint does not have.
        attention = Attention(1, qkv_bias=True, dtype=self.dtype)
        nn.share_scope(self, attention)
        return x + attention(y)[0].reshape(b, h, w, c)


class Level(nn.Module):
    """Residual layers at one size, with attention between or a resampler after."""

    features: int
    layers: int
    groups: int
    attention: bool = False
    resample: type[nn.Module] | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b y x f"]:
        for j in range(self.layers):
            name = f"resnets_{j}"
            x = Resnet(self.features, self.groups, EPS, self.dtype, name=name)(x)
            if self.attention and j == 0:
                x = PixelAttention(self.groups, self.dtype, name="attentions_0")(x)
        if self.resample is Downsample:
            # Zeros on the far sides only, as the weights were trained.
            pad = (0, 1)
            x = Downsample(self.features, pad, self.dtype, name="downsamplers_0")(x)
        if self.resample is Upsample:
            x = Upsample(self.features, self.dtype, name="upsamplers_0")(x)
        return x


class Encoder(nn.Module):
    """Images to the moments of the latents, before any `quant_conv`."""

    config: AutoencoderConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b y x f"]:
        c = self.config
        channels, groups = c.block_out_channels, c.norm_num_groups
        x = Conv(channels[0], dtype=self.dtype, name="conv_in")(x)
        for i, features in enumerate(channels):
            x = Level(
                features,
                c.layers_per_block,
                groups,
                resample=Downsample if i < len(channels) - 1 else None,
                dtype=self.dtype,
                name=f"down_blocks_{i}",
            )(x)
        x = Level(channels[-1], 2, groups, True, None, self.dtype, name="mid_block")(x)
        x = GroupNorm(groups, EPS, silu=True, name="conv_norm_out")(x)
        return Conv(2 * c.latent_channels, dtype=self.dtype, name="conv_out")(x)


class Decoder(nn.Module):
    """Latents, after any `post_quant_conv`, to images."""

    config: AutoencoderConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b y x f"]:
        c = self.config
        channels, groups = c.block_out_channels[::-1], c.norm_num_groups
        x = Conv(channels[0], dtype=self.dtype, name="conv_in")(x)
        x = Level(channels[0], 2, groups, True, None, self.dtype, name="mid_block")(x)
        for i, features in enumerate(channels):
            x = Level(
                features,
                c.layers_per_block + 1,
                groups,
                resample=Upsample if i < len(channels) - 1 else None,
                dtype=self.dtype,
                name=f"up_blocks_{i}",
            )(x)
        x = GroupNorm(groups, EPS, silu=True, name="conv_norm_out")(x)
        return Conv(c.out_channels, dtype=self.dtype, name="conv_out")(x)


def check_images(
    config: AutoencoderConfig | TinyAutoencoderConfig, shape: tuple[int, ...]
) -> None:
    """Raise ValueError unless an autoencoder takes images of this shape, b h w c."""
    _, h, w, channels = shape
    factor = config.factor
    if h % factor or w % factor or not h or not w or channels != config.in_channels:
        raise ValueError(
            f"images are {h} x {w} with {channels} channels; the autoencoder takes "
            f"{config.in_channels} channels and multiples of {factor} pixels"
        )


class Autoencoder(nn.Module):
    """A variational autoencoder; call `encode` or `decode` through `method=`.

    Latents here are unscaled. What removes noise sees them less `config.shift`, times
    `config.scaling_factor`.
    """

    config: AutoencoderConfig
    dtype: Any = jnp.float32

    def setup(self):
        c = self.config
        self.encoder = Encoder(c, self.dtype)
        self.decoder = Decoder(c, self.dtype)
        if c.use_quant_conv:
            self.quant_conv = Conv(2 * c.latent_channels, 1, dtype=self.dtype)
        if c.use_post_quant_conv:
            self.post_quant_conv = Conv(c.latent_channels, 1, dtype=self.dtype)

    def encode(
        self, images: Float[Array, "b h w c"]
    ) -> tuple[Float[Array, "b y x l"], Float[Array, "b y x l"]]:
        """The mean and the log-variance of the latents of images in [-1, 1].

        Raises ValueError unless height and width are multiples of `config.factor`.
        """
        check_images(self.config, images.shape)
        moments = self.encoder(images)
        if self.config.use_quant_conv:
            moments = self.quant_conv(moments)
        mean, logvar = jnp.split(moments, 2, axis=-1)
        # The range that the published autoencoders are sampled with.
        return mean, jnp.clip(logvar, -30.0, 20.0)

    def decode(self, latents: Float[Array, "b h w l"]) -> Float[Array, "b y x c"]:
        """Images, about in [-1, 1], from unscaled latents.

        Raises ValueError on another number of channels than the config's.
        """
        if latents.shape[-1] != self.config.latent_channels:
            raise ValueError(
                f"latents have {latents.shape[-1]} channels; the autoencoder takes "
                f"{self.config.latent_channels}"
            )
        if self.config.use_post_quant_conv:
            latents = self.post_quant_conv(latents)
        return self.decoder(latents)
