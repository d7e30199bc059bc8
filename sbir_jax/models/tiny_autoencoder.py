"""A distilled encoder: pixels to latents by a few plain convolutions (TAESD).

The layout of diffusers' AutoencoderTiny, best known by madebyollin/taesd: one width
throughout, ReLU, no normalisation, no attention, and a small part of the cost of the
autoencoder that it was trained to imitate. Its decoder is not here.
"""

import itertools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from sbir_jax.models.autoencoder import check_images
from sbir_jax.models.configs import TinyAutoencoderConfig
from sbir_jax.models.kernels.convolutions import Conv


class Block(nn.Module):
    """Three convolutions around a residual, which keep the width."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        # Activations count as layers in the checkpoints' names, hence the even ones.
        y = Conv(x.shape[-1], dtype=self.dtype, name="conv_0")(x)
        y = Conv(x.shape[-1], dtype=self.dtype, name="conv_2")(nn.relu(y))
        y = Conv(x.shape[-1], dtype=self.dtype, name="conv_4")(nn.relu(y))
        return nn.relu(x + y)


class Encoder(nn.Module):
    """Images in [0, 1] to latents."""

    config: TinyAutoencoderConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b y x l"]:
        c = self.config
        names = (f"layers_{i}" for i in itertools.count())
        x = Conv(c.width, dtype=self.dtype, name=next(names))(x)
        for level, blocks in enumerate(c.num_encoder_blocks):
            if level:
                half = {"stride": 2, "use_bias": False, "dtype": self.dtype}
                x = Conv(c.width, **half, name=next(names))(x)
            for _ in range(blocks):
                x = Block(self.dtype, name=next(names))(x)
        return Conv(c.latent_channels, dtype=self.dtype, name=next(names))(x)


class TinyAutoencoder(nn.Module):
    """An encoder in the place of `Autoencoder`; call it through `method="encode"`.

    Its latents are as the UNet sees them: published ones imitate latents that are
    already scaled, and have `config.scaling_factor` 1.
    """

    config: TinyAutoencoderConfig
    dtype: Any = jnp.float32

    def setup(self):
        self.encoder = Encoder(self.config, self.dtype)

    def encode(
        self, images: Float[Array, "b h w c"]
    ) -> tuple[Float[Array, "b y x l"], None]:
        """The latents of images in [-1, 1], and no variance: it imitates the mean.

        Raises ValueError unless height and width are multiples of `config.factor`.
        """
        check_images(self.config, images.shape)
        # TAESD was trained on [0, 1], whose zero is also what its images are padded by.
        return self.encoder((images + 1) / 2), None
