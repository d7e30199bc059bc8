"""Data sets of sketches and photos: one door, `load`.

Which triplet comes at which step is in `triplets`, decoding in `images`.
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

from absl import logging

from sbir_jax.data import prepare, sketchy, toybox
from sbir_jax.data.dataset import Dataset, Items, draw, open_prepared
from sbir_jax.data.folder import Folder, read_folder
from sbir_jax.data.images import BadImage
from sbir_jax.data.tree import DataError, Skipped, find_names, read_names

__all__ = ["BadImage", "DataError", "Dataset", "Items", "Skipped", "load"]

NAMES = ("toybox", "sketchy", "folder")


def load(
    name: str,
    root: str | os.PathLike | None = None,
    split: str | os.PathLike | Sequence[str] | None = None,
    *,
    val_classes: int = 0,
    seed: int = 0,
    cache_dir: str | os.PathLike | None = None,
    **options,
) -> Dataset:
    """Opens a data set, preparing it on first use.

    Args:
      name: "toybox" (rendered here, no root), "sketchy" or "folder".
      root: the user's files.
      split: the unseen classes: a list of names or the path of a text file with one a
        line. For sketchy also "21" (the default: Yelamarthi et al.) or "25" (SAKE).
        For folder the default is our own: a fifth of the classes with sketches, drawn
        by `seed`, and none if there is but one class. For toybox the world's own.
      val_classes: how many seen classes to hold out for choosing models, drawn by
        `seed` (`Dataset.hold_out`).
      cache_dir: where prepared copies go: $SBIR_CACHE or ~/.cache/sbir_jax/data.
      options: sketchy: `photos` ("basic", "extended", "both"; by default basic without
        the extended folder; with it "both" for split 25 and "extended" otherwise, as in
        the papers that use these splits; fine-grained work wants "basic"). toybox:
        `size`, `instances`, `sketches`, `world`, `categories`.
    Raises: DataError, whose message says what was found, the rule, and the remedy.
    """
    if name == "toybox":
        data = _toybox(root, split, cache_dir, options)
    elif name == "sketchy":
        data = _sketchy(_root(name, root), split, cache_dir, options)
    elif name == "folder":
        data = _folder(_root(name, root), split, seed, cache_dir, options)
    else:
        raise DataError(f"data set {name!r}; known are {', '.join(NAMES)}.")
    for note in data.notes:
        logging.warning("%s: %s", name, note)
    if data.skipped:
        first = "; ".join(f"{s.path}: {s.reason}" for s in data.skipped[:3])
        logging.warning("%s: %d file(s) left out: %s", name, len(data.skipped), first)
    return data.hold_out(val_classes, seed) if val_classes else data


def _toybox(root, split, cache_dir, options) -> Dataset:
    if root is not None:
        raise DataError(f"toybox draws its own images and takes no root (got {root}).")
    world = toybox.toybox_world()
    config = _config(toybox.ToyboxConfig, "custom", options)
    config.check()
    # tfds warns of a configuration that it does not know by name.
    wanted = config if options else "default"

    def make(folder):
        return toybox.Toybox(data_dir=folder, config=wanted)

    data = _open("toybox", config.key(), make, None, cache_dir)
    if split is not None:
        return _with_unseen(data, _listed(split), "the split")
    there = set(data.classes)
    unseen = tuple(c for c in world.UNSEEN if c in there)
    novel = tuple(c for c in world.NOVEL if c in there)
    return _with_unseen(data, unseen, "toybox", novel)


def _sketchy(root, split, cache_dir, options) -> Dataset:
    split = "21" if split is None else split
    published = split in ("21", "25") if isinstance(split, str) else False
    if "photos" not in options:
        basic = sketchy.extended_folder(root) is None
        wanted = "both" if split == "25" else "extended"
        options = options | {"photos": "basic" if basic else wanted}
    config = _config(sketchy.SketchyConfig, options["photos"], options)
    tree = sketchy.read_sketchy(root, config.photos)

    def make(folder):
        return sketchy.Sketchy(data_dir=folder, config=config.name, tree=tree)

    key = tree.fingerprint("sketchy", config.photos, prepare.FORMAT)
    data = _open("sketchy", key, make, root, cache_dir)
    if published:
        where = f"Sketchy's split {split}"
        return _with_unseen(data, sketchy.split_names(str(split)), where)
    return _with_unseen(data, _listed(split), "the split")


def _folder(root, split, seed, cache_dir, options) -> Dataset:
    if options:
        raise DataError(f"folder takes no option {', '.join(options)}.")
    tree = read_folder(root)

    def make(folder):
        return Folder(data_dir=folder, tree=tree)

    key = tree.fingerprint("folder", prepare.FORMAT)
    data = _open("folder", key, make, root, cache_dir)
    if split is not None:
        return _with_unseen(data, _listed(split), "the split")
    able = [c for c in data.classes if c in data.drawn]
    count = max(1, round(len(able) / 5)) if len(able) > 1 else 0
    return _with_unseen(data, draw(able, count, seed), "the draw")


def _open(name, key, make, root, cache_dir) -> Dataset:
    folder = prepare.prepare(name, key, make, root, cache_dir)
    return open_prepared(folder, make(folder), name)


def _with_unseen(data, unseen, where, novel=()) -> Dataset:
    unseen = find_names(unseen, data.classes, where)
    seen = tuple(c for c in data.seen if c not in unseen and c not in novel)
    return dataclasses.replace(data, seen=seen, unseen=tuple(unseen), novel=novel)


def _listed(split) -> list[str]:
    return list(split) if isinstance(split, list | tuple) else read_names(split)


def _root(name: str, root) -> pathlib.Path:
    if root is None:
        how = (
            sketchy.INSTRUCTIONS
            if name == "sketchy"
            else Folder.MANUAL_DOWNLOAD_INSTRUCTIONS
        )
        raise DataError(f"{name} needs root, the folder of your files. {how}")
    return pathlib.Path(root).expanduser()


def _config(kind, name, options):
    try:
        return kind(name=name, **options)
    except TypeError as error:
        raise DataError(f"{error}.") from error
