"""Words as a query of their own: the backbone makes photos up for them.

In the place of the text prompt, as in Koley et al. (CVPR 2024), words hardly bring a
drawing's descriptor nearer to the photos they tell of (measured on Toybox): at t = 273
the drawing, which has no colour, has decided what is in the picture. From pure noise
the words decide it. So the mean descriptor of a few pictures made from them is their
own, and it can be mixed with a drawing's or be searched with alone. Ours; nothing is
trained for it, and an index need not know of it.
"""

from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8
from tqdm.auto import tqdm

from sbir_jax.backbones.base import LoadedBackbone
from sbir_jax.backbones.sampling import generate
from sbir_jax.metrics.cosine import unit
from sbir_jax.runtime import multiprocess

# Chosen on seen Toybox classes. More of any of them costs time and changes little; the
# guidance is lower than is usual for pictures that are to be looked at.
PICTURES, STEPS, GUIDANCE = 4, 4, 6.0
WEIGHT = 0.5  # of the words, beside a drawing


@runtime_checkable
class Embeds(Protocol):
    """What is needed of an embedder."""

    @property
    def dim(self) -> int: ...

    @property
    def batch_size(self) -> int: ...

    def embed(self, images: Iterable, modality: str) -> np.ndarray: ...


def imagine(loaded: LoadedBackbone, text: str) -> UInt8[np.ndarray, "n h w 3"]:
    """The pictures that stand for words: PICTURES of the backbone's native size.

    Args:
      loaded: whole, the decoder too.
    """
    return generate(loaded, [text] * PICTURES, guidance=GUIDANCE, steps=STEPS)


def embed(
    embedder: Embeds, loaded: LoadedBackbone, texts: Sequence[str]
) -> Float[np.ndarray, "n d"]:
    """Descriptors of unit length of words, float32: see `imagine`.

    Of several processes each does its share, and all get the whole.
    """
    mine = multiprocess.part(len(texts))
    group = max(1, embedder.batch_size // PICTURES)
    found = [np.zeros((0, embedder.dim), np.float32)]
    quiet = len(texts) == 1 or not multiprocess.is_first()
    with tqdm(
        total=mine.stop - mine.start, desc="words", unit="text", disable=quiet
    ) as bar:
        for start in range(mine.start, mine.stop, group):
            part = texts[start : min(start + group, mine.stop)]
            pictures = np.concatenate([imagine(loaded, text) for text in part])
            each = embedder.embed(pictures, "photo")
            found.append(unit(each.reshape(len(part), PICTURES, -1).mean(1)))
            bar.update(len(part))
    return multiprocess.join(np.concatenate(found), len(texts))


def mix(
    drawn: Float[np.ndarray, "*n d"], words: Float[np.ndarray, "*n d"], weight: float
) -> Float[np.ndarray, "*n d"]:
    """Descriptors of unit length of drawings with words beside them.

    Args:
      weight: of the words, 0 to 1.
    Raises: ValueError for another weight.
    """
    return unit((1 - weight) * drawn + check_weight(weight) * words)


def check_weight(weight: float) -> float:
    """Raises: ValueError for a weight outside of 0 to 1."""
    if not 0 <= weight <= 1:
        raise ValueError(
            f"text_weight is {weight}; give 0 (no words) to 1 (words alone)"
        )
    return weight


def beside(
    images: Iterable, text: str | Sequence[str] | None
) -> Iterator[tuple[Any, str | None]]:
    """Each image with its words; None without any."""
    if text is None or isinstance(text, str):
        yield from ((image, text) for image in images)
        return
    told = f"{len(text)} texts for {{}} images; give one, or one each"
    if isinstance(images, Sized) and len(images) != len(text):
        raise ValueError(told.format(len(images)))
    rows = 0
    for rows, image in enumerate(images, start=1):
        if rows > len(text):
            raise ValueError(told.format(f"{rows} or more"))
        yield image, text[rows - 1]
    if rows < len(text):
        raise ValueError(told.format(rows))
