"""Data sets of sketches and photos: one door, `load`.

Which triplet comes at which step is in `triplets`, decoding in `images`.
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

import tensorflow_datasets as tfds
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
    split: str | None = None,
    *,
    unseen: str | os.PathLike | Sequence[str] | None = None,
    seed: int = 0,
    cache_dir: str | os.PathLike | None = None,
    **options,
) -> Dataset:
    """Opens a data set, preparing it on first use.

    Args:
      name: "toybox" (rendered here, no root), "sketchy" or "folder".
      root: the user's files.
      split: sketchy only: "21" (the default: Yelamarthi et al.) or "25" (SAKE).
      unseen: classes of your own choice in place of a split: a list of names (empty:
        none), one text of names with commas, or the path of a text file with a name a
        line. Without it toybox has its own, and of a folder a fifth of the classes with
        sketches is drawn by `seed` (ours, no paper's), none where there is but one.
      cache_dir: where prepared copies go: $SBIR_CACHE or ~/.cache/sbir_jax/data.
      options: sketchy: `photos` ("basic", "extended", "both"; by default basic without
        the extended folder; with it "both" for split 25 and "extended" otherwise, as in
        the papers that use these splits; fine-grained work wants "basic"). toybox: the
        fields of `toybox.ToyboxConfig`.
    Raises: DataError, whose message says what was found, the rule, and the remedy.
    """
    # In configs and on command lines an empty text stands for None.
    root, split = root or None, split or None
    unseen = None if unseen == "" else unseen
    if name not in NAMES:
        raise DataError(f"data set {name!r}; known are {', '.join(NAMES)}.")
    if split is not None and (name != "sketchy" or unseen is not None):
        raise DataError(
            f"split={split!r} for {name} with unseen={unseen!r}: a split is Sketchy's "
            "21 or 25, instead of unseen. Give one of the two."
        )
    if name == "toybox":
        data, groups = _toybox(root, cache_dir, options)
    elif name == "sketchy":
        data, groups = _sketchy(_root(name, root), split or "21", cache_dir, options)
    else:
        data, groups = _folder(_root(name, root), seed, cache_dir, options)
    if unseen is not None:
        data = _with_unseen(data, listed(unseen), "unseen")
    else:
        data = _with_unseen(data, **groups())
    for note in data.notes:
        logging.warning("%s: %s", name, note)
    if data.skipped:
        first = "; ".join(f"{s.path}: {s.reason}" for s in data.skipped[:3])
        logging.warning("%s: %d file(s) left out: %s", name, len(data.skipped), first)
    return data


def _toybox(root, cache_dir, options):
    if root is not None:
        raise DataError(f"toybox draws its own images and takes no root (got {root}).")
    config = _config(toybox.ToyboxConfig, "custom", options)
    config.check()
    # By name where it has one: tfds warns of a configuration that it does not know.
    default = toybox.ToyboxConfig(name=config.name)
    wanted = "default" if config == default else config

    def make(folder):
        return toybox.Toybox(data_dir=folder, config=wanted)

    data = _open("toybox", config.key(), make, None, cache_dir)

    def groups():
        world, there = toybox.toybox_world(), set(data.classes)
        unseen = [c for c in world.UNSEEN if c in there]
        novel = tuple(c for c in world.NOVEL if c in there)
        return {"unseen": unseen, "where": "toybox", "novel": novel}

    return data, groups


def _sketchy(root, split, cache_dir, options):
    if split not in ("21", "25"):
        raise DataError(
            f"Sketchy has no split {split!r}; known are 21 and 25. For classes of your "
            "own choice give unseen=."
        )
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

    def groups():
        names = sketchy.split_names(split)
        return {"unseen": names, "where": f"Sketchy's split {split}"}

    return data, groups


def _folder(root, seed, cache_dir, options):
    if options:
        raise DataError(f"folder takes no option {', '.join(options)}.")
    tree = read_folder(root)

    def make(folder):
        return Folder(data_dir=folder, tree=tree)

    data = _open(
        "folder", tree.fingerprint("folder", prepare.FORMAT), make, root, cache_dir
    )

    def groups():
        able = [c for c in data.classes if c in data.drawn]
        count = max(1, round(len(able) / 5)) if len(able) > 1 else 0
        return {"unseen": draw(able, count, seed), "where": "the draw"}

    return data, groups


def listed(unseen: str | os.PathLike | Sequence[str]) -> list[str]:
    """Class names from a list, a text with commas, or a text file with one a line."""
    if not isinstance(unseen, str | os.PathLike):
        return list(unseen)
    text = os.fspath(unseen)
    if os.path.isfile(text) or text.endswith(".txt") or not isinstance(unseen, str):
        return read_names(text)
    return [name.strip() for name in text.split(",") if name.strip()]


def _open(name, key, make, root, cache_dir) -> Dataset:
    folder = prepare.prepare(name, key, make, root, cache_dir)
    return open_prepared(folder, make(folder), name)


def _with_unseen(data: Dataset, unseen, where: str, novel=()) -> Dataset:
    chosen = find_names(unseen, data.classes, where)
    return dataclasses.replace(
        data,
        seen=tuple(c for c in data.seen if c not in chosen and c not in novel),
        unseen=tuple(c for c in chosen if c in data.seen),  # not without photos
        novel=novel,
    )


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
        known = {f.name for f in dataclasses.fields(kind)}
        known -= {f.name for f in dataclasses.fields(tfds.core.BuilderConfig)}
        raise DataError(
            f"options {', '.join(options)}: known are {', '.join(sorted(known))}."
        ) from error
