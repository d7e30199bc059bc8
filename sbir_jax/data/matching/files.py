"""Files that benchmarks of texts and images come in."""

import csv
import io
import json
import os
import pathlib
import pickle
from collections.abc import Iterable, Sequence
from typing import Any

from sbir_jax.data.tree import DataError


class Pictures:
    """Image files by name, each with its number in the order of first use.

    Attributes:
      paths: of those that were asked for.
    """

    def __init__(self, root: pathlib.Path, folders: Sequence[str]):
        """`folders` below the root are looked through in order."""
        self.root, self.folders = root, folders
        self.paths: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, names: str | Iterable[str]) -> int:
        """The number of the image file of this name, or of the first there is of these.

        Raises: DataError where no folder has it.
        """
        names = [names] if isinstance(names, str) else list(names)
        if names[0] not in self._numbers:
            self._numbers[names[0]] = len(self.paths)
            self.paths.append(self._path(names))
        return self._numbers[names[0]]

    def _path(self, names: Sequence[str]) -> str:
        for folder in self.folders:
            for name in names:
                path = self.root / folder / name
                if path.is_file():
                    return str(path)
        where = ", ".join(str(self.root / folder) for folder in self.folders)
        raise DataError(f"no image {names[0]} in {where}. Put its images there.")


def root_folder(root: str | os.PathLike, wanted: str) -> pathlib.Path:
    """Raises: DataError where it is not a folder, saying what to put there."""
    folder = pathlib.Path(root).expanduser()
    if not os.fspath(root) or not folder.is_dir():
        raise DataError(
            f"root={os.fspath(root)!r} is no folder; give one with {wanted}."
        )
    return folder


def first_file(folder: pathlib.Path, names: Sequence[str]) -> pathlib.Path:
    """Raises: DataError where none is there."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder} has no {' and no '.join(names)}.")


def read_json(path: pathlib.Path) -> Any:
    """JSON, or a list of the values of a file with one a line.

    Raises: DataError for a damaged file.
    """
    text = path.read_text(encoding="utf-8")
    try:
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}.") from error


def read_csv(path: pathlib.Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Raises: DataError where a column is missing."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise DataError(
                f"{path} has no column {', '.join(missing)}; it has "
                f"{', '.join(reader.fieldnames or ['none'])}."
            )
        return list(reader)


class _Plain(pickle.Unpickler):
    """Reads lists, dictionaries, texts and numbers, and nothing that runs code."""

    def find_class(self, module: str, name: str) -> Any:
        raise DataError(
            f"a pickle asks for {module}.{name}: only plain values are read from one."
        )


def read_plain_pickle(path: pathlib.Path) -> Any:
    """A pickle of plain values, such as the lists of expressions of RefCOCOg.

    Raises: DataError for a damaged one, and for one that holds anything else.
    """
    try:
        return _Plain(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, ValueError, IndexError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is damaged: {error}.") from error
