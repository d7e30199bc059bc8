"""Sketches and photos as the rest of the project sees them."""

import dataclasses
import functools
import hashlib
import math
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float, Int, UInt8

from sbir_jax.data import images, prepare
from sbir_jax.data.tree import DataError, Skipped, find_names, normal_name

Indices = Iterable[int] | Int[np.ndarray, " _"]


class Records:
    """Random access to some rows of a tfds data source, images as file bytes.

    Item i is a dict with `image` (bytes), `label`, `instance`, `id` and `caption`.
    """

    def __init__(self, source: Any, rows: Int[np.ndarray, " n"]):
        self.source, self.rows = source, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return self.source[int(self.rows[i])]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        return self.source.__getitems__([int(self.rows[i]) for i in indices])

    def only(self, indices: Int[np.ndarray, " k"]) -> "Records":
        return Records(self.source, self.rows[indices])


@dataclasses.dataclass(frozen=True, eq=False)
class Items:
    """One modality. All fields have the same length n and order."""

    modality: str  # "sketch" or "photo"
    source: Records
    labels: Int[np.ndarray, " n"]  # int32, index into Dataset.classes
    instances: Int[np.ndarray, " n"]  # int32, -1 = none; sketches share it with photos
    ids: tuple[str, ...]  # path relative to the root, or the like
    captions: tuple[str, ...]
    prepared: bool = False  # sketches by `sketch_preparation`, as people's are

    def __len__(self) -> int:
        return len(self.ids)

    def pixels(
        self, indices: Indices, size: int, fit: images.Fit | None = None
    ) -> UInt8[np.ndarray, "k s s 3"]:
        """Decodes these items at size x size, in [0, 255], with threads.

        Args:
          fit: how a non-square image becomes square; `images.FIT` by modality if None.
        """
        chosen = self.source.__getitems__([int(i) for i in indices])
        fit = fit or images.FIT[self.modality]
        sources = [r["image"] for r in chosen]
        if self.prepared:
            # Half a second of scikit-image, for those who ask.
            from sbir_jax.data import sketch_preparation

            sources = [sketch_preparation.prepared_or_same(s) for s in sources]
        return images.decode_batch(sources, size, fit)

    def images(
        self, indices: Indices, size: int, fit: images.Fit | None = None
    ) -> Float[np.ndarray, "k s s 3"]:
        """The same, float32 in [-1, 1]."""
        return images.to_float(self.pixels(indices, size, fit))

    def only(self, keep: Int[np.ndarray, " k"]) -> "Items":
        """The items at these positions, in this order."""
        return Items(
            self.modality,
            self.source.only(keep),
            self.labels[keep],
            self.instances[keep],
            tuple(self.ids[i] for i in keep),
            tuple(self.captions[i] for i in keep),
            self.prepared,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Sketches, photos, and which classes may be trained on.

    seen, val, unseen and novel are disjoint. Train on seen; choose models on val (seen
    classes held out); report on unseen. novel is Toybox's: classes that its backbone
    never met either.
    """

    name: str
    classes: tuple[str, ...]
    seen: tuple[str, ...]
    unseen: tuple[str, ...]
    sketches: Items
    photos: Items
    skipped: tuple[Skipped, ...]  # files left out
    fingerprint: str  # of the content: images, labels, order
    val: tuple[str, ...] = ()
    novel: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # about classes that are empty or one-sided

    def subset(self, class_names: Iterable[str]) -> "Dataset":
        """Only the items of these classes. Labels keep their meaning.

        Raises: DataError for a name that is not a class of this data set.
        """
        chosen = find_names(class_names, self.classes, "the subset")
        labels = [self.classes.index(c) for c in chosen]

        def cut(items: Items) -> Items:
            return items.only(np.flatnonzero(np.isin(items.labels, labels)))

        def both(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(n for n in names if n in chosen)

        text = "\0".join([self.fingerprint, *sorted(chosen)])
        return dataclasses.replace(
            self,
            seen=both(self.seen),
            unseen=both(self.unseen),
            val=both(self.val),
            novel=both(self.novel),
            sketches=cut(self.sketches),
            photos=cut(self.photos),
            fingerprint=hashlib.blake2b(text.encode(), digest_size=16).hexdigest(),
        )

    def with_prepared_sketches(self) -> "Dataset":
        """The same with `sketch_preparation` before every sketch."""
        text = f"{self.fingerprint}\0prepared"
        return dataclasses.replace(
            self,
            sketches=dataclasses.replace(self.sketches, prepared=True),
            notes=(*self.notes, "sketches were made dark, centred and large first"),
            fingerprint=hashlib.blake2b(text.encode(), digest_size=16).hexdigest(),
        )

    def hold_out(self, count: int, seed: int = 0) -> "Dataset":
        """Moves `count` seen classes that have sketches to val, by `draw`."""
        able = [c for c in self.seen if c in self.drawn]
        if not able:
            raise DataError(
                f"{self.name} has no seen class with sketches, so there is none to "
                f"train on; its {len(self.unseen)} unseen classes are all: name fewer "
                "in data.unseen."
            )
        if not 0 <= count < len(able):
            raise DataError(
                f"val_classes is {count}, of {len(able)} seen classes with sketches; "
                f"allowed are 0 to {len(able) - 1}, so that one is left to train on."
            )
        val = draw(able, count, seed)
        seen = tuple(c for c in self.seen if c not in val)
        return dataclasses.replace(self, seen=seen, val=self.val + val)

    def share(self, fraction: float | int, seed: int = 0) -> "Dataset":
        """A seeded share of every seen class, for training on little data.

        Photos that were drawn are kept with all their sketches; photos without sketches
        and sketches without a photo are each drawn by themselves. Of each of these
        kinds ceil(fraction * n) are kept, so at least one. With the same seed a larger
        share holds every smaller one. Other classes stay whole.

        Args:
          fraction: above 0, at most 1; 1 changes nothing.
        Raises: DataError for another fraction.
        """
        if not 0 < fraction <= 1:
            raise DataError(
                f"share is {fraction!r}; give a fraction above 0 and at most 1, for "
                "example 0.1 for a tenth of each seen class."
            )
        if fraction == 1:
            return self
        keep_sketch = np.ones(len(self.sketches), bool)
        keep_photo = np.ones(len(self.photos), bool)

        def some(items: Items, rows: Int[np.ndarray, " k"]) -> Int[np.ndarray, " m"]:
            """The kept ones of these rows, whole instances where they have one."""
            numbers = items.instances[rows]
            alone = np.where(numbers < 0, -1 - np.arange(len(rows)), numbers)
            units, first = np.unique(alone, return_index=True)
            names = [items.ids[rows[i]] for i in first]
            return rows[np.isin(alone, units[_first(names, fraction, seed)])]

        for name in self.seen:
            label = self.classes.index(name)
            sketches = np.flatnonzero(self.sketches.labels == label)
            photos = np.flatnonzero(self.photos.labels == label)
            of_photo = np.isin(
                self.sketches.instances[sketches], _numbers(self.photos, photos)
            )
            is_drawn = np.isin(
                self.photos.instances[photos], _numbers(self.sketches, sketches)
            )
            chosen = some(self.photos, photos[is_drawn])
            keep_photo[photos] = keep_sketch[sketches] = False
            keep_photo[chosen] = True
            keep_photo[some(self.photos, photos[~is_drawn])] = True
            kept = np.isin(
                self.sketches.instances[sketches], _numbers(self.photos, chosen)
            )
            keep_sketch[sketches[kept]] = True
            keep_sketch[some(self.sketches, sketches[~of_photo])] = True
        text = "\0".join([self.fingerprint, repr(fraction), str(seed), *self.seen])
        return dataclasses.replace(
            self,
            sketches=self.sketches.only(np.flatnonzero(keep_sketch)),
            photos=self.photos.only(np.flatnonzero(keep_photo)),
            fingerprint=hashlib.blake2b(text.encode(), digest_size=16).hexdigest(),
            notes=(*self.notes, f"trained on {fraction:g} of each seen class"),
        )

    @functools.cached_property
    def drawn(self) -> frozenset[str]:
        """Classes that have sketches, and photos to find with them."""
        return frozenset(self.classes[i] for i in np.unique(self.sketches.labels))


def draw(classes: Sequence[str], count: int, seed: int) -> tuple[str, ...]:
    """`count` classes by a seeded hash of their names, in the order given.

    Unlike a shuffle it does not depend on the other classes: adding one to a folder
    changes the draw by at most one.
    """

    def rank(name: str) -> bytes:
        text = f"{seed}:{normal_name(name)}"
        return hashlib.blake2b(text.encode(), digest_size=8).digest()

    chosen = set(sorted(classes, key=rank)[:count])
    return tuple(c for c in classes if c in chosen)


def _numbers(items: Items, rows: Int[np.ndarray, " k"]) -> Int[np.ndarray, " m"]:
    numbers = items.instances[rows]
    return numbers[numbers >= 0]


def _first(names: Sequence[str], fraction: float | int, seed: int) -> list[int]:
    """The share that comes first in a seeded order of file names."""

    def rank(i: int) -> bytes:
        # The place of the folder may change; the file's own name does not.
        text = f"{seed}:{pathlib.PurePosixPath(names[i]).stem}"
        return hashlib.blake2b(text.encode(), digest_size=8).digest()

    count = math.ceil(fraction * len(names) - 1e-9)  # 0.07 * 100 is a little over 7
    return sorted(range(len(names)), key=rank)[:count]


def open_prepared(
    folder: pathlib.Path, builder: tfds.core.DatasetBuilder, name: str
) -> Dataset:
    """A Dataset over a prepared copy, all classes seen.

    Sketches of a class without photos have nothing to find: they are listed in
    `skipped`. Photos of a class without sketches stay, as distractors.
    """
    summary = prepare.read_summary(folder)
    classes = tuple(summary["classes"])
    skipped = list(prepare.read_skipped(folder))
    sketches, photos = (_items(folder, builder, m) for m in ("sketch", "photo"))
    n_sketches = np.bincount(sketches.labels, minlength=len(classes))
    n_photos = np.bincount(photos.labels, minlength=len(classes))
    orphan = n_photos[sketches.labels] == 0
    for i in np.flatnonzero(orphan):
        skipped.append(Skipped(sketches.ids[i], "its class has no photo to find"))
    notes = []
    for c, drawn, shot in zip(classes, n_sketches, n_photos, strict=True):
        if not drawn and not shot:
            notes.append(f"class {c}: no readable image, left out")
        elif not shot:
            notes.append(f"class {c}: {drawn} sketch(es) but no photo, left out")
        elif not drawn:
            notes.append(f"class {c}: {shot} photo(s) but no sketch, distractors only")
    return Dataset(
        name=name,
        classes=classes,
        seen=tuple(c for c, n in zip(classes, n_photos, strict=True) if n),
        unseen=(),
        sketches=sketches.only(np.flatnonzero(~orphan)),
        photos=photos,
        skipped=tuple(skipped),
        fingerprint=summary["fingerprint"],
        notes=tuple(notes),
    )


def _items(folder: pathlib.Path, builder, modality: str) -> Items:
    table = prepare.read_table(folder, modality)
    source = prepare.records(builder, modality)
    return Items(
        modality,
        Records(source, np.arange(len(source))),
        np.asarray(table["label"], np.int32),
        np.asarray(table["instance"], np.int32),
        tuple(table["id"]),
        tuple(table["caption"]),
    )
