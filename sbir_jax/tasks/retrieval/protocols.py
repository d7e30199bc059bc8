"""Which queries are asked over which gallery, and what counts as right.

`category`: a photo is right if it shows the query's class. `fine_grained`: only the
photo the sketch was drawn from is right. Both are zero-shot: the queries and the
gallery are of classes the prompts were not trained on. Generalised zero-shot puts seen
classes among them, by one of two published rules (`GENERALISED`).
"""

import dataclasses
import hashlib

import numpy as np
from jaxtyping import Int

from sbir_jax.data import Dataset
from sbir_jax.features import Task

GENERALISED = {
    "": "zero-shot: unseen classes only",
    "gallery": "all photos of seen classes join the gallery; queries stay unseen",
    "sampled": "seen sketches join the queries and seen photos the gallery, a random "
    "20 % of the unseen ones' numbers (SEM-PCYC, CVPR 2019)",
}
SAMPLED_SHARE = 0.2
ENOUGH = 50  # sketches, and photos, below which figures are marked


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Which items are queries, which the gallery, and what counts as right.

    Attributes:
      queries, gallery: indices into the data set's sketches and photos.
      query_labels, gallery_labels: class indices; query_instances,
        gallery_instances: instance ids, -1 where there is none.
      left_out: sketches with nothing to find in the gallery, so never asked.
    """

    task: Task
    queries: Int[np.ndarray, " q"]
    gallery: Int[np.ndarray, " g"]
    query_labels: Int[np.ndarray, " q"]
    gallery_labels: Int[np.ndarray, " g"]
    query_instances: Int[np.ndarray, " q"]
    gallery_instances: Int[np.ndarray, " g"]
    left_out: int
    cutoffs: tuple[int, ...]

    @property
    def primary(self) -> str:
        """The figure to look at first."""
        return "mAP@all" if self.task == "category" else "Acc@1"

    def digest(self, beside: str = "") -> str:
        """Of which items are asked, and of what is asked beside them; sha256 hex."""
        found = hashlib.sha256(self.queries.tobytes() + self.gallery.tobytes())
        found.update(beside.encode())
        return found.hexdigest()

    def right(self, rows: slice) -> np.ndarray:
        """Which photos are right for these queries, bool [q, g]."""
        if self.task == "category":
            return self.query_labels[rows, None] == self.gallery_labels[None]
        return self.query_instances[rows, None] == self.gallery_instances[None]

    def same_class(self, rows: slice) -> np.ndarray:
        return self.query_labels[rows, None] == self.gallery_labels[None]

    def weakness(self) -> list[str]:
        """What keeps figures from meaning much: a sentence, or nothing. Ours."""
        queries, photos = len(self.queries), len(self.gallery)
        if queries >= ENOUGH and photos >= ENOUGH:
            return []
        return [
            f"Only {queries} sketches over {photos} photos were scored. With fewer "
            f"than {ENOUGH} of either, figures say how things work and not how well."
        ]

    def summary(self) -> dict:
        return {
            "task": self.task,
            "queries": len(self.queries),
            "gallery": len(self.gallery),
            "classes": len(np.unique(self.gallery_labels)),
            "left_out": self.left_out,
        }


def make_protocol(
    dataset: Dataset,
    class_names: tuple[str, ...],
    task: Task,
    cutoffs=(100, 200),
    generalised: str = "",
) -> Protocol:
    """The protocol over these classes of a data set.

    Args:
      generalised: a key of `GENERALISED`.
    Raises: ValueError where no sketch has anything to find, for another rule, or for a
      cut-off below 1.
    """
    if any(k < 1 for k in cutoffs):
        raise ValueError(f"cutoffs are {tuple(cutoffs)}; give whole numbers from 1")
    if generalised not in GENERALISED:
        rules = "; ".join(f"{key!r} ({rule})" for key, rule in GENERALISED.items())
        raise ValueError(f"generalised is {generalised!r}; give one of {rules}")
    sketches, photos = dataset.sketches, dataset.photos
    wanted = [dataset.classes.index(name) for name in class_names]
    queries = np.flatnonzero(np.isin(sketches.labels, wanted))
    gallery = np.flatnonzero(np.isin(photos.labels, wanted))
    seen = [dataset.classes.index(name) for name in dataset.seen + dataset.val]
    seen_photos = np.flatnonzero(np.isin(photos.labels, seen))
    if generalised == "gallery":
        gallery = np.union1d(gallery, seen_photos)
    elif generalised == "sampled":
        seen_sketches = np.flatnonzero(np.isin(sketches.labels, seen))
        queries = _with_share(queries, seen_sketches, 0)
        gallery = _with_share(gallery, seen_photos, 1)
    if task == "category":
        findable = np.isin(sketches.labels[queries], photos.labels[gallery])
    else:
        instances = sketches.instances[queries]
        findable = (instances >= 0) & np.isin(instances, photos.instances[gallery])
    if not findable.any():
        remedy = {
            "category": "give classes that have both",
            "fine_grained": "name sketches after their photo (<photo>-1.png beside "
            "<photo>.jpg), or give task=category",
        }[task]
        raise ValueError(
            f"task {task}: none of the {len(queries)} sketches of the {len(wanted)} "
            f"classes to score has a right one among the {len(gallery)} photos; "
            + remedy
        )
    left_out = int(np.sum(~findable))
    queries = queries[findable]
    return Protocol(
        task,
        queries,
        gallery,
        sketches.labels[queries],
        photos.labels[gallery],
        sketches.instances[queries],
        photos.instances[gallery],
        left_out,
        tuple(cutoffs),
    )


def _with_share(unseen: np.ndarray, seen: np.ndarray, seed: int) -> np.ndarray:
    """`unseen` and a random draw of `seen`, sorted."""
    count = min(len(seen), round(SAMPLED_SHARE * len(unseen)))
    drawn = np.random.default_rng(seed).choice(seen, count, replace=False)
    return np.union1d(unseen, drawn)


def subsample(protocol: Protocol, limit: int) -> Protocol:
    """At most `limit` queries and `limit` photos, evenly spaced; for training curves.

    By instance the queries' own photos come on top. Queries whose right photos all fell
    out are dropped with them.
    """

    def spread(n: int) -> np.ndarray:
        return np.unique(np.linspace(0, n - 1, min(limit, n)).astype(int))

    photos = spread(len(protocol.gallery))
    if protocol.task == "fine_grained":
        # The pairs come first: a gallery without its sketches' own photos is no test.
        asked = protocol.query_instances[spread(len(protocol.queries))]
        paired = np.flatnonzero(np.isin(protocol.gallery_instances, asked))
        photos = np.union1d(paired, photos)
    labels, instances = (
        protocol.gallery_labels[photos],
        protocol.gallery_instances[photos],
    )
    queries = spread(len(protocol.queries))
    kept = (
        np.isin(protocol.query_labels[queries], labels)
        if protocol.task == "category"
        else np.isin(protocol.query_instances[queries], instances)
    )
    queries = queries[kept]
    return dataclasses.replace(
        protocol,
        queries=protocol.queries[queries],
        gallery=protocol.gallery[photos],
        query_labels=protocol.query_labels[queries],
        gallery_labels=labels,
        query_instances=protocol.query_instances[queries],
        gallery_instances=instances,
        left_out=protocol.left_out + int(np.sum(~kept)),
    )
