"""Taking a listing into an index: what is known, what moved, what is to be embedded."""

import os
import time
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np

from sbir_jax.data import images
from sbir_jax.data.image_files import Unreachable, means_machine
from sbir_jax.data.tree import Skipped
from sbir_jax.runtime.prefetch import Waiting
from sbir_jax.search.index import Describes
from sbir_jax.search.photos import Listing, Photo
from sbir_jax.search.progress import Progress
from sbir_jax.search.reading import Read, read_photo
from sbir_jax.search.shard_writer import Writer

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


class Update:
    """Takes what is listed into an index.

    Attributes:
      added, changed, unchanged, moved, embedded: photos, as of `build.Summary`.
      skipped: photos that could not be used, and why.
      orphans: content hash -> rows whose path is not listed, and that did not move.
    """

    def __init__(
        self, writer: Writer, embedder: Embeds, listing: Listing, reread: bool = False
    ):
        """Args: reread: opens every file, whatever its size and time say."""
        self.writer, self.embedder, self.listing = writer, embedder, listing
        self.reread = reread
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
        self.batch: list[tuple[Photo, Read]] = []
        self.batched: set[str] = set()
        # The batch on the device, and what waits for its descriptors.
        self.sent: list[tuple[Photo, Read]] = []
        self.fetch: Callable[[], np.ndarray] | None = None
        self.waiting = Waiting()
        self.progress = Progress(0, self.waiting, False)
        self.flushed = time.monotonic()

    def run(self, progress: bool) -> None:
        """Embeds what is new."""
        fresh = [photo for photo in self.listing.photos if not self._known(photo)]
        self.unchanged = len(self.listing.photos) - len(fresh)
        self.progress = Progress(len(fresh), self.waiting, progress)
        with self.progress, self.waiting:
            # Two batches ahead of the device, decoded on threads.
            ahead = max(16, 2 * self.embedder.batch_size)
            reads = images.threaded(self._read, fresh, ahead=ahead)
            for photo, read in zip(fresh, self.waiting(reads), strict=True):
                if isinstance(read, BaseException):
                    self._skip(photo, read)
                else:
                    self._take(photo, read)
                self.progress.update()
                if time.monotonic() - self.flushed > FLUSH_SECONDS:
                    self.writer.flush()
                    self.flushed = time.monotonic()
            self._send()
            self._store()

    def _known(self, photo: Photo) -> bool:
        row = self.row_of.get(photo.path)
        if row is None or self.reread:
            return False
        stamp = (self.writer.sizes[row], self.writer.mtimes[row])
        return stamp == (photo.size, photo.mtime_ns)

    def _read(self, photo: Photo) -> Read:
        """On a thread. Two copies that come close together may both be decoded."""
        return read_photo(photo, self.embedder.size, self.content)

    def _skip(self, photo: Photo, error: BaseException) -> None:
        """No error of one file ends a build, but for those that mean the machine."""
        if means_machine(error):
            raise error
        reason = error.reason if isinstance(error, images.BadImage) else repr(error)
        self.skipped.append(Skipped(photo.path, reason))
        if isinstance(error, Unreachable):
            return  # what it holds is not known: what was known of it stays
        if (row := self.row_of.pop(photo.path, None)) is not None:
            self.writer.mark_removed([row])

    def _take(self, photo: Photo, read: Read) -> None:
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
            self._store()
            self._take(photo, read)  # it is known now, or was not finite
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
        self.progress.begin()
        finite = np.asarray(np.isfinite(found).all(axis=1))
        if not finite.any() and not self.embedded:
            path = self.sent[0][0].path
            raise ValueError(f"the descriptor of {path} is not finite; check the model")
        for (photo, read), descriptor, good in zip(
            self.sent, found, finite.tolist(), strict=True
        ):
            self.batched.discard(read.hash)
            if good:
                self.content[read.hash] = self._append(photo, read.hash, descriptor)
            else:
                reason = "its descriptor is not finite"
                self._skip(photo, images.BadImage(photo.path, reason))
        self.embedded += int(finite.sum())

    def _place(self, photo: Photo, hash: str) -> None:
        """A path for contents that have a descriptor: a move, or another copy."""
        self._store()  # rows are in the order of the photos, batch by batch
        for row in self.orphans.get(hash, []):
            # A photo of a folder that was not listed may still be where it was.
            old = self.writer.paths[row]
            if not (os.path.lexists(old) or self.listing.unreachable(old)):
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
        self.writer.mark_removed([old])
        self.changed += 1
        return True
