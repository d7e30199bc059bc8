"""Where the model of an index is, also after both were moved."""

import os
import pathlib
from typing import Any

# Of `Embedder.source`: what may be a path of this machine.
_PATHS = ("source", "backbone", "encoder")
_RELATIVE = "relative"


def with_relative(
    source: dict[str, Any] | None, index: str | os.PathLike
) -> dict[str, Any] | None:
    """`Embedder.source` with its paths also as seen from the index's folder.

    So an index that is moved, mounted or sent together with its model still finds it.
    """
    if source is None:
        return None
    start = os.path.realpath(index)
    relative = {
        key: os.path.relpath(source[key], start)
        for key in _PATHS
        if os.path.isabs(source.get(key) or "") and os.path.exists(source[key])
    }
    return {**source, _RELATIVE: relative} if relative else source


def plain(source: dict[str, Any] | None) -> dict[str, Any] | None:
    """Without what `with_relative` added."""
    if source is None:
        return None
    return {key: value for key, value in source.items() if key != _RELATIVE}


def resolve(source: dict[str, Any], index: str | os.PathLike) -> dict[str, Any]:
    """With the paths that are there now.

    Raises: FileNotFoundError naming what is neither where it was nor, seen from the
      index, in the same place.
    """
    found = dict(plain(source) or {})
    for key in _PATHS:
        value = found.get(key)
        if not value or not os.path.isabs(value) or os.path.exists(value):
            continue
        moved = source.get(_RELATIVE, {}).get(key)
        place = pathlib.Path(os.path.realpath(index), moved) if moved else None
        if place is None or not place.exists():
            raise FileNotFoundError(
                f"the model of {os.fspath(index)} was in {value}, which is not there. "
                "If it was moved, say where it is: --model (in Python: Index.open(..., "
                "model=...)); it must have the same fingerprint"
            )
        found[key] = os.path.normpath(place)
    return found
