"""From whatever a file holds to upright 8-bit sRGB.

Covers 16 bits and floats, transparency, palettes, CMYK, colour profiles, orientation,
and JPEG files that lack their end marker.
"""

import functools
import io
import threading
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageCms, JpegImagePlugin

from sbir_jax.data import deep_colour

_BAND_PIXELS = 4_000_000  # converted at a time; all at once would be several copies

_ORIENTATION_TAG = 0x0112
# Who mends has several images of its size: one at a time.
_mending = threading.Lock()
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_CHANGES = {"transparency", "icc_profile"}

END_MARKER = b"\xff\xd9"


def loaded(image: Image.Image) -> Image.Image:
    """The image with its pixels decoded.

    A JPEG file may end after its last row without the end marker: then a new image,
    with the marker, comes back.

    Raises: OSError for a file that was cut.
    """
    try:
        image.load()
        return image
    except OSError as error:
        truncated = "truncated" in str(error)
        if not (truncated and isinstance(image, JpegImagePlugin.JpegImageFile)):
            raise
        with _mending:
            mended = _with_end_marker(image)
        if mended is None:
            raise
        return mended


def upright_rgb(image: Image.Image, factor: int = 1) -> Image.Image:
    """An opened image, decoded, as upright RGB in the colours of sRGB.

    Transparency is shown on white.

    Args:
      factor: how many pixels become one along each side, by their mean.
    Raises: OSError for a file that was cut, ValueError for values that are no picture.
    """
    image = _decoded(image)
    # After loading: until then some formats do not know, and TIFF turns as it loads.
    orientation, top = _orientation(image), _top(image)
    plain = image.mode == "RGB" and not image.info.keys() & _CHANGES
    if factor == 1 and plain:
        rgb = image
    elif factor == 1 and image.width * image.height <= _BAND_PIXELS:
        rgb = _rgb(image, top)
    else:
        rgb = _by_bands(image, top, factor)
    return rgb.transpose(_TURNS[orientation]) if orientation else rgb


def upright_rgba(image: Image.Image, factor: int = 1) -> Image.Image:
    """As `upright_rgb`, with the transparency beside the colours, not shown on white.

    Raises: as `upright_rgb`.
    """
    if not image.has_transparency_data:
        return upright_rgb(image, factor).convert("RGBA")
    image = _decoded(image)
    orientation, rgba = _orientation(image), _rgba(image)
    rgba = rgba.reduce(factor) if factor > 1 else rgba
    return rgba.transpose(_TURNS[orientation]) if orientation else rgba


def _decoded(image: Image.Image) -> Image.Image:
    """As `loaded`, colours of 16 bits a channel by their own white."""
    deep, file = deep_colour.is_deep(image), getattr(image, "fp", None)
    image = loaded(image)
    return deep_colour.own_white(image, file) if deep else image


