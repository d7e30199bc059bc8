"""The ranked pictures of a report: small files for its page, one sheet for slides."""

import hashlib
import io
import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont

Picture = UInt8[np.ndarray, "_ _ 3"]

# Longest side in pixels and JPEG quality, best first: the first that fits is taken.
LADDER = ((192, 86), (160, 84), (128, 82), (112, 78), (96, 74), (80, 68), (64, 60))
# A page of 24 drawings stays under 3 MB once base64 has added its third.
PHOTO_BYTES, SKETCH_BYTES = 1_800_000, 14_000
SHEET_QUERIES = 6
RIGHT, INK, SOFT, LINE, BLUE = "#08744a", "#1c1b19", "#5d5a53", "#e3dfd6", "#3346c4"
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
NAMES = {
    "learned": "Learned prompts",
    "frozen": "Frozen backbone",
    "reranked": "Re-ranked",
    "imagined": "With imagined photos",
    "hog": "HOG",
    "pixels": "Pixels",
    "chance": "Chance",
}


@dataclass(frozen=True, eq=False)
class Hit:
    """One photo of a ranking; `right` says whether the benchmark counts it."""

    image: Picture
    label: str
    right: bool
    score: float

    def __post_init__(self):
        check_picture(self.image, f"photo of {self.label!r}")


@dataclass(frozen=True, eq=False)
class Ranking:
    """One drawing and, under each result's name, its photos from the best down."""

    query: Picture
    label: str
    hits: dict[str, list[Hit]]

    def __post_init__(self):
        check_picture(self.query, f"drawing of {self.label!r}")

    def names(self) -> list[str]:
        """Result names in the order to show them: learned, frozen, then the rest."""
        known = [name for name in NAMES if name in self.hits]
        return known + [name for name in self.hits if name not in NAMES]


def printable(value: object) -> str:
    """`value` as text that XML, UTF-8 and fonts accept.

    Undecodable file names arrive as lone surrogates, which UTF-8 refuses.
    """
    return UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", str(value))


def check_picture(image: np.ndarray, what: str) -> None:
    """Raises: ValueError where `image` is not uint8 of shape [h, w, 3]."""
    if image.dtype != np.uint8 or image.shape[2:] != (3,) or 0 in image.shape:
        raise ValueError(
            f"{what} is {image.dtype} of shape {image.shape}; "
            "a report takes uint8 pictures of shape [height, width, 3]"
        )


def fit(image: Picture, edge: int, smallest: int = 0) -> Image.Image:
    """`image` with its longest side at most `edge`, and at least `smallest`."""
    longest = max(image.shape[:2])
    scale = min(max(smallest, longest), edge) / longest
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    picture = Image.fromarray(image)
    if scale == 1:
        return picture
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def sketch_file(image: Picture) -> bytes:
    """A drawing as PNG; small ones are enlarged, as browsers blur thin lines.

    Shaded or scanned drawings that make too large a PNG come as JPEG.
    """
    picture = fit(image, edge=300, smallest=256)
    grey = not np.ptp(image, axis=2).any()
    picture = picture.convert("L").quantize(16) if grey else picture.quantize(128)
    png = _bytes(picture, "PNG", optimize=True)
    return png if len(png) <= SKETCH_BYTES else photo_jpegs([image], SKETCH_BYTES)[0]


def photo_jpegs(images: list[Picture], limit: int = PHOTO_BYTES) -> list[bytes]:
    """Photos as JPEG, all on the best step of LADDER whose sum is within `limit`.

    Photos beyond what the lowest step can squeeze are still all there.
    """
    files: list[bytes] = []
    for edge, quality in LADDER:
        seen: dict[bytes, bytes] = {}
        files = [_jpeg(image, edge, quality, seen) for image in images]
        if sum(map(len, files)) <= limit:
            break
    return files


def _jpeg(image: Picture, edge: int, quality: int, seen: dict[bytes, bytes]) -> bytes:
    # The same photo stands in many rankings: encode it once.
    key = hashlib.blake2b(image.tobytes() + repr(image.shape).encode()).digest()
    if key not in seen:
        picture = fit(image, edge, smallest=128)
        seen[key] = _bytes(picture, "JPEG", quality=quality, optimize=True)
    return seen[key]


def _bytes(picture: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def sheet_png(rankings: list[Ranking]) -> bytes | None:
    """The first rankings as one white picture for slides; None where there are none."""
    rankings = [r for r in rankings[:SHEET_QUERIES] if any(r.hits.values())]
    if not rankings:
        return None
    tile, gap, left, top = 112, 14, 190, 26
    step = top + tile + 22 + gap
    rows = sum(len(r.hits) for r in rankings)
    columns = max(len(hits) for r in rankings for hits in r.hits.values())
    size = (left + columns * (tile + gap) + gap, rows * step + len(rankings) * gap)
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), sheet_font(15)
    y = gap
    for ranking in rankings:
        paste_tile(sheet, ranking.query, gap, y + top, 156)
        write = clipped(ranking.label, sheet_font(18), left - 2 * gap)
        draw.text((gap, y + top + 162), write, INK, sheet_font(18))
        for name in ranking.names():
            title = clipped(NAMES.get(name, name), font, size[0] - left)
            draw.text((left, y), title, SOFT, font)
            for i, hit in enumerate(ranking.hits[name]):
                x, down = left + i * (tile + gap), y + top
                paste_tile(sheet, hit.image, x, down, tile)
                if hit.right:
                    _tick(draw, x, down, tile)
                write = clipped(hit.label, font, tile)
                draw.text(
                    (x, down + tile + 4), write, RIGHT if hit.right else SOFT, font
                )
            y += step
        draw.line((gap, y - 4, size[0] - gap, y - 4), LINE)
        y += gap
    return _bytes(sheet, "PNG", optimize=True)


def sheet_font(size: int) -> ImageFont.FreeTypeFont:
    # matplotlib ships this font, so the sheet looks alike on every machine.
    return ImageFont.truetype(findfont("DejaVu Sans"), size)


def clipped(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """As much of `text` as fits in `width` pixels on one line."""
    text = " ".join(printable(text).split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def paste_tile(sheet: Image.Image, image: Picture, x: int, y: int, edge: int) -> None:
    """`image` in the middle of an outlined square of `edge` pixels, corner at x, y."""
    picture = fit(image, edge, smallest=edge)
    dx, dy = (edge - picture.width) // 2, (edge - picture.height) // 2
    sheet.paste(picture, (x + dx, y + dy))
    ImageDraw.Draw(sheet).rectangle((x, y, x + edge - 1, y + edge - 1), outline=LINE)


def _tick(draw: ImageDraw.ImageDraw, x: int, y: int, tile: int) -> None:
    draw.rectangle((x - 3, y - 3, x + tile + 2, y + tile + 2), outline=RIGHT, width=4)
    cx, cy = x + tile - 12, y + tile - 12
    draw.ellipse((cx - 13, cy - 13, cx + 13, cy + 13), fill=RIGHT)
    points = [(cx - 6, cy), (cx - 2, cy + 5), (cx + 6, cy - 5)]
    draw.line(points, fill="white", width=3, joint="curve")
