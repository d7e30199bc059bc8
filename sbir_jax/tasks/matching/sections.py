"""The matching task's tables and pictures for the report."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from sbir_jax.data import images as images_lib
from sbir_jax.data.matching import MatchingSet
from sbir_jax.report.charts import Panel
from sbir_jax.report.pictures import INK, clipped, sheet_font
from sbir_jax.report.sections import Curves, Grid, Table, overlay
from sbir_jax.tasks.matching import heat
from sbir_jax.tasks.matching.matcher import FIT, Matcher

SHOWN, EDGE = 4, 192  # questions with heat maps, and pixels of a picture
HEAT = (226, 60, 30)


def errors(found: Mapping[str, Any], names: Mapping[str, str]) -> Table:
    """Every figure with its standard error."""
    models = list(found)
    rows = []
    for metric in next(iter(found.values()), {}):
        cells = [_with_error(found[model].get(metric)) for model in models]
        count = next(iter(found.values()))[metric]["count"]
        rows.append((metric, f"{count:,}", *cells))
    return Table(
        "By kind of candidate",
        ("", "questions", *(names.get(model, model) for model in models)),
        rows,
        lead="With the standard error over questions; those about one image, or of one "
        "text, count as one draw.",
    )


def _with_error(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return ""
    return f"{figure['value']:.3f} ± {figure['error']:.3f}"


def cost(
    found: Mapping[str, Mapping[str, Sequence[float]]],
    metric: str,
    names: Mapping[str, str],
) -> Curves:
    """The primary figure against the passes of the network that a pair takes, which
    are as many as timesteps, and against the time they take."""

    def lines(across: str) -> dict[str, list[tuple[float, float]]]:
        return {
            names.get(model, model): list(
                zip(curve[across], curve["value"], strict=True)
            )
            for model, curve in found.items()
        }

    panels = [
        Panel(
            f"{metric} by passes", lines("passes"), dots=True, across="passes a pair"
        ),
        Panel(
            f"{metric} by time", lines("milliseconds"), dots=True, across="ms a pair"
        ),
    ]
    return Curves(panels if found else [], "What it costs")


def heat_maps(questions: MatchingSet, matcher: Matcher) -> Grid:
    """The first questions' images, and over them where each word is seen."""
    pictures, captions = [], []
    shown: dict[int, str] = {}
    for item in questions.items:
        if item.images[0] not in shown:
            shown[item.images[0]] = item.texts[0]
        if len(shown) == SHOWN:
            break
    for image, text in shown.items():
        source = questions.images[image]
        picture = images_lib.decode(source, EDGE, FIT)
        pictures.append(picture)
        captions.append(text)
        found = heat.word_maps(matcher, source, text)
        for word, strength in zip(found.words, found.maps, strict=True):
            pictures.append(heated(picture, strength))
            captions.append(word)
    return Grid(
        "Where the words are",
        pictures,
        captions,
        lead="Each word's share of the attention to the text at every place, brightest "
        "where it is largest in this picture.",
    )


def word_sheet(matcher: Matcher, image: Any, text: str) -> Image.Image:
    """A photo and, side by side, where each word of a text is, under its name.

    Raises: as `heat.word_maps`.
    """
    found = heat.word_maps(matcher, image, text)
    picture = images_lib.decode(image, EDGE, FIT)
    tiles = [picture, *(heated(picture, strength) for strength in found.maps)]
    gap, line, font = 12, 30, sheet_font(15)
    columns = min(len(tiles), 6)
    rows = -(-len(tiles) // columns)
    size = gap + columns * (EDGE + gap), gap + rows * (EDGE + line)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for i, (tile, name) in enumerate(zip(tiles, ["", *found.words], strict=True)):
        x, y = gap + i % columns * (EDGE + gap), gap + i // columns * (EDGE + line)
        sheet.paste(Image.fromarray(tile), (x, y))
        draw.text((x, y + EDGE + 4), clipped(name, font, EDGE), INK, font)
    return sheet


def heated(picture: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """A picture with a word's map over it, from its lowest to its highest value."""
    low, high = strength.min(), strength.max()
    scaled = (strength - low) / max(high - low, 1e-9)
    coarse = Image.fromarray(np.float32(scaled))
    size = picture.shape[1], picture.shape[0]
    smooth = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC))
    return overlay(picture, 0.8 * np.clip(smooth, 0, 1) ** 2, HEAT)
