"""The result of a search as one picture: what was asked, and the photos by rank."""

import io
import os
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from sbir_jax.data import images
from sbir_jax.report.pictures import INK, SOFT, clipped, paste_tile, sheet_font
from sbir_jax.search.hits import Hit
from sbir_jax.search.terminal import plural, standing

TILE, GAP, SKETCH, CAPTION = 176, 16, 240, 46
COLUMNS = 5
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
SHOWN = 100


def search_sheet(
    sketch: images.Source | None, hits: Sequence[Hit], text: str | None = None
) -> Image.Image:
    """Draws the sheet: the first 100 photos with rank, score and file name.

    A photo that cannot be read any more keeps its place, with the reason.

    Raises: BadImage for a drawing that cannot be read.
    """
    hits = hits[:SHOWN]
    columns = max(1, min(COLUMNS, len(hits)))
    rows = max(1, -(-len(hits) // columns))
    left = GAP + SKETCH + 2 * GAP
    width = left + columns * (TILE + GAP)
    height = GAP + max(SKETCH + 2 * CAPTION, rows * (TILE + CAPTION + GAP))
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    big, small = sheet_font(17), sheet_font(13)

    down = GAP
    if sketch is not None:
        drawing = images.decode(sketch, SKETCH, "pad")
        paste_tile(sheet, drawing, GAP, GAP, SKETCH)
        down += SKETCH + 8
    if text:
        words = clipped(f"“{text}”", big, SKETCH)
        draw.text((GAP, down), words, INK, big)
        down += 24
    found = plural(len(hits), "photo") if hits else "no photo found"
    draw.text((GAP, down), found, SOFT, small)

    for i, hit in enumerate(hits):
        x = left + (i % columns) * (TILE + GAP)
        y = GAP + (i // columns) * (TILE + CAPTION + GAP)
        try:
            photo = images.decode(hit.path, TILE, "pad")
        except images.BadImage as error:
            photo = np.full((TILE, TILE, 3), 240, np.uint8)
            paste_tile(sheet, photo, x, y, TILE)
            reason = clipped(error.reason, small, TILE - 16)
            draw.text((x + 8, y + TILE // 2 - 8), reason, SOFT, small)
        else:
            paste_tile(sheet, photo, x, y, TILE)
        score = standing(hit)
        draw.text((x, y + TILE + 5), f"{i + 1}", INK, big)
        draw.text((x + TILE - big.getlength(score), y + TILE + 5), score, INK, big)
        name = clipped(os.path.basename(hit.path), small, TILE)
        draw.text((x, y + TILE + 27), name, SOFT, small)
    return sheet


def sheet_format(path: str | os.PathLike) -> str:
    """Pillow's name of the format that a file name asks for.

    Raises: ValueError for a name that does not end in .png, .jpg or .webp.
    """
    form = FORMATS.get(pathlib.Path(path).suffix.lower())
    if form is None:
        raise ValueError(
            f"{os.fspath(path)} cannot be a sheet: give a name that ends in "
            + ", ".join(FORMATS)
        )
    return form


def save_sheet(sheet: Image.Image, path: str | os.PathLike) -> None:
    """Writes a sheet; the file is whole or not there. Raises: as `sheet_format`."""
    path, content = pathlib.Path(path), io.BytesIO()
    sheet.save(content, sheet_format(path), quality=90)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part")
    aside.write_bytes(content.getvalue())
    os.replace(aside, path)
