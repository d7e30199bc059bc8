"""What a frozen text-to-image diffusion model is to the rest of the package.

A backbone is a description: networks, sizes, names, and pure functions. Its weights are
an argument of those functions, called `frozen`, so that no compiled program captures
them, and nothing differentiates, donates or saves them.
"""

import abc
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, ArrayLike, Float

from sbir_jax.diffusion.noise_schedule import NoiseSchedule
from sbir_jax.types import Readout, TextStates

# Weights as a pytree: one tree for each network, of those that were loaded.
Frozen = dict[str, Any]
# Keys and values of attention layers, what is added to activations, and to the layers'
# own keys and values, by name.
KV = Mapping[str, tuple[Float[Array, "..."], Float[Array, "..."]]]
Residuals = Mapping[str, Float[Array, "_ _ _ _"]]
Shifts = Mapping[str, tuple[Float[Array, "_ _"], Float[Array, "_ _"]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Backbone(abc.ABC):
    """A frozen text-to-image diffusion model without its weights.

    It is hashable, so that it can be a static argument of compiled functions.

    Attributes:
      source: what it was loaded from, as given; of a short name the hub id.
      folder: where its files are.
      encoder: what its image encoder was loaded from, as given; "" for its own.
      fingerprint: sha256 (hex) over all tensors and configs in the checkpoint, the
        same wherever the folder lies and however much of it was loaded. Another
        encoder counts in the place of the checkpoint's own.
      schedule: the noise schedule that it was trained with.
      random_seed: of weights that were drawn in the place of the checkpoint's; None
        for the checkpoint's own.
      reads_clean: it was distilled to read images without noise, which its schedule
        adds at no timestep; it predicts nothing to draw pictures with.
    """

    source: str
    folder: pathlib.Path
    fingerprint: str
    # Not compared: an array, and in the fingerprint.
    schedule: NoiseSchedule = dataclasses.field(compare=False, repr=False)
    encoder: str = ""
    random_seed: int | None = None
    reads_clean: bool = False

    @property
    @abc.abstractmethod
    def dtype(self) -> np.dtype:
        """What the networks compute in."""

    @property
    @abc.abstractmethod
    def image_size(self) -> int:
        """Side of the images it was trained on, in pixels."""

    @property
    @abc.abstractmethod
    def stride(self) -> int:
        """Image height and width must be multiples of this many pixels."""

    @property
    def scaling_factor(self) -> float:
        """What `encode_image` multiplied the autoencoder's own latents by."""
        return 1.0

    @property
    @abc.abstractmethod
    def context_dim(self) -> int:
        """Width of the text states."""

    @abc.abstractmethod
    def latent_shape(self, size: int) -> tuple[int, int, int]:
        """[y, x, c] of the latent of an image of `size` pixels."""

    def checked_size(self, size: int) -> int:
        """An image size in pixels, the backbone's own for 0.

        Raises: ValueError for one that it cannot take, with the nearest that it can.
        """
        stride = self.stride
        if size % stride:
            near = max(stride, round(size / stride) * stride)
            raise ValueError(
                f"image_size is {size}; give a multiple of {stride}, such as {near}, "
                f"or 0 for the backbone's own {self.image_size} px"
            )
        return size or self.image_size

    @property
    @abc.abstractmethod
    def tap_names(self) -> tuple[str, ...]:
        """Every activation that `read` hands out, in the order they are computed in."""

    @property
    @abc.abstractmethod
    def attention_names(self) -> tuple[str, ...]:
        """Every attention layer: names of maps and logits, and for `kv`."""

    @property
    @abc.abstractmethod
    def residual_names(self) -> tuple[str, ...]:
        """Every place where `read` adds residuals."""

    @abc.abstractmethod
    def tokenize(self, texts: Sequence[str]) -> Any:
        """A pytree of arrays for `encode_text`; a text that is too long is cut."""

    @abc.abstractmethod
    def encode_text(self, frozen: Frozen, tokens: Any) -> TextStates:
        """What cross-attention reads of texts, float32; `tokens` are of `tokenize`."""

    @abc.abstractmethod
    def encode_image(
        self, frozen: Frozen, images: Float[Array, "b h w 3"]
    ) -> Float[Array, "b y x c"]:
        """Latents of images in [-1, 1], as `read` takes them, float32: the mean of the
        posterior, nothing sampled."""

    @abc.abstractmethod
    def read(
        self,
        frozen: Frozen,
        latents: Float[Array, "b y x c"],
        t: ArrayLike,
        text: TextStates,
        *,
        taps: tuple[str, ...] = (),
        maps: tuple[str, ...] = (),
        logits: tuple[str, ...] = (),
        kv: KV | None = None,
        residuals: Residuals | None = None,
        kv_shift: Shifts | None = None,
        queries: tuple[str, ...] = (),
        outputs: tuple[str, ...] = (),
    ) -> Readout:
        """One pass of the denoising network, up to the last thing asked for.

        Args:
          latents: with the noise of timestep `t`.
          t: one for all images or one each (shape [] or [b]).
          text: states of s texts; each serves b / s images in a row.
          taps: activations, by `tap_names`.
          maps, logits, queries, outputs: of attention layers, by `attention_names`.
          kv: by `attention_names`, keys and values [e c] or [s e c] that the layer
            attends to beside its own.
          residuals: by `residual_names`, what is added to the running state.
          kv_shift: by `attention_names`, what is added to the layer's own keys and to
            its own values, the same at every position: [1 c], or [s c] for each text.
        Raises: ValueError for an unknown name, for nothing asked for, and for shapes
          that do not fit.
        """

    @abc.abstractmethod
    def keys(
        self, frozen: Frozen, text: TextStates, names: tuple[str, ...]
    ) -> dict[str, Float[Array, "s _ n _"]]:
        """Keys [s heads n width] that cross-attention layers make of texts.

        With `queries` of a pass they give the logits of words that it was not run with.

        Args:
          names: of cross-attention layers, by `attention_names`.
        Raises: ValueError where a text's keys hang on the picture, too.
        """

    def predict(
        self,
        frozen: Frozen,
        latents: Float[Array, "b y x c"],
        t: ArrayLike,
        text: TextStates,
        **given: Any,
    ) -> Float[Array, "b y x c"]:
        """What `schedule.prediction_type` names; arguments as of `read`."""
        return self.read(frozen, latents, t, text, taps=("out",), **given).taps["out"]

    @abc.abstractmethod
    def decode(
        self, frozen: Frozen, latents: Float[Array, "b y x c"]
    ) -> Float[Array, "b h w 3"]:
        """Images, about in [-1, 1], from latents as `encode_image` gives them."""


@dataclasses.dataclass(frozen=True)
class LoadedBackbone:
    """A backbone and its weights, as a loader gives them.

    Compiled functions take the two apart: one static, the other an argument.
    """

    backbone: Backbone
    frozen: Frozen
