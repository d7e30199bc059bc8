"""The training-free methods on one backbone, one picture at a time."""

import functools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from sbir_jax.backbones.base import Backbone, LoadedBackbone
from sbir_jax.backbones.frozen import encode_texts
from sbir_jax.data import images
from sbir_jax.dense import daam, diffcut, diffseg, ovam
from sbir_jax.runtime import hardware
from sbir_jax.types import TextStates

# Of OVAM and DAAM, which were made for generation and name no timestep for photos
# (ours: what linear probes find best).
TIMESTEP = 100
MASK = 0.5  # from where on a map from 0 to 1 is a mask (ours)

Picture = UInt8[np.ndarray, "_ _ 3"]


class TrainingFree:
    """Maps of a backbone.

    Pictures have sides that are multiples of its stride; each shape compiles once.
    """

    def __init__(self, loaded: LoadedBackbone, frozen: Any):
        """`frozen` are the weights, on the devices that will run them."""
        self.loaded, self.backbone, self.frozen = loaded, loaded.backbone, frozen
        self._empty = encode_texts(loaded, [""])
        backbone: Backbone = loaded.backbone
        on = hardware.device_of(frozen)

        @functools.partial(hardware.jit, on=on)
        def queries(frozen, image, text):
            latents = backbone.encode_image(frozen, image)
            return ovam.read_queries(backbone, frozen, latents, text, TIMESTEP)

        @functools.partial(hardware.jit, on=on)
        def cross(frozen, image, text):
            latents = backbone.encode_image(frozen, image)
            return daam.heat(backbone, frozen, latents, text, TIMESTEP)

        @functools.partial(hardware.jit, on=on)
        def own(frozen, image, text):
            latents = backbone.encode_image(frozen, image)
            return (
                diffseg.read_maps(backbone, frozen, latents, text),
                diffcut.read_feature(backbone, frozen, latents, text),
            )

        self._queries, self._cross, self._own = queries, cross, own

    def _input(self, picture: Picture) -> Array:
        return jnp.asarray(images.to_float(picture[None]))

    def ovam(self, picture: Picture, text: TextStates) -> Float[np.ndarray, "y x s"]:
        """A map from 0 to 1 for each text, of the meaning of its words."""
        queries = self._queries(self.frozen, self._input(picture), self._empty)
        keys = self.backbone.keys(self.frozen, text, tuple(queries))
        words = ovam.of_words(ovam.heat(queries, keys), text.mask)
        return np.asarray(ovam.between_0_and_1(words)[0])

    def daam(
        self, picture: Picture, words: Sequence[str]
    ) -> Float[np.ndarray, "y x w"]:
        """A map for each of the words of one prompt that names them all."""
        text = encode_texts(self.loaded, [daam.prompt_of(words)])
        tokens = self._cross(self.frozen, self._input(picture), text)
        spans = daam.token_spans(self.backbone, words, tokens.shape[-1])
        return np.asarray(daam.of_words(tokens, spans)[0])

    def segments(self, picture: Picture) -> dict[str, Int[np.ndarray, "_ _"]]:
        """DiffSeg's and DiffCut's segments, without names."""
        maps, feature = self._own(self.frozen, self._input(picture), self._empty)
        size: Any = picture.shape[:2]
        return {
            "diffseg": diffseg.segments({n: m[0] for n, m in maps.items()}),
            "diffcut": diffcut.segments(np.asarray(feature[0]), size),
        }