def _by_bands(image: Image.Image, top: float | None, factor: int) -> Image.Image:
    width, height = image.size
    # Where the factor does not divide the size, the rest of the last ones is left out.
    out = Image.new("RGB", (max(1, width // factor), max(1, height // factor)))
    rows = factor * max(1, _BAND_PIXELS // (width * factor))
    for start in range(0, height, rows):
        band = image.crop((0, start, width, min(start + rows, height)))
        band = _rgb(band, top)
        out.paste(band.reduce(factor) if factor > 1 else band, (0, start // factor))
    return out


def _rgb(image: Image.Image, top: float | None) -> Image.Image:
    """RGB of a loaded image or of a band of it; `top` is that of the whole."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith(("I", "F")):
        return _in_srgb(_scaled(image, top or 1.0), profile)
    if image.has_transparency_data:
        rgba = _rgba(image)
        rgb = Image.new("RGB", rgba.size, "white")
        rgb.paste(rgba, mask=rgba.getchannel("A"))
        return rgb
    if image.mode == "CMYK" and (change := _to_srgb(profile, "CMYK")):
        return ImageCms.applyTransform(image, change) or image
    return _in_srgb(image.convert("RGB"), profile)


def _rgba(image: Image.Image) -> Image.Image:
    """RGBA of a loaded image with transparency, or of a band of it."""
    rgba = image.convert("RGBA")
    rgb = _in_srgb(rgba.convert("RGB"), image.info.get("icc_profile"))
    rgb.putalpha(rgba.getchannel("A"))
    return rgb


def _in_srgb(rgb: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB, or grey as RGB, from the colours of a profile to those of sRGB."""
    if change := _to_srgb(profile, "RGB"):
        return ImageCms.applyTransform(rgb, change) or rgb
    if change := _to_srgb(profile, "L"):
        return ImageCms.applyTransform(rgb.getchannel("R"), change) or rgb
    return rgb


@functools.lru_cache(maxsize=8)
def _to_srgb(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From the colours of a profile to those of sRGB; None where nothing is to be done.

    Args:
      mode: of the pixels: "RGB", "L" or "CMYK". Profiles for others give None.
    """
    if not profile:
        return None
    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        head: Any = given.profile
        space = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
        if space.get(head.xcolor_space.strip()) != mode:
            return None
        if "sRGB" in (head.profile_description or ""):
            return None
        return ImageCms.buildTransform(
            given, ImageCms.createProfile("sRGB"), mode, "RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError):  # damaged: as if there was none
        return None


def _top(image: Image.Image) -> float | None:
    """The value that is white in integers of 16 bits or floats; None for other modes.

    Raises: ValueError for values that are no picture.
    """
    if not image.mode.startswith(("I", "F")):
        return None
    extrema: Any = image.getextrema()
    low, high = extrema
    if not (low >= 0 and high <= 65535):
        raise ValueError(
            f"mode {image.mode}, values {low:g} to {high:g}, not a picture"
        )
    if image.mode.startswith("F") and high <= 1:
        return 1.0
    return float(deep_colour.top_of(high))


def _scaled(image: Image.Image, top: float) -> Image.Image:
    """Integers of 16 bits, or floats, to 8 bits; Pillow itself would clip."""
    values = np.asarray(image).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"mode {image.mode}, values that are not finite")
    grey = np.rint(values * np.float32(255 / top)).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 0 where there is none or the tags are damaged."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 0)
    except Exception:
        return 0
    return value if value in _TURNS else 0


def _with_end_marker(image: JpegImagePlugin.JpegImageFile) -> Image.Image | None:
    """A JPEG that was not complete with the marker it lacks; None where rows lack too.

    Where rows are missing, what stands before the marker is decoded as a part of them.
    So the picture is whole if any bytes there change nothing.
    """
    assert image.fp is not None
    file: Any = image.fp

    def read(end: bytes) -> Image.Image:
        again = JpegImagePlugin.JpegImageFile(_Continued(file, end), None)  # pyright: ignore
        width, height = image.size
        again.draft(None, (max(1, width - 1), max(1, height - 1)))
        again.load()
        return again

    mended = read(END_MARKER)
    other = read(b"\x5a\xa5\x3c" * 64 + END_MARKER)
    return None if ImageChops.difference(mended, other).getbbox() else mended


class _Continued(io.RawIOBase):
    """A file, from its start, with more bytes behind it; no copy of it."""

    def __init__(self, file: Any, end: bytes):
        self._parts = file, io.BytesIO(end)
        self._size = file.seek(0, io.SEEK_END)
        self.seek(0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, count: int = -1) -> bytes:
        file, end = self._parts
        found = file.read(count)
        return found + end.read(-1 if count < 0 else count - len(found))

    def tell(self) -> int:
        return sum(part.tell() for part in self._parts)

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        file, end = self._parts
        if whence == io.SEEK_CUR:
            place += self.tell()
        elif whence == io.SEEK_END:
            place += self._size + len(end.getbuffer())
        file.seek(min(place, self._size))
        end.seek(max(0, place - self._size))
        return place
