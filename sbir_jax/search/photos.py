"""Which photos: folders, files, globs and tables become one sorted list of files.

Only names, sizes and times are read here. What counts as an image, as clutter and as a
loop of links is decided in `data.tree` and `data.images`, as for data sets.
"""

import csv
import dataclasses
import fnmatch
import glob
import os
import pathlib
import stat
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from sbir_jax.data.image_files import EXTENSIONS, REMEDIES
from sbir_jax.data.tree import Skipped, is_clutter, read_images

TABLES = (".csv", ".parquet")
Source = str | os.PathLike


class Photo(NamedTuple):
    """One candidate photo, not opened yet."""

    path: str  # absolute
    size: int  # bytes
    mtime_ns: int


@dataclasses.dataclass(frozen=True)
class Listing:
    """What the sources hold now.

    Attributes:
      photos: sorted by path, each path once.
      skipped: what could not be used and why, with absolute paths, sorted.
      folders: folders that were read whole.
      named: files that were named one by one, there or not.
      globs: absolute, as they were matched.
      exclude: globs of what was passed over.
      others: how many files were no images.
      unlisted: folders and files that could not be reached, which says nothing about
        what is there.
    """

    photos: tuple[Photo, ...]
    skipped: tuple[Skipped, ...]
    folders: tuple[str, ...]
    named: frozenset[str]
    globs: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    others: int = 0
    unlisted: tuple[str, ...] = ()

    def covers(self, path: str) -> bool:
        """Whether this listing decides about `path`: not listed then means gone."""
        if self.unreachable(path):
            return False
        if path in self.named or _below(path, self.folders):
            return True
        return any(_glob_takes(path, pattern) for pattern in self.globs)

    def unreachable(self, path: str) -> bool:
        """Whether nothing is known of `path` now: it, or its folder, was not read."""
        return path in self.unlisted or _below(path, self.unlisted)

    def excludes(self, path: str) -> bool:
        """Whether `path` was passed over on purpose: excluded, or clutter."""
        roots = [folder for folder in self.folders if _below(path, (folder,))]
        roots += [_base(glob) for glob in self.globs if _glob_takes(path, glob)]
        roots += [os.path.dirname(path)] * (path in self.named)
        return any(
            _excluded(path, root, self.exclude)
            or any(map(is_clutter, os.path.relpath(path, root).split(os.sep)))
            for root in roots
        )


def list_photos(
    sources: Iterable[Source],
    exclude: Sequence[str] = (),
    avoid: str | os.PathLike | None = None,
) -> Listing:
    """Lists the photos of all sources.

    Args:
      sources: folders (read with everything below them), image files, globs (`**` for
        any depth), and .csv or .parquet files with a column `path`, whose relative
        paths start at the table's own folder.
      exclude: globs. One without a slash is compared with the name of every file and
        folder below a source ("thumbs", "*.gif"), one with a slash with the path from
        the source on, and with the whole path ("2019/*/raw").
      avoid: a folder to pass over in silence: the index itself.
    Raises: FileNotFoundError for a source that is not there; ValueError for a glob that
      matches nothing, a table without the column or one that cannot be read.
    """
    own = os.path.realpath(avoid) if avoid is not None else None
    collected = _Collected(tuple(p.rstrip("/") for p in exclude), own)
    for source in sources:
        text = os.path.expanduser(os.fspath(source))
        path = os.path.abspath(text)
        if os.path.lexists(path):
            collected.add(path)
        elif glob.has_magic(text):
            collected.add_glob(path)
        else:
            raise FileNotFoundError(
                f"no file or folder {path}. Give folders, images, globs in quotes, or "
                "tables (.csv, .parquet) with a column 'path'."
            )
    return collected.listing()


