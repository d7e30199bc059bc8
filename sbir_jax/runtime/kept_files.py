"""Files kept to save work: used again only where they are as they were written."""

import pathlib
from collections.abc import Callable, Mapping

from absl import logging

from sbir_jax.runtime import checkpoint, multiprocess, schema
from sbir_jax.runtime.digests import file_digest

# What writes a file, by the file's name.
Writers = Mapping[str, Callable[[pathlib.Path], object]]


def keep(
    folder: pathlib.Path, name: str, fingerprint: str, make: Callable[[], Writers]
) -> None:
    """Files in `folder` as `make` gives them, unless they are there already: for the
    same fingerprint, and with the checksums that they were written with.

    Both are in `name`.json beside them. All processes call it; each makes, the first
    one writes.
    """
    stamp = folder / f"{name}.json"
    if not multiprocess.as_first_says(_whole(stamp, fingerprint)):
        writers = make()
        if multiprocess.is_first():
            folder.mkdir(parents=True, exist_ok=True)
            stamp.unlink(missing_ok=True)
            for file, write in writers.items():
                write(folder / file)
            digests = {file: file_digest(folder / file) for file in writers}
            # Written last: without it nothing above counts as whole.
            checkpoint.write_json(stamp, {"of": fingerprint, "files": digests})
    multiprocess.barrier(f"kept {name}")


def _whole(stamp: pathlib.Path, fingerprint: str) -> bool:
    try:
        values = schema.read_json(stamp)
    except (FileNotFoundError, ValueError):
        return False  # none yet, damaged, or from before there were checksums
    files = values.get("files")
    if values.get("of") != fingerprint or not isinstance(files, dict):
        return False
    for file, wanted in files.items():
        path = stamp.with_name(file)
        if not path.is_file() or file_digest(path) != wanted:
            logging.warning("%s is not as it was written: it is made again", path)
            return False
    return True
