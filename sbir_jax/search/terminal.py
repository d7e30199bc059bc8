"""Words for the terminal: errors on one line, numbers with their nouns."""

import errno
from typing import TYPE_CHECKING

from sbir_jax.printable import clean
from sbir_jax.runtime.stops import DiskFull

if TYPE_CHECKING:
    from sbir_jax.search.hits import Hit

__all__ = ["clean", "explained", "plural", "standing"]


def plural(count: int, noun: str) -> str:
    """ "1 photo", "1,200 photos", "2 copies"."""
    if count != 1:
        noun = noun.removesuffix("y") + "ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun}"


def standing(hit: "Hit") -> str:
    """How far a photo stands out, "+3.4"; its cosine in an index of a few photos.

    A cosine says nothing to a person: those of one model are nearly all the same.
    """
    return f"{hit.score:.3f}" if hit.above is None else f"{hit.above:+.1f}"


def explained(error: BaseException) -> str:
    """An error on one line; those of the system name the file."""
    message = str(error)
    if isinstance(error, DiskFull):  # says all of that itself
        pass
    elif isinstance(error, OSError) and error.strerror and error.errno:
        where = "" if error.filename is None else f"{error.filename}: "
        message = f"{where}{error.strerror}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message += (
                ". What was written before is whole and is kept; make room on this "
                "disk, then the same command goes on"
            )
    return clean(" ".join(message.split())) or type(error).__name__
