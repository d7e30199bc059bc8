"""What lies in a folder of sketches and photos: classes, files, and their traps.

Only names, sizes and times are read here, no image; of `.ndjson`, where lines begin.
"""

import contextlib
import dataclasses
import difflib
import hashlib
import os
import pathlib
import stat
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from sbir_jax.data import vector
from sbir_jax.data.image_files import EXTENSIONS, REMEDIES

# Of sketches, and of photos.
READ = (EXTENSIONS | vector.EXTENSIONS, EXTENSIONS)

# What systems, servers and cloud clients leave: previews, bins and snapshots.
_CLUTTER = frozenset(
    (
        *("thumbs.db", "desktop.ini", "__macosx", "@eadir", "#recycle", "@recycle"),
        *("$recycle.bin", "recycler", "recycled", "system volume information"),
        *("lost+found", "#snapshot", "@sharebin", "@tmp", "network trash folder"),
        *("temporary items", "lost.dir", "found.000"),
    )
)


class DataError(ValueError):
    """Data that cannot be used as asked: what was found, the rule, the remedy."""


class Skipped(NamedTuple):
    """A file that was left out, relative to the root, and why."""

    path: str
    reason: str


class File(NamedTuple):
    """One candidate image."""

    path: str  # as the system wants it
    id: str  # relative to the root, with /, valid UTF-8
    label: int  # index into Tree.classes
    stem: str  # file name without extension, in Unicode's composed form
    size: int  # bytes
    mtime: int  # nanoseconds
    begin: int = -1  # of a line, in bytes, where each line of the file is one image


@dataclasses.dataclass
class Found:
    """What lies below one folder.

    Attributes:
      files: images.
      skipped: what may be an image and cannot be used.
      others: files that are no images: sidecars, films, texts.
      unlisted: paths that nothing is known of now: folders that could not be listed,
        and files that could not be reached.
    """

    files: list[File] = dataclasses.field(default_factory=list)
    skipped: list[Skipped] = dataclasses.field(default_factory=list)
    others: list[Skipped] = dataclasses.field(default_factory=list)
    unlisted: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Tree:
    """A listed folder. Files are sorted by class, then by id."""

    root: pathlib.Path
    classes: tuple[str, ...]
    sketches: tuple[File, ...]
    photos: tuple[File, ...]
    skipped: tuple[Skipped, ...]

    def fingerprint(self, *extra: object) -> str:
        """Changes when a file is added, removed, renamed or rewritten.

        From names, sizes and modification times; contents are not read.
        """
        digest = hashlib.blake2b(repr(extra).encode(), digest_size=8)
        digest.update("\0".join(self.classes).encode("utf-8", "surrogatepass"))
        for files in (self.sketches, self.photos):
            for f in files:
                line = f"\0{f.id}\0{f.label}\0{f.size}\0{f.mtime}"
                digest.update(line.encode())
            digest.update(b"\1")
        digest.update(repr(self.skipped).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()


def normal_name(name: str) -> str:
    """The form in which class names are compared: `Palm Tree` is `palm_tree`."""
    composed = unicodedata.normalize("NFC", name).strip().casefold()
    return composed.replace(" ", "_").replace("-", "_")


def find_names(wanted: Iterable[str], classes: Sequence[str], where: str) -> list[str]:
    """The classes that `wanted` names, spelt as in `classes`, in the order wanted.

    Raises: DataError for names that are not there, with the nearest that are.
    """
    known = {normal_name(c): c for c in classes}
    found, lost = [], []
    for name in wanted:
        if (key := normal_name(name)) in known:
            found.append(known[key])
        else:
            near = difflib.get_close_matches(key, known, n=3, cutoff=0.6)
            near = ", ".join(known[n] for n in near)
            lost.append(f"{name} (near: {near})" if near else name)
    if lost:
        raise DataError(
            f"{len(lost)} class(es) of {where} are not among the {len(classes)} "
            f"classes on disk: {'; '.join(lost)}. Names are compared in lower case, "
            "with space and hyphen as underscore. Rename the folder, or give the "
            "unseen classes yourself: unseen='name,name' or a text file of names, "
            "one a line."
        )
    return list(dict.fromkeys(found))


def read_names(path: str | os.PathLike) -> list[str]:
    """Class names from a text file, as `parse_names` has them. Raises: DataError."""
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"split {str(path)!r} cannot be read as a list of classes ({error}). Give "
            "a text file with one class name a line, or a list of names."
        ) from error
    return parse_names(text)


