"""What index.json says: which embedder made an index, and of what shape it is."""

import dataclasses
import os
import pathlib
import uuid
from typing import Annotated, Any, Literal

from pydantic import Field

from sbir_jax.runtime import schema

FILE = "index.json"
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
    path = pathlib.Path(folder) / FILE
    if not path.exists():
        raise FileNotFoundError(
            f"no index in {os.fspath(folder)} (there is no {path.name}). Make one: "
            f"sbir index PHOTOS --out {os.fspath(folder)}"
        )
    values = schema.read_json(path, REMEDY)
    form = values.get("format")
    if not isinstance(form, int) or isinstance(form, bool):
        raise ValueError(f"{path} is not an index of sbir: format is {form!r}"[:300])
    if form != FORMAT:
        newer = " (it was made by a newer version)" * (form > FORMAT)
        raise ValueError(
            f"{path} has format {form}{newer} and this version of sbir_jax reads "
            f"{FORMAT}; update sbir_jax, or make the index again"
        )
    found = schema.validated(_Stored, values, str(path), REMEDY)
    # As it was stored: it may say more than is checked.
    return Head(**{**vars(found), "embedder": values["embedder"]})


Digits = Annotated[str, Field(pattern="^[0-9a-f]{1,128}$")]


@dataclasses.dataclass(frozen=True)
class _Source:
    """Of an `Embedder.source`."""

    kind: Literal["pretrained", "run", "prompts", "hog"]
    source: str = ""
    task: str = ""
    text: str = ""
    dtype: str = ""
    encoder: str = ""
    backbone: str = ""
    relative: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class _Stored:
    id: Digits
    fingerprint: Digits
    dim: Annotated[int, Field(ge=1, le=1 << 20)]
    shard_rows: Annotated[int, Field(ge=1, le=1 << 24)]
    embedder: _Source | None
