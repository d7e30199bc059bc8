"""Where the tokens of an image come from: a vision transformer that is trained, or a
frozen backbone of which a small reader is.

Each is cut in two: `read` does what needs no training and can be kept on disk, `states`
what is trained.
"""

import dataclasses
from typing import Any, Protocol, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sbir_jax import features
from sbir_jax.adapters.prompts import Prompts
from sbir_jax.backbones.base import Backbone, Frozen
from sbir_jax.features import Recipe
from sbir_jax.models.vision_transformer import Tokens, VisionTransformer, ViTConfig
from sbir_jax.types import Modality


@runtime_checkable
class TokenSource(Protocol):
    """Attributes:
    side: tokens along a side of an image where none is left out.
    raw: shape of what `read` gives of an image.
    identity: says all but parameters and backbone that its tokens depend on.
    """

    side: int
    raw: tuple[int, ...]
    identity: str

    def init(self, key: Array) -> Any:
        """Parameters before training."""
        ...

    def read(
        self, frozen: Any, images: Float[Array, "b h w 3"], modality: Modality
    ) -> Float[Array, "b y x c"]: ...

    def states(
        self, params: Any, raw: Float[Array, "b y x c"], key: Array | None = None
    ) -> Tokens:
        """Args: key: for dropout in training; None for none."""
        ...


class ViTTokens:
    """Of a `VisionTransformer`; all of it is trained, so `read` gives the images."""

    def __init__(self, config: ViTConfig, size: int):
        """Raises: ValueError for a size that patches do not fill."""
        self.side, self.raw = config.side(size), (size, size, 3)
        self.identity = f"{config} {size}"
        self._network = VisionTransformer(config)

    def init(self, key: Array) -> Any:
        found: Any = self._network.init(key, jnp.zeros((1, *self.raw)))
        return found["params"]

    def read(
        self, frozen: Any, images: Float[Array, "b h w 3"], modality: Modality
    ) -> Float[Array, "b h w 3"]:
        return images

    def states(
        self, params: Any, raw: Float[Array, "b h w 3"], key: Array | None = None
    ) -> Tokens:
        rngs = {} if key is None else {"dropout": key}
        found: Any = self._network.apply(
            {"params": params}, raw, key is None, rngs=rngs
        )
        return found


@dataclasses.dataclass(frozen=True)
class ReaderConfig:
    """All ours.

    Attributes:
      width: of a token.
      grid: tokens along a side; the finest layer's places are averaged to so many.
    """

    width: int = 96
    grid: int = 8

    def __post_init__(self):
        if self.width < 2 or self.grid < 2:
            raise ValueError(
                f"reader.width is {self.width} and reader.grid {self.grid}; give 2 or "
                "more each"
            )


class TokenReader(nn.Module):
    """A projection of each place, its position, and a retrieval token."""

    config: ReaderConfig

    @nn.compact
    def __call__(self, raw: Float[Array, "b y x c"]) -> Float[Array, "b m d"]:
        b, width = len(raw), self.config.width
        x = nn.Dense(width, name="project")(raw.reshape(b, -1, raw.shape[-1]))
        x = nn.LayerNorm(name="norm")(x)
        normal = nn.initializers.normal(0.02)
        first = self.param("cls", normal, (1, 1, width))
        place = self.param("pos_embedding", normal, (1, x.shape[1], width))
        # It begins as the mean of the others, so that it says something at once.
        first = first + x.mean(1, keepdims=True)
        return jnp.concatenate([first, x + place], axis=1)


class FrozenTokens:
    """Of layers of a frozen backbone, which `read` reads under noise as descriptors do:
    each layer's vector at a place has length 1, all are joined, copies are averaged."""

    def __init__(
        self,
        backbone: Backbone,
        prompts: Prompts,
        recipe: Recipe,
        size: int,
        config: ReaderConfig,
        frozen: Frozen,
    ):
        """Raises: ValueError for a grid that the finest layer cannot be averaged to.

        Args:
          frozen: the backbone's weights, or their shapes.
        """
        self._backbone, self.prompts, self._recipe = backbone, prompts, recipe
        self._noise = features.noise_bank(recipe, backbone.latent_shape(size))
        self._network, self.side = TokenReader(config), config.grid
        self.identity = f"{config} {recipe} {size}"
        image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)

        def read(frozen, images):
            return self.read(frozen, images, "photo")

        self.raw = jax.eval_shape(read, frozen, image).shape[1:]

    def init(self, key: Array) -> Any:
        found: Any = self._network.init(key, jnp.zeros((1, *self.raw)))
        return found["params"]

    def read(
        self, frozen: Frozen, images: Float[Array, "b h w 3"], modality: Modality
    ) -> Float[Array, "b g g c"]:
        backbone, recipe, count = self._backbone, self._recipe, len(images)
        latents = features.encode_prompted(
            backbone, frozen, self.prompts, images, modality
        )
        text = jnp.asarray(self.prompts.text)
        given = latents, text, self._noise, recipe
        taps = features.decoder_taps(backbone, frozen, *given)
        levels = []
        for name in recipe.taps:
            tap = taps[name].astype(jnp.float32)
            tap = tap.reshape(count, -1, *tap.shape[1:]).mean(1)
            levels.append(features.normalise(_on_grid(tap, self.side)))
        return jnp.concatenate(levels, axis=-1)

    def states(
        self, params: Any, raw: Float[Array, "b g g c"], key: Array | None = None
    ) -> Tokens:
        found: Any = self._network.apply({"params": params}, raw)
        all_of_them = jnp.arange(found.shape[1] - 1)[None]
        return Tokens(found, jnp.broadcast_to(all_of_them, found[:, 1:, 0].shape))


def _on_grid(tap: Float[Array, "b h w c"], grid: int) -> Float[Array, "b g g c"]:
    """A layer's places averaged to a grid; of a coarser layer each is repeated.

    Raises: ValueError for a grid that is no such multiple or part of the side.
    """
    b, side, _, c = tap.shape
    if side % grid == 0:
        return tap.reshape(b, grid, side // grid, grid, side // grid, c).mean((2, 4))
    if grid % side:
        raise ValueError(
            f"reader.grid is {grid} and a layer of recipe.taps is {side} x {side}; "
            "give a multiple or a part of its side"
        )
    return tap.repeat(grid // side, 1).repeat(grid // side, 2)
