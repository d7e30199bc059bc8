"""ShoeV2 and ChairV2 of QMUL: one kind of thing, photos, and sketches of each photo.

These sets are divided by instance: some shoes are for training, others for the test. A
Dataset divides by class, so each part is a class of its own: `chair/train` is seen and
`chair/test` is unseen. Negatives and the gallery then come from the sketch's own part,
and nothing else in the project needs to know.
"""

import csv
import dataclasses
import os
import pathlib
import unicodedata
from collections.abc import Iterable, Sequence

from sbir_jax.data import images
from sbir_jax.data.builders import PairedFolders, pair_info
from sbir_jax.data.folder import NO_DATA, found
from sbir_jax.data.layouts import places
from sbir_jax.data.pen import draw_strokes
from sbir_jax.data.strokes import read_strokes
from sbir_jax.data.tree import (
    DataError,
    File,
    Skipped,
    Tree,
    child,
    list_files,
    subfolders,
)

PARTS: tuple[str, ...] = ("train", "test")
STROKES = "_Coordinate"  # how a file of strokes ends
# Photos are 300 and 100, or 1,800 and 200; sketches are divided in several ways.
DIVISIONS = {
    "chair": {
        (952, 323): "as in the files of strokes",
        (964, 311): "as online",
        (951, 324): "as ZSE-SBIR reports",
    },
    "shoe": {(5_982, 666): "as online", (6_051, 679): "as ZSE-SBIR reports"},
}

INSTRUCTIONS = f"""\
ShoeV2 and ChairV2 are QMUL's, for academic use: https://sketchx.eecs.qmul.ac.uk/downloads/
Any of these layouts is read, in <root> or in ShoeV2/ or ChairV2/ below it:
  <root>/photo/<id>.png and ChairV2_Coordinate, the strokes of all sketches
  <root>/trainA/<id>_<k>.png, testA/.. (sketches), trainB/<id>.png, testB/.. (photos)
  <root>/sketch/<id>_<k>.png, photo/<id>.jpg and pairs.csv with the columns sketch,
    photo and split (train or test); images may lie a folder deeper, as in photo/chair/
Where the link is dead: issue 1 of github.com/AyanKumarBhunia/semisupervised-FGSBIR and
issue 2 of github.com/MarkMoHR/Awesome-Sketch-Synthesis name copies; the repositories
AyanKumarBhunia/Baseline_FGSBIR (shoes) and on-the-fly-FGSBIR hold the first layout.
{NO_DATA}"""


