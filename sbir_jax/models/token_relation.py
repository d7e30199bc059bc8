"""How a sketch and a photo relate, token by token: cross-attention, then a small
network on how alike their tokens are.

After Lin et al. (CVPR 2023), sections 3.2 and 3.3, as their release has it: each side's
own queries and values with the other side's keys, so that what a token takes in comes
from its own image, weighted by the other. Submodules carry the published names.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sbir_jax.models.vision_transformer import in_heads, in_rows

EPSILON = 1e-6  # of the norm, added to the deviation


@dataclasses.dataclass(frozen=True)
class RelationConfig:
    """The defaults are the paper's and its release's.

    Attributes:
      heads, layers: of cross-attention. mlp: hidden width of its feed-forward layers.
      reduced: channels of the convolution that joins 2 x 2 tokens to one "anchor"; 0
        for none: the tokens themselves are compared.
      scrambled_reshape: as in the release, tokens are taken for maps without moving
        their axes, so that anchors are no places of the image. Its published weights
        need this; for others it only loses where things are.
      dropout: in training.
    """

    heads: int = 8
    layers: int = 1
    mlp: int = 1024
    reduced: int = 512
    scrambled_reshape: bool = False
    dropout: float = 0.1

    def anchors(self, tokens: int) -> int:
        """How many of them so many tokens make.

        Raises: ValueError where they cannot be joined by fours.
        """
        if not self.reduced:
            return tokens
        side = math.isqrt(tokens)
        if side**2 != tokens or side % 2:
            raise ValueError(
                f"{tokens} tokens are no even square to be joined 2 x 2; keep all "
                "(vit.keep=1), or give relation.reduced=0 to compare them as they are"
            )
        return tokens // 4


class Related(NamedTuple):
    """What comes of b pairs, of m tokens each side, the retrieval token first.

    Attributes:
      sketch, photo: retrieval tokens after cross-attention.
      logit: of the two showing the same; its logistic is the relation score, which
        near 1 would tie where this does not.
      sketch_map: attention of the sketch's tokens to the photo's, in the last layer;
        photo_map: of the photo's to the sketch's.
      alike: cosines of the anchors that `logit` is computed from.
    """

    sketch: Float[Array, "b c"]
    photo: Float[Array, "b c"]
    logit: Float[Array, " b"]
    sketch_map: Float[Array, "b h m n"]
    photo_map: Float[Array, "b h n m"]
    alike: Float[Array, "b a e"]


class Relation(nn.Module):
    """Cross-attention and relation network."""

    config: RelationConfig

    @nn.compact
    def __call__(
        self,
        sketch: Float[Array, "b m c"],
        photo: Float[Array, "b n c"],
        deterministic: bool = True,
    ) -> Related:
        """Relates row i of the sketches to row i of the photos.

        Raises: ValueError as `RelationConfig.anchors`.
        """
        config, b = self.config, len(sketch)
        cross = CrossAttention(config, name="ca")
        sketch, photo, (there, back) = cross(sketch, photo, deterministic)
        rows = jnp.concatenate([sketch, photo])[:, 1:]
        anchors = config.anchors(rows.shape[1])
        if config.reduced:
            rows = nn.Conv(config.reduced, (2, 2), (2, 2), name="conv2d")(
                as_map(rows, config.scrambled_reshape)
            ).reshape(2 * b, anchors, config.reduced)
        alike = cosines(rows[:b], rows[b:])
        network = RelationNetwork(config.dropout, name="rn")
        logit = network(alike.reshape(b, -1), anchors, deterministic)
        return Related(sketch[:, 0], photo[:, 0], logit, there, back, alike)


def as_map(
    tokens: Float[Array, "b n c"], scrambled: bool
) -> Float[Array, "b side side c"]:
    """Tokens of patches as a square map.

    Args:
      scrambled: takes the numbers in memory for one of channels first.
    """
    b, n, c = tokens.shape
    side = math.isqrt(n)
    if scrambled:
        return tokens.reshape(b, c, side, side).transpose(0, 2, 3, 1)
    return tokens.reshape(b, side, side, c)


def cosines(
    a: Float[Array, "b n c"], other: Float[Array, "b m c"]
) -> Float[Array, "b n m"]:
    """Of all rows of one side with all of the other; 0 for a row of zeros."""

    def unit(x):
        return x * jax.lax.rsqrt(jnp.maximum((x * x).sum(-1, keepdims=True), 1e-24))

    return jnp.einsum("bnc,bmc->bnm", unit(a), unit(other))


class CrossAttention(nn.Module):
    """Layers for each direction; both read what the other was before the layer."""

    config: RelationConfig

    @nn.compact
    def __call__(self, sketch, photo, deterministic: bool):
        encoder = CrossEncoder(self.config, name="encoder")
        return encoder(sketch, photo, deterministic)


class CrossEncoder(nn.Module):
    config: RelationConfig

    @nn.compact
    def __call__(self, sketch, photo, deterministic: bool):
        maps: Any = ()
        for i in range(self.config.layers):
            # The release numbers the sketch's layers 1 and the photo's 2.
            ours, theirs = (
                CrossLayer(self.config, name=f"layer{side}_{i}") for side in (1, 2)
            )
            new, sketch_map = ours(sketch, photo, deterministic)
            photo, photo_map = theirs(photo, sketch, deterministic)
            sketch, maps = new, (sketch_map, photo_map)
        return sketch, photo, maps


class CrossLayer(nn.Module):
    """Attention and a feed-forward layer, each added and then normalised."""

    config: RelationConfig

    @nn.compact
    def __call__(
        self, own: Float[Array, "b m c"], other: Float[Array, "b n c"], deterministic
    ) -> tuple[Float[Array, "b m c"], Float[Array, "b h m n"]]:
        config = self.config
        drop = nn.Dropout(config.dropout, deterministic=deterministic)
        attention = CrossHeads(config.heads, config.dropout, name="self_attn")
        y, weights = attention(own, other, deterministic)
        x = AddNorm(name="sublayer_0")(own, drop(y))
        y = CrossFeedForward(config.mlp, config.dropout, name="feed_forward")
        return AddNorm(name="sublayer_1")(x, drop(y(x, deterministic))), weights


class CrossHeads(nn.Module):
    """Own queries and own values, the other side's keys."""

    heads: int
    dropout: float

    @nn.compact
    def __call__(self, own, other, deterministic: bool):
        width = own.shape[-1]
        q, k, v = (
            in_heads(nn.Dense(width, name=f"linears_{i}")(x), self.heads)
            for i, x in enumerate((own, other, own))
        )
        logits = jnp.einsum("bhid,bhjd->bhij", q, k) * q.shape[-1] ** -0.5
        weights = nn.softmax(logits)
        dropped = nn.Dropout(self.dropout)(weights, deterministic)
        # Key j and value j are of the same place of two images.
        y = in_rows(jnp.einsum("bhij,bhjd->bhid", dropped, v))
        return nn.Dense(width, name="linears_3")(y), weights


