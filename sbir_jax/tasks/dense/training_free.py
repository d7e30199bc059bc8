"""What segments without any training, as rivals of the learned heads."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sbir_jax.backbones.base import Backbone, LoadedBackbone
from sbir_jax.backbones.frozen import encode_texts
from sbir_jax.data import images
from sbir_jax.data.dense import Example, Split
from sbir_jax.dense import daam, diffcut, diffseg, ovam
from sbir_jax.dense.views import resized
from sbir_jax.models.heads.resizing import resize
from sbir_jax.runtime import hardware
from sbir_jax.tasks.dense.augment import resized_target
from sbir_jax.tasks.dense.evaluating import Predict
from sbir_jax.types import TextStates

# Of OVAM and DAAM, which were made for generation and name no timestep for photos
# (ours: what linear probes find best).
TIMESTEP = 100
MASK = 0.5  # from where on a map from 0 to 1 is a mask (ours)


class TrainingFree:
    """Maps of a backbone; words become masks one picture at a time.

    Attributes:
      size: side of the pictures that it sees.
    """

    def __init__(self, loaded: LoadedBackbone, frozen: Any, size: int):
        self.loaded, self.backbone, self.size = loaded, loaded.backbone, size
        self.frozen = frozen
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

    def _input(self, image: np.ndarray) -> Array:
        square = resized(image, (self.size, self.size))
        return jnp.asarray(images.to_float(square[None]))

    def ovam(self, image: np.ndarray, text: TextStates) -> Float[np.ndarray, "y x s"]:
        """A map from 0 to 1 for each text, of the meaning of its words."""
        queries = self._queries(self.frozen, self._input(image), self._empty)
        keys = self.backbone.keys(self.frozen, text, tuple(queries))
        tokens = ovam.heat(queries, keys)
        words = ovam.of_words(tokens, text.mask)
        return np.asarray(ovam.between_0_and_1(words)[0])

    def daam(
        self, image: np.ndarray, words: Sequence[str]
    ) -> Float[np.ndarray, "y x w"]:
        """A map for each of the words of one prompt that names them all."""
        text = encode_texts(self.loaded, [daam.prompt_of(words)])
        tokens = self._cross(self.frozen, self._input(image), text)
        spans = daam.token_spans(self.backbone, words, tokens.shape[-1])
        return np.asarray(daam.of_words(tokens, spans)[0])

    def segments(self, image: np.ndarray) -> dict[str, Int[np.ndarray, "y x"]]:
        """DiffSeg's and DiffCut's segments, without names."""
        maps, feature = self._own(self.frozen, self._input(image), self._empty)
        size = (self.size, self.size)
        return {
            "diffseg": diffseg.segments({n: m[0] for n, m in maps.items()}),
            "diffcut": diffcut.segments(np.asarray(feature[0]), size),
        }


def named_rivals(free: TrainingFree, classes: Sequence[str]) -> dict[str, Predict]:
    """For segmentation: each is told which classes are in the picture, as in their own
    papers' tests, and says where."""
    from sbir_jax.dense.naming import name_segments

    texts = encode_texts(free.loaded, classes)

    @functools.lru_cache(maxsize=1)  # both take the same pass
    def cut(key: bytes, shape: tuple) -> dict[str, np.ndarray]:
        return free.segments(np.frombuffer(key, np.uint8).reshape(shape))

    def labels(name: str, example: Example, there: np.ndarray) -> np.ndarray:
        if name == "ovam":
            heat = free.ovam(example.image, texts)[..., there]
            return _enlarged(heat, example.target.shape).argmax(-1)
        heat = free.daam(example.image, [classes[i] for i in there])
        if name == "daam":
            return _enlarged(heat, example.target.shape).argmax(-1)
        found = cut(example.image.tobytes(), example.image.shape)[name]
        return name_segments(
            resized_target(found, example.target.shape),
            _enlarged(heat, example.target.shape),
        )

    def predict(name: str, split: Split) -> Iterator[tuple[Example, np.ndarray]]:
        for example in split:
            there = np.unique(example.target)
            there = there[there < len(classes)]
            found = there[labels(name, example, there)]
            yield example, np.eye(len(classes), dtype=np.float32)[found]

    return {
        name: functools.partial(predict, name)
        for name in ("ovam", "daam", "diffseg", "diffcut")
    }


def expression_rivals(free: TrainingFree) -> dict[str, Predict]:
    """For referring: the whole expression's map, cut in the middle of its range."""

    def predict(split: Split) -> Iterator[tuple[Example, np.ndarray]]:
        for example in split:
            heat = free.ovam(example.image, encode_texts(free.loaded, [example.text]))
            mask = _enlarged(heat, (free.size, free.size))[..., 0] > MASK
            yield example, np.stack([~mask, mask], -1).astype(np.float32)

    return {"ovam": predict}


def _enlarged(heat: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    return np.asarray(resize(jnp.asarray(heat)[None], size)[0])  # pyright: ignore
