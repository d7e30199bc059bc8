"""What a learned descriptor has to beat: two descriptors that know nothing.

`hog` are histograms of oriented gradients (Dalal and Triggs, CVPR 2005) as scikit-image
computes them with its own defaults: 9 orientations, cells of 8 x 8 pixels, blocks of
3 x 3 cells. `pixels` are the colours themselves, less the picture's mean.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, UInt8

from sbir_jax.data.dataset import Dataset, Items
from sbir_jax.tasks.retrieval import evaluation
from sbir_jax.tasks.retrieval.protocols import Protocol

SIZE = 64  # pixels a side; the defaults of HOG are made for about this size
BATCH = 256  # pictures decoded at once

Descriptor = Callable[[UInt8[np.ndarray, "h w 3"]], Float[np.ndarray, " d"]]


def hog(image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, " d"]:
    """Gradients by orientation and place; of three colours the steepest counts."""
    from skimage.feature import hog  # slow to import, and only reports need it

    return hog(image, channel_axis=-1)


def pixels(image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, " d"]:
    """Colours less their mean: their product is the pictures' correlation."""
    flat = image.reshape(-1).astype(np.float64)
    return flat - flat.mean()


BASELINES: dict[str, Descriptor] = {"hog": hog, "pixels": pixels}


def describe(
    items: Items, rows: np.ndarray, descriptor: Descriptor, size: int = SIZE
) -> Float[np.ndarray, "n d"]:
    """Unit descriptors of these items, float32; zero for a picture without contrast."""
    found = []
    for start in range(0, len(rows), BATCH):
        images = items.pixels(rows[start : start + BATCH], size)
        found += [descriptor(image).astype(np.float32) for image in images]
    stacked = np.stack(found)
    lengths = np.linalg.norm(stacked, axis=1, keepdims=True)
    return stacked / np.maximum(lengths, 1e-12)


def measure(
    dataset: Dataset, protocol: Protocol, descriptor: Descriptor
) -> dict[str, Float[np.ndarray, " q"]]:
    """Its metrics for every query of a protocol, as `evaluation.measure` gives them."""
    queries = describe(dataset.sketches, protocol.queries, descriptor)
    gallery = describe(dataset.photos, protocol.gallery, descriptor)
    return evaluation.measure(protocol, evaluation.similarity(queries, gallery))