class CrossFeedForward(nn.Module):
    hidden: int
    dropout: float

    @nn.compact
    def __call__(self, x: Float[Array, "b m c"], deterministic: bool):
        y = nn.relu(nn.Dense(self.hidden, name="w_1")(x))
        y = nn.Dropout(self.dropout)(y, deterministic)
        return nn.Dense(x.shape[-1], name="w_2")(y)


class AddNorm(nn.Module):
    @nn.compact
    def __call__(self, x, y):
        return DeviationNorm(name="norm")(x + y)


class DeviationNorm(nn.Module):
    """A layer norm by the unbiased deviation, the epsilon outside of the root."""

    @nn.compact
    def __call__(self, x: Float[Array, "b m c"]) -> Float[Array, "b m c"]:
        width = x.shape[-1:]
        a = self.param("a", nn.initializers.ones, width)
        b = self.param("b", nn.initializers.zeros, width)
        centred = x - x.mean(-1, keepdims=True)
        variance = (centred**2).sum(-1, keepdims=True) / (width[0] - 1)
        deviation = jnp.sqrt(jnp.maximum(variance, 1e-20))
        return centred / (deviation + EPSILON) * a[None, None] + b[None, None]


class RelationNetwork(nn.Module):
    """a * a cosines, a * sqrt(a) and a hidden units, one logit: 2401, 343, 49, 1."""

    dropout: float

    @nn.compact
    def __call__(
        self, x: Float[Array, "b e"], anchors: int, deterministic: bool
    ) -> Float[Array, " b"]:
        widths = anchors * round(math.sqrt(anchors)), anchors
        for i, width in enumerate(widths):
            # Numbered as in the published list, with its ReLU and dropout.
            x = nn.relu(nn.Dense(width, name=f"rn_{3 * i}")(x))
            x = nn.Dropout(self.dropout)(x, deterministic)
        return nn.Dense(1, name="rn_6")(x)[:, 0]
