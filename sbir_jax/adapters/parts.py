"""Which parts of an adapter are trained: split off before an optimiser sees them.

An adapter is a dataclass pytree. The two halves of a split are of its own type, with
None in the place of what the other half holds; None is an empty subtree to JAX, so an
optimiser's state has no entry for it and no gradient is taken.
"""

import dataclasses
from collections.abc import Collection
from typing import Any, TypeVar

T = TypeVar("T")


def split(adapter: T, names: Collection[str]) -> tuple[T, T]:
    """The fields of these names, and the others.

    Raises: ValueError for a name that is no field, or where nothing is left to train.
    """
    fields = [field.name for field in dataclasses.fields(adapter)]  # pyright: ignore
    if unknown := sorted(set(names) - set(fields)):
        raise ValueError(
            f"no part is called {', '.join(unknown)}; there are {', '.join(fields)}"
        )
    there = {name for name in fields if getattr(adapter, name) is not None}
    if not there & set(names):
        raise ValueError(
            f"of {', '.join(names)} this adapter has nothing to train; it has "
            f"{', '.join(sorted(there))}"
        )
    inside = dict.fromkeys(set(fields) - set(names))
    outside = dict.fromkeys(names)
    return (
        dataclasses.replace(adapter, **inside),  # pyright: ignore
        dataclasses.replace(adapter, **outside),  # pyright: ignore
    )


def merge(trained: T, fixed: Any) -> T:
    """The adapter again; `fixed` is None where all of it is trained."""
    if fixed is None:
        return trained
    fields = dataclasses.fields(trained)  # pyright: ignore
    mine = {field.name: getattr(trained, field.name) for field in fields}
    mine = {name: value for name, value in mine.items() if value is not None}
    return dataclasses.replace(fixed, **mine)
