"""Checksums of arrays and files, to tell whether they are as they were written."""

import hashlib
import pathlib
from collections.abc import Iterable

import numpy as np

BYTES = 16


def digest(rows: np.ndarray) -> str:
    """BLAKE2b of the values of an array, as they lie in memory; 32 hex digits."""
    content = np.ascontiguousarray(rows)
    return hashlib.blake2b(content.data.cast("B"), digest_size=BYTES).hexdigest()


def file_digest(path: pathlib.Path) -> str:
    """BLAKE2b of a file, read in parts; 32 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(
            file,
            lambda: hashlib.blake2b(digest_size=BYTES),  # pyright: ignore
        ).hexdigest()


def fingerprint(head: str, leaves: Iterable) -> str:
    """SHA-256 of what a figure hangs on: `head`, then arrays as float32, in order; hex.

    Fingerprints are kept beside indexes and prompts, so what they are made of stays.
    """
    found = hashlib.sha256(head.encode())
    for leaf in leaves:
        found.update(np.asarray(leaf, np.float32).tobytes())
    return found.hexdigest()
