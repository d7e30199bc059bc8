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
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from sbir_jax.data import deep_colour
from sbir_jax.data.image_colour import (
    END_MARKER,
    loaded,
    upright_rgb,
    upright_rgba,
)
from sbir_jax.data.image_files import (
    DECODING,
    EXTENSIONS,
    FORMATS,
    MAX_WHOLE_BYTES,
    BadImage,
    Source,
    decoded_bytes,
    opened,
    source_name,
)

Fit = Literal["pad", "crop", "stretch"]

FIT: dict[str, Fit] = {"sketch": "pad", "photo": "crop"}

# What an image of its own shape may have; a larger one is reduced.
MAX_PIXELS = 40_000_000
# Above this an image is first reduced by a whole factor, which takes no copy of it.
_LARGE = 4_000_000

__all__ = ["EXTENSIONS", "FORMATS", "BadImage", "Source", "source_name"]


def decode(
    source: Source, size: int | None = None, fit: Fit = "crop", name: str = ""
) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes one image to upright 8-bit RGB, transparency shown on white.

    Args:
      source: a path, the bytes of a file, an open binary file, a Pillow image, or a
        uint8 array [h, w], [h, w, 3] or [h, w, 4].
      size: side of the square wanted, in pixels; None keeps the image's own shape, or
        reduces it by a whole factor to no more than MAX_PIXELS.
      fit: how a non-square image becomes square: "pad" with white, "crop" the central
        square, or "stretch". Without a size it has no effect.
      name: what to call the image in errors; the path by default.
    Returns: values in [0, 255]; h = w = size where a size is given.
    Raises: BadImage for a file that is missing, empty, truncated, no image, or outside
      the limits of `image_files` (read from the header, before decoding).
    """
    if fit not in ("pad", "crop", "stretch"):
        raise ValueError(f"fit is {fit!r}; allowed are 'pad', 'crop' and 'stretch'")
    with opened(source, name) as image:
        full = image.width * image.height
        _draft(image, size, fit)
        factor = _factor(image, size, fit)
        left = image.width * image.height // factor**2
        with DECODING.hold(decoded_bytes(image, full, left)):
            rgb = upright_rgb(image, factor)
            if size is not None:
                rgb = _square(rgb, size, fit)
            return np.asarray(rgb)


def decode_rgba(
    source: Source, longest: int, name: str = ""
) -> UInt8[np.ndarray, "h w 4"]:
    """Decodes one image with its transparency, in its own shape.

    Args:
      longest: side in pixels to which larger ones are reduced.
    Raises: as `decode`.
    """
    with opened(source, name) as image:
        full = image.width * image.height
        _draft(image, longest, "pad")
        factor = _factor(image, longest, "pad")
        left = image.width * image.height // factor**2
        with DECODING.hold(decoded_bytes(image, full, left)):
            rgba = upright_rgba(image, factor)
            rgba.thumbnail((longest, longest), Image.Resampling.LANCZOS)
            return np.asarray(rgba)


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


def as_file(image: Source) -> Source:
    """A picture in memory as the bytes of a file, so that decoding it on threads leaves
    the caller's own as it is; anything else as it is."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    if isinstance(image, Image.Image):
        file = io.BytesIO()
        image.save(file, format="PNG")
        return file.getvalue()
    return image


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
    (palette, alpha, 16-bit, CMYK, other formats) is a trap for some reader, or too
    large to be held, and comes back as the plain PNG of what `decode` makes of it.

    Raises: BadImage.
    """
    with opened(path) as image:
        plain = (
            os.path.getsize(path) <= MAX_WHOLE_BYTES
            and image.format in ("JPEG", "MPO", "PNG", "WEBP")
            and image.mode in ("RGB", "L")
            and not image.has_transparency_data
            and not deep_colour.is_deep(image)
        )
        full = image.width * image.height
        # Reduced decoding still reads every byte, so it still finds a cut.
        _draft(image, 128 if plain else None, "crop")
        factor = _factor(image, None, "crop")
        left = 0 if plain else image.width * image.height // factor**2
        with DECODING.hold(decoded_bytes(image, full, left)):
            if plain:
                whole = loaded(image) is image
                content = pathlib.Path(path).read_bytes()
                return content if whole else content + END_MARKER
            return encode_png(np.asarray(upright_rgb(image, factor)))


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


def _draft(image: Image.Image, size: int | None, fit: Fit) -> None:
    """Lets a JPEG decode at 1/2, 1/4 or 1/8, but no nearer than twice the target."""
    width, height = image.size
    if size is None:
        factor = _factor(image, None, fit)
        image.draft(None, (width // factor, height // factor))
        return
    side = max(width, height) if fit == "pad" else min(width, height)
    scale = 2 * size / side
    if scale < 1:
        image.draft(None, (int(width * scale), int(height * scale)))


def _factor(image: Image.Image, size: int | None, fit: Fit) -> int:
    """How many pixels may become one, for a large image: none that would be seen."""
    width, height = image.size
    if size is None:
        return math.ceil((width * height / MAX_PIXELS) ** 0.5)
    if width * height <= _LARGE:
        return 1
    side = max(width, height) if fit == "pad" else min(width, height)
    return max(1, side // (4 * size))


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
