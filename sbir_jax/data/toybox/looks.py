"""Colours, patterns, backgrounds, captions and drawing hands of Toybox (numpy).

The names that captions use are drawn first (`attributes`) and the pixels' numbers
follow from them (`look`), so a caption can name only what is really there.
"""

import functools
from dataclasses import dataclass

import numpy as np

from sbir_jax.data.toybox import parts

COLOURS = {
    "red": (205, 42, 40), "orange": (240, 130, 25), "yellow": (243, 208, 45),
    "green": (48, 148, 62), "blue": (42, 88, 205), "purple": (124, 58, 172),
    "pink": (244, 142, 182), "brown": (118, 72, 42), "white": (243, 242, 238),
    "grey": (138, 140, 144), "black": (36, 36, 40), "turquoise": (52, 192, 190),
}  # fmt: skip
PATTERNS = {
    "striped": "stripes", "checked": "checks", "spotted": "spots", "marbled": "veins",
}  # fmt: skip
_STYLES = ("plain", *PATTERNS, "wooden")
_TYPICAL = {
    "banana": ("yellow", "green"), "bicycle": ("red", "blue", "black"),
    "burger": ("brown", "orange"), "cactus": ("green",), "carrot": ("orange",),
    "castle": ("grey", "brown"), "duck": ("yellow", "white"), "elephant": ("grey",),
    "giraffe": ("yellow", "orange"), "guitar": ("brown", "orange", "red"),
    "house": ("white", "yellow", "brown"), "hat": ("black", "brown"),
    "key": ("yellow", "grey"), "fork": ("grey",), "anchor": ("grey", "black"),
    "mushroom": ("red", "brown"), "snowman": ("white",), "tree": ("green",),
    "bell": ("yellow",), "spider": ("black", "brown"), "windmill": ("white", "brown"),
    "goblet": ("grey", "white"), "robot": ("grey", "blue"), "snail": ("brown",),
}  # fmt: skip
_WOODEN = (
    "bed", "boat", "bookshelf", "chair", "clock", "guitar", "ladder", "table",
)  # fmt: skip
_NATURAL = {
    parts.DARK: (46, 46, 52), parts.LIGHT: (236, 233, 224),
    parts.STEEL: (168, 173, 180), parts.WOOD: (146, 98, 58),
    parts.LEAF: (66, 142, 60), parts.GLASS: (150, 198, 226),
    parts.GOLD: (242, 178, 52), parts.TAN: (222, 176, 120),
}  # fmt: skip
# What to call the colours above, with what may pass for another.
_NATURAL_NAMES = {
    parts.DARK: ("black",), parts.LIGHT: ("white",), parts.STEEL: ("grey",),
    parts.WOOD: ("brown", "wood"), parts.LEAF: ("green",),
    parts.GLASS: ("blue", "turquoise"), parts.GOLD: ("yellow", "orange"),
    parts.TAN: ("brown", "orange"),
}  # fmt: skip
PHOTO = ("a photo of", "a photo of", "a picture of", "a photograph of")
SKETCH = ("a sketch of", "a sketch of", "a line drawing of", "a drawing of")


@dataclass(frozen=True)
class Attributes:
    """What can be said of a thing's surface. `second` is None without a pattern."""

    colour: str
    pattern: str
    second: str | None
    accent: str


def attributes(category: str, rng: np.random.Generator) -> Attributes:
    """Draw the named attributes of one look."""
    names = list(COLOURS)
    colour = str(rng.choice(names))
    if category in _TYPICAL and rng.random() < 0.4:
        colour = str(rng.choice(_TYPICAL[category]))
    others = [name for name in names if apart(name, colour) > 0.33]
    second, accent = (str(name) for name in rng.choice(others, 2))
    draw = rng.random()
    pattern = "plain"
    if draw < 0.45:
        pattern = str(rng.choice(list(PATTERNS), p=(0.35, 0.2, 0.3, 0.15)))
    elif draw < 0.6 and category in _WOODEN:
        pattern = "wooden"
    return Attributes(colour, pattern, second if pattern in PATTERNS else None, accent)


def natural_colours(slots: list[int]) -> frozenset[str]:
    """Names of what parts in these slots have by nature: colours, and "wood"."""
    return frozenset(name for slot in slots for name in _NATURAL_NAMES.get(slot, ()))


@functools.cache
def apart(one: str, other: str) -> float:
    """Distance of two named colours in sRGB, whose sides are 1."""
    a, b = (np.array(COLOURS[name]) / 255 for name in (one, other))
    return float(np.linalg.norm(a - b))


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def with_article(words: str) -> str:
    return f"{_article(words)} {words}"


def _descriptions(category: str, a: Attributes) -> tuple[list[str], list[str]]:
    """Full descriptions, and shorter ones."""
    if a.pattern == "plain":
        full = [f"{a.colour} {category}"]
        return full, full
    if a.pattern == "wooden":
        return [f"{a.colour} wooden {category}"], [f"wooden {category}"]
    return [
        f"{a.colour} {category} with {a.second} {PATTERNS[a.pattern]}",
        f"{a.colour} {category} with {a.second} {PATTERNS[a.pattern]}",
        f"{a.pattern} {a.colour} and {a.second} {category}",
    ], [f"{a.pattern} {category}", f"{a.colour} {category}"]


