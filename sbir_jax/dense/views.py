"""A picture of any size as squares that a network takes, and their results as one."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from sbir_jax.models.heads.resizing import Kind, resize

Picture = UInt8[np.ndarray, "_ _ 3"]
Size = tuple[int, int]
GREY = 127  # about zero to the networks


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """A square of a resized picture.

    Attributes:
      image: uint8 [s, s, 3], grey beyond the picture.
      canvas: rows and columns of the picture at this size.
      top, left: where the square lies in it.
      mirrored: left and right are swapped in `image`.
      text: what the network is given beside it, as the caller has it.
    """

    image: Picture
    canvas: Size
    top: int = 0
    left: int = 0
    mirrored: bool = False
    text: Any = 0


def resized(image: Picture, size: Size) -> Picture:
    """With Pillow's linear filter, which has no aliasing."""
    if image.shape[:2] == size:
        return image
    linear = Image.Resampling.BILINEAR
    height, width = size
    return np.asarray(Image.fromarray(image).resize((width, height), linear))


def stretched(image: Picture, side: int, text: Any = 0) -> list[View]:
    """The whole picture as one square."""
    return [View(resized(image, (side, side)), (side, side), text=text)]


def windows(
    image: Picture,
    side: int,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    text: Any = 0,
) -> list[View]:
    """Squares with two thirds of a side between them: 341 px for 512 px, as published.

    Args:
      side: of the squares, and of the picture's shorter side at scale 1.
      flip: whether each comes mirrored, too.
    """
    found, stride = [], max(1, side * 2 // 3)
    height, width = image.shape[:2]
    for scale in scales:
        ratio = scale * side / min(height, width)
        size = max(1, round(height * ratio)), max(1, round(width * ratio))
        large = resized(image, size)
        for top in starts(size[0], side, stride):
            for left in starts(size[1], side, stride):
                part = padded(large[top : top + side, left : left + side], side)
                found.append(View(part, size, top, left, text=text))
    return found + ([mirror(view) for view in found] if flip else [])


def starts(length: int, side: int, stride: int) -> list[int]:
    """Where windows begin along an axis; the last one ends with it."""
    last = max(length - side, 0)
    return [min(i * stride, last) for i in range(-(-last // stride) + 1)]


def padded(image: Picture, side: int) -> Picture:
    """Grey below and to the right, up to a square."""
    rest = [(0, side - n) for n in image.shape[:2]]
    return np.pad(image, (*rest, (0, 0)), constant_values=GREY)


def mirror(view: View) -> View:
    """The same square, left and right swapped."""
    return dataclasses.replace(view, image=view.image[:, ::-1], mirrored=True)


def merge(
    views: Sequence[View],
    results: Sequence[Float[np.ndarray, "y x n"]],
    size: Size,
    kind: Kind = "linear",
    final: Callable = lambda found: found,
) -> Float[np.ndarray, "{size[0]} {size[1]} n"]:
    """The mean of the squares' results where they lie, and then over sizes and mirrors.

    Args:
      results: of each view, in any number of rows and columns.
      size: rows and columns wanted.
      kind: how results are enlarged.
      final: what is taken of each size's whole result before that mean.
    """
    totals: dict[Any, list] = {}
    for view, found in zip(views, results, strict=True):
        side = view.image.shape[0]
        large = np.asarray(resize(jnp.asarray(found)[None], (side, side), kind)[0])
        if view.mirrored:
            large = large[:, ::-1]
        shape = (*view.canvas, found.shape[-1])
        total = totals.setdefault(
            (view.canvas, view.mirrored), [np.zeros(shape), np.zeros(view.canvas)]
        )
        rows = slice(view.top, min(view.top + side, view.canvas[0]))
        columns = slice(view.left, min(view.left + side, view.canvas[1]))
        here = large[: rows.stop - rows.start, : columns.stop - columns.start]
        total[0][rows, columns] += here
        total[1][rows, columns] += 1
    means = [
        resize(jnp.asarray(total / count[..., None], jnp.float32)[None], size, kind)[0]
        for total, count in totals.values()
    ]
    return np.mean([np.asarray(final(mean)) for mean in means], axis=0)


def run_views(
    items: Iterable[tuple[Any, Sequence[View]]],
    run: Callable[[np.ndarray, list], np.ndarray],
    batch: int,
) -> Iterator[tuple[Any, Sequence[View], list[np.ndarray]]]:
    """Each item with its views' results, in order; squares of several go together.

    Args:
      run: from `batch` squares, uint8 [b s s 3], and their texts to [b y x n].
    """
    waiting: list[tuple[Any, Sequence[View]]] = []
    squares: list[View] = []
    done: list[np.ndarray] = []

    def flush(some: list[View]) -> None:
        full = some + some[-1:] * (batch - len(some))
        found = run(np.stack([v.image for v in full]), [v.text for v in full])
        done.extend(np.asarray(found)[: len(some)])

    def ready() -> Iterator[tuple[Any, Sequence[View], list[np.ndarray]]]:
        while waiting and len(done) >= len(waiting[0][1]):
            item, views = waiting.pop(0)
            results = [done.pop(0) for _ in views]
            yield item, views, results

    for item, views in items:
        waiting.append((item, views))
        squares.extend(views)
        while len(squares) >= batch:
            flush(squares[:batch])
            del squares[:batch]
        yield from ready()
    if squares:
        flush(squares)
    yield from ready()
