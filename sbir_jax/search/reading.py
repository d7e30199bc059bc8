"""One photo read once: the hash of its bytes, and its pixels where they are needed."""

import contextlib
import functools
import hashlib
import io
from collections.abc import Container, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow.fs

from sbir_jax.data import images
from sbir_jax.data.image_files import MAX_FILE_BYTES, blamed_on, fetched, open_file
from sbir_jax.search.photos import Photo


class Read(NamedTuple):
    """A file's contents: their hash, and the image where it is needed."""

    hash: str
    pixels: np.ndarray | None


def read_photo(photo: Photo, size: int, known: Container[str] = ()) -> Read:
    """Reads a photo of this machine or of an object store.

    Args:
      size: side of the square wanted, in pixels.
      known: hashes of contents that need not be decoded.
    Raises: BadImage for whatever is wrong with the photo, Unreachable where it could
      not be read; other errors mean the machine.
    """
    with blamed_on(photo.path), _open(photo) as file:
        hash = content_hash(file)
        if hash in known:
            return Read(hash, None)
        file.seek(0)
        pixels = images.decode(file, size, images.FIT["photo"], name=photo.path)
        return Read(hash, pixels)


def content_hash(file: BinaryIO | io.IOBase) -> str:
    """BLAKE2b of what an open file holds, 32 hex digits; read in parts."""
    digest = functools.partial(hashlib.blake2b, digest_size=16)
    return hashlib.file_digest(file, digest).hexdigest()  # pyright: ignore


@contextlib.contextmanager
def _open(photo: Photo) -> Iterator[io.IOBase]:
    if "://" not in photo.path:
        with open_file(photo.path) as file:
            yield file
        return
    if photo.size > MAX_FILE_BYTES:
        raise ValueError(
            f"a file of {photo.size:,} bytes: more than {MAX_FILE_BYTES:,}"
        )
    scheme, path = photo.path.split("://", 1)
    with _files(scheme, path.partition("/")[0]).open_input_stream(path) as stream:
        file = fetched(stream)
    with file:
        yield file


@functools.cache
def _files(scheme: str, bucket: str) -> pyarrow.fs.FileSystem:
    root = f"{scheme}://{bucket}" if bucket else f"{scheme}:///"
    return pyarrow.fs.FileSystem.from_uri(root)[0]
