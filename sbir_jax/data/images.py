"""From an image file as people have them to a square RGB array.

Every reader in the project goes through `decode`, so that a sketch looks the same to
training, evaluation, the index and the page.

Defaults (`FIT`): a sketch is padded with white to a square, since a stroke that runs
to the border matters; a photo is cropped to its central square, as Stable Diffusion's
training images were. Both are then resized with Lanczos, whose support grows with the
reduction, so a thin line grows pale but never disappears between two samples.
"""

import functools
import io
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

Source = str | os.PathLike | bytes | Image.Image | np.ndarray
Fit = Literal["pad", "crop", "stretch"]

FIT: dict[str, Fit] = {"sketch": "pad", "photo": "crop"}

# Above the 50 Mpx of common cameras, below the 89 Mpx at which Pillow starts to warn.
# A decoded image of this size takes 240 MB.
MAX_PIXELS = 80_000_000
MAX_ASPECT = 20.0
MIN_SIDE = 8

# Only formats that Pillow decodes by itself: its EPS reader, for one, runs a program.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
EXTENSIONS = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .tif .tiff .ppm .pgm .pbm .pnm".split()
)
try:  # the extra `heic`: what phones save
    import pillow_heif  # pyright: ignore[reportMissingImports]
except ImportError:
    pass
else:
    pillow_heif.register_heif_opener()
    FORMATS, EXTENSIONS = (*FORMATS, "HEIF"), EXTENSIONS | {".heic", ".heif"}

