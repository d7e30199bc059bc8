"""Descriptors of a protocol's queries and gallery, kept in the run folder."""

import hashlib
import json
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sbir_jax import data, text_queries
from sbir_jax.embedder import Embedder
from sbir_jax.runtime import checkpoint, multiprocess
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
        prompt = beside.texts, beside.share
    queries = model.embed_items(dataset.sketches, protocol.queries, "sketch", *prompt)
    if beside and beside.way == "picture":
        texts, rows = np.unique(beside.texts, return_inverse=True)
        pictured = model.embed_words(texts.tolist())[rows]
        queries = text_queries.mix(queries, pictured, beside.share)
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
    asked = hashlib.sha256(protocol.queries.tobytes() + protocol.gallery.tobytes())
    asked.update(json.dumps(beside.key if beside else None).encode())
    fingerprint = f"{model.fingerprint}:{dataset.fingerprint}:{asked.hexdigest()}"
    stamp = folder / f"{name}.json"
    paths = [folder / f"{name}_{modality}.npy" for modality in ("sketch", "photo")]
    there = stamp.exists() and json.loads(stamp.read_text()) == fingerprint
    if not multiprocess.as_first_says(there):
        descriptors = embed(model, dataset, protocol, beside)
        if multiprocess.is_first():
            stamp.unlink(missing_ok=True)
            _keep(paths, descriptors, dataset, protocol)
            # Written last: without it nothing above counts as whole.
            checkpoint.write_json(stamp, fingerprint)
    multiprocess.barrier("descriptors")
    queries, gallery = (np.load(path).astype(np.float32) for path in paths)
    return queries, gallery


def _keep(
    paths: list[pathlib.Path],
    descriptors: tuple[np.ndarray, np.ndarray],
    dataset: data.Dataset,
    protocol: Protocol,
) -> None:
    items = (dataset.sketches, dataset.photos)
    indices = (protocol.queries, protocol.gallery)
    for path, found, source, rows in zip(
        paths, descriptors, items, indices, strict=True
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, found.astype(np.float16))
        table = {
            "id": [source.ids[i] for i in rows],
            "class": [dataset.classes[source.labels[i]] for i in rows],
            "label": source.labels[rows],
            "instance": source.instances[rows],
        }
        pq.write_table(pa.table(table), path.with_suffix(".parquet"))