class Qmul(PairedFolders, skip_registration=True):
    """What the two sets share."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS
    KIND = ""
    marks = "_"

    def _info(self):
        return pair_info(
            self,
            description="Sketches of photos, one kind, divided by instance.",
            homepage="https://sketchx.eecs.qmul.ac.uk/downloads/",
        )

    def read(self, root: pathlib.Path) -> Tree:
        return read_qmul(root, self.KIND)

    def content(self, file: File) -> bytes:
        if not file.path.endswith(STROKES):
            return super().content(file)
        strokes = read_strokes(file.path, file.mtime)
        part, name = file.id.split("/")[-2:]
        return images.encode_png(draw_strokes(strokes[f"{part}/{name}"]))


class Chairv2(Qmul):
    """400 chairs, 1,275 sketches."""

    KIND = "chair"


class Shoev2(Qmul):
    """2,000 shoes, 6,648 sketches in the copies online."""

    KIND = "shoe"


@dataclasses.dataclass
class Listing:
    """Files by part, as a layout has them."""

    sketches: list[tuple[str, File]] = dataclasses.field(default_factory=list)
    photos: list[tuple[str, File]] = dataclasses.field(default_factory=list)
    skipped: list[Skipped] = dataclasses.field(default_factory=list)


def read_qmul(root: pathlib.Path, kind: str) -> Tree:
    """Lists a copy of ShoeV2 ("shoe") or ChairV2 ("chair").

    Raises: DataError for another layout, and for a division that is none: a photo in
      both parts, or an empty part.
    """
    listing = None
    for place in places(root, tops(kind)):
        listing = listing or _by_folder(place, root)
        listing = listing or _by_table(place, root)
        listing = listing or _by_strokes(place, root, kind)
    if listing is None:
        title = f"{kind.capitalize()}V2"
        raise DataError(f"{found(root)} It is no copy of {title}.\n{INSTRUCTIONS}")
    _check(root, listing)
    parts = sorted(PARTS)

    def labelled(files: Iterable[tuple[str, File]]) -> tuple[File, ...]:
        placed = [f._replace(label=parts.index(part)) for part, f in files]
        return tuple(sorted(placed, key=lambda f: (f.label, f.id)))

    return Tree(
        root,
        tuple(f"{kind}/{part}" for part in parts),
        labelled(listing.sketches),
        labelled(listing.photos),
        tuple(sorted(listing.skipped)),
    )


def tops(kind: str) -> tuple[str, ...]:
    """Folders that the set may lie in."""
    title = f"{kind.capitalize()}V2"
    return ("Dataset", title, f"QMUL-{kind.capitalize()}-v2")


def division_note(kind: str, train: int, test: int) -> str:
    """Whose division into sketches for training and for the test this is."""
    known = DIVISIONS[kind]
    which = known.get((train, test), "as nobody published")
    others = "; ".join(
        f"{a:,} and {b:,} {who}"
        for (a, b), who in known.items()
        if (a, b) != (train, test)
    )
    return (
        f"{train:,} sketches for training and {test:,} for the test, {which} ({others})"
    )


def _by_folder(place: pathlib.Path, root: pathlib.Path) -> Listing | None:
    names = [part + side for part in PARTS for side in "AB"]
    folders = {name: child(place, name) for name in names}
    if not any(folders.values()):
        return None
    if missing := [name for name, folder in folders.items() if folder is None]:
        raise DataError(
            f"{place} holds {', '.join(subfolders(place))} but not "
            f"{', '.join(missing)}. All of {', '.join(names)} are needed: A for "
            "sketches, B for photos."
        )
    listing = Listing()
    for name, folder in folders.items():
        assert folder is not None
        files, skipped = list_files(folder, root)
        part, side = name[:-1], name[-1]
        kept = listing.sketches if side == "A" else listing.photos
        kept += [(part, f) for f in files]
        listing.skipped += skipped
    return listing


def _by_table(place: pathlib.Path, root: pathlib.Path) -> Listing | None:
    table = place / "pairs.csv"
    folders = child(place, "sketch", "sketches"), child(place, "photo", "photos")
    if not table.is_file() or None in folders:
        return None
    parts = _parts(table)
    listing = Listing()
    for folder, kept in zip(folders, (listing.sketches, listing.photos), strict=True):
        assert folder is not None
        files, skipped = list_files(folder, root)
        listing.skipped += skipped
        for file in files:
            name = os.path.relpath(file.path, place).replace(os.sep, "/")
            if part := parts.pop(unicodedata.normalize("NFC", name), None):
                kept.append((part, file))
            else:
                reason = f"not in {table.name}, so of no part"
                listing.skipped.append(Skipped(file.id, reason))
    gone = {s.path for s in listing.skipped}
    for name in parts:
        path = os.path.relpath(place / name, root).replace(os.sep, "/")
        if path not in gone:
            listing.skipped.append(Skipped(path, f"in {table.name} but not there"))
    return listing


def _parts(table: pathlib.Path) -> dict[str, str]:
    """The part of each sketch and photo, by its path in the table."""
    rule = "Columns sketch, photo and split are needed, split being train or test."
    try:
        with open(table, encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read ({error}). {rule}") from error
    parts: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        sketch, photo = row.get("sketch"), row.get("photo")
        part = row.get("split")
        if not sketch or not photo or part not in PARTS:
            raise DataError(f"{table}, line {number}: {row}. {rule}")
        stem = pathlib.PurePosixPath(sketch).stem.rpartition("_")[0]
        if stem != pathlib.PurePosixPath(photo).stem:
            raise DataError(
                f"{table}, line {number}: {sketch} is said to be of {photo}, but a "
                "sketch is called <photo>_<k>. Correct the table or the name."
            )
        for path in (sketch, photo):
            path = unicodedata.normalize("NFC", path)
            if parts.setdefault(path, part) != part:
                raise DataError(
                    f"{table}, line {number}: {path} is in train and in test, so the "
                    "test would not be of unseen things. Give it one part."
                )
    return parts


def _by_strokes(place: pathlib.Path, root: pathlib.Path, kind: str) -> Listing | None:
    photo = child(place, "photo", "photos")
    source = place / f"{kind.capitalize()}V2{STROKES}"
    if photo is None or not source.is_file():
        return None
    info = source.stat()
    listing = Listing()
    part_of: dict[str, set[str]] = {}
    source_id = os.path.relpath(source, root).replace(os.sep, "/")
    for key, points in read_strokes(str(source), info.st_mtime_ns).items():
        part, _, name = key.rpartition("/")
        file_id = f"{source_id}/{key}"
        if part not in PARTS or not len(points):
            reason = "no strokes" if part in PARTS else "neither train/ nor test/"
            listing.skipped.append(Skipped(file_id, reason))
            continue
        part_of.setdefault(name.rpartition("_")[0], set()).add(part)
        file = File(str(source), file_id, 0, name, info.st_size, info.st_mtime_ns)
        listing.sketches.append((part, file))
    files, skipped = list_files(photo, root)
    listing.skipped += skipped
    for file in files:
        for part in sorted(part_of.get(file.stem, ())):
            listing.photos.append((part, file))
        if file.stem not in part_of:
            reason = f"no sketch of it in {source.name}, so of no part"
            listing.skipped.append(Skipped(file.id, reason))
    return listing


def _check(root: pathlib.Path, listing: Listing) -> None:
    stems = {part: {f.stem for p, f in listing.photos if p == part} for part in PARTS}
    both = sorted(stems["train"] & stems["test"])
    if both:
        raise DataError(
            f"{root}: {len(both)} photo(s) are in train and in test ({_few(both)}), so "
            "the test would not be of unseen things. Leave each in one part."
        )
    for part in PARTS:
        for what, files in (("sketch", listing.sketches), ("photo", listing.photos)):
            if not any(p == part for p, _ in files):
                raise DataError(
                    f"{root}: no {what} in the part {part}; both parts need sketches "
                    "and photos. Complete the copy, or load it as 'folder', which "
                    "draws a division by class."
                )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
