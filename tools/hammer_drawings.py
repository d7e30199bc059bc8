"""Hostile drawings of `tools.hammer`: SVG, QuickDraw's ndjson, Excalidraw's scenes.

Each SVG asks the renderer for what it has little of (time, memory, files of others), by
a way that is known to have worked on some renderer; then a part of each may be cut or
changed. JSON is a sound drawing with some of its values changed, at any depth.
"""

import json
import random
from typing import Any

VALUES = (
    None,
    -1,
    0,
    1e300,
    10**400,
    float("nan"),
    float("inf"),
    "",
    "x",
    [],
    {},
    [[]],
)
LINE = '<path d="M5 5L95 95" stroke="black"/>'
FULL = '<rect width="100" height="100"/>'
OUTSIDE = ("file:///etc/passwd", "/etc/passwd", "http://127.0.0.1:9/a.png", "//a/b")

STROKES = {"word": "cup", "drawing": [[[20, 20, 80, 80], [20, 80, 80, 20]], [[1], [2]]]}
SCENE = {
    "type": "excalidraw",
    "elements": [
        {"type": "line", "x": 5, "y": -2, "width": 60, "height": 60, "angle": 1.5}
        | {"points": [[0, 0], [0, 60], [60, 60]]},
        {"type": "ellipse", "x": 0, "y": 0, "width": 9, "height": 9},
        {"type": "diamond", "x": 0, "y": 0, "width": 9, "height": 9},
        {"type": "text", "x": 0, "y": 0, "width": 9, "height": 9, "text": "a"},
    ],
}


def hostile_drawing(rng: random.Random) -> tuple[str, bytes]:
    """A name, and the bytes of a drawing."""
    kind = rng.choice(("svg", "svg", "ndjson", "excalidraw"))
    if kind == "svg":
        how, text = _svg(rng)
    else:
        how = rng.choice(("value", "value", "value", "deep", "many", "long", "joined"))
        text = _json(rng, STROKES if kind == "ndjson" else SCENE, how)
    if rng.random() < 0.2:
        how, text = f"{how}-cut", text[: rng.randrange(len(text))]
    return f"{how}.{kind}", text.encode(rng.choice(("utf-8",) * 9 + ("utf-16",)))


def _svg(rng: random.Random) -> tuple[str, str]:
    how = rng.choice(sorted(BODIES | HEADS))
    count = rng.choice((2, 150, 2_000, 9_000))
    before, box, body = "", "0 0 100 100", LINE
    if how in BODIES:
        body = BODIES[how](count)
    elif how == "box":
        box = rng.choice(BOXES)
    else:
        before = HEADS[how]
        body = f"<g>&b;</g>{LINE}"
    text = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}">{body}</svg>'
    return f"{how}-{count}", before + text.replace("OUTSIDE", rng.choice(OUTSIDE))


def _within(tag: str, count: int, inner: str = FULL) -> str:
    name = tag.partition(" ")[0]
    return f"<{tag}>" * count + inner + f"</{name}>" * count


def _clips(count: int) -> str:
    clips = (
        f'<clipPath id="c{i}" clip-path="url(#c{i - 1})">{FULL}'
        f'<g clip-path="url(#c{i - 1})">{FULL}</g></clipPath>'
        for i in range(1, count)
    )
    last = f'<g clip-path="url(#c{count - 1})">{FULL}</g>'
    return f'<defs><clipPath id="c0">{FULL}</clipPath>{"".join(clips)}</defs>{last}'


