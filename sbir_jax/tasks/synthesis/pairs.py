"""Which drawing is of which photo, and who is held out."""

import dataclasses
import zlib

import numpy as np
from jaxtyping import Int

from sbir_jax.data.dataset import Dataset


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Rows of a data set's sketches, and of the photo of each."""

    sketches: Int[np.ndarray, " n"]
    photos: Int[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.sketches)

    def only(self, keep: np.ndarray) -> "Pairs":
        return Pairs(self.sketches[keep], self.photos[keep])

    def some(self, count: int, seed: int = 0) -> "Pairs":
        """At most so many, a seeded draw that spreads over all of them."""
        order = np.random.default_rng(seed).permutation(len(self))[:count]
        return self.only(np.sort(order))


@dataclasses.dataclass(frozen=True)
class Groups:
    """Pairs to train on; of held-out things of seen classes; of unseen classes."""

    train: Pairs
    seen: Pairs
    unseen: Pairs


def groups(dataset: Dataset, held_out: int) -> Groups:
    """Pairs of a data set in which sketches know their photo.

    Args:
      held_out: every so many-th photo of a seen class.
    Raises: ValueError where a group is empty, saying what to change.
    """
    photos = {
        int(number): row
        for row, number in enumerate(dataset.photos.instances)
        if number >= 0
    }
    rows = [
        row
        for row, number in enumerate(dataset.sketches.instances)
        if int(number) in photos
    ]
    if not rows:
        raise ValueError(
            f"no sketch of {dataset.name} knows its photo; synthesis needs pairs, as "
            "data sets by instance have them (toybox, sketchy, chairv2, shoev2)"
        )
    sketches = np.array(rows)
    own = np.array([photos[int(dataset.sketches.instances[row])] for row in rows])
    pairs = Pairs(sketches, own)
    names = np.array(dataset.classes)[dataset.photos.labels[own]]
    # By the photo's name, so that another order of the files changes nothing.
    turn = np.array([zlib.crc32(dataset.photos.ids[p].encode()) for p in own])
    seen, held = np.isin(names, dataset.seen), turn % held_out == 0
    found = Groups(
        pairs.only(seen & ~held),
        pairs.only(seen & held),
        pairs.only(np.isin(names, dataset.unseen)),
    )
    for field in dataclasses.fields(found):
        if not len(getattr(found, field.name)):
            raise ValueError(
                f"{dataset.name} has no pairs for {field.name!r} (held_out is "
                f"{held_out}; {len(dataset.seen)} seen, {len(dataset.unseen)} unseen "
                "classes); change either"
            )
    return found
