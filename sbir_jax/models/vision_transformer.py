"""A vision transformer with a learnable tokenizer, a retrieval token and a choice of
tokens.

After "Zero-Shot Everything Sketch-Based Image Retrieval, and in Explainable Style" (Lin
et al., CVPR 2023), section 3.1: patches are the mean of the usual projection and of a
stack of strided convolutions; the tokens to which the retrieval token pays least
attention can be left out on the way (after EViT, Liang et al., ICLR 2022). Submodules
carry the names of the published checkpoint.
"""

import dataclasses
import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


@dataclasses.dataclass(frozen=True)
class ViTConfig:
    """The defaults are the paper's: ViT-B/16, there on 224 px.

    Attributes:
      patch: pixels a side; a token stands for so many of them squared.
      width: of a token. heads: of self-attention. mlp: hidden width of a layer.
      stem: channels of the strided convolutions but for the last one; each halves the
        side, so that `patch` is 2 to the power of one more than there are here.
      keep: the share of tokens that stays at each of the layers `selects`, counted from
        0; 1 keeps all. The paper has 0.9.
      dropout: in training.
    """

    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp: int = 3072
    stem: tuple[int, ...] = (64, 128, 256)
    keep: float = 1.0
    selects: tuple[int, ...] = (3, 6, 9)
    dropout: float = 0.1

    def __post_init__(self):
        halvings = len(self.stem) + 1
        if self.patch != 2**halvings:
            raise ValueError(
                f"vit.patch is {self.patch}; {halvings} halvings of vit.stem make "
                f"{2**halvings}: give that, or more or fewer channels in vit.stem"
            )
        if self.width % self.heads:
            raise ValueError(
                f"vit.width is {self.width}; give a multiple of vit.heads "
                f"({self.heads})"
            )
        if not 0 < self.keep <= 1:
            raise ValueError(f"vit.keep is {self.keep}; give above 0, at most 1")
        if self.keep < 1 and not all(0 <= i < self.depth for i in self.selects):
            raise ValueError(
                f"vit.selects is {self.selects}; there are layers 0 to {self.depth - 1}"
            )

    def side(self, size: int) -> int:
        """Patches along a side of an image of `size` px.

        Raises: ValueError where they do not fill it.
        """
        if size % self.patch:
            raise ValueError(
                f"image_size is {size}; give a multiple of vit.patch ({self.patch})"
            )
        return size // self.patch

    def tokens(self, size: int) -> int:
        """That come out, without the retrieval token: 144 of 196 at 0.9 three times."""
        count = self.side(size) ** 2
        for _ in self.selects if self.keep < 1 else ():
            count = math.ceil(self.keep * count)
        return count


class Tokens(NamedTuple):
    """Of each image the retrieval token, then those of patches in reading order.

    `patches` tells which ones, of all of the image's.
    """

    states: Float[Array, "b m c"]
    patches: Int[Array, "b n"]


class VisionTransformer(nn.Module):
    """Siamese: the same weights for sketches and photos."""

    config: ViTConfig

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w 3"], deterministic: bool = True
    ) -> Tokens:
        """Tokens of images in [-1, 1]; without `deterministic` it needs a key for
        "dropout"."""
        config, b = self.config, len(images)
        kernel = (config.patch, config.patch)
        plain = nn.Conv(config.width, kernel, kernel, "VALID", name="embedding")(images)
        x = (plain + Stem((*config.stem, config.width), name="scale")(images)) / 2
        x = x.reshape(b, -1, config.width)
        normal = nn.initializers.normal(0.02)
        first = self.param("cls", normal, (1, 1, config.width))
        place = self.param("pos_embedding", normal, (1, x.shape[1] + 1, config.width))
        x = jnp.concatenate([jnp.broadcast_to(first, (b, 1, config.width)), x], axis=1)
        x = nn.Dropout(config.dropout)(x + place, deterministic)
        return Encoder(config, name="transformer")(x, deterministic)


