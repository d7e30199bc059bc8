"""What is wanted of a checkpoint, for the loaders of all families."""

import dataclasses
from collections.abc import Callable

from sbir_jax.backbones.parameters import Placing

# Names of layers, or what picks them out of all that a backbone has.
Taps = tuple[str, ...] | Callable[[tuple[str, ...]], tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Request:
    """What is wanted of a checkpoint; see `load_backbone`."""

    source: str
    taps: Taps
    maps: tuple[str, ...]
    parts: tuple[str, ...]
    encoder: str
    placing: Placing


def chosen(taps: Taps, names: tuple[str, ...]) -> tuple[str, ...]:
    """Of a backbone with layers of these names those that are read."""
    return taps(names) if callable(taps) else taps
