"""Where the folders of a benchmark lie in the copies that people have."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from sbir_jax.data import published
from sbir_jax.data.folder import found
from sbir_jax.data.tree import (
    DataError,
    Skipped,
    Tree,
    child,
    children,
    read_names,
    read_tree,
)

PARTS = ("train", "val", "test")  # copies cut up beforehand, as ClipPrompt's
LIST_FOLDERS = ("zeroshot", "zeroshot0", "zeroshot1")  # of SAKE and ZSE-SBIR


class Pair(NamedTuple):
    """Folders that hold class folders."""

    sketches: list[pathlib.Path]
    photos: list[pathlib.Path]
    passed: list[Skipped]  # the same by another name, beside one that is read


def places(root: pathlib.Path, tops: Sequence[str]) -> list[pathlib.Path]:
    """`root`, and the folders of these names in it or in one another."""
    homes = [root]
    for top in tops:
        homes += [p for q in homes if (p := child(q, top)) is not None]
    return homes


def find_pair(
    root: pathlib.Path,
    sketch_names: Sequence[str],
    photo_names: Sequence[str],
    tops: Sequence[str] = (),
) -> Pair | None:
    """The folders of sketches and of photos, at the first place that has both.

    A place may be cut up into `train`, `val` and `test`, each with both; these are then
    read as one, and which class is unseen is for the split to say.
    """
    for place in places(root, tops):
        parts = [p for n in PARTS if (p := child(place, n)) is not None]
        for homes in ([place], parts):
            sketches = [f for p in homes if (f := inside(p, sketch_names))]
            photos = [f for p in homes if (f := inside(p, photo_names))]
            if sketches and photos:
                passed = [
                    Skipped(f.relative_to(root).as_posix(), "another folder is read")
                    for p in homes
                    for names in (sketch_names, photo_names)
                    for f in children(p, *names)[1:]
                ]
                return Pair(sketches, photos, passed)
    return None


def read_by_class(
    root: pathlib.Path,
    benchmark: str,
    sketch_names: Sequence[str],
    photo_names: Sequence[str],
    tops: Sequence[str],
    missing: str,
) -> Tree:
    """Lists a copy in any layout of `find_pair`, classes spelt as published.

    Args:
      missing: what to say where there is none.
    Raises: DataError.
    """
    pair = find_pair(root, sketch_names, photo_names, tops)
    if pair is None:
        raise DataError(f"{found(root)} {missing}")
    spelling = functools.partial(published.spelling, benchmark=benchmark)
    return read_pair(root, pair, spelling)


def read_pair(root: pathlib.Path, pair: Pair, spelling: Callable[[str], str]) -> Tree:
    """`read_tree` of a pair; the folders that were passed over are in `skipped`."""
    tree = read_tree(root, pair.sketches, pair.photos, spelling)
    skipped = tuple(sorted((*tree.skipped, *pair.passed)))
    return dataclasses.replace(tree, skipped=skipped)


def inside(place: pathlib.Path, names: Sequence[str]) -> pathlib.Path | None:
    """The first of these folders; an archive may unpack to its own name once more."""
    folder = child(place, *names)
    return folder and (child(folder, *names) or folder)


def list_notes(
    root: pathlib.Path, tops: Sequence[str], benchmark: str, tree: Tree, gallery: str
) -> list[str]:
    """What the list files of SAKE and ZSE-SBIR beside the images say, a sentence each.

    Which split `cname_cid_zero.txt` is, and which images are listed but not there. The
    lists choose nothing: the split does, and every readable image is used.

    Args:
      gallery: "basic" passes over listed photos of Sketchy's extended archive.
    """
    keys = [published.key(name, benchmark) for name in tree.classes]
    files = (*tree.sketches, *tree.photos)
    there = {(keys[f.label], f.stem.casefold()) for f in files}
    # By the name on disk too: a misnamed photo is listed by both of its names.
    there |= {
        (keys[f.label], os.path.splitext(os.path.basename(f.path))[0].casefold())
        for f in files
    }
    notes = []
    for path in (p for place in places(root, tops) for p in _lists(place)):
        where = path.relative_to(root).as_posix()
        if path.name == "cname_cid_zero.txt":
            try:
                match = published.nearest(read_names(path), benchmark)
            except DataError as error:
                match = error
            notes.append(f"{where}: {match}")
        elif not path.name.startswith("cname_cid"):
            listed = list(_paths(path))
            if gallery == "basic":
                listed = [p for p in listed if not p.startswith("EXTEND")]
            lost = [p for p in listed if _identity(p, benchmark) not in there]
            if lost:
                notes.append(
                    f"{where}: {len(lost)} of {len(listed)} images listed are not "
                    f"there: {published.some(lost, 2)}"
                )
    return notes


def _lists(root: pathlib.Path) -> Iterator[pathlib.Path]:
    for name in LIST_FOLDERS:
        if (folder := child(root, name)) is not None:
            files = (p for p in folder.glob("*.txt") if p.is_file())
            yield from sorted(p for p in files if not p.name.startswith("."))


def _paths(file: pathlib.Path) -> Iterable[str]:
    """The paths of a list: a path, a space and a class id a line; paths have spaces."""
    text = file.read_text(encoding="utf-8", errors="replace")
    for line in text.splitlines():
        path, space, number = line.strip().rpartition(" ")
        if space and number.isdecimal():
            yield path


def _identity(path: str, benchmark: str) -> tuple[str, str]:
    parts = path.replace("\\", "/").split("/")
    name = parts[-2] if len(parts) > 1 else ""
    stem = os.path.splitext(parts[-1])[0]
    return published.key(name, benchmark), stem.casefold()
