"""Drawings that are no pixels: SVG, QuickDraw's ndjson, Excalidraw's scenes.

They come from anybody: sizes are bounded before anything is drawn, of an SVG in `svg`.
"""

import json
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from sbir_jax.data import svg
from sbir_jax.data.pen import GRID, Strokes, draw_strokes

EXTENSIONS = frozenset((".svg", ".ndjson", ".excalidraw"))
MAX_BYTES = 20_000_000
MAX_POINTS = 500_000
MARGIN = 16  # around strokes, in units of the pen's grid
MANY = (
    "more than one drawing in the file; give a file with one line of it, or make one "
    "of each: split -l 1 --additional-suffix=.ndjson FILE"
)

Points = Float[np.ndarray, "n 2"]


def picture(content: bytes) -> Image.Image | None:
    """The drawing that a file holds, as pixels; None where it is none of these kinds.

    Args:
      content: of the file; more than MAX_BYTES of it are refused, so they may be cut.
    Raises: ValueError saying what is wrong with it.
    """
    start = content[:1024].removeprefix(b"\xef\xbb\xbf").lstrip()
    if start[:1] == b"<" and b"<svg" in content[:65536]:
        return _limited(content, svg.picture)
    if start[:1] == b"{":
        line, _, more = content.lstrip().partition(b"\n")
        if line.rstrip().endswith(b"}") and more.strip():
            raise ValueError(MANY)
        return _limited(content, _json)
    return None


def lines(path: str | os.PathLike) -> list[tuple[int, int]]:
    """Where the drawings of a published `.ndjson` begin, one a line, and how many bytes
    each has; none where the file is one drawing or nothing of the kind.

    Raises: OSError.
    """
    found, begin, first = [], 0, b""
    with open(path, "rb") as file:
        # A line beyond the limit comes in pieces, of which none is a drawing.
        for line in iter(lambda: file.readline(MAX_BYTES + 1), b""):
            if line.strip():
                first = first or line.removeprefix(b"\xef\xbb\xbf").strip()
                found.append((begin, len(line)))
                if not (first.startswith(b"{") and first.endswith(b"}")):
                    return []
            begin += len(line)
    return found if len(found) > 1 else []


def read_line(path: str | os.PathLike, begin: int, size: int) -> bytes:
    """One drawing of those. Raises: OSError."""
    with open(path, "rb") as file:
        file.seek(begin)
        return file.read(size)


def _limited(content: bytes, read: Callable[[bytes], Image.Image]) -> Image.Image:
    if len(content) > MAX_BYTES:
        raise ValueError(
            f"a drawing of more than {MAX_BYTES / 1e6:,.0f} MB; save it as a PNG"
        )
    return read(content)


def _json(content: bytes) -> Image.Image:
    text = content.decode("utf-8-sig", "replace").strip()
    try:
        value, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"JSON that cannot be read ({error})") from None
    if end < len(text):
        raise ValueError(MANY)
    try:
        if isinstance(value.get("drawing"), list):
            lines = [_quickdraw(stroke) for stroke in value["drawing"]]
        elif value.get("type") == "excalidraw":
            lines = [_shape(e) for e in value["elements"] if not e.get("isDeleted")]
        else:
            raise ValueError(
                "JSON that is no drawing: QuickDraw's have 'drawing', Excalidraw's "
                "have type 'excalidraw'"
            )
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        message = f"a drawing whose strokes are not as they should be ({error!r})"
        raise ValueError(message) from None
    return Image.fromarray(draw_strokes(_fitted([line for line in lines if len(line)])))


def _fitted(lines: list[Points]) -> Strokes:
    """Lines as the pen takes them, moved and scaled into its grid."""
    if not lines:
        raise ValueError("a drawing without a single stroke")
    points = np.concatenate(lines)
    if len(points) > MAX_POINTS:
        raise ValueError(f"a drawing of more than {MAX_POINTS:,} points")
    # Beyond 1e30 a difference or a square would be no number either.
    if not (np.abs(points) < 1e30).all():
        raise ValueError("a drawing with points that are no numbers")
    low = points.min(0)
    scale = (GRID - 2 * MARGIN) / max(1e-9, (points - low).max())
    middle = (GRID - (points - low).max(0) * scale) / 2
    ends = np.zeros((len(points), 1))
    ends[np.cumsum([len(line) for line in lines]) - 1] = 1
    placed = np.hstack([(points - low) * scale + middle, ends])
    return placed.astype(np.float32)


def _quickdraw(stroke: list) -> Points:
    """A stroke of [[x, ...], [y, ...]], with times behind in the raw files."""
    x, y = (np.asarray(values, np.float64) for values in stroke[:2])
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"a stroke of {x.size} places across and {y.size} down")
    return np.stack([x, y], 1)


def _shape(element: dict[str, Any]) -> Points:
    """An element of a scene as one line, turned as it is; words, pictures as none."""
    width, height = float(element["width"]), float(element["height"])
    kind = element["type"]
    if kind in ("freedraw", "line", "arrow"):
        given = element["points"] or np.zeros((0, 2))
        line = np.asarray(given, np.float64)[:, :2]  # pressure may stand behind
    elif kind == "ellipse":
        turns = np.linspace(0, 2 * math.pi, 65)
        circle = np.stack([np.cos(turns), np.sin(turns)], 1)
        line = (1 + circle) / 2 * [width, height]
    elif kind in ("rectangle", "diamond"):
        line = np.array(_CORNERS[kind]) * [width, height]
    else:
        return np.zeros((0, 2))
    if len(line):
        angle = float(element.get("angle") or 0.0)
        line = _turned(line, (line.min(0) + line.max(0)) / 2, angle)
    return line + np.array([float(element["x"]), float(element["y"])])


_CORNERS = {
    "rectangle": [(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)],
    "diamond": [(0.5, 0), (1, 0.5), (0.5, 1), (0, 0.5), (0.5, 0)],
}


def _turned(
    line: Float[np.ndarray, "n 2"], middle: Float[np.ndarray, " 2"], angle: float
) -> Float[np.ndarray, "n 2"]:
    cosine, sine = math.cos(angle), math.sin(angle)
    turn = np.array([[cosine, sine], [-sine, cosine]])
    return (line - middle) @ turn + middle
