"""Benchmarks of which text belongs to which image: one door, `load`."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

from sbir_jax.data.matching.comvg import comvg
from sbir_jax.data.matching.flickr30k import flickr30k
from sbir_jax.data.matching.items import Item, MatchingSet
from sbir_jax.data.matching.refcocog import refcocog
from sbir_jax.data.matching.scenes import scenes
from sbir_jax.data.matching.vqa import vqa
from sbir_jax.data.matching.winoground import winoground
from sbir_jax.data.tree import DataError

__all__ = ["Item", "MatchingData", "MatchingSet", "load"]


@dataclasses.dataclass(frozen=True, eq=False)
class MatchingData:
    """What a run trains and is scored on; `train` is None for a test alone."""

    train: MatchingSet | None
    test: MatchingSet

    @property
    def fingerprint(self) -> str:
        parts = [self.train.fingerprint] if self.train else []
        return "-".join([*parts, self.test.fingerprint])


def _scenes(
    size: int = 64,
    train: int = 800,
    val: int = 100,
    test: int = 200,
    novel: int = 100,
    world: int = 0,
    scored: str = "test",
    cache_dir: str | os.PathLike = "",
) -> MatchingData:
    counts = {"train": train, "val": val, "test": test, "novel": novel}
    if scored not in counts:
        raise DataError(f"scored={scored!r}; choose from {', '.join(counts)}.")
    given = {"size": size, "world": world, **counts, "cache_dir": cache_dir or None}

    def part(name: str) -> MatchingSet:
        return scenes(name, counts[name], **given)

    return MatchingData(part("train"), part(scored))


def _trained(reader: Callable[..., MatchingSet]) -> Callable[..., MatchingData]:
    """Training and test from a reader of both."""

    def open(
        root: str | os.PathLike, train: bool = True, **options: Any
    ) -> MatchingData:
        learned = reader(root, "train", **options) if train else None
        return MatchingData(learned, reader(root, "test", **options))

    return open


SETS: dict[str, Callable[..., MatchingData]] = {
    "toybox_scenes": _scenes,
    "comvg": _trained(comvg),
    "refcocog": _trained(refcocog),
    "vqav2": _trained(vqa),
    "flickr30k": _trained(flickr30k),
    "winoground": lambda root: MatchingData(None, winoground(root)),
}


def load(name: str, **options: Any) -> MatchingData:
    """Opens a benchmark.

    Args:
      name: a key of SETS.
      options: toybox_scenes: the fields of `ScenesConfig`, and `scored`, the split that
        is scored. Others: `root`, `train` (False to be scored training-free, without
        the files of the training part), and what their readers take.
    Raises: DataError, saying what was found, the rule, and the remedy.
    """
    if name not in SETS:
        raise DataError(f"data set {name!r}; known are {', '.join(SETS)}.")
    try:
        return SETS[name](**options)
    except TypeError as error:
        if "argument" not in str(error):
            raise
        raise DataError(f"{name}: {str(error).rpartition('() ')[2]}.") from error
