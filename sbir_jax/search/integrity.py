"""Whether kept files still hold what was written: checksums, checked once.

A file is read for this at its first opening. INDEX/checked.json remembers which ones
were right, by size and time, so that later openings cost nothing; where the folder
cannot be written, they are checked again.
"""

import contextlib
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any, BinaryIO

from sbir_jax.runtime import schema

FILE = "checked.json"


class Checked:
    """What was found right in an index, by the size and time that files had."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self._known: dict[str, list[int]] = {}
        self._changed = False
        with contextlib.suppress(OSError, ValueError):  # then all is checked again
            self._known = schema.read_json(folder / FILE)

    def check(
        self, path: pathlib.Path, verify: Callable[[], None], rows: int = 0
    ) -> None:
        """Calls `verify`, which raises for a bad file, unless `path` is as it was.

        Args:
          rows: how many of the file's are looked at.
        """
        name, info = str(path.relative_to(self.folder)), os.stat(path)
        mark = [info.st_size, info.st_mtime_ns, rows]
        if self._known.get(name) == mark:
            return
        verify()
        self._known[name], self._changed = mark, True

    def save(self) -> None:
        """Remembers what was checked, where the folder can be written."""
        if not self._changed:
            return
        text = json.dumps(self._known, indent=1).encode()
        aside = self.folder / f"{FILE}.{os.getpid()}.part"
        with contextlib.suppress(OSError):  # read-only, or full: checked again then
            aside.write_bytes(text)
            os.replace(aside, self.folder / FILE)
        self._changed = False


def replace(path: pathlib.Path, write: Callable[[BinaryIO], Any]) -> None:
    """Writes aside, waits for the disk, renames.

    Raises: OSError naming the file, where the disk is full; what was there stays.
    """
    aside = path.with_name(path.name + ".part")
    try:
        with open(aside, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException as error:
        aside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = os.fspath(path)
        raise
