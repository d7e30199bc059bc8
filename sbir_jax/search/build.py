"""Building an index, and keeping it in step with the photos.

The same call makes an index, goes on with one that was interrupted, and brings an old
one up to date: what is there is compared with what is listed, and only new contents are
embedded.
"""

import dataclasses
import os
import pathlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from tqdm.auto import tqdm

from sbir_jax.data import images
from sbir_jax.data.tree import Skipped
from sbir_jax.runtime.prefetch import Waiting
from sbir_jax.search import photos, shards
from sbir_jax.search.index import Describes
from sbir_jax.search.photos import Listing, Photo
from sbir_jax.search.shard_writer import Writer
from sbir_jax.search.shards import Head

# A kill loses no more than this much work.
FLUSH_SECONDS = 20.0


@runtime_checkable
class Embeds(Describes, Protocol):
    """What a build needs of an embedder; `sbir_jax.embedder.Embedder` is one."""

    size: int
    source: dict[str, Any] | None

    @property
    def batch_size(self) -> int: ...

    def start(self, images: np.ndarray, modality: Any) -> Callable[[], np.ndarray]:
        """Begins with at most `batch_size` images; the answer waits for descriptors."""
        ...


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a build did, in photos.

    Attributes:
      added: new paths; `embedded` of the contents were new too.
      changed: paths with new contents. moved: contents with a new path.
      removed: gone from the folders that were listed.
      skipped: cannot be used; skipped.csv in the index says why.
      photos: in the index now.
      waiting_share: of the time in which it embedded, how much it waited for files.
    """

    added: int
    changed: int
    unchanged: int
    moved: int
    removed: int
    skipped: int
    embedded: int
    photos: int
    seconds: float
    waiting_share: float


def build(
    paths: Iterable[photos.Source],
    out: str | os.PathLike,
    embedder: Embeds,
    exclude: Sequence[str] = (),
    progress: bool = True,
) -> Summary:
    """Brings the index in `out` in step with the photos of `paths`; makes it if needed.

    Photos of the index that lie below the folders in `paths` and are not there any more
    are removed; photos of other folders stay as they are. A file with the size and time
    it had is not opened. One with contents that the index knows is not embedded again.

    Args:
      paths: folders, files, globs and tables; see `photos.list_photos`.
      embedder: of the index, where there is one already.
      exclude: globs of files and folders to pass over; those in the index are removed.
    Raises: FileNotFoundError and ValueError for sources that are not there; ValueError
      where the index was made by another embedder, naming both fingerprints, and for a
      folder whose photos have all gone at once (a drive that is not mounted); IndexBusy
      while another process writes into it. Photos that cannot be read raise nothing.
    """
    begin = time.perf_counter()
    listing = photos.list_photos(paths, exclude, avoid=out)
    new = Head(embedder.fingerprint, embedder.dim, embedder.source)
    with Writer(out, new) as writer:
        _check_mounted(writer, listing)
        work = _Build(writer, embedder, listing)
        work.run(progress)
        gone = work.remove_gone()
        skipped = [*listing.skipped, *work.skipped]
        kept = [s for s in shards.read_skipped(out) if not listing.covers(s.path)]
        writer.flush()
        writer.write_skipped(list({*kept, *skipped}))
        return Summary(
            added=work.added,
            changed=work.changed,
            unchanged=work.unchanged,
            moved=work.moved,
            removed=gone,
            skipped=len(skipped),
            embedded=work.embedded,
            photos=sum(writer.alive),
            seconds=time.perf_counter() - begin,
            waiting_share=work.waiting.share,
        )


def remove(paths: Iterable[str | os.PathLike], out: str | os.PathLike) -> int:
    """Takes photos out of an index, by path, or by a folder with all below it.

    The files themselves are not touched.

    Returns: how many photos were taken out.
    Raises: ValueError for a path that names no photo of the index (then nothing is
      removed); FileNotFoundError without an index; IndexBusy.
    """
    with Writer(out) as writer:
        rows: set[int] = set()
        for path in paths:
            wanted = os.path.abspath(os.path.expanduser(os.fspath(path)))
            found = [
                row
                for row, (here, alive) in enumerate(
                    zip(writer.paths, writer.alive, strict=True)
                )
                if alive and (here == wanted or here.startswith(wanted + os.sep))
            ]
            if not found:
                raise ValueError(
                    f"no photo of {os.fspath(out)} is {wanted} or below it"
                )
            rows.update(found)
        writer.bury(rows)
        return len(rows)


def _check_mounted(writer: Writer, listing: Listing) -> None:
    for folder in listing.folders:
        inside = folder.rstrip(os.sep) + os.sep
        if any(photo.path.startswith(inside) for photo in listing.photos):
            continue
        pairs = zip(writer.paths, writer.alive, strict=True)
        lost = sum(alive and path.startswith(inside) for path, alive in pairs)
        if lost:
            raise ValueError(
                f"{folder} holds no photo now and the index has {lost} of it: is a "
                f"drive not mounted? If they are gone for good: sbir remove "
                f"{writer.folder} {folder}"
            )


class _Read(NamedTuple):
    """A file's contents: their hash, and the image where it is needed."""

    hash: str
    pixels: np.ndarray | None


