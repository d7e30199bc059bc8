"""A ranking by drawings with photos beside them that a synthesis run makes of them."""

import pathlib
from typing import Any

import numpy as np
from jaxtyping import Float

from sbir_jax import text_queries
from sbir_jax.data.dataset import Dataset
from sbir_jax.runtime import row_cache
from sbir_jax.tasks.retrieval.protocols import Protocol
from sbir_jax.tasks.synthesis import imagined
from sbir_jax.tasks.synthesis.imagined import Describes, Imagines


def queries(
    imaginer: Imagines,
    embedder: Describes,
    drawn: Float[np.ndarray, "q d"],
    dataset: Dataset,
    protocol: Protocol,
    weight: float,
    models: list[str],
    folder: pathlib.Path,
) -> Float[np.ndarray, "q d"]:
    """The queries with photos imagined beside them.

    Args:
      drawn: descriptors of the sketches.
      weight: of the imagined photos.
      models: fingerprints of both.
      folder: where their descriptors are kept; a stopped run goes on there.
    """

    def make(some: slice) -> np.ndarray:
        rows = protocol.queries[some]
        sketches = dataset.sketches.pixels(rows, imaginer.size)
        return imagined.descriptors(imaginer, embedder, sketches, [None] * len(rows))

    whose: dict[str, Any] = {
        "models": models,
        "data": f"{dataset.fingerprint}:{protocol.digest()}",
        "pictures": [imagined.PICTURES, imagined.STEPS],
    }
    path = folder / "imagined_sketch.bin"
    found = row_cache.keep(path, whose, drawn.shape, make, "imagine")
    return text_queries.mix(drawn, found.astype(np.float32), weight)
