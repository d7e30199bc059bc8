"""Toybox scenes: a true statement against false ones that differ in one word or two."""

import os
from typing import Any

from sbir_jax.data import images
from sbir_jax.data.matching.items import Item, MatchingSet
from sbir_jax.data.toybox import looks
from sbir_jax.data.toybox.scenes.builder import load_scenes


def scenes(
    split: str,
    number: int,
    size: int = 64,
    cache_dir: str | os.PathLike | None = None,
    **options: Any,
) -> MatchingSet:
    """The scenes of a split, each with its caption and a false one of every kind.

    All candidates begin as the caption does ("a photo of"). Scenes of which nothing can
    be denied are left out.

    Args:
      split: "train" and "val" are of seen categories, "test" of unseen ones, "novel" of
        those that the embedded model never met.
      number: of the first scenes, before any is left out.
      options: as of `load_scenes`.
    """
    source = load_scenes(split, cache_dir, size=size, **options)
    photos, items = [], []
    for i in range(min(number, len(source))):
        scene = source[i]
        caption = _text(scene["caption"])
        start = _start(caption)
        negatives = scene["negatives"]
        texts = [f"{start} {_text(text)}" for text in negatives["text"]]
        if not texts:
            continue
        kinds = tuple(map(_text, negatives["change"]))
        photos.append(images.encode_png(scene["photo"]))
        one = (len(photos) - 1,)
        items.append(Item(_text(scene["id"]), one, (caption, *texts), kinds))
    return MatchingSet(f"toybox_scenes/{split}", "text", photos, items)


def _start(caption: str) -> str:
    return max((s for s in looks.PHOTO if caption.startswith(f"{s} ")), key=len)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