def parse_names(text: str) -> list[str]:
    """One name a line; blank lines and # lines are skipped.

    Where the lines end in the numbers from 0 to n - 1 behind n different names, as in
    the `cname_cid` files of SAKE and ZSE-SBIR, these are ids and no part of the names.
    """
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    split = [line.rpartition(" ") for line in lines]
    names = dict.fromkeys(name.strip() for name, _, _ in split)
    numbers = sorted(int(n) for _, _, n in split if n.isascii() and n.isdecimal())
    if numbers == list(range(len(lines))) and len(names) == len(lines):
        return list(names)
    return lines


def subfolders(folder: str | os.PathLike) -> list[str]:
    """Names of the visible folders inside a folder, sorted."""
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if not is_clutter(e.name) and _is_dir(e)]
    return sorted(names)


def children(folder: pathlib.Path, *names: str) -> list[pathlib.Path]:
    """These subfolders, as far as they exist, whatever their case."""
    there = subfolders(folder) if folder.is_dir() else []
    wanted = (name.casefold() for name in names)
    return [folder / n for name in wanted for n in there if n.casefold() == name]


def child(folder: pathlib.Path, *names: str) -> pathlib.Path | None:
    """The first of these subfolders that exists, whatever its case."""
    return next(iter(children(folder, *names)), None)


def read_tree(
    root: pathlib.Path,
    sketch_folders: Sequence[pathlib.Path],
    photo_folders: Sequence[pathlib.Path],
    spelling: Callable[[str], str] = str,
) -> Tree:
    """Lists `<folder>/<class>/**` of the given folders, all inside root.

    Folders whose names differ only in case, space, hyphen and underscore are one class,
    under the name found first, sketches before photos. Links to folders are followed,
    except back to a folder they lie in or one that was already read for that class.

    Args:
      spelling: from a folder's name to that of its class; the same by default.
    """
    names: dict[str, str] = {}
    homes: dict[str, list[tuple[int, str]]] = {}
    out = Found()
    for kind, folders in enumerate((sketch_folders, photo_folders)):
        for folder in folders:
            for name in subfolders(folder):
                spelt = spelling(name)
                key = normal_name(spelt)
                names.setdefault(key, spelt)
                homes.setdefault(key, []).append((kind, os.path.join(folder, name)))
            for entry in _entries(str(folder), root, out):
                if not _is_dir(entry):
                    reason = "lies outside any class folder"
                    out.skipped.append(Skipped(_id(entry.path, root), reason))
    files: tuple[list[File], list[File]] = ([], [])
    above = _around(*sketch_folders, *photo_folders, root)
    keys = sorted(names)
    for label, key in enumerate(keys):
        for kind in (0, 1):
            seen = set(above)
            out.files = []
            for home_kind, home in homes[key]:
                if home_kind == kind:
                    _walk(home, root, label, seen, out, extensions=READ[kind])
            files[kind].extend(sorted(out.files, key=lambda f: f.id))
    classes = tuple(_utf8(names[key]) for key in keys)
    skipped = tuple(sorted([*out.skipped, *out.others]))
    return Tree(root, classes, tuple(files[0]), tuple(files[1]), skipped)


def list_files(
    folder: pathlib.Path, root: pathlib.Path
) -> tuple[list[File], list[Skipped]]:
    """Lists `<folder>/**` as files of class 0, sorted, and what was left out."""
    out = Found()
    _walk(str(folder), root, 0, _around(root), out)
    return sorted(out.files, key=lambda f: f.id), [*out.skipped, *out.others]


