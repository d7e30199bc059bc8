"""Training pictures: brought to a square, and changed as the published recipes do."""

from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageEnhance

from sbir_jax.data.dense import Example
from sbir_jax.data.dense.base import IGNORED
from sbir_jax.dense.views import GREY, resized

# Of ADE20K's recipe in VPD.
SCALES, MOST_OF_ONE, TRIES = (0.5, 2.0), 0.75, 10
# Of a colour change; NYUv2's recipe has brightness, contrast and gamma like these.
STRENGTH = 0.25

Picture = UInt8[np.ndarray, "_ _ 3"]


def resized_target(target: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The nearest pixel's label or depth; nothing between two is made up."""
    if target.shape == size:
        return target
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int)
        for old, new in zip(target.shape, size, strict=True)
    )
    return target[rows[:, None], columns[None]]


def square(
    example: Example, side: int, mirrored: bool = False
) -> tuple[Picture, np.ndarray]:
    """Picture and target of `side` pixels, stretched."""
    image = resized(example.image, (side, side))
    target = resized_target(example.target, (side, side))
    return (image[:, ::-1], target[:, ::-1]) if mirrored else (image, target)


def published(
    example: Example, kind: str, side: int, rng: np.random.Generator
) -> tuple[Picture, np.ndarray]:
    """As VPD trains: a random crop, a flip, and other colours.

    Args:
      kind: "segmentation", with a random size before the crop, or "depth".
    """
    image, target = example.image, example.target
    if kind == "segmentation":
        ratio = rng.uniform(*SCALES) * side / min(image.shape[:2])
        size = tuple(max(1, round(n * ratio)) for n in image.shape[:2])
        image, target = resized(image, size), resized_target(target, size)  # pyright: ignore
        nothing: Any = IGNORED
    else:
        # All of the height, as 480 of NYUv2's 480 rows.
        ratio = side / min(image.shape[:2])
        size = tuple(max(1, round(n * ratio)) for n in image.shape[:2])
        image, target = resized(image, size), resized_target(target, size)  # pyright: ignore
        nothing = 0
    image, target = _crop(image, target, side, nothing, kind, rng)
    if rng.random() < 0.5:
        image, target = image[:, ::-1], target[:, ::-1]
    if kind == "depth" and rng.random() < 0.75 / 4:
        image = cut_depth(image, target, rng)
    return other_colours(image, rng), target


def _crop(image, target, side, nothing, kind, rng) -> tuple[Picture, np.ndarray]:
    rest = [(0, max(side - n, 0)) for n in image.shape[:2]]
    image = np.pad(image, (*rest, (0, 0)), constant_values=GREY)
    target = np.pad(target, rest, constant_values=nothing)
    part = target
    for _ in range(TRIES):
        top, left = (int(rng.integers(n - side + 1)) for n in image.shape[:2])
        where = slice(top, top + side), slice(left, left + side)
        image_part, part = image[where], target[where]
        if kind != "segmentation":
            break
        counts = np.bincount(part[part != nothing].ravel(), minlength=2)
        if (counts > 0).sum() > 1 and counts.max() < MOST_OF_ONE * counts.sum():
            break
    return image_part, part  # pyright: ignore


def cut_depth(
    image: Picture, depth: Float[np.ndarray, "h w"], rng: np.random.Generator
) -> Picture:
    """Vertical CutDepth (Kim et al., 2022): a strip of the depth in the picture."""
    width = image.shape[1]
    left = int(rng.uniform(0, 1) * width)
    wide = max(int((width - left) * rng.uniform(0, 1) * 0.75), 1)
    shown = 255 * depth[:, left : left + wide] / max(float(depth.max()), 1e-6)
    image = image.copy()
    image[:, left : left + wide] = shown[..., None].astype(np.uint8)
    return image


def other_colours(image: Picture, rng: np.random.Generator) -> Picture:
    """Brightness, contrast, saturation: each by up to a quarter, half of the time."""
    picture = Image.fromarray(np.ascontiguousarray(image))
    for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        if rng.random() < 0.5:
            change = rng.uniform(1 - STRENGTH, 1 + STRENGTH)
            picture = kind(picture).enhance(change)
    return np.asarray(picture)
