"""Pen strokes as a picture."""

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

GRID = 256  # coordinates run from 0 to this
SIDE = 512  # of the picture: Stable Diffusion's own size
WIDTH = 5  # of a line, in pixels of the picture
OVER = 3  # drawn so many times larger, then reduced, for smooth edges

Strokes = Float[np.ndarray, "n 3"]


def draw_strokes(points: Strokes) -> UInt8[np.ndarray, "h w 3"]:
    """Black lines on white, SIDE x SIDE; larger coordinates than GRID are fitted in."""
    canvas = Image.new("L", (SIDE * OVER, SIDE * OVER), 255)
    pen = ImageDraw.Draw(canvas)
    scale = SIDE * OVER / max(GRID, float(points[:, :2].max(initial=0.0)))
    ends = np.flatnonzero(points[:, 2] == 1) + 1
    for stroke in np.split(points[:, :2] * scale, ends):
        line = [(float(x), float(y)) for x, y in stroke]
        if len(line) > 1:
            pen.line(line, fill=0, width=WIDTH * OVER, joint="curve")
        for x, y in line[:1] + line[-1:]:  # round ends, and dots
            r = WIDTH * OVER / 2
            pen.ellipse((x - r, y - r, x + r, y + r), fill=0)
    small = canvas.resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small.convert("RGB"))
