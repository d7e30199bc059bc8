"""Data sets of sketches and photos: one door, `load`.

Which triplet comes at which step is in `triplets`, decoding in `images`.
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from sbir_jax.data import (
    layouts,
    prepare,
    published,
    qmul,
    quickdraw,
    sketchy,
    tuberlin,
)
from sbir_jax.data.builders import PairedFolders
from sbir_jax.data.dataset import Dataset, Items, draw, open_prepared
from sbir_jax.data.folder import Folder, read_folder
from sbir_jax.data.images import BadImage
from sbir_jax.data.toybox import builder
from sbir_jax.data.tree import DataError, Skipped, Tree, find_names, read_names
from sbir_jax.printable import clean

__all__ = ["BadImage", "DataError", "Dataset", "Items", "Skipped", "load"]

BUILDERS: dict[str, type[PairedFolders]] = {
    "sketchy": sketchy.Sketchy,
    "tuberlin": tuberlin.Tuberlin,
    "quickdraw": quickdraw.Quickdraw,
    "chairv2": qmul.Chairv2,
    "shoev2": qmul.Shoev2,
    "folder": Folder,
}
READERS: dict[str, Callable[[pathlib.Path], Tree]] = {
    "tuberlin": tuberlin.read_tuberlin,
    "quickdraw": quickdraw.read_quickdraw,
    "chairv2": functools.partial(qmul.read_qmul, kind="chair"),
    "shoev2": functools.partial(qmul.read_qmul, kind="shoe"),
    "folder": read_folder,
}
NAMES = ("toybox", *BUILDERS)
TOPS = {
    "sketchy": sketchy.TOPS,
    "tuberlin": tuberlin.TOPS,
    "quickdraw": quickdraw.TOPS,
}


def load(
    name: str,
    root: str | os.PathLike | None = None,
    split: str | None = None,
    *,
    unseen: str | os.PathLike | Sequence[str] | None = None,
    share: float | int = 1.0,
    seed: int = 0,
    cache_dir: str | os.PathLike | None = None,
    **options,
) -> Dataset:
    """Opens a data set, preparing it on first use.

    Args:
      name: "toybox" (rendered here, no root), "sketchy", "tuberlin", "quickdraw",
        "chairv2", "shoev2" or "folder".
      root: the user's files.
      split: a published one, see `published.SPLITS`: sketchy "21" (the default), "25"
        or "25-sempcyc"; tuberlin "sake" (the default) or "sempcyc"; quickdraw "30".
      unseen: classes of your own choice in place of a split: a list of names (empty:
        none), one text of names with commas, or the path of a text file with a name a
        line. Without it toybox has its own; chairv2 and shoev2 have their official
        division, as classes `chair/train` and `chair/test`; and of a folder a fifth of
        the classes with sketches is drawn by `seed` (ours, no paper's), none where
        there is but one.
      share: how much of every seen class to keep, see `Dataset.share`; drawn by `seed`.
      cache_dir: where prepared copies go: $SBIR_CACHE or ~/.cache/sbir_jax/data.
      options: sketchy: `photos` ("basic", "extended", "both"; by default basic without
        the extended folder; with it "both" for split 25 and "extended" otherwise, as in
        the papers that use these splits; fine-grained work wants "basic"). toybox: the
        fields of `toybox.ToyboxConfig`.
    Returns: the data set; `notes` says how a copy differs from what was published.
    Raises: DataError, whose message says what was found, the rule, and the remedy.
    """
    # In configs and on command lines an empty text stands for None.
    root, split, cache_dir = root or None, split or None, cache_dir or None
    unseen = None if unseen == "" else unseen
    if name not in NAMES:
        raise DataError(f"data set {name!r}; known are {', '.join(NAMES)}.")
    if split is not None and (name not in published.SPLITS or unseen is not None):
        known = published.SPLITS.items()
        those = "; ".join(f"{n}: {', '.join(splits)}" for n, splits in known)
        raise DataError(
            f"split={split!r} for {name} with unseen={unseen!r}: a split is a "
            f"published one ({those}), instead of unseen. Give one of the two."
        )
    if name in published.SPLITS and unseen is None:
        split = published.split(name, split or next(iter(published.SPLITS[name]))).name
    if name == "toybox":
        data, groups = _toybox(root, cache_dir, options)
    else:
        data, groups = _files(name, root, split, seed, cache_dir, options)
    if unseen is not None:
        names = listed(unseen)
        if name in published.SPLITS:
            names = [published.spelling(n, name) for n in names]
        data = _with_unseen(data, names, "unseen")
        data = _with_match(data, name)
    else:
        data = _with_unseen(data, **groups())
    data = data.share(share, seed)
    for note in data.notes:
        logging.warning("%s: %s", name, clean(note))
    if data.skipped:
        first = "; ".join(f"{s.path}: {s.reason}" for s in data.skipped[:3])
        logging.warning(
            "%s: %d file(s) left out: %s", name, len(data.skipped), clean(first)
        )
    return data


def _toybox(root, cache_dir, options):
    if root is not None:
        raise DataError(f"toybox draws its own images and takes no root (got {root}).")
    config = _config(builder.ToyboxConfig, "custom", options)
    config.check()
    # By name where it has one: tfds warns of a configuration that it does not know.
    default = builder.ToyboxConfig(name=config.name)
    wanted = "default" if config == default else config

    def make(folder):
        return builder.Toybox(data_dir=folder, config=wanted)

    data = _open("toybox", config.key(), make, None, cache_dir)

    def groups():
        world, there = builder.drawn_world(), set(data.classes)
        unseen = [c for c in world.UNSEEN if c in there]
        novel = tuple(c for c in world.NOVEL if c in there)
        return {"unseen": unseen, "where": "toybox", "novel": novel}

    return data, groups


def _files(name, root, split, seed, cache_dir, options):
    root = _root(name, root)
    kind, gallery = BUILDERS[name], ""
    if name == "sketchy":
        config = _sketchy_config(root, split, options)
        gallery = config.photos
        tree = sketchy.read_sketchy(root, gallery)
        extra = {"config": config.name}
    elif options:
        raise DataError(f"{name} takes no option {', '.join(options)}.")
    else:
        tree, extra = READERS[name](root), {}

    def make(folder):
        return kind(data_dir=folder, tree=tree, **extra)

    key = tree.fingerprint(name, *filter(None, [gallery]), prepare.FORMAT)
    data = _open(name, key, make, root, cache_dir)
    notes = [] if name == "folder" else _notes(data, tree, split, gallery)
    notes += _pairing(data, gallery)
    data = dataclasses.replace(data, notes=(*data.notes, *notes))

    def groups():
        if split:
            found = published.split(name, split)
            return {"unseen": found.unseen, "where": found.title}
        if name in ("chairv2", "shoev2"):
            test = [c for c in data.classes if c.endswith("/test")]
            return {"unseen": test, "where": f"{name}'s division"}
        able = [c for c in data.classes if c in data.drawn]
        count = max(1, round(len(able) / 5)) if len(able) > 1 else 0
        return {"unseen": draw(able, count, seed), "where": "the draw"}

    return data, groups


def _sketchy_config(root, split, options) -> sketchy.SketchyConfig:
    if not options.get("photos"):
        basic = sketchy.extended_folder(root) is None
        wanted = "both" if split == "25" else "extended"
        options = options | {"photos": "basic" if basic else wanted}
    return _config(sketchy.SketchyConfig, options["photos"], options)


def _notes(data: Dataset, tree: Tree, split: str | None, gallery: str) -> list[str]:
    """How this copy of a benchmark differs from what was published of it."""
    counts = [
        np.bincount(items.labels, minlength=len(data.classes)).tolist()
        for items in (data.sketches, data.photos)
    ]
    found = dict(zip(data.classes, zip(*counts, strict=True), strict=True))
    there = {c: n for c, n in found.items() if any(n)}
    notes = published.differences(data.name, there, split, gallery, len(data.skipped))
    if data.name in TOPS:
        tops = TOPS[data.name]
        notes += layouts.list_notes(tree.root, tops, data.name, tree, gallery)
    else:
        train, test = (
            next(n for c, (n, _) in found.items() if c.endswith(part))
            for part in ("/train", "/test")
        )
        kind = data.classes[0].partition("/")[0]
        notes.append(qmul.division_note(kind, train, test))
    return notes


def _pairing(data: Dataset, gallery: str) -> list[str]:
    """Photos that are there twice, by their names, and sketches that lack their photo.

    Anybody's own folder may hold sketches of a class only, as some benchmarks do.
    """
    notes = []
    copies = np.unique(data.photos.instances, return_counts=True)[1]
    if twice := int(np.sum(copies > 1)):
        why = ", as in the lists of SAKE and ZSE-SBIR" if gallery == "both" else ""
        notes.append(f"{twice:,} photo(s) are in the gallery more than once{why}")
    alone = np.flatnonzero(data.sketches.instances < 0)
    if len(alone) and data.name != "folder" and BUILDERS[data.name].marks:
        names = published.some((data.sketches.ids[i] for i in alone), 2)
        notes.append(f"{len(alone):,} sketch(es) without their photo: {names}")
    return notes


def _with_match(data: Dataset, name: str) -> Dataset:
    """Notes which published split the unseen classes are, or come near to."""
    benchmark = name if name in published.SPLITS else None
    if not data.unseen or name not in (*published.SPLITS, "folder"):
        return data
    match = published.nearest(data.unseen, benchmark)
    if benchmark is None and match.overlap < 0.5:
        return data  # anybody's own classes
    note = f"the {len(data.unseen)} unseen classes are {match}"
    return dataclasses.replace(data, notes=(*data.notes, note))


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
        how = BUILDERS[name].MANUAL_DOWNLOAD_INSTRUCTIONS
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
