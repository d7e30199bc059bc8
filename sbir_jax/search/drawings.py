"""Drawings that come to the server: prepared before their turn at the model."""

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from sbir_jax.data import images
from sbir_jax.data.sketch_preparation import prepare
from sbir_jax.search.photo_files import Reader

NAME = "sketch"  # what errors call it
SHEET = 1024  # pixels, the longest side of a picture that the page draws on
LATE = "the drawing takes too long to read", "send it as a PNG of fewer pixels"


class Drawings:
    """Reads drawings on threads of their own, so that a slow one holds up nobody."""

    def __init__(self):
        self._reader = Reader(threads=2, late=LATE)

    async def read(self, picture: bytes, prepared: bool) -> np.ndarray:
        """RGB as it is searched with. Raises: BadImage, NoInk, Refusal."""
        if prepared:
            return await self._reader.run(prepare, picture, NAME)
        return await self._reader.run(images.decode, picture, None, "pad", NAME)

    async def as_png(self, picture: bytes, prepared: bool) -> bytes:
        """For browsers, which read fewer formats. Raises: BadImage, NoInk, Refusal."""
        if prepared:
            return images.encode_png(await self.read(picture, True))
        return await self._reader.run(_png, picture)


def as_seen(picture: np.ndarray, size: int, modality: str) -> str:
    """The picture as a network of this size sees it: the data: URL of a PNG."""
    seen = images.encode_png(images.decode(picture, size, images.FIT[modality]))
    return f"data:image/png;base64,{base64.b64encode(seen).decode()}"


def _png(picture: bytes) -> bytes:
    out: Any = io.BytesIO()
    Image.fromarray(images.decode_rgba(picture, SHEET, NAME)).save(out, "PNG")
    return out.getvalue()
