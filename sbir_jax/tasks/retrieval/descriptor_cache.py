"""What a run is scored on: which set, which words, and the descriptors it keeps."""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sbir_jax import data, text_queries
from sbir_jax.config import Scoring
from sbir_jax.data import sketchy
from sbir_jax.data.tree import normal_name
from sbir_jax.embedder import Embedder
from sbir_jax.features import Task
from sbir_jax.runtime import checkpoint, multiprocess
from sbir_jax.tasks.retrieval import evaluation


def scored_on(
    score: Scoring, dataset: data.Dataset, task: Task
) -> tuple[data.Dataset, tuple[str, ...]]:
    """The data set to score on, and its classes that training has not seen.

    Raises: ValueError where no class is left; DataError as `data.load`.
    """
    if not score.name:
        return dataset, dataset.unseen
    photos = score.photos
    if score.name == "sketchy":
        photos = photos or sketchy.photos_for(task)
    options: dict[str, Any] = {"photos": photos} if photos else {}
    other = data.load(score.name, score.root, score.split, **options)
    seen = {_letters(name) for name in dataset.seen + dataset.val}
    unseen = tuple(name for name in other.unseen if _letters(name) not in seen)
    if not unseen:
        raise ValueError(
            f"score: all {len(other.unseen)} unseen classes of {other.name} were "
            f"seen in training on {dataset.name}; give another split"
        )
    return other, unseen


def _letters(name: str) -> str:
    """`hot-dog` of one data set is the `hotdog` of another."""
    return "".join(filter(str.isalnum, normal_name(name)))


@dataclasses.dataclass(frozen=True)
class Beside:
    """Words beside the queries: a text each, and `words_as` and `text_share` of
    `config.Scoring`."""

    texts: list[str]
    way: str
    share: float

    @property
    def key(self) -> list:
        """All that a descriptor with such words depends on."""
        made = text_queries.PICTURES, text_queries.STEPS, text_queries.GUIDANCE
        return [*dataclasses.astuple(self), *made]


def words_beside(
    score: Scoring, dataset: data.Dataset, protocol: evaluation.Protocol
) -> Beside | None:
    """The words that the queries are to have, or None where there are to be none.

    Raises: ValueError where captions are asked for and a sketch's photo has none.
    """
    if not score.words:
        return None
    if score.words == "class":
        names = [dataset.classes[i].replace("_", " ") for i in protocol.query_labels]
        texts = [f"a photo of a {name}" for name in names]
        return Beside(texts, score.words_as, score.text_share)
    photos = dataset.photos
    captions = dict(zip(photos.instances.tolist(), photos.captions, strict=True))
    found = [captions.get(i, "") for i in protocol.query_instances.tolist()]
    if missing := sum(not text for text in found):
        raise ValueError(
            f"score.words is caption, and {missing} of {len(found)} sketches have no "
            f"photo with a caption in {dataset.name}; give class"
        )
    return Beside(found, score.words_as, score.text_share)


def embed(
    model: Embedder,
    dataset: data.Dataset,
    protocol: evaluation.Protocol,
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
    protocol: evaluation.Protocol,
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
    protocol: evaluation.Protocol,
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
