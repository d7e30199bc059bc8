"""The plain baseline as an embedder: histograms of oriented gradients, and no network.

embedder = HogEmbedder()
photos = embedder.embed(paths, "photo")

So that anybody can see on their own photos what a diffusion model adds. After Dalal and
Triggs (CVPR 2005), with the settings that scikit-image has by default.
"""

import functools
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

import numpy as np
from jaxtyping import Float, UInt8

from sbir_jax.backbones.known import HOG
from sbir_jax.data import images as images_lib
from sbir_jax.metrics.cosine import unit
from sbir_jax.runtime import digests
from sbir_jax.types import MODALITIES

SIZE = 64  # pixels a side; the settings are made for about this size
BATCH = 64  # photos at a time: enough to keep the threads that read them busy
# Written out, so that another default of the library changes no index.
SETTINGS: dict[str, Any] = {
    "orientations": 9,
    "pixels_per_cell": (8, 8),
    "cells_per_block": (3, 3),
    "block_norm": "L2-Hys",
}
DIM = (8 - 3 + 1) ** 2 * 3**2 * 9  # blocks, cells of each, orientations


class Unable(ValueError):
    """What a descriptor without a diffusion model cannot do, and what could."""


def hog(image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, " d"]:
    """Gradients by orientation and place; of three colours the steepest counts."""
    from skimage.feature import hog  # slow to import

    return hog(image, channel_axis=-1, **SETTINGS)


def describe(images: Iterable[UInt8[np.ndarray, "h w 3"]]) -> Float[np.ndarray, "n d"]:
    """Of unit length, float32; zero for a picture without contrast."""
    found = [hog(image).astype(np.float32) for image in images]
    return unit(np.stack(found)) if found else np.zeros((0, DIM), np.float32)


class HogEmbedder:
    """As `sbir_jax.embedder.Embedder` for an index and for single drawings; takes no
    words.

    Attributes: as of `Embedder`.
    """

    size, dim = SIZE, DIM

    def __init__(self, batch_size: int = 0):
        """Args: batch_size: photos at a time; 0 for `BATCH`."""
        self.batch_size = batch_size or BATCH
        self.source: dict[str, Any] | None = {"kind": HOG}

    @property
    def fingerprint(self) -> str:
        return _fingerprint()

    def embed(
        self, images: Iterable, modality: str, *, prepare: bool = False
    ) -> Float[np.ndarray, "n d"]:
        """Arguments and errors as of `Embedder.embed`."""
        if modality not in MODALITIES:
            raise ValueError(f"modality is {modality!r}; give one of {MODALITIES}")
        if prepare and modality == "sketch":
            from sbir_jax.data import sketch_preparation

            images = map(sketch_preparation.prepare, images)
        fit = images_lib.FIT[modality]
        return describe([images_lib.decode(image, SIZE, fit) for image in images])

    def embed_words(self, texts: Sequence[str]) -> NoReturn:
        """Raises: Unable, whatever the words are."""
        raise unable("takes no words")

    def start(
        self, images: Float[np.ndarray, "n h w 3"], modality: str
    ) -> Callable[[], Float[np.ndarray, "n d"]]:
        """As `Embedder.start`: images in [-1, 1], of `size` pixels."""
        return functools.partial(describe, images_lib.to_uint8(images))


def unable(what: str) -> Unable:
    """The error for what takes a diffusion model."""
    return Unable(
        f"{HOG} {what}, since it is no diffusion model: make an index with one, such "
        "as toybox (sbir models lists them)"
    )


@functools.cache
def _fingerprint() -> str:
    """Of the settings, and of what they make of one picture: another version of the
    library counts where it gives other numbers, and only there."""
    y, x = np.mgrid[:SIZE, :SIZE]
    picture = np.stack([x * x + y, 3 * y * y, x * y], axis=-1) % 256
    # In double precision processors differ far behind the third digit.
    found = np.round(hog(picture.astype(np.uint8)), 3)
    how = [HOG, SIZE, SETTINGS, images_lib.FIT]
    return digests.fingerprint(json.dumps(how, sort_keys=True), [found])
