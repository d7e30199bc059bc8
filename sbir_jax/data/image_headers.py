"""The header of an image file, read in bounded memory and time.

What stands before the pixels (tags, profiles, previews, notes) Pillow reads whole and
keeps, as parts of the file or as numbers that take many times its bytes. So it gets a
file of which it may read only so much until the header is known. Few bytes are enough
for nearly all; who needs more is read again when no other such file is open.
"""

import contextlib
import io
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from PIL import Image

# Bytes that a read counts as: some headers are read one byte at a time. A chunk of a
# PNG is passed over without Pillow, and large ones have many.
READ, CHUNK = 1_000, 64

_PNG = b"\x89PNG\r\n\x1a\n"
_heavy = threading.Lock()


class HeavyHeader(ValueError):
    """More stands before the pixels than may be read."""


class Limits(NamedTuple):
    """Bytes of a header: while others are open, and while no other such one is."""

    light: int
    heavy: int


# Of numbers in a TIFF's tags each byte takes 25 when they are used.
PARTS = Limits(1_000_000, 24_000_000)
# Of formats whose files are read whole.
WHOLE = Limits(24_000_000, 100_000_000)


class Header:
    """An open file; `limit` bytes may be read until `passed` is called."""

    def __init__(self, file: Any, limit: int):
        self._file, self._limit, self._read = file, limit, 0
        self._size = file.seek(0, io.SEEK_END)

    def read(self, count: int = -1) -> bytes:
        """Raises: HeavyHeader beyond the limit, before anything is read."""
        asked = self._size if count is None or count < 0 else min(count, self._size)
        self._count(max(asked, READ))
        return self._file.read(count)

    def passed(self) -> None:
        self._limit = 0

    def check_chunks(self) -> None:
        """Of a PNG: its notes may stand behind the pixels, and are read as those in
        front. Raises: HeavyHeader."""
        self._file.seek(len(_PNG))
        while len(head := self._file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            beside = 0 if kind == b"IDAT" else min(length, self._size)
            self._count(max(beside, CHUNK))
            self._file.seek(length + 4, io.SEEK_CUR)

    def _count(self, size: int) -> None:
        self._read += size
        if self._limit and self._read > self._limit:
            raise HeavyHeader(
                f"more than {self._limit / 1e6:,.0f} MB of tags, previews or notes "
                "beside its pixels: save it without them"
            )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextlib.contextmanager
def opened(
    make: Callable[[Any, Any], Image.Image], file: Any, limits: Limits
) -> Iterator[Image.Image]:
    """The image that `make` opens of a file, at its start; open for the block.

    Raises: HeavyHeader; what `make` raises.
    """
    with contextlib.ExitStack() as stack:
        try:
            image = _made(make, file, limits.light)
        except HeavyHeader:
            stack.enter_context(_heavy)
            image = _made(make, file, limits.heavy)
        yield stack.enter_context(image)


def _made(
    make: Callable[[Any, Any], Image.Image], file: Any, limit: int
) -> Image.Image:
    header = Header(file, limit)
    file.seek(0)
    if file.read(len(_PNG)) == _PNG:
        header.check_chunks()
    file.seek(0)
    image = make(header, "")
    header.passed()
    return image
