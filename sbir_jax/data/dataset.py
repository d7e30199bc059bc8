"""Sketches and photos as the rest of the project sees them."""

import dataclasses
import functools
import hashlib
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
        return images.decode_batch([r["image"] for r in chosen], size, fit)

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

    def hold_out(self, count: int, seed: int = 0) -> "Dataset":
        """Moves `count` seen classes that have sketches to val, by `draw`."""
        able = [c for c in self.seen if c in self.drawn]
        if not 0 <= count < len(able):
            raise DataError(
                f"{count} classes to hold out of {len(able)} seen classes with "
                f"sketches; allowed are 0 to {len(able) - 1}, so that one is left to "
                "train on."
            )
        val = draw(able, count, seed)
        seen = tuple(c for c in self.seen if c not in val)
        return dataclasses.replace(self, seen=seen, val=self.val + val)

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
