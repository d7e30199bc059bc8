"""Ends that leave what was done: Ctrl-C, a polite kill, a full disk."""

import contextlib
import errno
import logging
import os
import signal
import threading
from collections.abc import Iterator

KINDS = signal.SIGINT, signal.SIGTERM
FULL = errno.ENOSPC, errno.EDQUOT
# What TensorStore, which raises no OSError, says of them.
_FULL_TEXTS = "No space left on device", "Disk quota exceeded"


class Stopped(SystemExit):
    """A signal ended the work; the message says what is kept and how to go on."""


class DiskFull(OSError):
    """Nothing more can be written; the message says what is kept and how to go on."""

    def __str__(self) -> str:
        return str(self.strerror)


class Caught:
    """The signals that came so far; a second one interrupts at once."""

    def __init__(self):
        self.number = 0

    def __call__(self, number: int, _) -> None:
        if self.number:
            raise KeyboardInterrupt
        self.number = number

    def __bool__(self) -> bool:
        return bool(self.number)


@contextlib.contextmanager
def caught() -> Iterator[Caught]:
    """SIGINT and SIGTERM are noted in place of ending the process, on its main thread;
    elsewhere Python lets no one catch them."""
    found = Caught()
    if threading.current_thread() is not threading.main_thread():
        yield found
        return
    before = [signal.signal(kind, found) for kind in KINDS]
    try:
        yield found
    finally:
        for kind, handler in zip(KINDS, before, strict=True):
            signal.signal(kind, handler)


@contextlib.contextmanager
def polite_kill_interrupts() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt, as Ctrl-C does."""

    def interrupt(*_) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def full_disk(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, means that nothing more can be written."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        if any(text in str(error) for text in _FULL_TEXTS):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextlib.contextmanager
def told_where_full(folder: str | os.PathLike, kept: str) -> Iterator[None]:
    """Turns what libraries say of a full disk, at length, into one line.

    Args:
      kept: what is whole, for the line.
    Raises: DiskFull naming `folder`; other errors as they are.
    """
    log = logging.getLogger("absl")  # where Orbax tells of its threads' errors
    log.addFilter(_tells_more)
    try:
        yield
    except Exception as error:
        if isinstance(error, DiskFull) or not full_disk(error):
            raise
        message = (
            f"no room is left on the disk of {os.fspath(folder)}: {kept}. Make room, "
            "then the same command goes on"
        )
        raise DiskFull(errno.ENOSPC, message) from error
    finally:
        log.removeFilter(_tells_more)


def _tells_more(record: logging.LogRecord) -> bool:
    return not (record.exc_info and full_disk(record.exc_info[1]))
