"""Folders that are replaced as a whole: the old one or the new one, also after a kill.

A folder cannot be renamed onto another, so it takes two renames. Between them it stands
beside its place as `.NAME.old`, from where `recover` brings it back.
"""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator


@contextlib.contextmanager
def written_aside(folder: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """An empty folder to write into, which takes the place of `folder` when all of it
    was written, and leaves nothing after an error."""
    folder = pathlib.Path(folder)
    recover(folder)
    aside = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(aside, ignore_errors=True)  # of a writer that was killed
    aside.mkdir(parents=True)
    try:
        yield aside
        if folder.exists():
            folder.rename(_old(folder))
        aside.rename(folder)
        recover(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def recover(folder: str | os.PathLike[str]) -> None:
    """What stood in this place before a writer was killed, where it stood last."""
    folder = pathlib.Path(folder)
    old = _old(folder)
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
    elif old.is_dir():
        old.rename(folder)


def _old(folder: pathlib.Path) -> pathlib.Path:
    return folder.with_name(f".{folder.name}.old")