def read_images(folder: pathlib.Path, excluded: Callable[[str], bool]) -> Found:
    """All images below one folder, whatever its layout.

    Args:
      excluded: told the path of every file and folder; those it is true for are passed
        over without a word. Links and clutter are as in `read_tree`.
    """
    out = Found()
    above = _around(folder) - {os.path.realpath(folder)}
    _walk(str(folder), folder, 0, above, out, excluded)
    return out


def _walk(
    start,
    root,
    label,
    seen,
    out: Found,
    excluded=lambda path: False,
    extensions=EXTENSIONS,
) -> None:
    folders, links = [start], []
    while folders or links:
        # Links last: what two paths lead to is read by its own.
        folder = folders.pop() if folders else links.pop(0)
        real = os.path.realpath(folder)
        if real in seen:
            reason = "a link back to a folder that is read already"
            out.skipped.append(Skipped(_id(folder, root), reason))
            continue
        seen.add(real)
        for entry in _entries(folder, root, out):
            if excluded(entry.path):
                continue
            name = _id(entry.path, root)
            try:
                info = entry.stat()
            except OSError as error:
                reason = f"cannot be reached: {error.strerror}"
                out.skipped.append(Skipped(name, reason))
                if not isinstance(error, FileNotFoundError):
                    out.unlisted.append(entry.path)
                continue
            stem, extension = os.path.splitext(entry.name)
            if stat.S_ISDIR(info.st_mode):
                (links if entry.is_symlink() else folders).append(entry.path)
            elif not stat.S_ISREG(info.st_mode):
                # Opening a pipe would wait for ever.
                out.skipped.append(Skipped(name, "not a regular file"))
            elif extension.lower() in REMEDIES:
                remedy = REMEDIES[extension.lower()]
                reason = f"{extension} files are read after: {remedy}"
                out.skipped.append(Skipped(name, reason))
            elif extension.lower() not in extensions:
                kind = f"extension {extension!r}" if extension else "no extension"
                out.others.append(Skipped(name, f"{kind}, not an image's"))
            else:
                stem = unicodedata.normalize("NFC", _utf8(stem))
                size, mtime = info.st_size, info.st_mtime_ns
                file = File(entry.path, name, label, stem, size, mtime)
                out.files.extend(_lines(file) or [file])


def _lines(file: File) -> list[File]:
    """The drawings of a published `.ndjson`, numbered from 1; none of other files.

    They are of a class, not of a photo that is called like the file.
    """
    lines = []  # also of what cannot be read: as an image it will be told of
    if file.path.lower().endswith(".ndjson"):
        with contextlib.suppress(OSError):
            lines = vector.lines(file.path)
    width = len(str(len(lines)))
    names = [f"#{i:0{width}}" for i in range(1, len(lines) + 1)]
    return [
        file._replace(id=file.id + name, stem=name, begin=begin, size=size)
        for name, (begin, size) in zip(names, lines, strict=True)
    ]


def _around(*folders: pathlib.Path) -> set[str]:
    """Folders and all that they lie in; a link to one would lead round in circles."""
    real = [pathlib.Path(os.path.realpath(folder)) for folder in folders]
    return {str(p) for folder in real for p in (folder, *folder.parents)}


def _is_dir(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _entries(folder: str, root: pathlib.Path, out: Found) -> list:
    try:
        with os.scandir(folder) as entries:
            visible = [e for e in entries if not is_clutter(e.name)]
            return sorted(visible, key=lambda e: e.name)
    except OSError as error:
        reason = f"folder cannot be read: {error.strerror}"
        out.skipped.append(Skipped(_id(folder, root), reason))
        out.unlisted.append(folder)
        return []


def is_clutter(name: str) -> bool:
    """Whether a file or folder of this name is passed over everywhere."""
    return name.startswith(".") or name.casefold() in _CLUTTER


def _id(path: str, root: pathlib.Path) -> str:
    return _utf8(os.path.relpath(path, root).replace(os.sep, "/"))


def _utf8(name: str) -> str:
    """Bytes that are no UTF-8 (old archives) are written \\xe9, in names only."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
