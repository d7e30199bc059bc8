"""Words for the terminal: names made harmless, numbers with their nouns."""

import errno
import unicodedata

# Controls, marks that turn the direction of text round, and lone surrogates.
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def clean(text: str) -> str:
    r"""With `\x1b` and the like in place of what a terminal would obey.

    Names of files come from anybody, and may hold colours, titles, bells and line ends.
    """
    return "".join(
        c.encode("unicode_escape", "surrogatepass").decode()
        if unicodedata.category(c) in _HIDDEN
        else c
        for c in text
    )


def plural(count: int, noun: str) -> str:
    """ "1 photo", "1,200 photos"."""
    return f"{count:,} {noun}" + "s" * (count != 1)


def explained(error: BaseException) -> str:
    """An error on one line; those of the system name the file."""
    message = str(error)
    if isinstance(error, OSError) and error.strerror and error.errno:
        where = "" if error.filename is None else f"{error.filename}: "
        message = f"{where}{error.strerror}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message += (
                ". What was written before is whole and is kept; make room on this "
                "disk, then the same command goes on"
            )
    return clean(" ".join(message.split())) or type(error).__name__
