"""Descriptors of a protocol's queries and gallery, kept in the run folder."""

import functools
import json
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sbir_jax import data, text_queries
from sbir_jax.embedder import Embedder
from sbir_jax.runtime import kept_files
from sbir_jax.tasks.retrieval.protocols import Protocol
from sbir_jax.tasks.retrieval.query_texts import Beside


def embed(
    model: Embedder,
    dataset: data.Dataset,
    protocol: Protocol,
    beside: Beside | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Descriptors of a protocol's queries, with words beside them, and its gallery."""
    prompt: tuple = ()
    if beside and beside.way == "prompt":
        prompt = beside.texts, beside.weight
    queries = model.embed_items(dataset.sketches, protocol.queries, "sketch", *prompt)
    if beside and beside.way == "picture":
        texts, rows = np.unique(beside.texts, return_inverse=True)
        pictured = model.embed_words(texts.tolist())[rows]
        queries = text_queries.mix(queries, pictured, beside.weight)
    return queries, model.embed_items(dataset.photos, protocol.gallery, "photo")


def cached_embed(
    model: Embedder,
    dataset: data.Dataset,
    protocol: Protocol,
    folder: pathlib.Path,
    name: str,
    beside: Beside | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """As `embed`, kept in `folder` as float16 beside a parquet of ids and labels.

    What is kept is used again only for the same embedder, data, protocol and words.
    Figures are always of the kept float16, so a run scored twice gives the same ones.
    """
    words = json.dumps(beside.key if beside else None)
    asked = protocol.digest(words)
    fingerprint = f"{model.fingerprint}:{dataset.fingerprint}:{asked}"

    def make() -> kept_files.Writers:
        found, writers = embed(model, dataset, protocol, beside), {}
        items = (dataset.sketches, dataset.photos)
        indices = (protocol.queries, protocol.gallery)
        for modality, rows, source, picked in zip(
            ("sketch", "photo"), found, items, indices, strict=True
        ):
            half = rows.astype(np.float16)
            writers[f"{name}_{modality}.npy"] = functools.partial(np.save, arr=half)
            table = pa.table(
                {
                    "id": [source.ids[i] for i in picked],
                    "class": [dataset.classes[source.labels[i]] for i in picked],
                    "label": source.labels[picked],
                    "instance": source.instances[picked],
                }
            )
            file = f"{name}_{modality}.parquet"
            writers[file] = functools.partial(pq.write_table, table)
        return writers

    kept_files.keep(folder, name, fingerprint, make)
    queries, gallery = (
        np.load(folder / f"{name}_{modality}.npy").astype(np.float32)
        for modality in ("sketch", "photo")
    )
    return queries, gallery
