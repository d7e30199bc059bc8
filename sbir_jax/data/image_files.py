"""Opening image files: which formats, of what size, in how much memory.

All limits are kept before the pixels are decoded. What counts is bytes: a file's own,
checked before it is read, and those of its decoded rows, for which all threads share
one budget. Photos above it are decoded scaled down where their format can (JPEG), and
refused where it cannot.
"""

import contextlib
import errno
import io
import os
import stat
import struct
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import (
    BmpImagePlugin,  # noqa: F401  (each of these registers its format)
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
    features,
)

from sbir_jax.data import deep_colour, image_headers, vector

Source = str | os.PathLike | bytes | io.IOBase | Image.Image | np.ndarray

# A scan of 300 megapixels in 16 bits has 1.8 GB. Formats that are only read whole are
# those of phones and pages, whose files are small.
MAX_FILE_BYTES = 2_000_000_000
MAX_WHOLE_BYTES = image_headers.WHOLE.heavy
SPOOLED_BYTES = 4 << 20
# Of all images that are being decoded at one moment.
DECODED_BYTES = 800_000_000
MAX_ASPECT = 100.0  # a long screenshot has 40
MIN_SIDE = 8

# Only formats that Pillow decodes by itself: its EPS reader, for one, runs a program.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
EXTENSIONS = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .tif .tiff .ppm .pgm .pbm .pnm".split()
)
if features.check("avif"):
    from PIL import AvifImagePlugin  # noqa: F401

    FORMATS, EXTENSIONS = (*FORMATS, "AVIF"), EXTENSIONS | {".avif"}
try:  # the extra `heic`: what phones save
    import pillow_heif  # pyright: ignore[reportMissingImports]
except ImportError:
    pass
else:
    pillow_heif.register_heif_opener()
    FORMATS, EXTENSIONS = (*FORMATS, "HEIF"), EXTENSIONS | {".heic", ".heif"}
try:  # the extra `jxl`
    import pillow_jxl  # noqa: F401  # pyright: ignore[reportMissingImports]
except ImportError:
    pass
else:
    FORMATS, EXTENSIONS = (*FORMATS, "JXL"), EXTENSIONS | {".jxl"}

# Photos that this installation cannot read, and what is missing.
REMEDIES = {
    extension: remedy
    for extension, remedy in {
        ".heic": "pip install 'sbir_jax[heic]'",
        ".heif": "pip install 'sbir_jax[heic]'",
        ".jxl": "pip install 'sbir_jax[jxl]'",
        ".avif": "pip install --upgrade Pillow",
    }.items()
    if extension not in EXTENSIONS
}

_WHOLE = {"WEBP", "AVIF", "HEIF", "JXL"}
_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}  # bytes a pixel

# What is wrong with the machine, not with one file.
_MACHINE = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
}


class BadImage(ValueError):
    """A file that cannot be used as an image: `path` as given, and `reason`."""

    def __init__(self, path: str, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason

    def __reduce__(self):  # so that it crosses process borders
        return type(self), (self.path, self.reason)


class Unreachable(BadImage):
    """A file that could not be read now, which says nothing about what it holds."""


class Budget:
    """Bytes that all threads together may use; who asks for too much waits."""

    def __init__(self, limit: int):
        self.limit, self.used = limit, 0
        self._turn, self._changed = threading.Lock(), threading.Condition()

    @contextlib.contextmanager
    def hold(self, count: int) -> Iterator[None]:
        """Holds `count` bytes. Raises: ValueError for more than there are at all."""
        if count > self.limit:
            raise ValueError(
                f"so many pixels that decoding takes {count / 1e6:,.0f} MB, and "
                f"{self.limit / 1e6:,.0f} MB are allowed: save it smaller, or as a JPEG"
            )
        # One waits, the others behind it: many small ones never pass a large one.
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self.used + count <= self.limit)
            self.used += count
        try:
            yield
        finally:
            with self._changed:
                self.used -= count
                self._changed.notify_all()


DECODING = Budget(DECODED_BYTES)
# Rows are kept in blocks. Those of this size are given back to the system at once when
# an image is done; of smaller ones each thread would keep an image's worth.
Image.core.set_block_size(64 << 20)


def means_machine(error: BaseException) -> bool:
    """Whether an error says that the machine is at its end, not that a file is bad."""
    return isinstance(error, OSError) and error.errno in _MACHINE


@contextlib.contextmanager
def blamed_on(name: str) -> Iterator[None]:
    """Turns every failure of the block into a BadImage of this name.

    Raises: BadImage; Unreachable where the file could not be read; errors that mean the
      machine as they are.
    """
    try:
        yield
    except BadImage:
        raise
    # Pillow's readers let nearly any exception through on hostile bytes.
    except Exception as error:
        if means_machine(error):
            raise
        kind = Unreachable if getattr(error, "errno", None) else BadImage
        raise kind(name, _reason(error)) from error


@contextlib.contextmanager
def opened(source: Source, name: str = "") -> Iterator[Image.Image]:
    """An image whose header is read and whose size is allowed; nothing is decoded yet.

    Raises: BadImage naming `source` for every failure, in here and in the block; see
      `blamed_on`.
    """
    with blamed_on(name or source_name(source)), _image(source) as image:
        if reason := _unusable(*image.size):
            raise ValueError(reason)
        yield image


