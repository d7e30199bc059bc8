"""SVG drawings, which come from anybody.

Only what draws lines is kept: resvg, which renders it, would read other files that it
names. And a file of some kilobytes can ask for hours and gigabytes (dashes, groups that
are see-through, clips of clips), in more ways than can be listed; so it is rendered in
a process of its own, whose time and memory are bounded.
"""

import io
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from xml.parsers import expat

from PIL import Image

SIDE = 1024  # of the square that a drawing is fitted into, in pixels
MAX_ELEMENTS, MAX_DEPTH = 20_000, 200
# Of the process that renders: its processor's time, that of a clock, its memory. A
# drawing of 20,000 lines takes half a second and 50 MB.
SECONDS, PATIENCE, BYTES = 5, 15, 1_000_000_000

_SVG = "http://www.w3.org/2000/svg"
_KEPT = frozenset(
    "svg g a path rect circle ellipse line polyline polygon use symbol defs style "
    "switch linearGradient radialGradient stop clipPath".split()
)
_OUTSIDE = re.compile(r"url\(\s*['\"]?(?!#)|@import", re.IGNORECASE)
_RENDER = """
import sys
folder, seconds, most = sys.argv[1], *map(int, sys.argv[2:])
try:
    import resource
except ImportError:  # Windows: the clock alone bounds it there
    pass
else:
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
sys.path.append(folder)
import resvg_py
text = sys.stdin.buffer.read().decode()
try:
    made = resvg_py.svg_to_bytes(svg_string=text, skip_system_fonts=True)
except ValueError as error:
    sys.exit(f"an SVG that cannot be drawn ({error})")
sys.stdout.buffer.write(bytes(made))
"""


def picture(content: bytes) -> Image.Image:
    """An SVG file as pixels, SIDE on its longer side.

    Raises: ValueError saying what is wrong with it.
    """
    root = _parsed(content)
    _keep_lines(root, [MAX_ELEMENTS], MAX_DEPTH)
    _flat_uses(root)
    box = root.get("viewBox") or _box(root)
    root.attrib.update(width=f"{SIDE}", height=f"{SIDE}", viewBox=box)
    root.attrib.pop("preserveAspectRatio", None)
    ET.register_namespace("", _SVG)
    return Image.open(io.BytesIO(_rendered(ET.tostring(root, encoding="utf-8"))))


def _parsed(content: bytes) -> ET.Element:
    """The tree of a file; no encoding hides entities, which multiply, from expat."""

    def refuse(*_):
        raise ValueError("an SVG that declares entities; save it as a PNG")

    try:
        declares = expat.ParserCreate()
        declares.EntityDeclHandler = refuse
        declares.Parse(content, True)
        return ET.fromstring(content)
    except (ET.ParseError, expat.ExpatError) as error:
        raise ValueError(f"an SVG that is not well-formed ({error})") from error


def _rendered(text: bytes) -> bytes:
    """The bytes of a PNG. Raises: ValueError."""
    import resvg_py  # nothing else needs it

    folder = os.path.dirname(os.path.dirname(resvg_py.__file__))
    # Alone (-I, without site): it starts in hundredths of a second.
    command = [sys.executable, "-I", "-S", "-c", _RENDER, folder]
    command += [str(SECONDS), str(BYTES)]
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        done = None
    if done and done.returncode == 0:
        return done.stdout
    said = done.stderr.decode(errors="replace").strip() if done else ""
    if said.startswith("an SVG"):
        raise ValueError(" ".join(said.split()))
    raise ValueError(
        f"an SVG that takes more than {SECONDS} s or {BYTES // 10**6:,} MB to draw; "
        "save it as a PNG"
    )


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
