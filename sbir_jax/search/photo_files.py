"""Photos for the page: small and whole, read where a hung disk blocks nobody else.

A share that does not answer blocks the thread that reads from it. So photos are read on
threads of their own, and each read has a deadline.
"""

import asyncio
import io
import os
import urllib.parse
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import Any, BinaryIO, TypeVar

import anyio
import numpy as np
from anyio import to_thread
from PIL import Image
from starlette.responses import Response, StreamingResponse

from sbir_jax.data import images
from sbir_jax.data.image_files import blamed_on, open_file, opened
from sbir_jax.search.guard import Refusal

THREADS, SECONDS = 16, 20.0
PART = 256 * 1024  # bytes read at a time
THUMBNAIL = 320
BROWSER = {"JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "AVIF"}  # what pages can show
HEADERS = {"Cache-Control": "private, max-age=3600"}
# What is told where reading takes too long, and the remedy.
LATE = (
    "the photo's disk did not answer",
    "ask again when the disk or the share is there",
)

T = TypeVar("T")


class Reader:
    """Runs functions that read pictures: few at a time, each with a deadline."""

    def __init__(
        self,
        threads: int = THREADS,
        seconds: float = SECONDS,
        late: tuple[str, str] = LATE,
    ):
        self.threads, self.seconds, self.late = threads, seconds, late
        self._limiter: anyio.CapacityLimiter | None = None

    async def run(self, read: Callable[..., T], *args: Any) -> T:
        """Raises: Refusal where it takes too long, waiting for a thread included."""
        if self._limiter is None:  # it belongs to the loop that it is made in
            self._limiter = anyio.CapacityLimiter(self.threads)
        try:
            with anyio.fail_after(self.seconds):
                return await to_thread.run_sync(
                    read, *args, limiter=self._limiter, abandon_on_cancel=True
                )
        except TimeoutError:
            what, remedy = self.late
            rule = f"within {self.seconds:g} seconds"
            raise Refusal(504, what, rule, remedy) from None


class Thumbnails:
    """JPEG thumbnails; those used last are kept, up to `limit` bytes.

    Requests for one that is being made wait for it.
    """

    def __init__(self, limit: int, reader: Reader):
        self.limit, self.bytes = limit, 0
        self._reader = reader
        self._files: OrderedDict[str, bytes] = OrderedDict()
        self._making: dict[str, asyncio.Task[bytes]] = {}

    async def get(self, key: str, path: str | os.PathLike) -> bytes:
        """Raises: BadImage for a photo that is gone or damaged; Refusal."""
        if key in self._files:
            self._files.move_to_end(key)
            return self._files[key]
        if key not in self._making:
            task = asyncio.create_task(self._make(key, path))
            self._making[key] = task
            task.add_done_callback(lambda _: self._making.pop(key))
        return await asyncio.shield(self._making[key])

    async def _make(self, key: str, path: str | os.PathLike) -> bytes:
        made = await self._reader.run(_thumbnail, path)
        self._files[key] = made
        self.bytes += len(made)
        while self.bytes > self.limit:
            self.bytes -= len(self._files.popitem(last=False)[1])
        return made


async def whole(path: str | os.PathLike, reader: Reader) -> Response:
    """A photo as it is on disk; as a JPEG where browsers cannot show its format.

    Raises: BadImage for a photo that is gone or damaged; Refusal.
    """
    form = await reader.run(_form, path)
    if form not in BROWSER:
        content = await reader.run(_as_jpeg, path)
        return Response(content, media_type="image/jpeg", headers=HEADERS)
    file, size = await reader.run(_open, path)
    kind = "image/jpeg" if form == "MPO" else Image.MIME[form]
    name = urllib.parse.quote(os.path.basename(path))
    headers = {
        **HEADERS,
        "Content-Length": str(size),
        "Content-Disposition": f"inline; filename*=utf-8''{name}",
    }
    return StreamingResponse(_parts(file, size, reader), 200, headers, kind)


async def _parts(file: BinaryIO, size: int, reader: Reader) -> AsyncIterator[bytes]:
    try:
        while size > 0 and (part := await reader.run(file.read, min(PART, size))):
            size -= len(part)
            yield part
    finally:
        file.close()


def _open(path: str | os.PathLike) -> tuple[BinaryIO, int]:
    with blamed_on(os.fspath(path)), open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        return os.fdopen(os.dup(file.fileno()), "rb"), size


def _form(path: str | os.PathLike) -> str:
    with opened(path) as image:
        return image.format or ""


def _thumbnail(path: str | os.PathLike) -> bytes:
    return _jpeg(images.decode(path, THUMBNAIL, "crop"), 82)


def _as_jpeg(path: str | os.PathLike) -> bytes:
    return _jpeg(images.decode(path), 92)


def _jpeg(picture: np.ndarray, quality: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=quality)
    return out.getvalue()
