"""What a learned descriptor has to beat: two descriptors that know nothing.

`hog` are the histograms of oriented gradients of `sbir_jax.hog`, which can be searched
with, too. `pixels` are the colours themselves, less the picture's mean.
"""

import functools
import importlib.metadata
import json
import pathlib
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, UInt8

from sbir_jax.data.dataset import Dataset, Items
from sbir_jax.hog import SIZE, hog
from sbir_jax.metrics.cosine import unit
from sbir_jax.runtime import kept_files
from sbir_jax.tasks.retrieval import evaluation
from sbir_jax.tasks.retrieval.protocols import Protocol

BATCH = 256  # pictures decoded at once

Descriptor = Callable[[UInt8[np.ndarray, "h w 3"]], Float[np.ndarray, " d"]]
Values = dict[str, Float[np.ndarray, " q"]]  # of each query, by the metric's name


def pixels(image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, " d"]:
    """Colours less their mean: their product is the pictures' correlation."""
    flat = image.reshape(-1).astype(np.float64)
    return flat - flat.mean()


BASELINES: dict[str, Descriptor] = {"hog": hog, "pixels": pixels}


def describe(
    items: Items, rows: np.ndarray, size: int = SIZE
) -> dict[str, Float[np.ndarray, "n _"]]:
    """Unit descriptors of these items by each baseline, float32, all from one decode;
    zero for a picture without contrast."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in BASELINES}
    for start in range(0, len(rows), BATCH):
        images = items.pixels(rows[start : start + BATCH], size)
        for name, descriptor in BASELINES.items():
            found[name] += [descriptor(image).astype(np.float32) for image in images]
    return {name: unit(np.stack(some)) for name, some in found.items()}


def measure(dataset: Dataset, protocol: Protocol) -> dict[str, Values]:
    """Of each baseline what `evaluation.measure` gives."""
    queries = describe(dataset.sketches, protocol.queries)
    gallery = describe(dataset.photos, protocol.gallery)
    return {
        name: evaluation.measure(
            protocol, evaluation.similarity(queries[name], gallery[name])
        )
        for name in BASELINES
    }


def cached_measure(
    dataset: Dataset, protocol: Protocol, folder: pathlib.Path
) -> dict[str, Values]:
    """As `measure`, kept in `folder`: a parquet for each baseline, a row a query."""
    made_by = f"scikit-image {importlib.metadata.version('scikit-image')}"
    how = [protocol.task, protocol.cutoffs, SIZE, list(BASELINES), made_by]
    fingerprint = f"{dataset.fingerprint}:{protocol.digest(json.dumps(how))}"
    ids = [dataset.sketches.ids[i] for i in protocol.queries]

    def make() -> kept_files.Writers:
        return {
            f"{name}.parquet": functools.partial(
                pq.write_table, pa.table({"id": ids, **values})
            )
            for name, values in measure(dataset, protocol).items()
        }

    kept_files.keep(folder, "baselines", fingerprint, make)
    found = {}
    for name in BASELINES:
        table = pq.read_table(folder / f"{name}.parquet").drop_columns("id")
        found[name] = {
            metric: table[metric].to_numpy() for metric in table.column_names
        }
    return found
