"""What is wanted of a checkpoint, for the loaders of all families."""

import dataclasses

from sbir_jax.backbones.parameters import Placing


@dataclasses.dataclass(frozen=True)
class Request:
    """What is wanted of a checkpoint; see `load_backbone`."""

    source: str
    taps: tuple[str, ...]
    maps: tuple[str, ...]
    parts: tuple[str, ...]
    encoder: str
    placing: Placing
