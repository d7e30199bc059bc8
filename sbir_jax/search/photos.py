"""Which photos: folders, files, globs and tables become one sorted list of files.

Only names, sizes and times are read here. What counts as an image, as clutter and as a
loop of links is decided in `data.tree` and `data.images`, as for data sets.
"""

import csv
import dataclasses
import fnmatch
import glob
import hashlib
import os
import pathlib
import stat
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from sbir_jax.data.images import EXTENSIONS
from sbir_jax.data.tree import Skipped, read_images

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
      skipped: what was passed over and why, with absolute paths, sorted.
      folders: folders that were read whole.
      named: files that were named one by one, there or not.
      bases: folders below which globs were matched.
    """

    photos: tuple[Photo, ...]
    skipped: tuple[Skipped, ...]
    folders: tuple[str, ...]
    named: frozenset[str]
    bases: tuple[str, ...]

    def covers(self, path: str) -> bool:
        """Whether this listing decides about `path`: not listed then means gone."""
        if path in self.named or _below(path, self.folders):
            return True
        return _below(path, self.bases) and not os.path.lexists(path)


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


def content_hash(content: bytes) -> str:
    """BLAKE2b of a file's bytes, 32 hex digits."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def table_paths(table: str | os.PathLike) -> list[str]:
    """The column `path` of a .csv or .parquet file, made absolute.

    Raises: ValueError for a file without that column, or that cannot be read.
    """
    table = pathlib.Path(table)
    try:
        if table.suffix.lower() == ".parquet":
            names = pq.read_schema(table).names
            values = []
            if "path" in names:
                values = pq.read_table(table, columns=["path"])["path"].to_pylist()
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
        self.bases: set[str] = set()

    def listing(self) -> Listing:
        return Listing(
            tuple(self.photos[path] for path in sorted(self.photos)),
            tuple(sorted(self.skipped)),
            tuple(sorted(self.folders)),
            frozenset(self.named),
            tuple(sorted(self.bases)),
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
        found = sorted(glob.glob(pattern, recursive=True))
        if not found:
            raise ValueError(f"nothing matches {pattern}")
        plain = pattern[: min(pattern.index(c) for c in "*?[" if c in pattern)]
        base = os.path.dirname(plain)
        self.bases.add(base)
        excluded = self._excluder(base)
        for path in found:
            if excluded(path):
                continue
            if os.path.isdir(path):
                # `**` names every folder, and the files inside on their own.
                if "**" not in pattern:
                    self._folder(path)
            elif os.path.splitext(path)[1].lower() not in TABLES:
                self._file(path, base)

    def _folder(self, folder: str) -> None:
        self.folders.add(folder)
        found, skipped = read_images(pathlib.Path(folder), self._excluder(folder))
        self.skipped.update(
            Skipped(os.path.normpath(os.path.join(folder, s.path)), s.reason)
            for s in skipped
        )
        for file in found:
            self._keep(os.path.normpath(file.path), file.size, file.mtime)

    def _file(self, path: str, root: str) -> None:
        self.named.add(path)
        if self._any_excluded(path, root):
            return
        extension = os.path.splitext(path)[1]
        try:
            info = os.stat(path)
        except OSError as error:
            self._skip(path, f"cannot be reached: {error.strerror}")
            return
        if not stat.S_ISREG(info.st_mode):
            self._skip(path, "not a regular file")
        elif extension.lower() not in EXTENSIONS:
            self._skip(path, f"extension {extension!r}, not an image's")
        else:
            self._keep(path, info.st_size, info.st_mtime_ns)

    def _keep(self, path: str, size: int, mtime_ns: int) -> None:
        try:
            path.encode()
        except UnicodeEncodeError:
            self._skip(path, "the name is not UTF-8: rename the file or its folder")
        else:
            self.photos[path] = Photo(path, size, mtime_ns)

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

    def _any_excluded(self, path: str, root: str) -> bool:
        """As a walk from `root` would have it, which meets the folders first."""
        excluded = self._excluder(root)
        while not excluded(path):
            parent = os.path.dirname(path)
            if not _below(parent, (root,)) or parent == root:
                return False
            path = parent
        return True


def _matches(path: str, name: str, root: str, pattern: str) -> bool:
    if "/" not in pattern:
        return fnmatch.fnmatchcase(name, pattern)
    inside = os.path.relpath(path, root).replace(os.sep, "/")
    return fnmatch.fnmatchcase(inside, pattern) or fnmatch.fnmatchcase(path, pattern)


def _below(path: str, folders: Iterable[str]) -> bool:
    return any(path.startswith(folder.rstrip(os.sep) + os.sep) for folder in folders)
