"""Drawings that are no pixels: SVG, QuickDraw's ndjson, Excalidraw's scenes.

They come from anybody, so of an SVG only what draws lines is kept. resvg, which renders
it, would read other files that it names, and would take the memory for pictures and
patterns of any size; elements that can ask for either are taken out before.
"""

import io
import json
import math
import re
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from sbir_jax.data.pen import GRID, Strokes, draw_strokes

EXTENSIONS = frozenset((".svg", ".ndjson", ".excalidraw"))
MAX_BYTES = 20_000_000
SIDE = 1024  # of the square that an SVG is fitted into, in pixels
MAX_ELEMENTS, MAX_DEPTH, MAX_POINTS = 20_000, 200, 500_000
MARGIN = 16  # around strokes, in units of the pen's grid

_SVG = "http://www.w3.org/2000/svg"
_KEPT = frozenset(
    "svg g a path rect circle ellipse line polyline polygon use symbol defs style "
    "switch linearGradient radialGradient stop clipPath".split()
)
_OUTSIDE = re.compile(r"url\(\s*['\"]?(?!#)|@import", re.IGNORECASE)

Points = list[tuple[float, float]]


def picture(content: bytes) -> Image.Image | None:
    """The drawing that a file holds, as pixels; None where it is none of these kinds.

    Raises: ValueError saying what is wrong with it.
    """
    start = content[:1024].removeprefix(b"\xef\xbb\xbf").lstrip()
    if start[:1] == b"<" and b"<svg" in content[:65536]:
        return _limited(content, _svg)
    if start[:1] == b"{":
        return _limited(content, _json)
    return None


def _limited(content: bytes, read) -> Image.Image:
    if len(content) > MAX_BYTES:
        size = f"{len(content) / 1e6:,.0f} MB"
        raise ValueError(
            f"a drawing of {size}: more than {MAX_BYTES / 1e6:,.0f}; save it as a PNG"
        )
    return read(content)


def _svg(content: bytes) -> Image.Image:
    import resvg_py  # nothing else needs it

    if b"<!ENTITY" in content:
        raise ValueError("an SVG that declares entities; save it as a PNG")
    try:
        root = ET.fromstring(content)
    except ET.ParseError as error:
        raise ValueError(f"an SVG that is not well-formed ({error})") from error
    left = [MAX_ELEMENTS]
    _keep_lines(root, left, MAX_DEPTH)
    _flat_uses(root)
    box = root.get("viewBox") or _box(root)
    root.attrib.update(width=f"{SIDE}", height=f"{SIDE}", viewBox=box)
    root.attrib.pop("preserveAspectRatio", None)
    ET.register_namespace("", _SVG)
    text = ET.tostring(root, encoding="unicode")
    try:
        rendered = resvg_py.svg_to_bytes(svg_string=text, skip_system_fonts=True)
    except BaseException as error:  # a panic of Rust's is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise ValueError(f"an SVG that cannot be drawn ({error})") from None
    return Image.open(io.BytesIO(bytes(rendered)))


def _keep_lines(element: ET.Element, left: list[int], depth: int) -> None:
    left[0] -= 1 + len(element)
    if left[0] < 0 or depth == 0:
        raise ValueError(
            f"an SVG of more than {MAX_ELEMENTS:,} elements, or {MAX_DEPTH} deep; "
            "save it as a PNG"
        )
    for name, value in list(element.attrib.items()):
        outside = name.endswith("href") and not value.lstrip().startswith("#")
        if outside or name in ("filter", "mask") or _OUTSIDE.search(value):
            del element.attrib[name]
    if element.text and _OUTSIDE.search(element.text):
        element.text = ""
    for child in list(element):
        space, _, name = str(child.tag).rpartition("}")
        if name in _KEPT and space in ("", "{" + _SVG):
            _keep_lines(child, left, depth - 1)
        else:
            element.remove(child)


def _flat_uses(root: ET.Element) -> None:
    """Leaves out uses of what has a use inside: each level multiplies the work."""
    uses = [e for e in root.iter() if str(e.tag).rpartition("}")[2] == "use"]
    inside = set(map(id, uses))
    nested = {
        element.get("id")
        for element in root.iter()
        if element.get("id") and any(id(below) in inside for below in element.iter())
    }
    for use in uses:
        for name, value in list(use.attrib.items()):
            if name.endswith("href") and value.strip().removeprefix("#") in nested:
                del use.attrib[name]


def _box(root: ET.Element) -> str:
    sides = [re.match(r"\s*\d*\.?\d+", root.get(n, "")) for n in ("width", "height")]
    if not all(sides):
        raise ValueError("an SVG without a viewBox and without width and height")
    return " ".join(["0 0", *(side[0].strip() for side in sides if side)])


def _json(content: bytes) -> Image.Image:
    lines = content.decode("utf-8-sig", "replace").strip()
    try:
        value, end = json.JSONDecoder().raw_decode(lines)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"JSON that cannot be read ({error})") from None
    if end < len(lines):
        raise ValueError(
            "more than one drawing in the file; give a file with one line of it: "
            "split -l 1"
        )
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
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        message = f"a drawing whose strokes are not as they should be ({error!r})"
        raise ValueError(message) from None
    return Image.fromarray(draw_strokes(_fitted([line for line in lines if line])))


def _fitted(lines: list[Points]) -> Strokes:
    """Lines as the pen takes them, moved and scaled into its grid."""
    if not lines:
        raise ValueError("a drawing without a single stroke")
    if sum(map(len, lines)) > MAX_POINTS:
        raise ValueError(f"a drawing of more than {MAX_POINTS:,} points")
    points = np.concatenate([np.asarray(line, np.float64) for line in lines])
    if not np.isfinite(points).all():
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
    return [(float(x), float(y)) for x, y in zip(stroke[0], stroke[1], strict=True)]


def _shape(element: dict[str, Any]) -> Points:
    """An element of a scene as one line, turned as it is; words, pictures as none."""
    width, height = float(element["width"]), float(element["height"])
    kind = element["type"]
    if kind in ("freedraw", "line", "arrow"):
        line = np.asarray(element["points"], np.float64)[:, :2]
    elif kind == "ellipse":
        turns = np.linspace(0, 2 * math.pi, 65)
        circle = np.stack([np.cos(turns), np.sin(turns)], 1)
        line = (1 + circle) / 2 * [width, height]
    elif kind in ("rectangle", "diamond"):
        line = np.array(_CORNERS[kind]) * [width, height]
    else:
        return []
    line = _turned(line, (line.min(0) + line.max(0)) / 2, element.get("angle") or 0.0)
    corner = np.array([float(element["x"]), float(element["y"])])
    return [(x, y) for x, y in line + corner]


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
