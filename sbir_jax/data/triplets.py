"""Which triplet comes when, as pure functions, and batches of them.

The triplets of step s are one draw for all hosts, from (seed, s) alone; host h takes
rows h * b to (h + 1) * b of it. So hosts never share a row, a resumed run sees what an
uninterrupted one would have, and the whole batch does not depend on how many hosts cut
it up.

Ours, not a paper's: every class with sketches is drawn equally often (a batch holds
whole permutations of the classes), sketches within a class without repetition while
they last, and negatives first by class, then by photo, each uniformly.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

import grain
import numpy as np
from jaxtyping import Bool, Float, Int

from sbir_jax.data import images
from sbir_jax.data.dataset import Dataset, Items
from sbir_jax.data.tree import DataError
from sbir_jax.types import Modality

Task = Literal["category", "fine_grained"]
TASKS = ("category", "fine_grained")

# What the three of a triplet are, in the order of `triplet_indices`.
MODALITY: dict[str, Modality] = {
    "sketch": "sketch",
    "positive": "photo",
    "negative": "photo",
}
# From a modality, positions among its items, and which of them are to be mirrored left
# to right, to the rows that stand for them, float32.
Reader = Callable[
    [Modality, Int[np.ndarray, " k"], Bool[np.ndarray, " k"]],
    Float[np.ndarray, "k _ _ _"],
]

_TRIPLETS, _FLIPS = 0, 1  # separate random streams


@dataclasses.dataclass(frozen=True)
class Table:
    """What the sampler needs to know, one row per class that can be an anchor's.

    Everything is a position in Dataset.sketches or Dataset.photos.
    """

    task: Task
    sketches: tuple[Int[np.ndarray, " _"], ...]  # possible anchors of each class
    photos: tuple[Int[np.ndarray, " _"], ...]  # photos of each class, distractors last
    sketch_instances: Int[np.ndarray, " n"]  # of all sketches
    photo_instances: Int[np.ndarray, " m"]  # of all photos


def triplet_table(dataset: Dataset, task: Task = "category") -> Table:
    """Lists the seen classes for the sampler; unseen and held-out ones never enter.

    Classes with photos only serve as negatives (category task).

    Raises: DataError where no triplet can be made, with the remedy.
    """
    if task not in TASKS:
        raise DataError(f"task is {task!r}; allowed are {', '.join(TASKS)}.")
    if not dataset.seen:
        raise DataError(
            f"{dataset.name} has no seen classes to train on. Leave some classes out "
            "of split, or train on another data set."
        )
    sketches, photos, distractors = [], [], []
    for name in dataset.seen:
        label = dataset.classes.index(name)
        s = np.flatnonzero(dataset.sketches.labels == label)
        p = np.flatnonzero(dataset.photos.labels == label)
        if task == "fine_grained":
            there = dataset.photos.instances[p]
            p = p[there >= 0]
            s = s[np.isin(dataset.sketches.instances[s], there[there >= 0])]
            if len(s) and len(np.unique(there[there >= 0])) > 1:
                sketches.append(s)
                photos.append(p)
        elif len(s) and len(p):
            sketches.append(s)
            photos.append(p)
        elif len(p):
            distractors.append(p)
    if task == "fine_grained" and not sketches:
        raise DataError(
            f"{dataset.name}: fine-grained triplets need, in some seen class, a sketch "
            "named after a photo (<photo>-1.png for <photo>.jpg) and another photo of "
            f"that class; none of the {len(dataset.seen)} seen classes has both. "
            "Rename the sketches, or train with task='category'."
        )
    if task == "category" and (not sketches or len(sketches) + len(distractors) < 2):
        raise DataError(
            f"{dataset.name}: category triplets need a seen class with sketches and "
            f"photos, and photos of another; there are {len(sketches)} with both and "
            f"{len(distractors)} with photos only. Add a class, leave fewer classes "
            "unseen, or train with task='fine_grained' if sketches have their photos."
        )
    return Table(
        task,
        tuple(sketches),
        tuple(photos + distractors),
        dataset.sketches.instances,
        dataset.photos.instances,
    )


def triplet_indices(
    seed: int, step: int, host: int, hosts: int, batch_size: int, table: Table
) -> tuple[Int[np.ndarray, " b"], Int[np.ndarray, " b"], Int[np.ndarray, " b"]]:
    """Positions of anchor sketches, positive photos and negative photos.

    Category: the positive is any photo of the sketch's class, the negative a photo of
    another class. Fine-grained: the positive is the photo that was drawn, the negative
    another photo of the same class.

    Args:
      seed, step: not negative.
      batch_size: b, rows per host.
    Returns: three int64 arrays [b], the same at every call.
    """
    _check(host, hosts, batch_size)
    rng = np.random.default_rng((seed, step, _TRIPLETS))
    total = hosts * batch_size
    anchors = len(table.sketches)
    rounds = -(-total // anchors)
    rows = np.concatenate([rng.permutation(anchors) for _ in range(rounds)])[:total]
    sketches = np.empty(total, np.int64)
    for row, count in zip(*np.unique(rows, return_counts=True), strict=True):
        pool = table.sketches[row]
        sketches[rows == row] = pool[_distinct(rng, len(pool), int(count))]
    # One number per draw and row, whatever the sizes of the pools.
    draws = rng.random((3, total))
    mine = slice(host * batch_size, (host + 1) * batch_size)
    positives = np.empty(batch_size, np.int64)
    negatives = np.empty(batch_size, np.int64)
    for i, (row, sketch, u) in enumerate(
        zip(rows[mine], sketches[mine], draws[:, mine].T, strict=True)
    ):
        pool = table.photos[row]
        if table.task == "fine_grained":
            same = table.photo_instances[pool] == table.sketch_instances[sketch]
            right, wrong = pool[same], pool[~same]
        else:
            other = int(u[2] * (len(table.photos) - 1))
            right, wrong = pool, table.photos[other + (other >= row)]
        positives[i] = right[int(u[0] * len(right))]
        negatives[i] = wrong[int(u[1] * len(wrong))]
    return sketches[mine], positives, negatives


def flips(
    seed: int, step: int, host: int, hosts: int, batch_size: int
) -> Bool[np.ndarray, " b"]:
    """Which triplets are mirrored left to right, all three images together."""
    _check(host, hosts, batch_size)
    rng = np.random.default_rng((seed, step, _FLIPS))
    mirrored = rng.random(hosts * batch_size) < 0.5
    return mirrored[host * batch_size : (host + 1) * batch_size]


def draw(
    seed: int, step: int, host: int, hosts: int, batch_size: int, table: Table
) -> tuple[dict[str, Int[np.ndarray, " b"]], Bool[np.ndarray, " b"]]:
    """The triplets of a step and which of them are mirrored; arguments as above.

    Category triplets are mirrored at random (ours); nothing else is augmented.

    Returns: positions by the keys of `MODALITY`, and one flag a triplet.
    """
    found = triplet_indices(seed, step, host, hosts, batch_size, table)
    mirrored = np.zeros(batch_size, bool)
    if table.task == "category":
        mirrored = flips(seed, step, host, hosts, batch_size)
    return dict(zip(MODALITY, found, strict=True)), mirrored


def triplet_batches(
    dataset: Dataset,
    seed: int,
    start_step: int,
    steps: int,
    batch_size: int,
    task: Task = "category",
    size: int = 256,
    host: int = 0,
    hosts: int = 1,
    read: Reader | None = None,
) -> grain.IterDataset:
    """Batches of steps start_step to steps - 1, in order, read ahead by threads.

    Only seen classes are drawn. A checkpoint needs to keep the step, no more.

    Args:
      steps: the step to stop before, counted from 0 as start_step is.
      batch_size: per host.
      size: side in pixels.
      read: what stands for the images; `pixel_reader` if None.
    Returns: an iterable of {"sketch", "positive", "negative"}, what `read` gives.
    """
    if not 0 <= start_step <= steps:
        raise ValueError(f"start_step is {start_step}; allowed are 0 to steps={steps}")
    table = triplet_table(dataset, task)
    _check(host, hosts, batch_size)
    read = read or pixel_reader(dataset, size)

    def batch(step: int) -> dict[str, Float[np.ndarray, "b _ _ _"]]:
        found, mirrored = draw(seed, step, host, hosts, batch_size, table)
        return {
            name: read(MODALITY[name], indices, mirrored)
            for name, indices in found.items()
        }

    # Decoding has its own threads; two batches in the making keep them busy.
    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=2)
    return grain.MapDataset.range(start_step, steps).map(batch).to_iter_dataset(options)


def pixel_reader(dataset: Dataset, size: int, cache_bytes: int = 2**30) -> Reader:
    """Reads images as float32 [k, size, size, 3] in [-1, 1].

    Args:
      cache_bytes: decoded images of a modality are kept in memory if they all fit.
    """
    stores: dict[Modality, Callable[[np.ndarray], np.ndarray]] = {
        "sketch": cached_pixels(dataset.sketches, size, cache_bytes),
        "photo": cached_pixels(dataset.photos, size, cache_bytes),
    }

    def read(
        modality: Modality, indices: np.ndarray, mirrored: np.ndarray
    ) -> np.ndarray:
        pixels = stores[modality](indices)
        flipped = np.where(mirrored[:, None, None, None], pixels[:, :, ::-1], pixels)
        return images.to_float(flipped)

    return read


def cached_pixels(
    items: Items, size: int, limit: int
) -> Callable[[Int[np.ndarray, " k"]], np.ndarray]:
    """`items.pixels` at this size, remembered if all n * size * size * 3 bytes fit."""
    if len(items) * size * size * 3 > limit:
        return lambda indices: items.pixels(indices, size)
    store = np.zeros((len(items), size, size, 3), np.uint8)  # pages come as touched
    filled = np.zeros(len(items), bool)

    def read(indices: Int[np.ndarray, " k"]) -> np.ndarray:
        new = np.unique(indices[~filled[indices]])
        if len(new):
            # Two threads may decode the same image: the same bytes, twice.
            store[new] = items.pixels(new, size)
            filled[new] = True
        return store[indices]

    return read


def _distinct(rng: np.random.Generator, n: int, count: int) -> np.ndarray:
    """`count` numbers below n, none again before all were there."""
    full = [rng.permutation(n) for _ in range(count // n)]
    return np.concatenate([*full, rng.choice(n, count % n, replace=False)])


def _check(host: int, hosts: int, batch_size: int) -> None:
    if not (0 <= host < hosts and batch_size > 0):
        raise ValueError(
            f"host {host} of {hosts} with batch_size {batch_size}; allowed are "
            "0 <= host < hosts and batch_size >= 1"
        )
