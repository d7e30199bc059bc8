"""Photos that an imaginer makes of a drawing: to look at, and to search with beside it.

How they are made is `tasks.synthesis.imagined`'s.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from sbir_jax.data import images, sketch_preparation
from sbir_jax.tasks.synthesis import imagined
from sbir_jax.tasks.synthesis.imagined import Describes, Imagines


def required(imaginer: Imagines | None, drawing: Any) -> Imagines:
    """The imaginer. Raises: ValueError without one, or without a drawing."""
    if imaginer is None or drawing is None:
        raise ValueError(
            "photos are imagined of a drawing, by an imaginer: give a drawing, and "
            "Index.open(..., imaginer=RUN)"
        )
    return imaginer


def pictures(
    imaginer: Imagines, drawing: images.Source, text: str, seed: int, prepare: bool
) -> UInt8[np.ndarray, "n h w 3"]:
    """Photos of one drawing, of the imaginer's size.

    Args:
      prepare: whether the drawing has yet to be made ready.
    Raises: BadImage, NoInk.
    """
    drawn = sketch_preparation.prepare(drawing) if prepare else drawing
    return imagined.imagine(imaginer, _seen(imaginer, drawn), text, seed)


def descriptor(
    imaginer: Imagines, embedder: Describes, drawing: images.Source, text: str
) -> Float[np.ndarray, "1 d"]:
    """What `pictures` of seed 0 look like to an embedder, of unit length.

    Args:
      drawing: as it is searched with.
    Raises: BadImage.
    """
    seen = _seen(imaginer, drawing)
    return imagined.descriptors(imaginer, embedder, seen[None], [text])


def _seen(imaginer: Imagines, drawing: images.Source) -> UInt8[np.ndarray, "h w 3"]:
    return images.decode(drawing, imaginer.size, images.FIT["sketch"])
