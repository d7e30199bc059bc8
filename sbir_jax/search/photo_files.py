"""Photos for the page: small and whole, read where a hung disk blocks nobody else.

A share that does not answer blocks the thread that reads from it. So photos are read on
threads of their own, and each read has a deadline.
"""

import asyncio
import contextlib
import io
import os
import threading
import time
import urllib.parse
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from starlette.responses import Response, StreamingResponse

from sbir_jax.data import images
from sbir_jax.data.image_files import blamed_on, fetched, open_file, opened
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
    """Runs functions that read pictures: few at a time, each with a deadline.

    What is late goes on with its thread, which nobody can end, and keeps its turn: so
    a hung disk has as many threads as there are turns, however often it is asked.
    """

    def __init__(
        self,
        threads: int = THREADS,
        seconds: float = SECONDS,
        late: tuple[str, str] = LATE,
    ):
        self.threads, self.seconds, self.late = threads, seconds, late
        self._free = asyncio.Semaphore(threads)
        self._running: dict[Future, float] = {}  # since when

    async def run(self, read: Callable[..., T], *args: Any) -> T:
        """Raises: Refusal where it takes too long, waiting for a thread included, and
        at once where all threads hang."""
        what, remedy = self.late
        late = Refusal(504, what, f"within {self.seconds:g} seconds", remedy)
        if self._hanging >= self.threads:
            raise late
        try:
            async with asyncio.timeout(self.seconds):
                await self._free.acquire()
                return await asyncio.wrap_future(self._start(read, args))
        except TimeoutError:
            raise late from None

    @property
    def _hanging(self) -> int:
        now = time.monotonic()
        return sum(now - since > self.seconds for since in self._running.values())

    def _start(self, read: Callable[..., T], args: tuple) -> "Future[T]":
        found, loop = Future(), asyncio.get_running_loop()
        found.set_running_or_notify_cancel()  # who stops waiting does not end it
        self._running[found] = time.monotonic()

        def work() -> None:
            try:
                found.set_result(read(*args))
            except BaseException as error:
                found.set_exception(error)

        def ended(_: Future) -> None:
            with contextlib.suppress(RuntimeError):  # the server ended before
                loop.call_soon_threadsafe(self._ended, found)

        found.add_done_callback(ended)
        # The process may end while one of them hangs.
        threading.Thread(target=work, name="photo", daemon=True).start()
        return found

    def _ended(self, found: Future) -> None:
        del self._running[found]
        self._free.release()


class Pictures:
    """JPEGs made of photos; those used last are kept, up to `limit` bytes.

    Requests for one that is being made wait for it.
    """

    def __init__(self, limit: int, reader: Reader):
        self.limit, self.bytes, self.reader = limit, 0, reader
        self._files: OrderedDict[str, bytes] = OrderedDict()
        self._making: dict[str, asyncio.Task[bytes]] = {}

    async def thumbnail(self, key: str, path: str | os.PathLike) -> bytes:
        """The central square. Raises: BadImage for a photo that is gone or damaged;
        Refusal."""
        return await self._get(f"{key} small", _thumbnail, path)

    async def whole(self, key: str, path: str | os.PathLike) -> bytes:
        """All of a photo. Raises: as `thumbnail`."""
        return await self._get(f"{key} whole", _as_jpeg, path)

    async def _get(
        self, key: str, make: Callable[..., bytes], path: str | os.PathLike
    ) -> bytes:
        if key in self._files:
            self._files.move_to_end(key)
            return self._files[key]
        if key not in self._making:
            task = asyncio.create_task(self._make(key, make, path))
            self._making[key] = task
            task.add_done_callback(lambda _: self._making.pop(key))
        return await asyncio.shield(self._making[key])

    async def _make(
        self, key: str, make: Callable[..., bytes], path: str | os.PathLike
    ) -> bytes:
        made = await self.reader.run(make, path)
        self._files[key] = made
        self.bytes += len(made)
        while self.bytes > self.limit:
            self.bytes -= len(self._files.popitem(last=False)[1])
        return made


async def whole(key: str, path: str | os.PathLike, pictures: Pictures) -> Response:
    """A photo as it is on disk; as a JPEG where browsers cannot show its format.

    Raises: BadImage for a photo that is gone or damaged; Refusal.
    """
    reader = pictures.reader
    form = await reader.run(_form, path)
    if form not in BROWSER:
        content = await pictures.whole(key, path)
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


def pixels(
    path: str | os.PathLike, size: int | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """A photo, decoded when all of its file has been read: a disk that hangs keeps
    nothing of the memory that decoding may take.

    Args:
      size: side of its central square, in pixels; None for all of it.
    Raises: BadImage.
    """
    name = os.fspath(path)
    with blamed_on(name), open_file(path) as file, fetched(file) as here:
        return images.decode(here, size, images.FIT["photo"], name)


async def _parts(file: io.FileIO, size: int, reader: Reader) -> AsyncIterator[bytes]:
    try:
        while size > 0 and (part := await reader.run(file.read, min(PART, size))):
            size -= len(part)
            yield part
    finally:
        file.close()


def _open(path: str | os.PathLike) -> tuple[io.FileIO, int]:
    with blamed_on(os.fspath(path)), open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        # Without a buffer, whose lock closing would wait for while a read hangs.
        return io.FileIO(os.dup(file.fileno())), size


def _form(path: str | os.PathLike) -> str:
    with opened(path) as image:
        return image.format or ""


def _thumbnail(path: str | os.PathLike) -> bytes:
    return _jpeg(pixels(path, THUMBNAIL), 82)


def _as_jpeg(path: str | os.PathLike) -> bytes:
    return _jpeg(pixels(path), 92)


def _jpeg(picture: np.ndarray, quality: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=quality)
    return out.getvalue()
