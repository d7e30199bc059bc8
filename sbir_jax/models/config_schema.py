"""Bounds of what a network's config.json may ask for, and reading one against them."""

import dataclasses
from collections.abc import Collection
from typing import Annotated, Any, TypeVar

from pydantic import Field

from sbir_jax.runtime.schema import validated

T = TypeVar("T")

# Bounds of what a config may ask for, far above every published model.
Layers = Annotated[int, Field(ge=1, le=64)]
BlockLayers = Annotated[int, Field(ge=1, le=16)]
MaybeLayers = Annotated[int, Field(ge=0, le=16)]
Heads = Annotated[int, Field(ge=1, le=1024)]
Channels = Annotated[int, Field(ge=1, le=2**14)]
Pixels = Annotated[int, Field(ge=1, le=2**13)]
Vocabulary = Annotated[int, Field(ge=1, le=2**20)]
Positions = Annotated[int, Field(ge=1, le=2**12)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Epsilon = Annotated[float, Field(gt=0, le=1)]
PerLevel = Field(min_length=1, max_length=8)
Blocks = Annotated[tuple[str, ...], PerLevel]
Widths = Annotated[tuple[Channels, ...], PerLevel]


def read_config(
    config: dict[str, Any],
    what: str,
    cls: type[T],
    fixed: dict[str, Any],
    ignored: set[str],
) -> T:
    """The dataclass `cls` with the entries of a JSON config that are fields of it.

    Raises ValueError for a key that is neither a field, nor fixed, nor ignored, for a
    fixed key with another value, for an absent or null field without a default, and for
    a field of another type or out of its bounds.
    """
    fields: dict[str, Any] = {f.name: f for f in dataclasses.fields(cls)}  # pyright: ignore
    known = {}
    for key, value in config.items():
        if key.startswith("_") or key in ignored:
            continue
        if key in fixed:
            # Null, false and an absent key are one thing to those who write these.
            if value != fixed[key] and (value or fixed[key]):
                raise ValueError(
                    f"{what} config: {key}={value!r} is not supported, only "
                    f"{fixed[key]!r} is"
                )
        elif key in fields:
            known[key] = value
        else:
            raise ValueError(
                f"{what} config: unknown key {key!r}; known are "
                f"{sorted({*fields, *fixed, *ignored})}"
            )
    for name, field in fields.items():
        if field.default is dataclasses.MISSING and known.get(name) is None:
            raise ValueError(f"{what} config: a value for {name} is needed")
    return validated(cls, known, f"{what} config")


def check_levels(
    what: str,
    key: str,
    values: tuple[Any, ...],
    levels: int,
    allowed: Collection[str] | None = None,
) -> None:
    """Raise ValueError unless there is one entry per level, each of them allowed."""
    if len(values) != levels:
        raise ValueError(
            f"{what} config: {key} has {len(values)} entries, but block_out_channels "
            f"has {levels}"
        )
    unknown = [value for value in values if allowed and value not in allowed]
    if unknown:
        raise ValueError(
            f"{what} config: {key} holds the unknown block {unknown[0]!r}; known are "
            f"{sorted(allowed or ())}"
        )


def check_divides(what: str, key: str, parts: int, width: int) -> None:
    """Raise ValueError unless so many channels can be cut into so many parts."""
    if width % parts:
        raise ValueError(
            f"{what} config: {key}={parts} does not divide a layer of {width} channels"
        )
