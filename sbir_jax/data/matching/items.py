"""Questions of which text belongs to which image, as every benchmark asks them."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np

from sbir_jax.data.images import Source
from sbir_jax.data.tree import DataError

# What has to be chosen: a text for an image, an image for a text, or both of two pairs.
Asks = Literal["text", "image", "pairs"]


@dataclasses.dataclass(frozen=True)
class Item:
    """One question. The first image and the first text belong together; of pairs, each
    image and the text of its number.

    Attributes:
      id: as the benchmark calls it.
      images: numbers in `MatchingSet.images`; one where a text is asked for.
      texts: one where an image is asked for.
      kinds: what kind of candidate each after the first is.
    """

    id: str
    images: tuple[int, ...]
    texts: tuple[str, ...]
    kinds: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class MatchingSet:
    """Questions over images.

    Attributes:
      images: what `images.decode` takes: paths, or the bytes of files.
      recall: the k of R@k, beside accuracy.
      notes: what the reader of a figure has to know.
    """

    name: str
    asks: Asks
    images: Sequence[Source]
    items: Sequence[Item]
    recall: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        if not self.items:
            raise DataError(f"{self.name}: nothing to match in it.")
        for item in self.items:
            count = len(item.images), len(item.texts)
            wrong = {
                "text": count[0] != 1 or count[1] < 2,
                "image": count[1] != 1 or count[0] < 2,
                "pairs": count != (2, 2),
            }
            if wrong[self.asks]:
                raise DataError(
                    f"{self.name}: {item.id} has {count[0]} images and {count[1]} "
                    f"texts, which does not ask for {self.asks}."
                )

    @property
    def fingerprint(self) -> str:
        """Of the questions; images count by number."""
        digest = hashlib.blake2b(repr((self.name, self.asks)).encode(), digest_size=16)
        for item in self.items:
            digest.update(repr(dataclasses.astuple(item)).encode())
        return digest.hexdigest()

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of candidates, in order of first appearance."""
        return tuple(dict.fromkeys(kind for item in self.items for kind in item.kinds))

    def evenly(self, most: int) -> "MatchingSet":
        """At most so many of the questions, evenly spread; 0 for all."""
        count = min(most or len(self.items), len(self.items))
        rows = np.linspace(0, len(self.items) - 1, count).round().astype(int)
        return dataclasses.replace(self, items=[self.items[i] for i in rows])

    def some(self, shots: float | int, seed: int) -> "MatchingSet":
        """A seeded few of the questions, the same ones first for any number of shots.

        Args:
          shots: how many, or below 1 which share, at least one.
        Raises: DataError for more than there are.
        """
        count = round(shots) if shots >= 1 else max(1, round(shots * len(self.items)))
        if count > len(self.items):
            raise DataError(
                f"{self.name}: {count} shots of {len(self.items)} pairs; ask for fewer."
            )
        order = np.random.default_rng(seed).permutation(len(self.items))[:count]
        return dataclasses.replace(self, items=[self.items[i] for i in sorted(order)])