_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadImage(ValueError):
    """A file that cannot be used as an image: `path` as given, and `reason`."""

    def __init__(self, path: str, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason

    def __reduce__(self):  # so that it crosses process borders
        return type(self), (self.path, self.reason)


def decode(
    source: Source, size: int | None = None, fit: Fit = "crop", name: str = ""
) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes one image to upright 8-bit RGB, transparency shown on white.

    Args:
      source: a path, the bytes of a file, a Pillow image, or a uint8 array [h, w],
        [h, w, 3] or [h, w, 4].
      size: side of the square wanted, in pixels; None keeps the image's own shape.
      fit: how a non-square image becomes square: "pad" with white, "crop" the central
        square, or "stretch". Without a size it has no effect.
      name: what to call the image in errors; the path by default.
    Returns: values in [0, 255]; h = w = size where a size is given.
    Raises: BadImage for a file that is missing, empty, truncated, no image, or outside
      MAX_PIXELS, MAX_ASPECT and MIN_SIDE (read from the header, before decoding).
    """
    if fit not in ("pad", "crop", "stretch"):
        raise ValueError(f"fit is {fit!r}; allowed are 'pad', 'crop' and 'stretch'")
    with _opened(source, name) as image:
        if size is not None:
            _draft(image, size, fit)
        rgb = _upright_rgb(image)
        if size is not None:
            rgb = _square(rgb, size, fit)
        return np.asarray(rgb)


def load(source: Source, size: int, modality: str) -> Float[np.ndarray, "s s 3"]:
    """One image as the networks take it: `decode` as `FIT` has it, in [-1, 1]."""
    return to_float(decode(source, size, FIT[modality]))


def decode_batch(
    sources: Sequence[Source], size: int, fit: Fit = "crop"
) -> UInt8[np.ndarray, "n s s 3"]:
    """Decodes many images at once, with threads; see `decode`."""
    out = np.empty((len(sources), size, size, 3), np.uint8)

    def one(i: int) -> None:
        out[i] = decode(sources[i], size, fit)

    if len(sources) < 4:
        for i in range(len(sources)):
            one(i)
    else:
        list(_pool().map(one, range(len(sources))))
    return out


def to_float(images: UInt8[np.ndarray, "*b h w 3"]) -> Float[np.ndarray, "*b h w 3"]:
    """[0, 255] to float32 in [-1, 1], as the autoencoder takes it."""
    out = images.astype(np.float32)
    out *= np.float32(1 / 127.5)
    out -= np.float32(1)
    return out


def to_uint8(images: Float[np.ndarray, "*b h w 3"]) -> UInt8[np.ndarray, "*b h w 3"]:
    """[-1, 1] to [0, 255], rounded; values outside are clipped."""
    return np.clip(np.rint((images + 1.0) * 127.5), 0, 255).astype(np.uint8)


def encode_png(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """The bytes of a PNG file, with one channel where all three are equal."""
    red, green, blue = np.moveaxis(image, -1, 0)
    if np.array_equal(red, green) and np.array_equal(red, blue):
        image = np.ascontiguousarray(red)  # a third of the work, here and on reading
    out = io.BytesIO()
    Image.fromarray(image).save(out, format="PNG")
    return out.getvalue()


def checked_bytes(path: str | os.PathLike) -> bytes:
    """Reads a file for storage, once it has proved to decode.

    JPEG, PNG and WebP files of 8-bit RGB or grey come back byte for byte. Anything else
    (palette, alpha, 16-bit, CMYK, other formats) is a trap for some reader, and comes
    back as the plain PNG of what `decode` makes of it.

    Raises: BadImage.
    """
    with _opened(path) as image:
        plain = (
            image.format in ("JPEG", "MPO", "PNG", "WEBP")
            and image.mode in ("RGB", "L")
            and not image.has_transparency_data
        )
        if plain:
            # Reduced decoding still reads every byte, so it still finds a cut.
            _draft(image, 128, "crop")
            image.load()
            return pathlib.Path(path).read_bytes()
        return encode_png(np.asarray(_upright_rgb(image)))


def threaded(
    fn: Callable, items: Iterable, threads: int | None = None, ahead: int = 64
) -> Iterator:
    """`map(fn, items)` in order, on threads, at most `ahead` results in memory.

    Items are taken as they are needed, on the thread of the caller.

    An exception of `fn` is yielded in place of the result, never raised, so that one
    bad item does not end the walk.
    """

    def guarded(item):
        try:
            return fn(item)
        except Exception as error:
            return error

    with ThreadPoolExecutor(threads or _threads()) as pool:
        yield from _windowed(pool, guarded, items, ahead)


def _windowed(pool: Executor, fn: Callable, items: Iterable, ahead: int) -> Iterator:
    pending = []
    try:
        for item in items:
            pending.append(pool.submit(fn, item))
            if len(pending) >= ahead:
                yield pending.pop(0).result()
        while pending:
            yield pending.pop(0).result()
    finally:  # the consumer stopped early
        for future in pending:
            future.cancel()


def _threads() -> int:
    return min(16, os.cpu_count() or 1)


@functools.cache
def _pool() -> ThreadPoolExecutor:
    """Shared by all batches: Pillow releases the interpreter lock as it decodes."""
    return ThreadPoolExecutor(_threads(), thread_name_prefix="decode")


class _opened:
    """Opens an image after checking its header; turns every failure into BadImage."""

    def __init__(self, source: Source, name: str = ""):
        self.source, self.name = source, name
        if not name and isinstance(source, str | os.PathLike):
            self.name = os.fspath(source)
        elif not name:
            self.name = f"<{type(source).__name__}>"

    def __enter__(self) -> Image.Image:
        try:
            self.image = self._open()
        except Exception as error:
            raise self._bad(error) from error
        if reason := _unusable(*self.image.size):
            self._close()
            raise BadImage(self.name, reason)
        return self.image

    def _open(self) -> Image.Image:
        source = self.source
        if isinstance(source, Image.Image):
            return source
        if isinstance(source, np.ndarray):
            return Image.fromarray(source)
        if isinstance(source, bytes):
            empty, file = not source, io.BytesIO(source)
        else:
            empty, file = os.stat(source).st_size == 0, source
        if empty:
            raise BadImage(self.name, "empty file")
        return Image.open(file, formats=FORMATS)

    def _close(self) -> None:
        if self.image is not self.source:
            self.image.close()

    def __exit__(self, kind, error, trace) -> None:
        self._close()
        # Pillow's readers let nearly any exception through on hostile bytes.
        if isinstance(error, Exception) and not isinstance(error, BadImage):
            raise self._bad(error) from error

    def _bad(self, error: Exception) -> BadImage:
        if isinstance(error, BadImage):
            return error
        if isinstance(error, Image.UnidentifiedImageError):
            return BadImage(self.name, f"not an image file ({', '.join(FORMATS)})")
        if isinstance(
            error, Image.DecompressionBombError | Image.DecompressionBombWarning
        ):
            return BadImage(self.name, f"more than {MAX_PIXELS:,} pixels")
        if isinstance(error, FileNotFoundError):
            return BadImage(self.name, "no such file")
        return BadImage(self.name, f"{error or type(error).__name__}")


def _unusable(width: int, height: int) -> str:
    """Why an image of this size is refused; empty if it is not."""
    shape = f"{width} x {height} pixels"
    if width * height > MAX_PIXELS:
        return f"{shape}: more than {MAX_PIXELS:,} pixels"
    if min(width, height) < MIN_SIDE:
        return f"{shape}: a side under {MIN_SIDE} pixels"
    if max(width, height) > MAX_ASPECT * min(width, height):
        return f"{shape}: longer than {MAX_ASPECT:g} times its width"
    return ""


def _draft(image: Image.Image, size: int, fit: Fit) -> None:
    """Lets a JPEG decode at 1/2, 1/4 or 1/8, but no nearer than twice the target."""
    side = max(image.size) if fit == "pad" else min(image.size)
    scale = 2 * size / side
    if scale < 1:
        width, height = image.size
        image.draft(None, (int(width * scale), int(height * scale)))


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 0 where there is none or the tags are damaged."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 0)
    except Exception:
        return 0
    return value if value in _TURNS else 0


def _upright_rgb(image: Image.Image) -> Image.Image:
    orientation = _orientation(image)
    image.load()
    if image.mode.startswith(("I", "F")):
        rgb = _wide_grey(image)
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")
        rgb = Image.new("RGB", rgba.size, "white")
        rgb.paste(rgba, mask=rgba.getchannel("A"))
    else:
        rgb = image.convert("RGB")
    return rgb.transpose(_TURNS[orientation]) if orientation else rgb


def _wide_grey(image: Image.Image) -> Image.Image:
    """16-bit integers, or floats, to 8 bits by scaling; Pillow itself would clip."""
    values = np.asarray(image).astype(np.float64)
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 65535):  # also false for NaN
        raise ValueError(
            f"mode {image.mode}, values {low:g} to {high:g}, not a picture"
        )
    if image.mode.startswith("F"):
        top = 1.0 if high <= 1 else 255.0 if high <= 255 else 65535.0
    else:
        top = 65535.0
    grey = np.rint(values * (255 / top)).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _square(image: Image.Image, size: int, fit: Fit) -> Image.Image:
    width, height = image.size
    lanczos = Image.Resampling.LANCZOS
    if fit == "stretch" or width == height:
        if image.size == (size, size):
            return image
        return image.resize((size, size), lanczos)
    if fit == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        return image.resize((size, size), lanczos, box)
    scale = size / max(width, height)
    inner = max(1, round(width * scale)), max(1, round(height * scale))
    canvas = Image.new("RGB", (size, size), "white")
    corner = (size - inner[0]) // 2, (size - inner[1]) // 2
    canvas.paste(image.resize(inner, lanczos), corner)
    return canvas