@contextlib.contextmanager
def open_file(path: str | os.PathLike, limit: int = MAX_FILE_BYTES):
    """A regular file of at most `limit` bytes, open for reading.

    Raises: ValueError for anything else; OSError where it cannot be opened.
    """
    with open(path, "rb", opener=_open_at_once) as file:
        info = os.fstat(file.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise ValueError("not a regular file")
        if info.st_size == 0:
            raise ValueError("empty file")
        if info.st_size > limit:
            raise ValueError(
                f"a file of {info.st_size / 1e6:,.0f} MB: more than {limit / 1e6:,.0f}"
            )
        yield file


def fetched(stream: Any) -> io.IOBase:
    """All of a stream as a file of this machine: in memory a small one, else on disk.

    What is decoded from it waits for nobody, a hung share or store least of all.

    Raises: ValueError for more than MAX_FILE_BYTES; OSError.
    """
    file, size = tempfile.SpooledTemporaryFile(SPOOLED_BYTES), 0
    while part := stream.read(SPOOLED_BYTES):
        size += len(part)
        if size > MAX_FILE_BYTES:
            raise ValueError(
                f"a file of more than {MAX_FILE_BYTES / 1e6:,.0f} MB: save it smaller"
            )
        file.write(part)
    file.seek(0)
    return file


def decoded_bytes(image: Image.Image, full_pixels: int, out_pixels: int) -> int:
    """What an image takes until it is an RGB array, told from its header.

    Args:
      image: opened, and set to decode at a reduced size where that is wanted.
      full_pixels: of the image at its own size.
      out_pixels: of the array.
    """
    pixels, stored = image.width * image.height, _STORED.get(image.mode, 4)
    rgb = 14 * out_pixels  # as converted, upright, and the array with its bytes
    kept, decoder = 0, 0
    if image.format in _WHOLE:  # two canvases, and a copy of one as bytes
        kept, decoder = 8 * pixels, 4 * pixels
    elif image.format == "TIFF":  # a strip of 16 bits a channel may be the whole
        decoder = 8 * pixels
    elif image.info.get("progressive"):  # all coefficients: 3 channels of 16 bits
        decoder = 6 * full_pixels
    if deep_colour.is_deep(image):  # the lower bytes
        kept = 4 * pixels
    return stored * pixels + kept + max(decoder, rgb)


def source_name(source: Source) -> str:
    """What errors call an image: its path, or what kind of thing it is."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return f"<{type(source).__name__}>"


@contextlib.contextmanager
def _image(source: Source) -> Iterator[Image.Image]:
    if isinstance(source, Image.Image):
        yield source
    elif isinstance(source, np.ndarray):
        yield Image.fromarray(source)
    elif isinstance(source, io.IOBase):
        with _identified(source) as image:
            yield image
    elif isinstance(source, bytes):
        if not source:
            raise ValueError("empty file")
        with vector.picture(source) or _identified(io.BytesIO(source)) as image:
            yield image
    elif os.path.splitext(source)[1].lower() in vector.EXTENSIONS:
        with open_file(source) as file:
            image = vector.picture(file.read(vector.MAX_BYTES + 1))
        if image is None:
            raise ValueError(f"no drawing ({', '.join(sorted(vector.EXTENSIONS))})")
        yield image
    else:
        with open_file(source) as file, _identified(file) as image:
            yield image


@contextlib.contextmanager
def _identified(file) -> Iterator[Image.Image]:
    """`Image.open` without its limit in pixels, which is one for the whole process."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    start = file.read(16)
    with contextlib.ExitStack() as stack:
        for form in FORMATS:
            make, accepts = Image.OPEN[form]
            accepted = accepts is None or accepts(start)
            if not accepted or isinstance(accepted, str):  # a text says why not
                continue
            if form in _WHOLE and size > MAX_WHOLE_BYTES:
                raise ValueError(
                    f"a {form} file of {size / 1e6:,.0f} MB: more than "
                    f"{MAX_WHOLE_BYTES / 1e6:,.0f}"
                )
            limits = image_headers.WHOLE if form in _WHOLE else image_headers.PARTS
            opening = image_headers.opened(make, file, limits)
            with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):
                image = stack.enter_context(opening)
                break
        else:
            raise ValueError(f"not an image file ({', '.join(FORMATS)})")
        yield image


def _open_at_once(path: str, flags: int) -> int:
    """A pipe in a photo's place would be waited for, by everybody who opens it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _unusable(width: int, height: int) -> str:
    """Why an image of this size is refused; empty if it is not."""
    shape = f"{width} x {height} pixels"
    if min(width, height) < MIN_SIDE:
        return f"{shape}: a side under {MIN_SIDE} pixels"
    if max(width, height) > MAX_ASPECT * min(width, height):
        return f"{shape}: longer than {MAX_ASPECT:g} times its width"
    return ""


def _reason(error: Exception) -> str:
    """What an error says, without the path that the system adds."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    return str(error) or type(error).__name__
