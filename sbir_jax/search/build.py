"""Building an index, and keeping it in step with the photos.

The same call makes an index, goes on with one that was interrupted, and brings an old
one up to date: what is there is compared with what is listed, and only new contents are
embedded.
"""

import collections
import dataclasses
import os
import pathlib
import time
from collections.abc import Iterable, Mapping, Sequence

from sbir_jax.data.image_files import EXTENSIONS
from sbir_jax.search import photos, shards
from sbir_jax.search.head import known_as, read_head
from sbir_jax.search.integrity import replace
from sbir_jax.search.model_paths import with_relative
from sbir_jax.search.photos import Listing
from sbir_jax.search.shard_writer import Writer
from sbir_jax.search.shards import Head
from sbir_jax.search.update import Embeds, Update

__all__ = ["Embeds", "Summary", "build", "remove"]

EXCLUDE = "exclude.txt"


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
      others: files in the folders that are no images: sidecars, films, texts.
      vanished: folders of which no photo is left, or that could not be listed, with how
        many photos the index has of each; these stay in the index.
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
    others: int = 0
    vanished: Mapping[str, int] = dataclasses.field(default_factory=dict)


def build(
    paths: Iterable[photos.Source],
    out: str | os.PathLike,
    embedder: Embeds,
    exclude: Sequence[str] = (),
    progress: bool = True,
    prune: bool = False,
    reread: bool = False,
) -> Summary:
    """Brings the index in `out` in step with the photos of `paths`; makes it if needed.

    Photos of the index that lie below the folders in `paths` and are not there any more
    are removed, but for those of a folder of which nothing is left: a drive or a share
    may be gone for a while. Photos of other folders stay as they are. A file with the
    size and time it had is not opened. One with contents that the index knows is not
    embedded again.

    Args:
      paths: folders, files, globs and tables; see `photos.list_photos`.
      embedder: of the index, where there is one already.
      exclude: globs of files and folders to pass over; those in the index are removed.
        The index remembers them, in exclude.txt, one a line.
      prune: removes photos of folders that vanished, too.
      reread: opens every file, also those with the size and time they had.
    Raises: FileNotFoundError and ValueError for sources that are not there, and for
      sources without a photo where the index has none of them either; ValueError where
      the index was made by another embedder, naming both fingerprints, and for a
      folder whose photos have all gone at once (a drive that is not mounted); IndexBusy
      while another process writes into it. Photos that cannot be read raise nothing.
    """
    begin = time.perf_counter()
    patterns = list(dict.fromkeys([*read_exclude(out), *exclude]))
    listing = photos.list_photos(paths, patterns, avoid=out)
    source = with_relative(embedder.source, out)
    there = (pathlib.Path(out) / "index.json").exists()
    name = known_as(embedder, read_head(out) if there else None)
    new = Head(name, embedder.dim, source)
    if not there:
        _check_any(listing)
    with Writer(out, new) as writer:
        if not prune:
            _check_mounted(writer, listing)
        if not any(listing.covers(path) for path in writer.paths):
            _check_any(listing)
        if patterns != read_exclude(out):
            text = "".join(f"{pattern}\n" for pattern in patterns)
            path = pathlib.Path(out) / EXCLUDE
            replace(path, lambda file: file.write(text.encode()))
        work = Update(writer, embedder, listing, reread)
        work.run(progress)
        rows = [row for rows in work.orphans.values() for row in rows]
        gone, vanished = _gone(writer, listing, rows, prune)
        writer.mark_removed(gone)
        skipped = [*listing.skipped, *work.skipped]
        kept = [s for s in shards.read_skipped(out) if not listing.covers(s.path)]
        writer.flush()
        writer.write_skipped(list({*kept, *skipped}))
        return Summary(
            added=work.added,
            changed=work.changed,
            unchanged=work.unchanged,
            moved=work.moved,
            removed=len(gone),
            skipped=len(skipped),
            embedded=work.embedded,
            photos=sum(writer.alive),
            seconds=time.perf_counter() - begin,
            waiting_share=work.waiting.share,
            others=listing.others,
            vanished=vanished,
        )


def read_exclude(index: str | os.PathLike) -> list[str]:
    """The globs that an index remembers; none where there is no index.

    Raises: ValueError for a file that is no text.
    """
    try:
        text = (pathlib.Path(index) / EXCLUDE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise ValueError(
            f"{pathlib.Path(index) / EXCLUDE} is not UTF-8: {error}. Save it as UTF-8, "
            "or delete it and give its globs with --exclude again"
        ) from error
    return [line for line in text.splitlines() if line.strip()]


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
        writer.mark_removed(rows)
        return len(rows)


def _gone(
    writer: Writer, listing: Listing, rows: Iterable[int], prune: bool
) -> tuple[list[int], dict[str, int]]:
    """Which of these rows, not listed any more, go; and what stays, by folder."""
    alive = {os.path.dirname(photo.path) for photo in listing.photos}
    gone: list[int] = []
    vanished: collections.Counter[str] = collections.Counter()
    for row in rows:
        path = writer.paths[row]
        folder = os.path.dirname(path)
        if listing.excludes(path):
            gone.append(row)
        elif not listing.covers(path):
            if listing.unreachable(path):
                vanished[folder] += 1
        elif prune or folder in alive:
            gone.append(row)
        else:
            vanished[folder] += 1
    return gone, dict(sorted(vanished.items()))


def _check_any(listing: Listing) -> None:
    if not listing.photos:
        names = [*listing.folders, *listing.globs, *sorted(listing.named)]
        also = f"; {listing.others:,} other files" * bool(listing.others)
        also += "".join(f"; {path}: {why}" for path, why in listing.skipped[:3])
        raise ValueError(
            f"no photos in {', '.join(names)}{also}. Give folders or files with names "
            f"that end in {', '.join(sorted(EXTENSIONS))}"
        )


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
                "drive not mounted? If they are gone for good, add --prune, or: sbir "
                f"remove {writer.folder} {folder}"
            )
