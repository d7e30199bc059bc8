"""Searching by imagination: photos that a backbone makes of a drawing, beside it.

A drawing and a photo of the same thing differ in all that a drawing leaves out. Here a
run of the synthesis task makes that up, a few times over, and the mean descriptor of
those pictures is mixed with the drawing's, as with words (`text_queries`). Ours.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from sbir_jax.metrics.cosine import unit
from sbir_jax.tasks.synthesis.imaginer import Imaginer

# Few steps: what is in a picture is settled early, and a descriptor sees no more.
PICTURES, STEPS = 4, "8"


@runtime_checkable
class Imagines(Protocol):
    """What is needed of an imaginer; `imaginer.Imaginer` is one."""

    size: int

    def imagine(
        self, sketches: Any, texts: Sequence[str] | None = None, seed: int = 0
    ) -> np.ndarray: ...


@runtime_checkable
class Describes(Protocol):
    """What is needed of an embedder."""

    def embed(self, images: Iterable, modality: str) -> np.ndarray: ...


def open_imaginer(run: str) -> Imaginer:
    """The imaginer of a run, at the number of steps that a search takes."""
    imaginer = Imaginer.from_run(run)
    imaginer.sampling = dataclasses.replace(imaginer.sampling, steps=STEPS)
    return imaginer


def imagine(
    imaginer: Imagines,
    sketch: UInt8[np.ndarray, "h w 3"],
    text: str | None = None,
    seed: int = 0,
) -> UInt8[np.ndarray, "n h w 3"]:
    """PICTURES photos of one drawing of the imaginer's size, and words beside it."""
    texts = [text] * PICTURES if text else None
    return imaginer.imagine(np.stack([sketch] * PICTURES), texts, seed)


def descriptors(
    imaginer: Imagines,
    embedder: Describes,
    sketches: UInt8[np.ndarray, "n h w 3"],
    texts: Sequence[str | None],
) -> Float[np.ndarray, "n d"]:
    """Descriptors of unit length of what is imagined of each drawing, float32.

    Args:
      sketches: of the imaginer's size.
      texts: words beside each, or None.
    """
    pairs = zip(sketches, texts, strict=True)
    made = np.concatenate([imagine(imaginer, *pair) for pair in pairs])
    found = embedder.embed(list(made), "photo").reshape(len(sketches), PICTURES, -1)
    return unit(found.mean(1))
