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
      globs: absolute, as they were matched.
    """

    photos: tuple[Photo, ...]
    skipped: tuple[Skipped, ...]
    folders: tuple[str, ...]
    named: frozenset[str]
    globs: tuple[str, ...]

    def covers(self, path: str) -> bool:
        """Whether this listing decides about `path`: not listed then means gone."""
        if path in self.named or _below(path, self.folders):
            return True
        return any(_glob_takes(path, pattern) for pattern in self.globs)


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

    def listing(self) -> Listing:
        return Listing(
            tuple(self.photos[path] for path in sorted(self.photos)),
            tuple(sorted(self.skipped)),
            tuple(sorted(self.folders)),
            frozenset(self.named),
            tuple(sorted(self.globs)),
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

        found, skipped = self._walk(base, pruned)
        found = [photo for photo in found if _glob_takes(photo.path, pattern)]
        skipped = [s for s in skipped if _glob_takes(s.path, pattern)]
        if not found and not skipped:
            raise ValueError(f"nothing matches {pattern}")
        self.globs.add(pattern)
        self._extend(found, skipped)

    def _folder(self, folder: str) -> None:
        self.folders.add(folder)
        self._extend(*self._walk(folder, self._excluder(folder)))

    def _walk(
        self, folder: str, excluded: Callable[[str], bool]
    ) -> tuple[list[Photo], list[Skipped]]:
        found, skipped = read_images(pathlib.Path(folder), excluded)
        photos = [Photo(os.path.normpath(f.path), f.size, f.mtime) for f in found]
        join = os.path.join
        return photos, [
            Skipped(os.path.normpath(join(folder, s.path)), s.reason) for s in skipped
        ]

    def _extend(self, photos: list[Photo], skipped: list[Skipped]) -> None:
        self.skipped.update(skipped)
        for photo in photos:
            self._keep(photo)

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
