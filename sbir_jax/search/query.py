"""What one search asks with, and its descriptor."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from sbir_jax import text_queries
from sbir_jax.types import MODALITIES


@runtime_checkable
class Describes(Protocol):
    """What an index needs of an embedder; `sbir_jax.embedder.Embedder` is one."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def dim(self) -> int: ...

    def embed(
        self, images: Iterable, modality: str, *, prepare: bool = False
    ) -> np.ndarray: ...

    def embed_words(self, texts: Sequence[str]) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class Query:
    """A picture, words, or both; fields as the arguments of `Index.search`.

    Raises: ValueError for neither, for another modality, and for a weight outside of 0
      to 1.
    """

    picture: Any
    text: str
    modality: str
    text_weight: float
    imagined_weight: float

    def __post_init__(self):
        text_queries.check_weight(self.text_weight)
        if not 0 <= self.imagined_weight <= 1:
            raise ValueError(
                f"imagined_weight is {self.imagined_weight}; give 0 (the drawing "
                "alone) to 1 (imagined photos alone)"
            )
        if self.modality not in MODALITIES:
            raise ValueError(f"modality is {self.modality!r}; give one of {MODALITIES}")
        if self.picture is None and not self.text:
            raise ValueError("nothing to search for; give a sketch, text, or both")

    @property
    def drawing(self) -> Any:
        """The picture, where it is a drawing."""
        return self.picture if self.modality == "sketch" else None

    def prepared(self) -> "Query":
        """With the drawing made ready once for all that look at it.

        Raises: BadImage, NoInk.
        """
        from sbir_jax.data import sketch_preparation

        drawn = sketch_preparation.prepare(self.drawing)
        return dataclasses.replace(self, picture=drawn)

    def descriptor(
        self,
        embedder: Describes,
        words: Callable[[str], np.ndarray],
        imaginer: Any,
        prepare: bool,
    ) -> Float[np.ndarray, "1 d"]:
        """Of unit length.

        Args:
          words: makes the descriptor of words, [1 d].
          imaginer: asked where imagined photos have a weight.
          prepare: whether a drawing has yet to be made ready.
        """
        if self.picture is None:
            return words(self.text)
        found = embedder.embed([self.picture], self.modality, prepare=prepare)
        if self.imagined_weight:
            from sbir_jax.search import imagination

            given = imaginer, embedder, self.picture, self.text
            made = imagination.descriptor(*given)
            found = text_queries.mix(found, made, self.imagined_weight)
        if self.text and self.text_weight:
            found = text_queries.mix(found, words(self.text), self.text_weight)
        return found