def photo_caption(category: str, a: Attributes, rng: np.random.Generator) -> str:
    """A caption of a photo; one in ten names neither colour nor pattern."""
    full, short = _descriptions(category, a)
    draw = rng.random()
    if draw < 0.75:
        words = str(rng.choice(full))
    elif draw < 0.9:
        words = str(rng.choice(short))
    else:
        words = category
    return f"{rng.choice(PHOTO)} {with_article(words)}"


def sketch_caption(category: str, rng: np.random.Generator) -> str:
    """A caption of a drawing."""
    return f"{rng.choice(SKETCH)} {with_article(category)}"


def vocabulary(categories: tuple[str, ...]) -> tuple[str, ...]:
    """Every word that a caption can contain, sorted."""
    words = {"an", "and", "with", "wooden", *categories, *COLOURS}
    words.update(PATTERNS, PATTERNS.values(), *(p.split() for p in PHOTO + SKETCH))
    return tuple(sorted(words))


def _linear(colour) -> np.ndarray:
    """Linear light from sRGB in [0, 255]."""
    c = np.clip(np.asarray(colour, np.float64) / 255, 0, 1)
    return np.where(c < 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def _paint(name: str, rng) -> np.ndarray:
    """A named colour, a little off, so that the name still holds."""
    return _linear(np.array(COLOURS[name]) * rng.uniform(0.93, 1.05)
                   + rng.uniform(-7, 7, 3))  # fmt: skip


_BACKDROPS = {
    # sRGB of wall top, wall bottom, second wall colour, floor, second floor colour.
    "meadow": ((120, 175, 235), (205, 228, 245), (245, 248, 250), (110, 160, 75),
               (80, 130, 55)),
    "beach": ((110, 180, 235), (200, 230, 245), (250, 250, 250), (226, 205, 160),
              (205, 182, 135)),
    "street": ((170, 190, 210), (215, 222, 228), (235, 238, 240), (130, 130, 132),
               (112, 112, 116)),
    "dusk": ((95, 85, 150), (245, 175, 130), (250, 205, 170), (110, 95, 100),
             (90, 78, 86)),
}  # fmt: skip


def _backdrop(rng) -> dict:
    """sRGB colours and styles of wall and floor, `wall_style` and so on."""
    kind = rng.choice(("studio", "room", "outdoors", "pattern", "clouds"),
                      p=(0.3, 0.25, 0.25, 0.1, 0.1))  # fmt: skip
    tint = rng.uniform(150, 245) + rng.uniform(-22, 22, 3)
    other = tint * rng.uniform(0.8, 0.95)
    if kind == "outdoors":
        scenes = list(_BACKDROPS)
        top, low, second, floor, fleck = (
            np.array(c) + rng.uniform(-12, 12, 3)
            for c in _BACKDROPS[scenes[rng.integers(len(scenes))]]
        )
        return {"wall": (top, low), "wall_second": second, "wall_style": 1,
                "floor": (floor, fleck), "floor_style": 3, "horizon": 7.0}  # fmt: skip
    if kind == "room":
        floor = rng.uniform(90, 210) * np.array([1.0, 0.86, 0.7])
        floor = floor + rng.uniform(-9, 9, 3)
        style = int(rng.choice((0, 1, 1, 2)))
        return {"wall": (tint, tint * 0.94), "wall_second": other,
                "wall_style": int(rng.choice((0, 0, 2))),
                "floor": (floor, floor * rng.uniform(0.72, 0.88)),
                "floor_style": style, "horizon": rng.uniform(1.5, 3.0)}  # fmt: skip
    if kind == "pattern":
        return {"wall": (tint, tint), "wall_second": other,
                "wall_style": int(rng.choice((2, 3))), "floor": (other, other * 0.95),
                "floor_style": 0, "horizon": 1.5}  # fmt: skip
    if kind == "clouds":
        return {"wall": (tint, other), "wall_second": rng.uniform(120, 240, 3),
                "wall_style": 1, "floor": (other, other), "floor_style": 0,
                "horizon": 2.0}  # fmt: skip
    return {"wall": (tint * rng.uniform(0.85, 1.0), tint), "wall_second": tint,
            "wall_style": 0, "floor": (tint, tint), "floor_style": 0,
            "horizon": 5.0}  # fmt: skip


def backdrop(colours: list[str], rng: np.random.Generator) -> dict:
    """Wall and floor, in linear light, behind things of these colours."""
    wanted = [np.array(COLOURS[name]) for name in colours]
    # A thing must stand out from what is behind it, as on a product photo.
    for _ in range(8):
        scene = _backdrop(rng)
        near = [scene["wall"][0], scene["wall"][1], scene["floor"][0]]
        if min(np.linalg.norm(c - w) for c in near for w in wanted) > 85:
            break
    return {
        "wall": _linear(scene["wall"]), "wall_second": _linear(scene["wall_second"]),
        "wall_style": np.array(scene["wall_style"]),
        "floor": _linear(scene["floor"]), "floor_style": np.array(scene["floor_style"]),
        # Where the floor begins to fade into the wall, and over how much.
        "horizon": np.array([1.5, scene["horizon"]]),
    }  # fmt: skip


def look(
    a: Attributes, slots: list[int], padded: int, rng: np.random.Generator
) -> dict:
    """The numbers that `paint.shade` needs for these attributes.

    Args:
      slots: colour slot of each part; padded: length of the part tables.
    Returns: a dictionary of arrays of fixed shapes; colours are linear.
    """
    colours = {parts.MAIN: _paint(a.colour, rng), parts.ACCENT: _paint(a.accent, rng)}
    for slot, colour in _NATURAL.items():
        colours[slot] = _linear(np.array(colour) * rng.uniform(0.85, 1.08))
    table, gloss = np.zeros((padded, 3)), np.zeros(padded)
    shine = rng.uniform(0, 0.5)
    main = np.zeros(padded)
    for i, slot in enumerate(slots):
        table[i], main[i] = colours[slot], slot == parts.MAIN
        gloss[i] = 0.6 if slot in (parts.STEEL, parts.GLASS) else shine
    room = backdrop([a.colour], rng)
    frame = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    # Mostly upright patterns: stripes run around or along the object.
    upright = rng.random() < 0.7
    tilt = np.radians(rng.choice((0.0, 90.0)) + rng.uniform(-6, 6))
    if upright:
        frame = np.array(
            [
                [np.cos(tilt), np.sin(tilt), 0.1],
                [-np.sin(tilt), np.cos(tilt), 0.1],
                [0, -0.1, 1.0],
            ]
        )
    clouds = _waves(rng, 8, 3.5, 0.55)
    warm = rng.uniform(-0.06, 0.06)
    return {
        "parts": table, "gloss": gloss, "main": main,
        "pattern": np.array(_STYLES.index(a.pattern)),
        "pattern_scale": np.array(rng.uniform(11, 17)),
        "pattern_turn": frame.ravel(),
        "pattern_colour": _paint(a.second or a.colour, rng),
        **room,
        "wall_scale": np.array(rng.uniform(6, 16)),
        "floor_scale": np.array(rng.uniform(1.8, 4.0)),
        "clouds": clouds,
        "sun": rng.uniform(0.55, 0.85) * np.array([1 + warm, 1, 1 - warm]),
        "sky": rng.uniform(0.42, 0.6) * np.array([1 - warm, 1, 1 + warm]),
        "exposure": np.array(rng.uniform(0.9, 1.08)),
        "vignette": np.array(rng.uniform(0, 0.12)),
        "noise": np.array(rng.uniform(0, 0.012)),
    }  # fmt: skip


def _waves(rng, count: int, frequency: float, size: float) -> np.ndarray:
    """Plane waves `[count, 4]` (see `paint._waves`) with this typical sum."""
    angle = rng.uniform(0, 2 * np.pi, count)
    speed = frequency * rng.uniform(0.5, 1.5, count)
    phase = rng.uniform(0, 2 * np.pi, count)
    amplitude = np.full(count, size * np.sqrt(2 / count))
    x, y = speed * np.cos(angle), speed * np.sin(angle)
    return np.stack([x, y, phase, amplitude], -1)


def hand(count: int, padded: int, rng: np.random.Generator) -> dict:
    """The numbers that `paint.draw` needs for one drawing by one hand."""
    care = rng.uniform(0.35, 1.0)  # 1 is the clumsiest hand
    # Some parts are left out: they take their neighbours' label.
    labels = np.arange(padded, dtype=np.float64)
    for i in range(1, count):
        if rng.random() < 0.12:
            labels[i] = labels[i - 1]
    turn, grow = np.radians(rng.uniform(-4, 4)), 1 + rng.uniform(-0.05, 0.05, 2)
    cos, sin = np.cos(turn), np.sin(turn)
    affine = np.array([[cos, -sin, 0], [sin, cos, 0]])
    affine[:, :2] *= grow[None]
    affine[:, 2] = rng.uniform(-0.03, 0.03, 2)
    warp = np.stack([
        [np.concatenate([_waves(rng, 4, 3.5, 0.013 * care),
                         _waves(rng, 4, 10.0, 0.006 * care)]) for _ in range(2)]
        for _ in range(3)
    ])  # fmt: skip
    # The second line of a doubled stroke runs further off.
    warp[2, :, :, 3] *= 1.8
    return {
        "merged": labels, "affine": affine, "warp": warp,
        "gaps": _waves(rng, 8, 13.0, 0.5),
        "gap_level": np.array(rng.uniform(0.75, 1.5)),
        "again": _waves(rng, 8, 5.0, 0.5),
        "again_level": np.array(rng.uniform(0.1, 1.0)),
        "pressure": _waves(rng, 6, 6.0, rng.uniform(0.05, 0.22)),
        "ink": np.array(rng.uniform(0.03, 0.3)),
        "inner": np.array(rng.uniform(0.65, 1.0)),
    }  # fmt: skip
