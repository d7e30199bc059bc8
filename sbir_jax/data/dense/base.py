"""What dense tasks know of a data set: examples, and what its labels mean."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from sbir_jax.data import images
from sbir_jax.data.image_files import BadImage
from sbir_jax.data.tree import DataError

IGNORED = 255  # a label that does not count
MISSING = 5  # files named in an error


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """A picture and the truth about it.

    Attributes:
      target: of the picture's size: labels (uint8), a mask (bool), or depth (float32).
      text: the expression that the mask is of.
      place: number in `DenseData.places`.
    """

    image: UInt8[np.ndarray, "h w 3"]
    target: Any
    text: str = ""
    place: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Examples that are read one by one.

    Attributes:
      pictures: the number of each example's picture, in rising order.
      read: gives example i.
    """

    pictures: Int[np.ndarray, " n"]
    read: Callable[[int], Example]

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, i: int) -> Example:
        return self.read(i)

    def __iter__(self) -> Iterator[Example]:
        """Read ahead on threads, so that decoding costs the loop little."""
        for found in images.threaded(self.read, range(len(self)), ahead=16):
            if isinstance(found, BaseException):
                raise found
            yield found

    def part(self, rows: Sequence[int] | np.ndarray) -> "Split":
        """Some of the examples."""
        rows = np.asarray(rows, int)
        return Split(self.pictures[rows], lambda i: self.read(int(rows[i])))

    def held_out(self, count: int) -> tuple["Split", "Split"]:
        """Without the last pictures, and these: `count` examples or a few more, so that
        no picture is in both. Raises: DataError where nothing would be left."""
        if not count:
            return self, self.part([])
        first = self.pictures[-min(count, len(self))]
        held = self.pictures >= first
        if held.all():
            raise DataError(
                f"val_examples is {count} and there are {len(self)} examples to train "
                "on; give fewer, or 0 for none"
            )
        return self.part(np.flatnonzero(~held)), self.part(np.flatnonzero(held))


@dataclasses.dataclass(frozen=True, eq=False)
class DenseData:
    """A data set of one task.

    Attributes:
      fingerprint: changes when a file does.
      tests: what is scored, by name; the first is what a report leads with.
      classes: of labels. `known`: how many of them, the first, are trained on.
      groups: for each class the number of the group it is in, for tests of classes that
        no head has met; `group_names` are theirs.
      places: names of the kinds of scenes; one, "", where they are not told apart.
      most: depths from there on do not count. unit: of depth.
      crop: whether depth counts within Eigen's crop alone.
    """

    name: str
    fingerprint: str
    train: Split
    tests: dict[str, Split]
    classes: tuple[str, ...] = ()
    known: int = 0
    groups: tuple[int, ...] = ()
    group_names: tuple[str, ...] = ()
    places: tuple[str, ...] = ("",)
    most: float = 0.0
    unit: str = ""
    crop: bool = False


def digest(*parts: Any) -> str:
    """sha256 of texts, and of files' sizes and times of change."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, pathlib.Path):
            state = part.stat()
            part = f"{part.name} {state.st_size} {state.st_mtime_ns}"
        found.update(f"{part}\n".encode())
    return found.hexdigest()


def pairs_split(
    pairs: Sequence[tuple[pathlib.Path, pathlib.Path]],
    target: Callable[[pathlib.Path], np.ndarray],
    places: Sequence[int] = (),
) -> Split:
    """Of picture and truth files, which must all be there.

    Raises: DataError without any, or naming files that are missing.
    """
    if not pairs:
        raise DataError("there are no pictures")
    missing = [path for pair in pairs for path in pair if not path.is_file()]
    if missing:
        shown = ", ".join(map(str, missing[:MISSING]))
        raise DataError(
            f"{len(missing)} files are missing: {shown}; unpack the data set again"
        )

    def read(i: int) -> Example:
        path, truth = pairs[i]
        image, found = images.decode(path), target(truth)
        if found.shape != image.shape[:2]:
            raise DataError(
                f"{truth} is {found.shape} and its picture {image.shape[:2]}; they "
                "belong to each other and must be of one size"
            )
        return Example(image, found, place=places[i] if places else 0)

    return Split(np.arange(len(pairs)), read)


def read_labels(path: pathlib.Path) -> UInt8[np.ndarray, "h w"]:
    """Numbers of a PNG as they are stored, indices of a palette too.

    Raises: BadImage for a file that is none.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("L", "P"):
                raise BadImage(
                    str(path),
                    f"labels are in a PNG of one channel; this has mode {image.mode}",
                )
            return np.array(image)
    except OSError as error:
        raise BadImage(str(path), str(error)) from error


def names_in(path: pathlib.Path, what: str) -> list[str]:
    """The lines of a list file.

    Raises: DataError where it is not there.
    """
    if not path.is_file():
        raise DataError(f"{what}: {path} is not there; give the folder that holds it")
    return [line.strip() for line in path.read_text().splitlines() if line.strip()]