BOXES = ("0 0 1 1e30", "0 0 0 0", "nan 0 1 1", "0 0 -5 5", "0 0 1e-30 1e-30", "0", "")
HEADS = {
    "laughs": '<!DOCTYPE l [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;">]>',
    "outside-entity": '<!DOCTYPE l [<!ENTITY b SYSTEM "OUTSIDE">]>',
    "outside-parameter": '<!DOCTYPE l [<!ENTITY % b SYSTEM "OUTSIDE"> %b;]>',
    "outside-type": '<!DOCTYPE svg SYSTEM "OUTSIDE">',
    "box": "",
}
BODIES = {
    "deep": lambda n: _within("g", n),
    "deep-svg": lambda n: _within('svg width="1e9" height="1e9" viewBox="0 0 1 1"', n),
    "opacity": lambda n: _within('g opacity="0.9"', n),
    "blend": lambda n: _within('g style="mix-blend-mode:multiply"', n),
    "many-opacities": lambda n: _within('g opacity="0.5"', 1, FULL + LINE) * n,
    "many-clips": lambda n: (
        f'<clipPath id="c">{FULL}</clipPath>' + f'<g clip-path="url(#c)">{FULL}</g>' * n
    ),
    "clips-of-clips": _clips,
    "dashes": lambda n: (
        '<path d="M0 0L100 100L0 100" stroke-dasharray="1e-4" stroke="black"/>' * n
    ),
    "no-numbers": lambda n: '<path d="MNaN 0L1e400 -1e400Z" stroke-width="nan"/>' * n,
    "far": lambda n: (
        '<path d="M-1e38 -1e38L1e38 1e38A1e30 1e30 0 0 1 50 50" '
        'stroke="black" stroke-width="1e38"/>' * n
    ),
    "curves": lambda n: (
        f'<path d="M0 0{"c1e5 1e5 -1e5 1e5 1 1" * 9 * n}" fill="none" '
        'stroke="black" stroke-width="50" stroke-linejoin="round"/>'
    ),
    "crossings": lambda n: (
        f'<path d="M0 0{"L99 99L0 1L99 3L50 0L3 99" * n}" '
        'fill="black" fill-rule="evenodd"/>'
    ),
    "full": lambda n: FULL * n,
    "uses": lambda n: f'<g id="a">{LINE * n}</g>' + '<use href="#a"/>' * n,
    "uses-of-uses": lambda n: (
        '<g id="a0"><path d="M0 0L9 9"/></g>'
        + "".join(
            f'<g id="a{i}">{f"""<use href="#a{i - 1}"/>""" * 9}</g>'
            for i in range(1, min(n, 99))
        )
    ),
    "loop": lambda n: '<g id="a"><use href="#a"/></g><use href="#a"/>' * n + LINE,
    "gradients": lambda n: (
        '<radialGradient id="g" fx="0.9" spreadMethod="repeat">'
        '<stop offset="0"/><stop offset="1" stop-color="red"/></radialGradient>'
        + '<circle r="100" stroke="url(#g)" stroke-width="300" fill="url(#g)"/>'
        * n
    ),
    "style": lambda n: (
        f"<style>{'g ' * n}{{fill:red}}{'path+path~g>*{}' * n}</style>" + LINE
    ),
    "attributes": lambda n: (
        "<path " + " ".join(f'a{i}="b"' for i in range(n)) + f"/>{LINE}"
    ),
    "transform": lambda n: _within('g transform="scale(1e30) rotate(nan)"', n % 199),
    "outside-image": lambda n: f'<image href="OUTSIDE" width="99" height="99"/>{LINE}',
    "outside-fill": lambda n: f'<rect width="9" height="9" fill="url(OUTSIDE)"/>{LINE}',
    "outside-use": lambda n: f'<use href="OUTSIDE#a"/>{LINE}',
    "outside-style": lambda n: f'<style>@import "OUTSIDE";</style>{LINE}',
    "script": lambda n: f"<script>while(1){{}}</script>{LINE}",
    "text": lambda n: f'<text font-size="1e9">{"M" * n}</text>{LINE}',
}


def _json(rng: random.Random, sound: dict[str, Any], how: str) -> str:
    value = json.loads(json.dumps(sound))
    if how == "value":
        for _ in range(rng.choice((1, 1, 3))):
            _spoil(rng, value)
    elif how == "many":
        key = "drawing" if "drawing" in value else "elements"
        value[key] *= 30_000
    elif how == "long":
        value["drawing"] = [[list(range(400_000))] * 2]
    text = json.dumps(value)
    if how == "deep":
        return text[:-1] + ', "a": ' + "[" * 100_000 + "]" * 100_000 + "}"
    return f"{text}\n{text}" if how == "joined" else text


def _spoil(rng: random.Random, value: Any) -> None:
    """Changes one value, somewhere inside."""
    keys = sorted(value) if isinstance(value, dict) else range(len(value))
    if not keys:
        return
    key = rng.choice(keys)
    if isinstance(value[key], dict | list) and value[key] and rng.random() < 0.8:
        _spoil(rng, value[key])
    else:
        value[key] = rng.choice(VALUES)