class _Build:
    def __init__(self, writer: Writer, embedder: Embeds, listing: Listing):
        self.writer, self.embedder, self.listing = writer, embedder, listing
        self.added = self.changed = self.unchanged = self.moved = self.embedded = 0
        self.skipped: list[Skipped] = []
        self.listed = {photo.path for photo in listing.photos}
        # The row of each path, and one row with the descriptor of each content.
        self.row_of = {
            path: row
            for row, (path, alive) in enumerate(
                zip(writer.paths, writer.alive, strict=True)
            )
            if alive
        }
        self.content = {hash: row for row, hash in enumerate(writer.hashes)}
        self.orphans: dict[str, list[int]] = {}
        for path, row in self.row_of.items():
            if path not in self.listed:
                self.orphans.setdefault(writer.hashes[row], []).append(row)
        self.batch: list[tuple[Photo, _Read]] = []
        self.batched: set[str] = set()
        # The batch on the device, and what waits for its descriptors.
        self.sent: list[tuple[Photo, _Read]] = []
        self.fetch: Callable[[], np.ndarray] | None = None
        self.waiting = Waiting()
        self.flushed = time.monotonic()

    def run(self, progress: bool) -> None:
        """Embeds what is new."""
        fresh = [photo for photo in self.listing.photos if not self._known(photo)]
        self.unchanged = len(self.listing.photos) - len(fresh)
        bar = tqdm(
            total=len(fresh),
            desc="index",
            unit="photo",
            disable=not progress or not fresh,
            dynamic_ncols=True,
        )
        with bar, self.waiting:
            # Two batches ahead of the device, decoded on threads.
            ahead = max(16, 2 * self.embedder.batch_size)
            reads = images.threaded(self._read, fresh, ahead=ahead)
            for photo, read in zip(fresh, self.waiting(reads), strict=True):
                if isinstance(read, OSError | images.BadImage):
                    self._skip(photo, read)
                elif isinstance(read, BaseException):
                    raise read
                else:
                    self._take(photo, read)
                bar.set_postfix_str(f"waiting {self.waiting.share:.0%}", refresh=False)
                bar.update()
                if time.monotonic() - self.flushed > FLUSH_SECONDS:
                    self.writer.flush()
                    self.flushed = time.monotonic()
            self._send()
            self._store()

    def remove_gone(self) -> int:
        """Buries photos that the listing covers and does not have any more."""
        rows = [row for rows in self.orphans.values() for row in rows]
        gone = [row for row in rows if self.listing.covers(self.writer.paths[row])]
        self.writer.bury(gone)
        return len(gone)

    def _known(self, photo: Photo) -> bool:
        row = self.row_of.get(photo.path)
        if row is None:
            return False
        stamp = (self.writer.sizes[row], self.writer.mtimes[row])
        return stamp == (photo.size, photo.mtime_ns)

    def _read(self, photo: Photo) -> _Read:
        """On a thread. Two copies that come close together may both be decoded."""
        content = pathlib.Path(photo.path).read_bytes()
        hash = photos.content_hash(content)
        if hash in self.content:
            return _Read(hash, None)
        size = self.embedder.size
        name = photo.path
        pixels = images.decode(content, size, images.FIT["photo"], name=name)
        return _Read(hash, pixels)

    def _skip(self, photo: Photo, error: Exception) -> None:
        reason = error.reason if isinstance(error, images.BadImage) else str(error)
        self.skipped.append(Skipped(photo.path, reason))
        if (row := self.row_of.pop(photo.path, None)) is not None:
            self.writer.bury([row])

    def _take(self, photo: Photo, read: _Read) -> None:
        if read.hash in self.batched:
            self._store()  # it may be just that
        row = self.row_of.get(photo.path)
        if row is not None and self.writer.hashes[row] == read.hash:
            self.writer.restamp(row, *photo)
            self.unchanged += 1
        elif read.hash in self.content:
            self._place(photo, read.hash)
        elif read.hash in self.batched:
            self._send()
            self._place(photo, read.hash)
        else:
            self.batched.add(read.hash)
            self.batch.append((photo, read))
            if len(self.batch) >= self.embedder.batch_size:
                self._send()

    def _send(self) -> None:
        """Hands the batch to the device, then takes in the one before it."""
        sent, fetch = self.batch, None
        try:
            if sent:
                pixels = [read.pixels for _, read in sent if read.pixels is not None]
                batch = images.to_float(np.stack(pixels))
                fetch = self.embedder.start(batch, "photo")
        finally:
            self._store()
        self.batch, self.sent, self.fetch = [], sent, fetch

    def _store(self) -> None:
        """Waits for the batch on the device, if there is one."""
        if self.fetch is None:
            return
        found, self.fetch = self.fetch(), None
        for (photo, read), descriptor in zip(self.sent, found, strict=True):
            row = self._append(photo, read.hash, descriptor)
            self.content[read.hash] = row
            self.batched.discard(read.hash)
        self.embedded += len(self.sent)

    def _place(self, photo: Photo, hash: str) -> None:
        """A path for contents that have a descriptor: a move, or another copy."""
        self._store()  # rows are in the order of the photos, batch by batch
        for row in self.orphans.get(hash, []):
            # A photo of a folder that was not listed may still be where it was.
            if not os.path.lexists(self.writer.paths[row]):
                self.orphans[hash].remove(row)
                self.moved += not self._replace(photo.path, row)
                self.writer.restamp(row, *photo)
                return
        self._append(photo, hash, self.writer.descriptor(self.content[hash]))

    def _append(self, photo: Photo, hash: str, descriptor: np.ndarray) -> int:
        row = self.writer.append(photo.path, hash, *photo[1:], descriptor)
        if not self._replace(photo.path, row):
            self.added += 1
        return row

    def _replace(self, path: str, row: int) -> bool:
        """Puts a row in the place of the one that had its path; whether one had."""
        old = self.row_of.get(path)
        self.row_of[path] = row
        if old is None:
            return False
        self.writer.bury([old])
        self.changed += 1
        return True
