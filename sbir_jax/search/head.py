"""What index.json says: which embedder made an index, and of what shape it is."""

import dataclasses
import json
import os
import pathlib
import re
import uuid
from collections.abc import Callable
from typing import Any

from sbir_jax.backbones.known import HOG

FORMAT = 1
SHARD_ROWS = 8192
REMEDY = "Copy it back from a backup, or delete the index and make it again"


@dataclasses.dataclass(frozen=True)
class Head:
    """What index.json says.

    Attributes:
      id: random, given at creation; what is derived from an index carries it.
      fingerprint: of the embedder that made the descriptors.
      embedder: `Embedder.source`, or None where it was put together by hand.
    """

    fingerprint: str
    dim: int
    embedder: dict[str, Any] | None
    id: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)
    shard_rows: int = SHARD_ROWS
    format: int = FORMAT

    def check(self, fingerprint: str, what: str) -> None:
        """Raises: ValueError naming both where `fingerprint` is not the index's."""
        if fingerprint != self.fingerprint:
            raise ValueError(
                f"{what} was made by the embedder with fingerprint "
                f"{self.fingerprint[:12]} and this one is {fingerprint[:12]}: their "
                "descriptors do not compare. Use the model it was made with, or make "
                "a new index."
            )


def known_as(embedder: Any, head: Head | None) -> str:
    """The fingerprint under which an index knows an embedder.

    That of a frozen backbone was once taken of numbers whose last digits hang on the
    processor. An index from then is still its own where they come out the same.
    """
    former = getattr(embedder, "former_fingerprint", None)
    if head is not None and former == head.fingerprint:
        return head.fingerprint
    return embedder.fingerprint


def read_head(folder: str | os.PathLike) -> Head:
    """Raises: FileNotFoundError without an index there, ValueError for another format
    or a file that is not ours, saying which value is wrong."""
    path = pathlib.Path(folder) / "index.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"no index in {os.fspath(folder)} (there is no {path.name}). Make one: "
            f"sbir index PHOTOS --out {os.fspath(folder)}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not an index of sbir: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} is not an index of sbir: it holds no object")
    form = values.get("format")
    if not isinstance(form, int) or isinstance(form, bool):
        raise ValueError(f"{path} is not an index of sbir: format is {form!r}"[:300])
    if form != FORMAT:
        newer = " (it was made by a newer version)" * (form > FORMAT)
        raise ValueError(
            f"{path} has format {form}{newer} and this version of sbir_jax reads "
            f"{FORMAT}; update sbir_jax, or make the index again"
        )
    wrong = [
        name
        for name, right in _FIELDS.items()
        if name not in values or not right(values[name])
    ]
    wrong += [name for name in values if name not in (*_FIELDS, "format")]
    if wrong:
        given = repr(values.get(wrong[0], "missing"))[:60]
        raise ValueError(
            f"{path} is damaged: {wrong[0]} is {given}. {REMEDY}, or write what it was"
        )
    return Head(**values)


def _whole(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value <= most


def _digits(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{1,128}", value) is not None


def _source(value: Any) -> bool:
    """Whether this may be an `Embedder.source`."""
    return value is None or (
        isinstance(value, dict)
        and value.get("kind") in ("pretrained", "run", "prompts", HOG)
        and all(isinstance(value.get(k, ""), str) for k in (*_TEXTS, "source"))
        and isinstance(value.get("relative", {}), dict)
    )


_TEXTS = ("task", "text", "dtype", "encoder", "backbone")
_FIELDS: dict[str, Callable[[Any], bool]] = {
    "id": _digits,
    "fingerprint": _digits,
    "dim": _whole(1, 1 << 20),
    "shard_rows": _whole(1, 1 << 24),
    "embedder": _source,
}