class Stem(nn.Module):
    """Strided convolutions, 7 x 7 and then 3 x 3, each at half the side."""

    channels: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> Float[Array, "b y x c"]:
        for i, channels in enumerate(self.channels):
            side = 3 if i else 7
            padding = ((side // 2, side // 2),) * 2
            # Numbered as in the published list, where each is followed by its ReLU.
            x = nn.Conv(
                channels, (side, side), 2, padding, use_bias=False, name=f"seq_{2 * i}"
            )(x)
            if i + 1 < len(self.channels):
                x = nn.relu(x)
        return x


class Encoder(nn.Module):
    """The layers, and a norm after the last."""

    config: ViTConfig

    @nn.compact
    def __call__(self, x: Float[Array, "b m c"], deterministic: bool) -> Tokens:
        config, (b, m, _) = self.config, x.shape
        patches = jnp.broadcast_to(jnp.arange(m - 1)[None], (b, m - 1))
        for i in range(config.depth):
            keep = config.keep if i in config.selects else 1.0
            block = Block(config, keep, name=f"layers_{i}_0")
            x, chosen = block(x, deterministic)
            if chosen is not None:
                patches = jnp.take_along_axis(patches, chosen, axis=1)
        return Tokens(norm("encoder_norm")(x), patches)


class Block(nn.Module):
    """Self-attention, the choice of tokens where some are to go, and two layers."""

    config: ViTConfig
    keep: float

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "b m c"], deterministic: bool
    ) -> tuple[Float[Array, "b k c"], Int[Array, "b n"] | None]:
        """Returns: the tokens, and which of the patches' are left, None for all."""
        config = self.config
        drop = nn.Dropout(config.dropout, deterministic=deterministic)
        x = norm("layer_norm_input")(inputs)
        x, weights = Attention(config.heads, name="attention")(x)
        # The release puts the attention's input here where tokens are chosen, which
        # looks like a slip; the paper does not.
        x, chosen = drop(x) + inputs, None
        if self.keep < 1:
            count = math.ceil(self.keep * weights.shape[-1])
            chosen = jnp.sort(jax.lax.top_k(weights, count)[1], axis=1)
            kept = jnp.take_along_axis(x[:, 1:], chosen[..., None], axis=1)
            x = jnp.concatenate([x[:, :1], kept], axis=1)
        hidden = FeedForward(config.mlp, config.dropout, name="mlp")
        return x + hidden(norm("layer_norm_out")(x), deterministic), chosen


class Attention(nn.Module):
    """Self-attention in heads."""

    heads: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b m c"]
    ) -> tuple[Float[Array, "b m c"], Float[Array, "b n"]]:
        """Returns: the result, and how much the retrieval token looks at each patch's,
        the mean over heads."""
        width = x.shape[-1]
        joined = nn.Dense(3 * width, name="to_qkv")(x)
        q, k, v = (in_heads(part, self.heads) for part in jnp.split(joined, 3, -1))
        logits = jnp.einsum("bhid,bhjd->bhij", q, k) * (width / self.heads) ** -0.5
        weights = nn.softmax(logits)
        y = in_rows(jnp.einsum("bhij,bhjd->bhid", weights, v))
        return nn.Dense(width, name="to_out_0")(y), weights[:, :, 0, 1:].mean(axis=1)


class FeedForward(nn.Module):
    """Two layers with the exact GELU between them."""

    hidden: int
    dropout: float

    @nn.compact
    def __call__(
        self, x: Float[Array, "b m c"], deterministic: bool
    ) -> Float[Array, "b m c"]:
        drop = nn.Dropout(self.dropout, deterministic=deterministic)
        # Numbered as in the published list.
        y = drop(nn.gelu(nn.Dense(self.hidden, name="net_0")(x), approximate=False))
        return drop(nn.Dense(x.shape[-1], name="net_3")(y))


def norm(name: str) -> nn.LayerNorm:
    """PyTorch's layer norm, with its epsilon."""
    return nn.LayerNorm(1e-5, use_fast_variance=False, name=name)


def in_heads(x: Float[Array, "b m c"], heads: int) -> Float[Array, "b h m d"]:
    return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)


def in_rows(x: Float[Array, "b h m d"]) -> Float[Array, "b m c"]:
    b, _, m, _ = x.shape
    return x.swapaxes(1, 2).reshape(b, m, -1)
