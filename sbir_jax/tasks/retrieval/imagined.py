"""A ranking by drawings with photos beside them that a synthesis run makes of them."""

import pathlib
from typing import Any

import numpy as np
from jaxtyping import Float

from sbir_jax import text_queries
from sbir_jax.data.dataset import Dataset
from sbir_jax.embedder import Embedder
from sbir_jax.runtime import row_cache
from sbir_jax.tasks.retrieval.protocols import Protocol
from sbir_jax.tasks.retrieval.setup import Scoring
from sbir_jax.tasks.synthesis import imagined
from sbir_jax.tasks.synthesis.imaginer import Imaginer


def queries(
    imaginer: Imaginer,
    embedder: Embedder,
    drawn: Float[np.ndarray, "q d"],
    dataset: Dataset,
    protocol: Protocol,
    score: Scoring,
    folder: pathlib.Path,
) -> Float[np.ndarray, "q d"]:
    """What `score.imagined_share` makes of the queries.

    Args:
      drawn: descriptors of the sketches.
      folder: where those of imagined photos are kept; a stopped run goes on there.
    """

    def make(some: slice) -> np.ndarray:
        rows = protocol.queries[some]
        sketches = dataset.sketches.pixels(rows, imaginer.size)
        return imagined.descriptors(imaginer, embedder, sketches, [None] * len(rows))

    whose: dict[str, Any] = {
        "embedder": embedder.fingerprint,
        "imaginer": f"{imaginer.fingerprint}:{imaginer.sampling}",
        "data": f"{dataset.fingerprint}:{protocol.digest()}",
        "pictures": imagined.PICTURES,
    }
    path = folder / "imagined_sketch.bin"
    found = row_cache.keep(path, whose, drawn.shape, make, "imagine")
    return text_queries.mix(drawn, found.astype(np.float32), score.imagined_share)
