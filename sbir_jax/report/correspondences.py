"""Which place of a drawing answers which of a photo, by their tokens, and its picture.

A token of the drawing and one of the photo belong together where each is the other's
choice: the geometric mean of two softmaxes of their cosines, over either side ("dual
softmax", as in LoFTR, Sun et al., CVPR 2021). Not by the maps of cross-attention: its
values are the own side's, so nothing holds its keys to what they look like, and
`tools.token_parts` finds them at chance. Colours tell places of the drawing; each place
of the photo has the colour of the one that it answers.
"""

import colorsys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, ImageDraw
from scipy.special import softmax

from sbir_jax.report.pictures import Picture

COUNT = 8  # lines of a picture
EDGE, GAP = 384, 24  # pixels of a picture's side, and between the two
INK = 40  # of 255: how far the darkest pixel of a place is from its paper
TINT = 0.42  # of the colour over a place
TEMPERATURE = 0.1  # of the softmaxes, as in LoFTR

Point = tuple[float, float]
# From a place of the drawing to one of the photo, in this colour.
Line = tuple[Point, Point, str | tuple[int, int, int]]


class Seen(NamedTuple):
    """What relates two pictures, as far as an explanation needs it.

    Attributes:
      sketch, photo: the pictures as the network saw them.
      alike: cosines of m tokens of the sketch and n of the photo, without retrieval
        tokens.
      sketch_patches, photo_patches: which places of a `side` x `side` grid these are.
      logit: of the relation score.
    """

    sketch: UInt8[np.ndarray, "s s 3"]
    photo: UInt8[np.ndarray, "s s 3"]
    alike: Float[np.ndarray, "m n"]
    sketch_patches: Int[np.ndarray, " m"]
    photo_patches: Int[np.ndarray, " n"]
    side: int
    logit: float


class Correspondence(NamedTuple):
    """Two places that answer each other.

    Attributes:
      sketch, photo: (x, y) of their middles, in [0, 1], from top left.
      strength: how surely, as of `mutual`.
      sketch_patch, photo_patch: numbers of the places in reading order.
    """

    sketch: Point
    photo: Point
    strength: float
    sketch_patch: int
    photo_patch: int


def mutual(alike: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "m n"]:
    """How surely two tokens choose each other: the geometric mean of both softmaxes, in
    multiples of what it would be if all were alike.

    Args:
      alike: cosines.
    """
    m, n = alike.shape
    sharp = alike.astype(np.float64) / TEMPERATURE
    return np.sqrt(softmax(sharp, axis=1) * softmax(sharp, axis=0) * m * n)


def inked(sketch: Picture, side: int) -> Bool[np.ndarray, " p"]:
    """Which places of a side x side grid hold strokes, in reading order."""
    edge = len(sketch) // side
    grey = sketch[: edge * side, : edge * side].mean(-1)
    paper = np.median(grey)
    places = np.abs(grey - paper).reshape(side, edge, side, edge).max((1, 3))
    return places.ravel() >= INK


def answers(seen: Seen) -> list[Correspondence]:
    """For each place of the drawing that holds strokes the photo's that answers it
    best, the strongest first."""
    strength = mutual(seen.alike)
    there, side = inked(seen.sketch, seen.side), seen.side
    found = [
        Correspondence(
            _middle(int(own), side),
            _middle(int(seen.photo_patches[j]), side),
            float(row[j]),
            int(own),
            int(seen.photo_patches[j]),
        )
        for own, row, j in zip(
            seen.sketch_patches, strength, strength.argmax(1), strict=True
        )
        if there[own]
    ]
    return sorted(found, key=lambda one: -one.strength)


def apart(
    found: Sequence[Correspondence], side: int, count: int = COUNT
) -> list[Correspondence]:
    """The first ones of which no two touch on either side, so that lines tell of
    different parts."""
    chosen: list[Correspondence] = []
    for one in found:
        if len(chosen) == count:
            break
        if all(
            _far(one.sketch, other.sketch, side) and _far(one.photo, other.photo, side)
            for other in chosen
        ):
            chosen.append(one)
    return chosen


def colour(place: Point) -> tuple[int, int, int]:
    """Of a place of the drawing: its hue goes around the middle, and it is paler the
    nearer to it."""
    x, y = place[0] - 0.5, place[1] - 0.5
    hue = (np.arctan2(y, x) / (2 * np.pi)) % 1
    depth = min(1.0, 0.35 + 1.5 * float(np.hypot(x, y)))
    red, green, blue = colorsys.hsv_to_rgb(float(hue), depth, 0.92)
    return round(255 * red), round(255 * green), round(255 * blue)


def picture(seen: Seen) -> UInt8[np.ndarray, "h w 3"]:
    """Both side by side: matched places in one colour, lines between some of them."""
    found = answers(seen)
    lines = [
        (one.sketch, one.photo, colour(one.sketch)) for one in apart(found, seen.side)
    ]
    return np.asarray(joined(*tinted(seen, found), lines))


def tinted(
    seen: Seen, found: Sequence[Correspondence]
) -> tuple[Image.Image, Image.Image]:
    """Both pictures, EDGE pixels a side, with matched places in one colour."""
    # A place of the photo may answer several; the strongest gives it its colour.
    own, their = {}, {}
    for one in reversed(found):
        own[one.sketch_patch] = their[one.photo_patch] = colour(one.sketch)
    return _tinted(seen.sketch, own, seen.side), _tinted(seen.photo, their, seen.side)


def joined(
    sketch: Image.Image, photo: Image.Image, lines: Sequence[Line], foot: int = 0
) -> Image.Image:
    """Both side by side, with lines between their places.

    Args:
      sketch, photo: EDGE pixels a side.
      foot: more pixels below.
    """
    sheet = Image.new("RGB", (2 * EDGE + 3 * GAP, EDGE + 2 * GAP + foot), "white")
    corners = (GAP, GAP), (2 * GAP + EDGE, GAP)
    for shown, corner in zip((sketch, photo), corners, strict=True):
        sheet.paste(shown, corner)
    draw = ImageDraw.Draw(sheet)
    placed = [
        [
            (left + x * EDGE, top + y * EDGE)
            for (left, top), (x, y) in zip(corners, ends, strict=True)
        ]
        for *ends, _ in lines
    ]
    for ends, (*_, own) in zip(placed, lines, strict=True):
        draw.line(ends, "white", 5)
        draw.line(ends, own, 3)
    # Over all lines, so that none hides where another ends.
    for ends, (*_, own) in zip(placed, lines, strict=True):
        for x, y in ends:
            draw.ellipse((x - 6, y - 6, x + 6, y + 6), own, "white", 2)
    return sheet


def _tinted(
    shown: Picture, tint: dict[int, tuple[int, int, int]], side: int
) -> Image.Image:
    base = Image.fromarray(shown).resize((EDGE, EDGE), Image.Resampling.LANCZOS)
    pixels, edge = np.asarray(base, np.float32).copy(), EDGE / side
    for place, own in tint.items():
        y, x = divmod(place, side)
        rows, columns = (slice(round(i * edge), round((i + 1) * edge)) for i in (y, x))
        inside = pixels[rows, columns]
        pixels[rows, columns] = (1 - TINT) * inside + TINT * np.asarray(own)
    return Image.fromarray(np.rint(pixels).astype(np.uint8))


def _middle(place: int, side: int) -> Point:
    y, x = divmod(place, side)
    return (x + 0.5) / side, (y + 0.5) / side


def _far(one: Point, other: Point, side: int) -> bool:
    return max(abs(one[0] - other[0]), abs(one[1] - other[1])) * side > 1.5
