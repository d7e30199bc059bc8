"""Toybox scenes for dense tasks: rendered here, exact to the pixel.

Test scenes are of seen categories, of unseen ones, and of those that the embedded model
has never met.
"""

import functools
import os
from typing import Any

import numpy as np

from sbir_jax.data.dense.base import DenseData, Example, Split
from sbir_jax.data.toybox import world
from sbir_jax.data.toybox.scenes.builder import ScenesConfig, load_scenes

# What a pixel can be: a split's name in the prepared copy, and ours.
TESTS = {"seen": "val", "unseen": "test", "novel": "novel"}
NAMES = ("wall", "floor")
CLASSES = (*NAMES, *world.SEEN, *world.UNSEEN, *world.NOVEL)
GROUPS = (*NAMES, "thing")
# From the numbers of `truth.category_map` to those of CLASSES.
RENUMBERED = np.array(
    [0, 1, *(CLASSES.index(name) for name in world.CATEGORIES)], np.uint8
)
MOST = 12.0  # scene units; the round wall is nearer


def load(
    task: str, cache_dir: str | os.PathLike | None = None, **options: Any
) -> DenseData:
    """Scenes with labels, expressions, or depth.

    Args:
      options: fields of `ScenesConfig`, such as size and the number of scenes.
    Raises: DataError as `load_scenes`.
    """
    read = {"segmentation": _labels, "referring": _masks, "depth": _depth}[task]
    splits = {
        name: read(load_scenes(split, cache_dir, **options))
        for name, split in {"train": "train", **TESTS}.items()
    }
    config = ScenesConfig(name="custom", **options)
    return DenseData(
        name="toybox_scenes",
        fingerprint=config.key(),
        train=splits.pop("train"),
        tests=splits,
        classes=CLASSES if task == "segmentation" else (),
        known=len(NAMES) + len(world.SEEN),
        groups=tuple(min(i, len(NAMES)) for i in range(len(CLASSES))),
        group_names=GROUPS,
        most=MOST,
        unit="scene units",
    )


def _labels(scenes: Any) -> Split:
    def read(i: int) -> Example:
        scene = scenes[i]
        return Example(scene["photo"], RENUMBERED[scene["categories"]])

    return Split(np.arange(len(scenes)), read)


def _depth(scenes: Any) -> Split:
    def read(i: int) -> Example:
        return Example(scenes[i]["photo"], scenes[i]["depth"])

    return Split(np.arange(len(scenes)), read)


def _masks(scenes: Any) -> Split:
    """Every expression is an example."""
    counts = [len(scenes[i]["references"]["text"]) for i in range(len(scenes))]
    pictures = np.repeat(np.arange(len(scenes)), counts)
    first = np.cumsum([0, *counts])
    scene = functools.lru_cache(maxsize=64)(scenes.__getitem__)

    def read(i: int) -> Example:
        found = scene(int(pictures[i]))
        number = i - first[pictures[i]]
        said = found["references"]
        text = said["text"][number]
        # Things are numbered from 2 in the map of instances, after wall and floor.
        mask = found["instances"] == 2 + said["thing"][number]
        return Example(found["photo"], mask, text.decode())

    return Split(pictures, read)