def table_paths(table: str | os.PathLike) -> list[str]:
    """The column `path` of a .csv or .parquet file, made absolute.

    Raises: ValueError for a file without that column, or that cannot be read.
    """
    table = pathlib.Path(table)
    try:
        if table.suffix.lower() == ".parquet":
            file = pq.ParquetFile(table)
            names, values = file.schema_arrow.names, []
            if "path" in names:
                values = file.read(["path"])["path"].to_pylist()
        else:
            with open(table, encoding="utf-8-sig", newline="") as file:
                rows = csv.DictReader(file)
                names = list(rows.fieldnames or [])
                values = [row["path"] for row in rows] if "path" in names else []
    except (pa.ArrowException, csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{table} cannot be read as a table: {error}") from error
    if "path" not in names:
        raise ValueError(
            f"{table} has the columns {', '.join(names) or '(none)'}; a table of "
            "photos has a column 'path'"
        )
    folder = table.absolute().parent
    return [os.path.normpath(folder / str(value)) for value in values if value]


class _Collected:
    """What the sources have given so far."""

    def __init__(self, exclude: tuple[str, ...], avoid: str | None):
        self.exclude, self.avoid = exclude, avoid
        self.photos: dict[str, Photo] = {}
        self.skipped: set[Skipped] = set()
        self.folders: set[str] = set()
        self.named: set[str] = set()
        self.globs: set[str] = set()
        self.others: set[str] = set()
        self.unlisted: set[str] = set()

    def listing(self) -> Listing:
        return Listing(
            tuple(self.photos[path] for path in sorted(self.photos)),
            tuple(sorted(self.skipped)),
            tuple(sorted(self.folders)),
            frozenset(self.named),
            tuple(sorted(self.globs)),
            self.exclude,
            len(self.others),
            tuple(sorted(self.unlisted)),
        )

    def add(self, path: str) -> None:
        if os.path.isdir(path):
            self._folder(path)
        elif os.path.splitext(path)[1].lower() in TABLES:
            folder = os.path.dirname(path)
            for row in table_paths(path):
                self._file(row, folder)
        else:
            self._file(path, os.path.dirname(path))

    def add_glob(self, pattern: str) -> None:
        # Not by `glob`, which goes round in circles of links and into hidden folders.
        base = _base(pattern)
        excluded, depth = self._excluder(base), pattern.count("/")

        def pruned(path: str) -> bool:
            parts = path.split("/")
            return excluded(path) or not _starts(parts[: depth + 1], pattern)

        if not self._walk(base, pruned, lambda path: _glob_takes(path, pattern)):
            raise ValueError(f"nothing matches {pattern}")
        self.globs.add(pattern)

    def _folder(self, folder: str) -> None:
        self.folders.add(folder)
        self._walk(folder, self._excluder(folder), lambda path: True)

    def _walk(
        self,
        folder: str,
        excluded: Callable[[str], bool],
        wanted: Callable[[str], bool],
    ) -> bool:
        """Collects what is wanted below a folder; whether there was anything."""
        there = read_images(pathlib.Path(folder), excluded)

        def whole(skipped: Skipped) -> Skipped:
            path = os.path.normpath(os.path.join(folder, skipped.path))
            return skipped._replace(path=path)

        photos = [Photo(os.path.normpath(f.path), f.size, f.mtime) for f in there.files]
        photos = [photo for photo in photos if wanted(photo.path)]
        skipped = [s for s in map(whole, there.skipped) if wanted(s.path)]
        others = [s.path for s in map(whole, there.others) if wanted(s.path)]
        self.unlisted.update(map(os.path.normpath, there.unlisted))
        self.skipped.update(skipped)
        self.others.update(others)
        for photo in photos:
            self._keep(photo)
        return bool(photos or skipped or others)

    def _file(self, path: str, root: str) -> None:
        self.named.add(path)
        if _excluded(path, root, self.exclude):
            return
        extension = os.path.splitext(path)[1]
        try:
            info = os.stat(path)
        except OSError as error:
            self._skip(path, f"cannot be reached: {error.strerror}")
            if not isinstance(error, FileNotFoundError):
                self.unlisted.add(path)
            return
        if not stat.S_ISREG(info.st_mode):
            self._skip(path, "not a regular file")
        elif extension.lower() in REMEDIES:
            remedy = REMEDIES[extension.lower()]
            self._skip(path, f"{extension} files are read after: {remedy}")
        elif extension.lower() not in EXTENSIONS:
            self._skip(path, f"extension {extension!r}, not an image's")
        else:
            self._keep(Photo(path, info.st_size, info.st_mtime_ns))

    def _keep(self, photo: Photo) -> None:
        try:
            photo.path.encode()
        except UnicodeEncodeError:
            reason = "the name is not UTF-8: rename the file or its folder"
            self._skip(photo.path, reason)
        else:
            self.photos[photo.path] = photo

    def _skip(self, path: str, reason: str) -> None:
        readable = os.fsencode(path).decode("utf-8", "replace")
        self.skipped.add(Skipped(readable, reason))

    def _excluder(self, root: str) -> Callable[[str], bool]:
        def excluded(path: str) -> bool:
            name = os.path.basename(path)
            if self.avoid is not None and name == os.path.basename(self.avoid):
                if os.path.realpath(path) == self.avoid:
                    return True
            return any(_matches(path, name, root, p) for p in self.exclude)

        return excluded


def _excluded(path: str, root: str, patterns: Sequence[str]) -> bool:
    """As a walk from `root` would have it, which meets the folders first."""
    while not any(_matches(path, os.path.basename(path), root, p) for p in patterns):
        path = os.path.dirname(path)
        if path == root or not _below(path, (root,)):
            return False
    return True


def _matches(path: str, name: str, root: str, pattern: str) -> bool:
    if "/" not in pattern:
        return fnmatch.fnmatchcase(name, pattern)
    inside = os.path.relpath(path, root).replace(os.sep, "/")
    return fnmatch.fnmatchcase(inside, pattern) or fnmatch.fnmatchcase(path, pattern)


def _base(pattern: str) -> str:
    """The folder that a glob starts from."""
    parts = pattern.split("/")
    plain = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return "/".join(parts[:plain]) or "/"


def _starts(parts: Sequence[str], pattern: str) -> bool:
    """Whether something below a path of these parts may match."""
    for part, wanted in zip(parts, pattern.split("/"), strict=False):
        if wanted == "**":
            return True
        if not fnmatch.fnmatchcase(part, wanted):
            return False
    return True


def _glob_takes(path: str, pattern: str) -> bool:
    """Whether a glob matches a path, or a folder that it lies in."""

    def takes(parts: list[str], wanted: list[str]) -> bool:
        if not wanted:
            return True
        if wanted[0] == "**":
            return any(takes(parts[i:], wanted[1:]) for i in range(len(parts) + 1))
        return (
            bool(parts)
            and fnmatch.fnmatchcase(parts[0], wanted[0])
            and takes(parts[1:], wanted[1:])
        )

    return takes(path.split("/"), pattern.split("/"))


def _below(path: str, folders: Iterable[str]) -> bool:
    return any(path.startswith(folder.rstrip(os.sep) + os.sep) for folder in folders)
