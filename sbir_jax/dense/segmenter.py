"""Masks of words in photos of any size.

segmenter = Segmenter()  # training-free; or Segmenter.from_run("runs/masks")
found = segmenter.segment("kitchen.jpg", ["mug", "chair"])
found.mask("mug")  # bool [h, w], of the photo's own size
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jaxtyping import Bool, Float, UInt8

from sbir_jax.backbones.frozen import encode_texts, load_frozen
from sbir_jax.data import images
from sbir_jax.dense.class_texts import class_states
from sbir_jax.dense.learned import Learned
from sbir_jax.dense.photo_sizes import enlarge, network_size
from sbir_jax.dense.training_free import MASK, TrainingFree
from sbir_jax.dense.views import resized
from sbir_jax.runtime import sharding

MOST_WORDS = 254  # labels are of one byte, and 0 is for none


@dataclasses.dataclass(frozen=True, eq=False)
class Masks:
    """What was found in one photo.

    Attributes:
      photo: upright, uint8 [h, w, 3].
      words: as they were asked for.
      labels: for each pixel the number of its word, from 1; 0 for none of them.
    """

    photo: UInt8[np.ndarray, "h w 3"]
    words: tuple[str, ...]
    labels: UInt8[np.ndarray, "h w"]

    def mask(self, word: str) -> Bool[np.ndarray, "h w"]:
        """Raises: ValueError for a word that was not asked for."""
        if word not in self.words:
            raise ValueError(
                f"{word!r} was not asked for; there are {', '.join(self.words)}"
            )
        return self.labels == 1 + self.words.index(word)

    @functools.cached_property
    def shares(self) -> dict[str, float]:
        """Of the photo's pixels, by word."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.words) + 1)
        return {
            word: float(count / self.labels.size)
            for word, count in zip(self.words, counts[1:], strict=True)
        }


class Segmenter:
    """By OVAM without training, or by what a run of segmentation or referring learned.

    OVAM finds the place that fits each word best, whether or not it is there.
    """

    def __init__(self, source: str = "toybox", encoder: str = "", dtype: str = ""):
        """Training-free.

        Args:
          source: "toybox", a folder in the diffusers layout, or a hub id.
          encoder, dtype: as of `load_frozen`.
        """
        mesh = sharding.make_mesh(devices=jax.local_devices()[:1])
        loaded = load_frozen(source, ("out",), mesh, dtype, encoder)
        self._free, self._learned = TrainingFree(loaded, loaded.frozen), None
        self._loaded, self.size = loaded, loaded.backbone.image_size

    @classmethod
    def from_run(cls, workdir: str | pathlib.Path) -> "Segmenter":
        """Raises: as `Learned.from_run`."""
        self = cls.__new__(cls)
        self._learned = Learned.from_run(workdir, "segmentation", "referring")
        self._free, self._loaded = None, self._learned.loaded
        self.size = self._learned.size
        return self

    def segment(self, photo: images.Source, words: Sequence[str]) -> Masks:
        """Args:
          photo: a path, the bytes of a file, a PIL image, or a uint8 RGB array.
          words: names of things; of a run of segmentation some of its classes, of one
            of referring whole expressions.
        Raises: BadImage for a photo that cannot be read; ValueError for words that
          cannot be asked for.
        """
        words = self.checked(words)
        whole = images.decode(photo)
        height, width = whole.shape[:2]
        stride = self._loaded.backbone.stride
        small = resized(whole, network_size(height, width, self.size, stride))
        best = np.full((height, width), MASK, np.float32)
        labels = np.zeros((height, width), np.uint8)
        # One word's map at a time has the photo's size.
        for number, heat in enumerate(self._maps(words)(small), start=1):
            large = enlarge(heat, (height, width))
            higher = large > best
            best[higher], labels[higher] = large[higher], number
        return Masks(whole, words, labels)

    def checked(self, words: Sequence[str]) -> tuple[str, ...]:
        """Raises: ValueError for words that cannot be asked for."""
        words = tuple(dict.fromkeys(word.strip() for word in words))
        if not words or not all(words):
            raise ValueError("no words are given; name what to look for: mug,chair")
        if len(words) > MOST_WORDS:
            raise ValueError(f"{len(words)} words; give {MOST_WORDS} or fewer")
        learned = self._learned
        if learned and learned.kind == "segmentation":
            unknown = [word for word in words if word not in learned.classes]
            if unknown:
                raise ValueError(
                    f"this run knows no {', '.join(unknown)}; it knows "
                    f"{', '.join(learned.classes)}. Without a run any word will do"
                )
        return words

    @functools.lru_cache(maxsize=4)  # noqa: B019 a segmenter lives as long as its use
    def _maps(self, words: tuple[str, ...]) -> Callable:
        """From a small picture to a map from 0 to 1 for each word."""
        learned = self._learned
        if learned is None:
            free, texts = self._free, encode_texts(self._loaded, words)
            assert free is not None
            return lambda small: np.moveaxis(free.ovam(small, texts), -1, 0)
        if learned.kind == "segmentation":
            states = class_states(self._loaded, learned.classes)[None]
            rows = [learned.classes.index(word) for word in words]

            def of_classes(small: np.ndarray) -> Float[np.ndarray, "n y x"]:
                logits = learned(small, states)[0]
                found = np.asarray(jax.nn.softmax(logits, axis=-1))
                # The likeliest class gets more than MASK, whatever its share.
                first = found.argmax(-1)
                return np.stack([(first == i).astype(np.float32) for i in rows])

            return of_classes
        found = encode_texts(self._loaded, words).states[:, : learned.text_length]
        states = np.asarray(found)

        def of_expressions(small: np.ndarray) -> Float[np.ndarray, "n y x"]:
            logits = learned(small, states)
            return np.asarray(jax.nn.softmax(logits, axis=-1))[..., 1]

        return of_expressions
