"""The 48 categories of Toybox, each a short function from a random source to parts.

Every function draws proportions, styles and optional parts, so that two instances of
one category can be told apart by their shape alone. Objects face the viewer (+z) in
their most telling view; the size does not matter, `toybox_parts.pack` sets it.
"""

import numpy as np

from sbir_jax.data.toybox_parts import (
    ACCENT,
    DARK,
    GLASS,
    GOLD,
    LEAF,
    LIGHT,
    MAIN,
    STEEL,
    TAN,
    WOOD,
    ball,
    block,
    cylinder,
    ring,
    rod,
)  # fmt: skip


class Dice:
    """Short names for the draws that shapes are made of."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng

    def u(self, low, high):
        """A uniform number."""
        return float(self.rng.uniform(low, high))

    def k(self, low, high):
        """A whole number, both ends included."""
        return int(self.rng.integers(low, high + 1))

    def p(self, chance=0.5):
        """True with this chance."""
        return bool(self.rng.random() < chance)

    def pick(self, *options):
        """One of the options."""
        return options[int(self.rng.integers(len(options)))]


def airplane(d):
    long, span, sweep = d.u(0.9, 1.2), d.u(0.8, 1.15), d.u(-35, -5)
    low = d.pick(-0.08, 0.0, 0.15)
    parts = [
        ball((0, 0, 0), (long, d.u(0.17, 0.24), 0.2)),
        block((-0.05, low, span / 2), (0.2, 0.03, span / 2), ACCENT,
              rot=(0, sweep, 0), mirror="z", taper=(1, 1)),
        block((-long + 0.18, 0.05, 0.25), (0.12, 0.025, 0.25), ACCENT, mirror="z",
              rot=(0, sweep, 0)),
        block((-long + 0.15, 0.28, 0), (0.16, 0.22, 0.03), ACCENT, taper=(0.5, 1),
              rot=(0, 0, 15)),
        ball((long * 0.62, 0.12, 0), (0.18, 0.1, 0.13), GLASS),
    ]  # fmt: skip
    if d.p(0.6):
        parts.append(ball((-0.45, 0.06, 0.19), 0.05, GLASS, mirror="z",
                          repeat=((0.17, 0, 0), d.k(3, 5))))  # fmt: skip
    if d.p(0.5):
        parts.append(rod((long, 0, 0), (long + 0.08, 0, 0), 0.05, DARK))
        parts.append(block((long + 0.06, 0, 0), (0.015, 0.3, 0.04), DARK))
    else:
        parts.append(rod((-0.05, low - 0.12, 0.5), (0.3, low - 0.12, 0.5), 0.1,
                         STEEL, mirror="z"))  # fmt: skip
    return parts


def anchor(d):
    h, r, t = d.u(0.75, 1.0), d.u(0.5, 0.7), d.u(0.07, 0.1)
    top = d.u(0.13, 0.2)
    parts = [
        rod((0, -h, 0), (0, h * 0.6, 0), t),
        ring((0, h * 0.6 + top, 0), top, t * 0.8),
        ring((0, -h + r, 0), r, t * 1.1, arc=d.u(150, 190), rot=(0, 0, 180)),
        rod((-d.u(0.3, 0.5), h * 0.38, 0), (d.u(0.3, 0.5), h * 0.38, 0), t,
            d.pick(MAIN, ACCENT)),
        block((r * 0.98, -h + r + 0.05, 0), (0.17, 0.17, t), taper=(0, 1),
              mirror="x", rot=(0, 0, 0)),
    ]  # fmt: skip
    if d.p(0.4):
        parts.append(ring((0.1, h * 0.6 + 2.2 * top, 0), 0.13, 0.04, ACCENT))
    return parts


def banana(d):
    r, tube = d.u(0.8, 1.0), d.u(0.17, 0.25)
    arc, n = d.u(100, 150), d.pick(1, 1, 2, 3)
    parts, end = [], np.radians(arc / 2)
    for i in range(n):
        turn = (0, (i - (n - 1) / 2) * 24, 180)
        parts.append(ring((0, 0, (i - (n - 1) / 2) * 0.2), r, tube, arc=arc, tip=0.4,
                          rot=turn))  # fmt: skip
    x, y = r * np.sin(end), -r * np.cos(end)
    way = np.array([np.cos(end), np.sin(end), 0]) * d.u(0.14, 0.26)
    parts.append(rod((x, y, 0), np.add(way, (x, y, 0)), 0.075, DARK, tip=0.09))
    parts.append(ball((-x, y, 0), 0.08, DARK))
    return parts


def bed(d):
    w, long, head = d.u(0.55, 0.8), d.u(0.95, 1.15), d.u(0.45, 0.75)
    parts = [
        block((0, 0.3, 0), (long, 0.09, w), WOOD),
        block((0, 0.48, 0), (long - 0.05, 0.12, w - 0.04), LIGHT, edge=0.06),
        block((0.25, 0.52, 0), (long - 0.33, 0.12, w + 0.0), MAIN, edge=0.06),
        block((-long, head, 0), (0.06, head, w + 0.04), d.pick(WOOD, ACCENT),
              edge=0.03),
        cylinder((-long + 0.07, 0.12, w - 0.08), 0.07, 0.13, WOOD, mirror="xz"),
    ]  # fmt: skip
    if d.p(0.6):
        parts.append(block((long, head * 0.6, 0), (0.05, head * 0.6, w + 0.04), WOOD))
    n = d.pick(1, 2)
    parts.append(ball((-long + 0.3, 0.66, -w / 2 if n == 2 else 0),
                      (0.2, 0.1, w * (0.42 if n == 2 else 0.7)), ACCENT,
                      repeat=((0, 0, w), n) if n == 2 else None))  # fmt: skip
    if d.p(0.4):
        parts.append(cylinder((-long, head * 2 + 0.06, w), 0.08, 0.1, ACCENT,
                              mirror="z"))  # fmt: skip
    return parts


def bell(d):
    r, flare = d.u(0.55, 0.75), d.u(0.5, 0.62)
    parts = [
        cylinder((0, 0.45, 0), r, 0.42, top=r * flare, edge=0.05),
        ball((0, 0.85, 0), (r * flare, r * flare * 0.8, r * flare), cut=(0, 9)),
        cylinder((0, 0.06, 0), r + 0.12, 0.08, d.pick(MAIN, ACCENT), edge=0.06),
        ball((0, -0.1, 0), d.u(0.13, 0.19), DARK),
    ]
    top = 0.85 + r * flare * 0.8
    if d.p():
        parts.append(ring((0, top + 0.1, 0), 0.14, 0.05, ACCENT))
    else:
        h = d.u(0.25, 0.45)
        parts.append(cylinder((0, top + h * 0.9, 0), 0.09, h, WOOD, top=0.13))
    if d.p(0.6):
        parts.append(ring((0, d.u(0.3, 0.6), 0), r * 0.83, 0.07, ACCENT,
                          rot=(90, 0, 0)))  # fmt: skip
    return parts


def bicycle(d):
    r, t, x = d.u(0.42, 0.52), d.u(0.04, 0.065), d.u(0.62, 0.72)
    hub, seat = (0.02, 0.02, 0), (-0.28, r + 0.22, 0)
    bars = (x - 0.2, r + d.u(0.24, 0.34), 0)
    f = 0.05
    parts = [
        ring((-x, 0, 0), r, t, DARK), ring((x, 0, 0), r, t, DARK),
        ball((-x, 0, 0), 0.09, STEEL), ball((x, 0, 0), 0.09, STEEL),
        rod((-x, 0, 0), hub, f), rod(hub, seat, f), rod((-x, 0, 0), seat, f),
        rod(hub, (x - 0.17, r + 0.04, 0), f), rod((x, 0, 0), bars, f),
        rod((-0.25, r * 0.85, 0), (x - 0.17, r * (0.9 if d.p() else 0.5), 0), f),
        ball((-0.3, r + 0.27, 0), (0.2, 0.06, 0.11), DARK),
        rod((x - 0.2, bars[1], -0.26), (x - 0.2, bars[1], 0.26), f, DARK),
        cylinder((0.02, 0.02, 0.03), 0.13, 0.03, STEEL, rot=(90, 0, 0)),
    ]  # fmt: skip
    if d.p():
        parts.append(block((x + 0.12, bars[1] - 0.02, 0), (0.17, 0.13, 0.17), TAN,
                           taper=(1.2, 1.2)))  # fmt: skip
    if d.p():
        parts.append(block((-x - 0.05, r + 0.14, 0), (0.28, 0.03, 0.12), STEEL))
    return parts


def boat(d):
    long, mast, side = d.u(0.8, 1.05), d.u(1.3, 1.7), d.pick(-1, 1)
    parts = [
        block((0, 0.2, 0), (long * 0.72, 0.22, 0.25), taper=(1.4, 1.35), edge=0.03,
              corner=0.15),
        block((0, 0.44, 0), (long + 0.02, 0.035, 0.34), ACCENT, corner=0.3),
        rod((0, 0.4, 0), (0, 0.5 + mast, 0), 0.045, WOOD),
        block((side * 0.36, 0.62 + mast * 0.45, 0), (0.33, mast * 0.42, 0.02),
              d.pick(LIGHT, LIGHT, ACCENT), taper=(0, 1),
              rot=(0, 0, side * 11)),
    ]  # fmt: skip
    if d.p(0.7):
        parts.append(block((-side * 0.28, 0.62 + mast * 0.3, 0.02),
                           (0.24, mast * 0.29, 0.02), d.pick(LIGHT, ACCENT),
                           taper=(0, 1), rot=(0, 0, -side * 10)))  # fmt: skip
    if d.p():
        parts.append(block((side * 0.12, 0.5 + mast, 0), (0.13, 0.07, 0.015), ACCENT))
    if d.p():
        parts.append(block((-side * 0.5, 0.53, 0), (0.2, 0.1, 0.17), LIGHT))
    return parts


def bookshelf(d):
    w, h, n = d.u(0.55, 0.85), d.u(0.9, 1.2), d.k(2, 4)
    gap = 2 * h / n
    parts = [
        block((w, h, 0), (0.05, h, 0.25), mirror="x"),
        block((0, 0.04, 0), (w, 0.045, 0.25), repeat=((0, gap - 0.02, 0), n + 1)),
        block((0, h, -0.22), (w, h, 0.025), d.pick(MAIN, WOOD)),
    ]
    for i in range(n):
        thick = d.u(0.05, 0.075)
        count = d.k(2, int(w / thick * 0.75))
        tall = gap * d.u(0.26, 0.38)
        left = d.p()
        x = -w + 0.08 + thick if left else w - 0.08 - thick
        step = (2.15 * thick if left else -2.15 * thick, 0, 0)
        slot = d.pick(ACCENT, LEAF, TAN, GLASS, DARK)
        parts.append(block((x, 0.08 + i * (gap - 0.02) + tall, 0.03),
                           (thick, tall, 0.17), slot, repeat=(step, count)))
    if d.p():
        parts.append(ball((d.u(-0.3, 0.3), 2 * h + 0.14, 0), 0.14, ACCENT))
    return parts


def bottle(d):
    r, h, neck = d.u(0.3, 0.45), d.u(0.5, 0.75), d.u(0.09, 0.14)
    shoulder, long = d.u(0.12, 0.3), d.u(0.14, 0.3)
    y = 2 * h
    parts = [
        cylinder((0, h, 0), r, h, edge=0.06),
        cylinder((0, y + shoulder - 0.04, 0), r * 0.97, shoulder, top=neck),
        cylinder((0, y + 2 * shoulder + long - 0.1, 0), neck, long),
        cylinder((0, y + 2 * shoulder + 2 * long - 0.06, 0), neck * 1.3, d.u(0.06, 0.1),
                 d.pick(ACCENT, TAN, DARK)),
    ]  # fmt: skip
    if d.p(0.75):
        parts.append(cylinder((0, h * d.u(0.9, 1.1), 0), r + 0.015, h * d.u(0.35, 0.55),
                              d.pick(LIGHT, ACCENT)))  # fmt: skip
    return parts


def burger(d):
    r = d.u(0.85, 1.0)
    parts = [cylinder((0, 0.14, 0), r, 0.15, MAIN, edge=0.1)]
    layers = [("meat", DARK), ("green", LEAF), ("main", GOLD)]
    if d.p():
        layers.append(("sauce", ACCENT))
    y = 0.3
    for i in d.rng.permutation(len(layers)):
        name, slot = layers[i]
        if name == "main":
            parts.append(block((0, y + 0.03, 0), (r * 0.86, 0.04, r * 0.86), slot,
                               rot=(0, d.u(0, 90), 0)))  # fmt: skip
            y += 0.06
        else:
            t = d.u(0.08, 0.14) if name == "meat" else 0.05
            wide = r * (1.02 if name == "meat" else 1.1)
            parts.append(cylinder((0, y + t, 0), wide, t, slot, edge=t * 0.8))
            y += 2 * t
    high = d.u(0.4, 0.65)
    parts.append(ball((0, y, 0), (r * 1.02, high, r * 1.02), MAIN, cut=(0, 9)))
    if d.p(0.6):
        for _ in range(5):
            a, s = d.u(-1.2, 1.2), d.u(0.25, 0.7)
            x, z = s * r * np.sin(a), s * r * np.cos(a)
            parts.append(ball((x, y + high * np.sqrt(1 - s * s) + 0.01, z),
                              (0.06, 0.035, 0.045), LIGHT))  # fmt: skip
    return parts


def cactus(d):
    h, r = d.u(0.8, 1.1), d.u(0.2, 0.28)
    parts = [
        cylinder((0, 0.22, 0), 0.36, 0.24, ACCENT, top=0.46),
        cylinder((0, 0.46, 0), 0.5, 0.06, ACCENT, edge=0.04),
        rod((0, 0.4, 0), (0, 0.6 + 2 * h * 0.7, 0), r, MAIN, edge=r),
    ]
    for side in (-1, 1):
        if side == 1 or d.p(0.75):
            x, y, up = d.u(0.45, 0.6) * side, d.u(0.75, 1.25), d.u(0.3, 0.6)
            parts.append(rod((0, y, 0), (x, y, 0), r * 0.55, MAIN, edge=r * 0.55))
            parts.append(rod((x, y, 0), (x, y + up, 0), r * 0.6, MAIN, edge=r * 0.6))
    if d.p():
        parts.append(ball((0, 0.66 + 2 * h * 0.7, 0), (0.15, 0.1, 0.15), ACCENT))
    return parts


def cake(d):
    tiers, r = d.k(1, 3), d.u(0.8, 0.95)
    parts = [cylinder((0, 0.03, 0), r + 0.2, 0.04, LIGHT)]
    y = 0.06
    for i in range(tiers):
        h = d.u(0.16, 0.24) + (0.12 if tiers == 1 else 0)
        parts.append(cylinder((0, y + h, 0), r, h, MAIN, edge=0.05))
        parts.append(ring((0, y + 2 * h, 0), r - 0.02, 0.06, ACCENT, rot=(90, 0, 0)))
        y += 2 * h
        r *= d.u(0.6, 0.72) if i < tiers - 1 else 1
    top = d.pick("candles", "cherry", "candle")
    if top == "cherry":
        parts.append(ball((0, y + 0.13, 0), 0.15, ACCENT))
    else:
        n = 1 if top == "candle" else d.k(2, 4)
        gap = 1.2 * r / n
        x = -gap * (n - 1) / 2
        parts.append(cylinder((x, y + 0.2, 0), 0.045, 0.2, LIGHT,
                              repeat=((gap, 0, 0), n)))  # fmt: skip
        parts.append(ball((x, y + 0.47, 0), (0.05, 0.09, 0.05), GOLD,
                          repeat=((gap, 0, 0), n)))  # fmt: skip
    return parts


def car(d):
    long, tall, wheel = d.u(0.9, 1.1), d.u(0.2, 0.28), d.u(0.2, 0.27)
    cabin, back = d.u(0.42, 0.62), d.u(-0.25, 0.05)
    y = wheel + tall * 0.9
    roof = d.u(0.18, 0.26)
    x = long * d.u(0.55, 0.64)
    parts = [
        block((0, y, 0), (long, tall, 0.46), edge=0.1, corner=0.15),
        block((back, y + tall + roof - 0.04, 0), (cabin, roof, 0.42), GLASS,
              taper=(d.u(0.6, 0.8), 0.85)),
        block((back, y + tall + 2 * roof - 0.05, 0), (cabin * 0.74, 0.045, 0.37)),
        block((back, y + tall + roof - 0.04, 0), (0.035, roof, 0.43),
              taper=(1, 0.86)),
        cylinder((x, wheel, 0.42), wheel, 0.09, DARK, rot=(90, 0, 0), mirror="xz"),
        cylinder((x, wheel, 0.5), wheel * 0.5, 0.03, STEEL, rot=(90, 0, 0),
                 mirror="xz"),
        ball((long - 0.03, y + 0.05, 0.3), (0.05, 0.08, 0.09), GOLD, mirror="z"),
    ]  # fmt: skip
    if d.p(0.3):
        parts.append(block((back, y + tall + 2 * roof + 0.05, 0),
                           (cabin * 0.6, 0.06, 0.3), ACCENT))  # fmt: skip
    if d.p(0.4):
        parts.append(block((0, y, 0.465), (long - 0.1, 0.04, 0.01), ACCENT, mirror="z"))
    return parts


def carrot(d):
    h, r = d.u(0.8, 1.05), d.u(0.26, 0.38)
    parts = [
        cylinder((0, 0, 0), r, h, top=0.05, rot=(180, 0, 0), edge=0.04),
        ball((0, h - 0.02, 0), (r, 0.12, r)),
    ]
    for i in range(d.k(3, 5)):
        tilt = (i - 1.7) * d.u(0.16, 0.24)
        up = d.u(0.4, 0.65)
        parts.append(rod((0, h, 0), (tilt, h + up, 0.06 * (i % 2)), 0.05, LEAF,
                         tip=0.1))  # fmt: skip
    if d.p(0.6):
        parts.append(ring((0, h * 0.45, 0), r * 0.8, 0.03, ACCENT, rot=(80, 0, 0)))
    return parts


def castle(d):
    w, h, t = d.u(0.65, 0.85), d.u(0.35, 0.5), d.u(0.2, 0.27)
    tower = h + d.u(0.15, 0.4)
    pointed = d.p()
    parts = [
        block((0, h, 0), (w, h, 0.3)),
        block((-w + 0.2, 2 * h + 0.08, 0.2), (0.08, 0.1, 0.1),
              repeat=((0.26, 0, 0), int((2 * w - 0.4) / 0.26) + 1)),
        cylinder((w, tower, 0.15), t, tower, mirror="x"),
        block((0, 0.2, 0.3), (0.17, 0.24, 0.04), DARK, corner=0.02),
        ball((0, 0.44, 0.3), (0.17, 0.17, 0.04), DARK),
        ball((w, tower * 1.4, 0.15 + t), (0.05, 0.11, 0.04), DARK, mirror="x"),
    ]  # fmt: skip
    if pointed:
        roof = d.u(0.25, 0.4)
        parts.append(cylinder((w, 2 * tower + roof - 0.02, 0.15), t * 1.25, roof,
                              ACCENT, top=0.01, mirror="x"))  # fmt: skip
    else:
        parts.append(cylinder((w, 2 * tower + 0.06, 0.15), t * 1.2, 0.08, mirror="x"))
        parts.append(block((w - t * 0.9, 2 * tower + 0.2, 0.15), (0.07, 0.09, t),
                           mirror="x", repeat=((t * 0.9, 0, 0), 3)))  # fmt: skip
    if d.p(0.6):
        parts.append(block((0, 2 * h + 0.35, -0.1), (0.3, 0.4, 0.2)))
        parts.append(block((0, 2 * h + 0.93, -0.1), (0.36, 0.2, 0.26), ACCENT,
                           taper=(0, 0)))  # fmt: skip
    if d.p():
        parts.append(rod((w, 2 * tower, 0.15), (w, 2 * tower + 1.0, 0.15), 0.03, WOOD))
        parts.append(block((w + 0.16, 2 * tower + 0.88, 0.15), (0.16, 0.1, 0.015),
                           ACCENT))  # fmt: skip
    return parts


def chair(d):
    w, seat, back, t = d.u(0.42, 0.58), d.u(0.7, 0.95), d.u(0.45, 0.7), d.u(0.05, 0.08)
    y = seat + t
    parts = [block((0, y, 0), (w + 0.03, 0.07, w + 0.03), d.pick(MAIN, MAIN, ACCENT),
                   edge=0.04)]  # fmt: skip
    style = d.pick("legs", "legs", "stem")
    if style == "legs":
        splay = d.u(0, 0.14)
        parts.append(rod((w - t, y, w - t), (w - t + splay, 0, w - t + splay), t,
                         mirror="xz"))  # fmt: skip
        if d.p():
            parts.append(block((w, seat * 0.4, 0), (0.03, 0.04, w - t), mirror="x"))
    else:
        parts.append(rod((0, 0.1, 0), (0, y, 0), 0.07, STEEL))
        parts.append(rod((-w, 0.05, 0), (w, 0.05, 0), 0.06, STEEL))
        parts.append(rod((0, 0.05, -w), (0, 0.05, w), 0.06, STEEL))
    top = y + 2 * back
    kind = d.pick("panel", "slats", "bars", "round")
    if kind == "panel":
        parts.append(block((0, y + back, -w), (w, back, 0.05), edge=0.04))
    elif kind == "round":
        parts.append(cylinder((0, y + back + 0.1, -w), w * 1.05, 0.05, rot=(90, 0, 0)))
        parts.append(rod((w * 0.6, y, -w), (w * 0.6, y + back, -w), t, mirror="x"))
    else:
        parts.append(rod((w - t, y, -w), (w - t, top, -w), t, mirror="x"))
        if kind == "slats":
            n = d.k(2, 4)
            parts.append(block((0, y + 0.3, -w), (w - t, 0.07, 0.035), MAIN,
                               repeat=((0, (2 * back - 0.4) / (n - 1), 0), n)))
        else:
            n = d.k(2, 5)
            gap = 2 * (w - t) / (n + 1)
            parts.append(block((0, top - 0.06, -w), (w, 0.09, 0.05)))
            parts.append(rod((-gap * (n - 1) / 2, y, -w), (-gap * (n - 1) / 2, top, -w),
                             0.035, repeat=((gap, 0, 0), n)))  # fmt: skip
    if d.p(0.3) and style == "legs":
        parts.append(rod((w, y + 0.45, -w), (w, y + 0.45, w * 0.7), t, mirror="x"))
        parts.append(rod((w, y, w * 0.7), (w, y + 0.45, w * 0.7), t, mirror="x"))
    return parts


def clock(d):
    r, square = d.u(0.75, 0.95), d.p(0.3)
    t = d.u(0.12, 0.22)
    if square:
        parts = [block((0, 0, 0), (r, t, r), rot=(90, 0, 0), corner=0.12, edge=0.05)]
    else:
        parts = [cylinder((0, 0, 0), r, t, rot=(90, 0, 0), edge=0.05)]
    face = r * 0.82
    parts.append(cylinder((0, 0, t), face, 0.03, LIGHT, rot=(90, 0, 0)))
    z = t + 0.04
    for a, long, wide in ((d.k(0, 11) * 30, 0.5, 0.055), (d.k(0, 11) * 30, 0.78, 0.04)):
        way = np.array([np.sin(np.radians(a)), np.cos(np.radians(a)), 0]) * face * long
        parts.append(rod((0, 0, z), np.add(way, (0, 0, z)), wide, DARK))
    parts.append(ball((0, 0, z), 0.08, ACCENT))
    for a in (0, 90) if d.p(0.3) else (0, 60, 90, 120, 30, 150):
        turn, m = np.radians(a), face * 0.87
        step = np.array([-2 * m * np.sin(turn), -2 * m * np.cos(turn), 0])
        parts.append(block((m * np.sin(turn), m * np.cos(turn), t + 0.02),
                           (0.03, 0.07, 0.025), DARK, rot=(0, 0, -a),
                           repeat=(step, 2)))  # fmt: skip
    style = d.pick("alarm", "plain", "feet", "alarm")
    if style == "alarm":
        parts.append(ball((r * 0.55, r * 0.98, 0), (0.26, 0.2, 0.2), ACCENT,
                          rot=(0, 0, -32), mirror="x"))  # fmt: skip
    if style != "plain":
        parts.append(rod((r * 0.5, -r * 0.7, 0), (r * 0.68, -r * 1.15, 0), 0.08, DARK,
                         mirror="x"))  # fmt: skip
    return parts


def duck(d):
    r, neck, head = d.u(0.42, 0.52), d.u(0.1, 0.4), d.u(0.27, 0.34)
    x, y = 0.5, r + 0.42 + neck
    parts = [
        ball((0, r, 0), (0.85, r, 0.5)),
        ball((-0.78, r + 0.2, 0), (0.32, 0.14, 0.22), rot=(0, 0, -38)),
        rod((x, r, 0), (x, y, 0), 0.24, tip=0.18),
        ball((x, y + 0.08, 0), head),
        ball((x + head + 0.06, y + 0.02, 0), (0.22, d.u(0.05, 0.09), 0.15), GOLD),
        ball((x + head * 0.55, y + 0.18, head * 0.72), 0.055, DARK, mirror="z"),
        ball((-0.15, r + 0.06, 0.42), (d.u(0.36, 0.5), 0.22, 0.13),
             d.pick(MAIN, ACCENT), rot=(0, 0, -12), mirror="z"),
    ]  # fmt: skip
    if d.p(0.35):
        parts.append(ring((x, y - 0.24, 0), 0.19, 0.07, ACCENT, rot=(90, 0, 0)))
    if d.p(0.4):
        parts.append(rod((0, 0.2, 0.2), (0.02, -0.3, 0.2), 0.05, GOLD, mirror="z"))
        parts.append(ball((0.1, -0.3, 0.2), (0.2, 0.04, 0.14), GOLD, mirror="z"))
    return parts


def elephant(d):
    r, leg, ear = d.u(0.5, 0.6), d.u(0.28, 0.4), d.u(0.34, 0.48)
    y = leg * 2 + r * 0.6
    x = 0.78
    parts = [
        ball((0, y, 0), (0.8, r, r)),
        rod((0.42, 0, 0.25), (0.42, y, 0.25), 0.19, edge=0.04, mirror="xz"),
        ball((x, y + 0.32, 0), (0.4, 0.4, 0.37)),
        ball((x - 0.08, y + 0.36, 0.4), (ear * 0.8, ear, 0.07), d.pick(MAIN, ACCENT),
             rot=(0, 22, 0), mirror="z"),
        ball((x + 0.28, y + 0.42, 0.25), 0.055, DARK, mirror="z"),
        rod((-0.75, y + 0.15, 0), (-1.0, y - 0.25, 0), 0.05),
    ]  # fmt: skip
    if d.p(0.5):
        parts.append(rod((x + 0.33, y + 0.2, 0), (x + 0.52, y - 0.35, 0), 0.16,
                         tip=0.1))  # fmt: skip
        parts.append(ring((x + 0.74, y - 0.38, 0), 0.22, 0.1, arc=120, tip=0.75,
                          rot=(0, 0, 160)))  # fmt: skip
    else:
        parts.append(rod((x + 0.3, y + 0.2, 0), (x + 0.6, y + 0.0, 0), 0.15, tip=0.12))
        parts.append(rod((x + 0.58, y + 0.0, 0), (x + 0.75, y + 0.6, 0), 0.12,
                         tip=0.08))  # fmt: skip
    if d.p(0.6):
        parts.append(rod((x + 0.25, y + 0.1, 0.2), (x + 0.55, y - 0.05, 0.24), 0.06,
                         LIGHT, tip=0.02, mirror="z"))  # fmt: skip
    if d.p(0.35):
        parts.append(cylinder((-0.1, y + r * 0.75, 0), 0.42, 0.18, ACCENT))
    return parts


def fish(d):
    long, tall = d.u(0.7, 0.9), d.u(0.35, 0.55)
    tail = d.u(0.3, 0.42)
    parts = [
        ball((0, 0, 0), (long, tall, 0.25)),
        block((-long - 0.16, 0, 0), (tail, 0.26, 0.03), ACCENT, taper=(0.1, 1),
              rot=(0, 0, -90)),
        block((d.u(-0.2, 0.1), tall + 0.05, 0), (0.38, 0.16, 0.03), ACCENT,
              taper=(0.35, 1)),
        ball((long * 0.62, tall * 0.25, 0.17), 0.08, LIGHT, mirror="z"),
        ball((long * 0.66, tall * 0.25, 0.23), 0.045, DARK, mirror="z"),
        ball((0.05, -tall * 0.2, 0.26), (0.2, 0.1, 0.04), ACCENT, rot=(0, 0, 25),
             mirror="z"),
        ball((long - 0.02, -0.06, 0), (0.08, 0.06, 0.09), ACCENT),
    ]  # fmt: skip
    if d.p():
        parts.append(block((d.u(-0.2, 0.1), -tall - 0.02, 0), (0.1, 0.14, 0.03), ACCENT,
                           taper=(1.8, 1), rot=(0, 0, 0)))  # fmt: skip
    for i in range(d.k(0, 3)):
        x = 0.2 - 0.26 * i
        s = np.sqrt(1 - (x / long) ** 2)
        parts.append(ball((x, 0, 0), (0.06, tall * s + 0.01, 0.25 * s + 0.01), LIGHT))
    return parts


def flower(d):
    n, r, petal = d.k(5, 8), d.u(0.32, 0.42), d.u(0.2, 0.28)
    y, h = 0.0, d.u(1.1, 1.5)
    wide = min(0.2, 0.8 * r * np.pi / n)
    parts = [
        cylinder((0, y, 0.03), d.u(0.18, 0.26), 0.09, d.pick(GOLD, DARK, ACCENT),
                 rot=(90, 0, 0), edge=0.06),
        rod((0, y, -0.05), (d.u(-0.1, 0.1), -h, -0.05), 0.06, LEAF),
    ]  # fmt: skip
    for i in range(n):
        a = 360 * i / n
        way = np.array([np.sin(np.radians(a)), np.cos(np.radians(a)), 0])
        parts.append(ball(way * (r + 0.05), (wide, petal, 0.06), rot=(0, 0, -a)))
    side = d.pick(-1, 1)
    parts.append(ball((side * 0.25, -h * d.u(0.55, 0.75), -0.05), (0.27, 0.11, 0.05),
                      LEAF, rot=(0, 0, side * 35)))  # fmt: skip
    if d.p():
        parts.append(ball((-side * 0.24, -h * d.u(0.5, 0.8), -0.05), (0.26, 0.1, 0.05),
                          LEAF, rot=(0, 0, -side * 30)))  # fmt: skip
    if d.p(0.4):
        parts.append(cylinder((0, -h - 0.05, -0.05), 0.22, 0.24, ACCENT, top=0.32))
    return parts


def fork(d):
    n, w, t = d.k(3, 4), d.u(0.22, 0.3), d.u(0.05, 0.07)
    long, tine = d.u(0.6, 0.8), d.u(0.38, 0.55)
    gap = 2 * w / (n - 1)
    slim = min(t, gap * 0.3)
    parts = [
        block((0, 0, 0), (w + slim, 0.13, 0.05), MAIN, taper=(1, 1), edge=0.04),
        block((0, -0.22, 0), (0.09, 0.16, 0.05), MAIN, taper=(w / 0.09, 1)),
        rod((-w, 0.1, 0), (-w, 0.1 + tine, 0.0), slim, MAIN, tip=slim * 0.8,
            repeat=((gap, 0, 0), n)),
    ]  # fmt: skip
    handle = d.pick("plain", "thick", "round")
    if handle == "plain":
        parts.append(block((0, -0.3 - long, 0), (0.13, long, 0.05), corner=0.06,
                           taper=(0.6, 1), edge=0.04))  # fmt: skip
    else:
        parts.append(rod((0, -0.3, 0), (0, -0.3 - long, 0), 0.08))
        parts.append(rod((0, -0.3 - long * 0.7, 0), (0, -0.3 - 2 * long, 0), 0.14,
                         ACCENT, tip=0.11))  # fmt: skip
        if handle == "round":
            parts.append(ball((0, -0.3 - 2 * long, 0), 0.18, ACCENT))
    return parts


def giraffe(d):
    leg, neck, lean = d.u(0.55, 0.75), d.u(0.8, 1.1), d.u(0.15, 0.4)
    y = leg * 2
    x, top = 0.42 + lean, y + 0.15 + neck * 1.15
    parts = [
        ball((0, y, 0), (0.62, 0.32, 0.3)),
        rod((0.36, 0, 0.16), (0.36, y, 0.16), 0.08, mirror="xz"),
        rod((0.42, y, 0), (x, top, 0), 0.2, tip=0.12),
        ball((x + 0.16, top + 0.06, 0), (0.32, 0.17, 0.17), rot=(0, 0, -18)),
        rod((x - 0.02, top + 0.12, 0.09), (x - 0.04, top + 0.36, 0.09), 0.035, DARK,
            mirror="z"),
        ball((x - 0.08, top + 0.14, 0.2), (0.06, 0.06, 0.12), mirror="z"),
        ball((x + 0.15, top + 0.13, 0.15), 0.045, DARK, mirror="z"),
        rod((-0.58, y + 0.1, 0), (-0.74, y - 0.42, 0), 0.04),
        ball((-0.75, y - 0.46, 0), (0.07, 0.11, 0.07), DARK),
    ]  # fmt: skip
    for i in range(d.k(0, 5)):
        parts.append(ball((-0.4 + 0.2 * i, y + 0.08 * (-1) ** i, 0.27),
                          (0.1, 0.09, 0.06), WOOD, mirror="z"))  # fmt: skip
    return parts


def goblet(d):
    r, h, stem = d.u(0.38, 0.55), d.u(0.4, 0.62), d.u(0.3, 0.55)
    y = 2 * stem + h
    parts = [
        cylinder((0, 0.03, 0), d.u(0.34, 0.44), 0.04, edge=0.03),
        rod((0, 0, 0), (0, 2 * stem, 0), 0.06),
    ]
    style = d.pick("tulip", "cone", "cup")
    if style == "tulip":
        parts.append(ball((0, y, 0), (r, h, r), wall=0.04, cut=(-9, h * 0.45)))
        parts.append(ball((0, y, 0), (r * 0.94, h * 0.94, r * 0.94), ACCENT,
                          cut=(-9, h * d.u(-0.3, 0.2))))  # fmt: skip
    elif style == "cone":
        parts.append(cylinder((0, y - h * 0.1, 0), 0.08, h * 0.9, top=r * 1.25,
                              wall=0.04))  # fmt: skip
    else:
        parts.append(cylinder((0, y - 0.05, 0), r * 0.85, h, wall=0.045, edge=0.04,
                              top=r * d.u(0.85, 1.1)))  # fmt: skip
    if d.p():
        parts.append(ball((0, stem * d.u(0.8, 1.4), 0), (0.13, 0.1, 0.13), ACCENT))
    return parts


def guitar(d):
    r, neck, waist = d.u(0.46, 0.56), d.u(0.55, 0.75), d.u(0.3, 0.38)
    top = 0.62 + 2 * neck
    parts = [
        cylinder((0, 0, 0), r, 0.12, rot=(90, 0, 0), edge=0.04),
        cylinder((0, 0.62, 0), r * d.u(0.68, 0.8), 0.12, rot=(90, 0, 0), edge=0.04),
        block((0, 0.32, 0), (waist, 0.2, 0.12), edge=0.04),
        block((0, 0.65 + neck, 0.1), (0.085, neck + 0.1, 0.05), WOOD),
        block((0, top + 0.22, 0.1), (0.15, 0.2, 0.045), d.pick(MAIN, DARK),
              taper=(d.u(0.7, 1.2), 1)),
        block((0, -0.16, 0.14), (0.22, 0.04, 0.03), DARK),
        block((0.19, top + 0.1, 0.1), (0.05, 0.03, 0.03), STEEL, mirror="x",
              repeat=((0, 0.12, 0), 3)),
        block((0, 0.55 + neck, 0.16), (0.035, neck + 0.6, 0.005), LIGHT),
    ]  # fmt: skip
    if d.p(0.7):
        parts.append(cylinder((0, 0.34, 0.115), 0.19, 0.02, DARK, rot=(90, 0, 0)))
    else:
        parts.append(block((0, 0.2, 0.14), (0.2, 0.04, 0.03), DARK,
                           repeat=((0, 0.2, 0), 2)))  # fmt: skip
        parts.append(ball((0.3, -0.05, 0.13), (0.07, 0.07, 0.04), ACCENT))
    if d.p(0.35):
        parts.append(rod((0.33, 0.75, 0), (0.42, 1.05, 0), 0.13, mirror="x"))
    return parts


def hammer(d):
    long, w, head = d.u(0.8, 1.05), d.u(0.09, 0.13), d.u(0.17, 0.24)
    parts = [
        block((0, -long, 0), (w, long, 0.08), d.pick(WOOD, MAIN), corner=0.07),
        block((0, -long * 1.6, 0), (w + 0.04, long * 0.4, 0.12), MAIN, corner=0.09,
              edge=0.06),
        block((0, 0.05, 0), (0.22, head * 0.85, 0.17), STEEL, edge=0.03),
        rod((0.15, 0.05, 0), (0.5, 0.05, 0), 0.13, STEEL),
        cylinder((0.53, 0.05, 0), head, 0.1, STEEL, rot=(0, 0, 90), edge=0.03),
    ]  # fmt: skip
    back = d.pick("claw", "wedge", "mallet")
    if back == "claw":
        parts.append(ring((-0.22, -0.4, 0.09), 0.45, 0.1, STEEL, arc=75, tip=0.35,
                          rot=(0, 0, 40), mirror="z"))  # fmt: skip
    elif back == "wedge":
        parts.append(block((-0.42, 0.05, 0), (head, 0.24, 0.15), STEEL, taper=(0.15, 1),
                           rot=(0, 0, 90)))  # fmt: skip
    else:
        parts.append(rod((-0.15, 0.05, 0), (-0.45, 0.05, 0), 0.13, STEEL))
        parts.append(cylinder((-0.53, 0.05, 0), head, 0.1, STEEL, rot=(0, 0, 90)))
    return parts


def hat(d):
    brim, r, h = d.u(0.85, 1.05), d.u(0.45, 0.56), d.u(0.22, 0.5)
    style = d.pick("top", "round", "cone")
    parts = [cylinder((0, 0.04, 0), brim, 0.04, edge=0.03)]
    if style == "top":
        parts.append(cylinder((0, h + 0.1, 0), r, h + 0.1, top=r * d.u(0.85, 1.15)))
    elif style == "round":
        parts.append(ball((0, 0.1, 0), (r * 1.1, h * 1.6, r * 1.1), cut=(0, 9)))
    else:
        parts.append(cylinder((0, 0.75, 0), r * 1.1, 0.75, top=0.02))
        parts[0] = cylinder((0, 0.04, 0), brim * 0.92, 0.04, edge=0.03)
    shrink = {"top": 1.02, "round": 1.1, "cone": 1.0}[style]
    parts.append(cylinder((0, 0.15, 0), r * shrink + 0.03, d.u(0.06, 0.11), ACCENT))
    if style == "cone":
        parts.append(ball((0, 1.5, 0), 0.13, ACCENT))
    elif d.p(0.5):
        parts.append(ball((r * 0.8, 0.35, r * 0.7), (0.07, 0.32, 0.1), ACCENT,
                          rot=(0, 0, -18)))  # fmt: skip
    return parts


def helicopter(d):
    r, tail, rotor = d.u(0.4, 0.5), d.u(0.8, 1.1), d.u(0.9, 1.2)
    turn = d.u(-30, 30)
    parts = [
        ball((0.2, 0, 0), (r * 1.35, r, r * 0.9)),
        ball((0.42, 0.08, 0), (r * 0.98, r * 0.78, r * 0.85), GLASS),
        rod((-0.1, 0.08, 0), (-tail, 0.2, 0), 0.16, tip=0.08),
        block((-tail, 0.38, 0), (0.1, 0.22, 0.03), ACCENT, taper=(0.7, 1)),
        block((-tail, 0.22, 0.09), (0.22, 0.035, 0.02), DARK, rot=(0, 0, d.u(0, 90))),
        rod((0.15, r * 0.8, 0), (0.15, r + 0.2, 0), 0.06, DARK),
        block((0.15, r + 0.2, 0), (rotor, 0.025, 0.07), DARK, rot=(0, turn, 0)),
        rod((-0.25, -r - 0.18, 0.3), (0.65, -r - 0.18, 0.3), 0.045, STEEL, mirror="z"),
        rod((0.0, -r * 0.6, 0.2), (0.0, -r - 0.18, 0.3), 0.04, STEEL, mirror="z",
            repeat=((0.4, 0, 0), 2)),
    ]  # fmt: skip
    if d.p(0.6):
        parts.append(block((0.15, r + 0.2, 0), (rotor, 0.025, 0.07), DARK,
                           rot=(0, turn + 90, 0)))  # fmt: skip
    if d.p(0.4):
        parts.append(block((0.1, -0.08, r * 0.86), (0.3, 0.06, 0.03), ACCENT,
                           mirror="z"))  # fmt: skip
    return parts


def house(d):
    w, h, depth, roof = d.u(0.6, 0.85), d.u(0.35, 0.5), d.u(0.45, 0.65), d.u(0.25, 0.45)
    gable = d.p()
    door, z = d.u(-0.3, 0.3) * w, depth + 0.005
    parts = [block((0, h, 0), (w, h, depth))]
    if gable:
        parts.append(block((0, 2 * h + roof, 0), (w + 0.1, roof, depth + 0.08), ACCENT,
                           taper=(0, 1)))  # fmt: skip
    else:
        parts.append(block((0, 2 * h + roof, 0), (w + 0.1, roof, depth + 0.1), ACCENT,
                           taper=(d.pick(1, 0.6), 0)))  # fmt: skip
    parts.append(block((door, 0.25, z), (0.13, 0.26, 0.02), d.pick(WOOD, DARK)))
    high = h * 1.15
    free = [x for x in (-0.66 * w, 0.0, 0.66 * w) if abs(x - door) > 0.27]
    for x in free:
        parts.append(block((x, high, z), (0.12, 0.13, 0.02), GLASS))
        parts.append(block((x, high - 0.14, z), (0.15, 0.025, 0.04), LIGHT))
    parts.append(block((w, high, 0), (0.01, 0.13, 0.13), GLASS, mirror="x"))
    if d.p(0.7):
        side = d.pick(-1, 1)
        parts.append(block((side * w * 0.55, 2 * h + roof * 1.3, -0.1),
                           (0.1, roof * 0.9 + 0.1, 0.1), TAN))  # fmt: skip
    if d.p(0.3):
        parts.append(block((w + 0.3, h * 0.6, 0), (0.3, h * 0.6, depth * 0.8)))
        parts.append(block((w + 0.3, h * 1.2 + 0.05, 0), (0.34, 0.05, depth * 0.85),
                           ACCENT))  # fmt: skip
    return parts


def icecream(d):
    r, h, n = d.u(0.4, 0.52), d.u(0.6, 0.85), d.k(1, 3)
    parts = [
        cylinder((0, 0, 0), 0.05, h, TAN, top=r * 0.92),
        ring((0, h, 0), r * 0.9, 0.06, TAN, rot=(90, 0, 0)),
    ]
    y, scale = h + r * 0.45, 1.0
    for i in range(n):
        slot = (MAIN, ACCENT, LIGHT)[i]
        parts.append(ball((0, y, 0), r * scale, slot))
        if i == 0:
            parts.append(ring((0, y - r * 0.35, 0), r * 0.9, 0.1, MAIN, rot=(90, 0, 0)))
        y += r * scale * 1.05
        scale *= 0.87
    topping = d.pick("cherry", "wafer", "none")
    if topping == "cherry":
        parts.append(ball((0, y - 0.03, 0), 0.13, ACCENT if n == 1 else MAIN))
    elif topping == "wafer":
        parts.append(rod((0.12, y - 0.35, 0), (0.4, y + 0.3, 0), 0.07, WOOD))
    return parts


def key(d):
    r, t, long = d.u(0.28, 0.4), d.u(0.07, 0.1), d.u(0.6, 0.8)
    end = -r - 2 * long
    parts = [rod((0, -r + 0.02, 0), (0, end, 0), t)]
    bow = d.pick("ring", "clover", "disc")
    if bow == "ring":
        parts.append(ring((0, 0, 0), r, t))
    elif bow == "disc":
        parts.append(cylinder((0, 0, 0), r * 1.2, 0.06, rot=(90, 0, 0)))
        parts.append(cylinder((0, r * 0.4, 0), r * 0.35, 0.075, DARK, rot=(90, 0, 0)))
    else:
        parts.append(ring((0, r * 0.55, 0), r * 0.6, t))
        parts.append(ring((r * 0.7, -r * 0.45, 0), r * 0.55, t, mirror="x"))
    parts.append(cylinder((0, -r - 0.1, 0), t * 1.7, 0.06, d.pick(MAIN, ACCENT)))
    teeth = d.k(2, 4)
    for i in range(teeth):
        w = d.u(0.1, 0.22)
        parts.append(block((w + t * 0.5, end + 0.08 + 0.17 * i, 0), (w, 0.06, 0.05)))
    return parts


def ladder(d):
    n, w, h, t = d.k(3, 6), d.u(0.32, 0.48), d.u(0.95, 1.1), d.u(0.06, 0.09)
    gap = 2 * h / (n + 0.4)
    lean = d.u(0, 0.12)
    parts = [
        rod((w + lean, -h, 0), (w, h, 0), t, d.pick(MAIN, MAIN, WOOD), mirror="x"),
        rod((-w - lean * 0.5, -h + gap * 0.7, 0), (w + lean * 0.5, -h + gap * 0.7, 0),
            t * 0.85, MAIN, repeat=((0, gap, 0), n)),
    ]  # fmt: skip
    if d.p(0.5):
        back = d.u(0.5, 0.75)
        parts.append(rod((w, h - 0.05, -0.05), (w, -h, -back), t * 0.8, ACCENT,
                         mirror="x"))  # fmt: skip
        parts.append(rod((-w, -h * 0.4, -back * 0.7), (w, -h * 0.4, -back * 0.7), 0.05,
                         ACCENT))  # fmt: skip
        parts.append(block((0, h, -0.03), (w + 0.1, 0.05, 0.17), ACCENT))
    return parts


def lamp(d):
    h, r, tall = d.u(0.5, 0.8), d.u(0.5, 0.68), d.u(0.28, 0.42)
    y = 2 * h + tall * 0.9
    parts = [cylinder((0, 0.05, 0), d.u(0.3, 0.45), 0.05, ACCENT, edge=0.04)]
    style = d.pick("pole", "vase", "balls")
    if style == "pole":
        parts.append(rod((0, 0, 0), (0, 2 * h + 0.2, 0), 0.06, d.pick(STEEL, WOOD)))
    elif style == "vase":
        parts.append(ball((0, h * 0.9, 0), (0.3, h * 0.85, 0.3), ACCENT, egg=0.5))
        parts.append(rod((0, h, 0), (0, 2 * h + 0.1, 0), 0.06, STEEL))
    else:
        n = d.k(2, 3)
        s = h / n
        parts.append(ball((0, s, 0), (0.2, s, 0.2), ACCENT, repeat=((0, 2 * s, 0), n)))
        parts.append(rod((0, 0, 0), (0, 2 * h + 0.2, 0), 0.05, STEEL))
    shade = d.pick("cone", "drum", "dome")
    if shade == "dome":
        parts.append(ball((0, y - tall, 0), (r, tall * 1.6, r), wall=0.04, cut=(0, 9)))
    else:
        parts.append(cylinder((0, y, 0), r, tall, wall=0.05, floor=-9,
                              top=r * (0.45 if shade == "cone" else 0.85)))
    if d.p(0.4):
        parts.append(rod((r * 0.6, y - tall, 0.3), (r * 0.6, y - tall - 0.35, 0.3),
                         0.02, GOLD))  # fmt: skip
        parts.append(ball((r * 0.6, y - tall - 0.37, 0.3), 0.05, GOLD))
    return parts


def mug(d):
    r, h, t = d.u(0.45, 0.6), d.u(0.42, 0.68), d.u(0.06, 0.09)
    side = d.pick(-1, 1)
    wide = d.u(0.85, 1.15)
    parts = [cylinder((0, h, 0), r, h, top=r * wide, wall=t, edge=0.03)]
    grip = d.pick("round", "round", "square", "long")
    x = side * r * (1 + wide) / 2
    if grip == "square":
        reach = d.u(0.25, 0.35)
        parts.append(rod((x, h * 0.6, 0), (x + side * reach, h * 0.6, 0), 0.07, ACCENT,
                         repeat=((0, h * 0.85, 0), 2)))  # fmt: skip
        parts.append(rod((x + side * reach, h * 0.6, 0),
                         (x + side * reach, h * 1.45, 0), 0.07, ACCENT))
    else:
        size = h * (0.5 if grip == "round" else 0.66)
        parts.append(ring((x, h, 0), size, 0.075, d.pick(MAIN, ACCENT), arc=185,
                          rot=(0, 0, -90 * side)))  # fmt: skip
    if d.p(0.6):
        parts.append(cylinder((0, h, 0), r * 0.9, h * 0.8, WOOD, top=r * wide * 0.86))
    if d.p(0.25):
        parts.append(cylinder((0, 0.05, 0), r + 0.35, 0.04, ACCENT, edge=0.03))
    return parts


def mushroom(d):
    r, h, stem = d.u(0.65, 0.95), d.u(0.35, 0.65), d.u(0.35, 0.6)
    t = d.u(0.2, 0.32)
    y = 2 * stem
    parts = [
        cylinder((0, stem, 0), t * 1.25, stem, LIGHT, top=t * 0.85, edge=0.1),
        ball((0, y - 0.08, 0), (r, h, r), cut=(-0.02, 9)),
    ]
    if d.p(0.5):
        parts.append(ring((0, y * 0.7, 0), t, 0.06, LIGHT, rot=(90, 0, 0)))
    if d.p(0.75):
        size = d.u(0.1, 0.16)
        for _ in range(d.k(4, 7)):
            a, s = d.u(-1.3, 1.3), d.u(0.2, 0.85)
            way = np.array([s * np.sin(a), np.sqrt(1 - s * s), s * np.cos(a)])
            parts.append(ball((0, y - 0.08, 0) + way * (r, h, r) * 0.97,
                              (size, size * 0.8, size), LIGHT))  # fmt: skip
    if d.p(0.35):
        x = d.pick(-1, 1) * d.u(0.5, 0.7)
        parts.append(cylinder((x, 0.25, 0.2), 0.13, 0.25, LIGHT, top=0.09))
        parts.append(ball((x, 0.46, 0.2), (0.3, 0.26, 0.3), cut=(0, 9)))
    return parts


def robot(d):
    w, h, head = d.u(0.36, 0.5), d.u(0.36, 0.48), d.u(0.24, 0.34)
    leg, arm = d.u(0.22, 0.36), d.u(-0.25, 0.45)
    y = 2 * leg + h
    top = y + h + head + 0.1
    wide = head * d.u(0.95, 1.3)
    parts = [
        block((0, y, 0), (w, h, 0.26), edge=0.05, corner=0.05),
        block((0, top, 0), (wide, head, 0.26), d.pick(MAIN, ACCENT), edge=0.05),
        cylinder((0, y + h + 0.06, 0), 0.12, 0.1, STEEL),
        ball((wide * 0.45, top + 0.06, 0.26), 0.09, d.pick(LIGHT, GOLD), mirror="x"),
        block((0, top - head * 0.5, 0.26), (wide * 0.5, 0.04, 0.03), DARK),
        rod((w, y + h * 0.7, 0), (w + 0.32, y + h * 0.7 - 0.4 + arm, 0), 0.09, STEEL,
            mirror="x"),
        ball((w + 0.36, y + h * 0.7 - 0.44 + arm, 0), 0.14, ACCENT, mirror="x"),
        block((w * 0.5, leg, 0), (0.12, leg, 0.13), STEEL, mirror="x"),
        block((w * 0.52, 0.06, 0.06), (0.17, 0.09, 0.22), ACCENT, mirror="x"),
        block((0, y + 0.05, 0.26), (w * 0.6, h * 0.45, 0.02), d.pick(LIGHT, DARK)),
    ]  # fmt: skip
    n = d.pick(0, 1, 2)
    if n:
        parts.append(rod((0.0 if n == 1 else wide * 0.5, top + head, 0),
                         (0.0 if n == 1 else wide * 0.8, top + head + 0.28, 0), 0.03,
                         STEEL, mirror="x"))  # fmt: skip
        parts.append(ball((0.0 if n == 1 else wide * 0.8, top + head + 0.3, 0), 0.08,
                          ACCENT, mirror="x"))  # fmt: skip
    parts.append(ball((-w * 0.35, y, 0.28), 0.06, GOLD, repeat=((w * 0.35, 0, 0), 3)))
    return parts


def rocket(d):
    r, h, nose = d.u(0.26, 0.38), d.u(0.55, 0.75), d.u(0.28, 0.42)
    fin = d.u(0.2, 0.32)
    parts = [
        cylinder((0, 0, 0), r, h, top=r * d.u(0.85, 1.0)),
        ball((0, h, 0), (r * 0.98, 2 * nose, r * 0.98), ACCENT, cut=(0, 9)),
        block((r + fin * 0.4, -h + 0.12, 0), (fin, 0.34, 0.04), ACCENT, mirror="x",
              taper=(0.25, 1), rot=(0, 0, 22)),
        block((0, -h + 0.1, r + 0.1), (0.04, 0.32, fin * 0.8), ACCENT, taper=(1, 0.3)),
        cylinder((0, -h - 0.12, 0), r * 0.8, 0.13, DARK, top=r * 0.55),
        cylinder((0, h * 0.45, r * 0.9), 0.15, 0.06, STEEL, rot=(90, 0, 0)),
        cylinder((0, h * 0.45, r * 0.93), 0.11, 0.06, GLASS, rot=(90, 0, 0)),
    ]  # fmt: skip
    if d.p():
        parts.append(cylinder((0, -h * 0.15, r * 0.95), 0.1, 0.04, GLASS,
                              rot=(90, 0, 0)))  # fmt: skip
    if d.p():
        parts.append(cylinder((0, -h * 0.45, 0), r + 0.015, 0.07,
                              d.pick(LIGHT, ACCENT)))  # fmt: skip
    if d.p(0.4):
        parts.append(cylinder((0, -h - 0.5, 0), 0.02, 0.28, GOLD, top=r * 0.6))
    return parts


def snail(d):
    r, long = d.u(0.48, 0.62), d.u(0.85, 1.0)
    y, lift = r + 0.16, d.u(0.3, 0.6)
    parts = [
        block((0, 0.1, 0), (long, 0.12, 0.2), TAN, corner=0.2, edge=0.1),
        cylinder((-0.15, y, 0), r, 0.24, rot=(90, 0, 0), edge=0.16),
        ring((-0.15, y, 0.22), r * 0.66, 0.07, ACCENT),
        ring((-0.15, y, 0.27), r * 0.32, 0.07, ACCENT),
        rod((long - 0.1, 0.12, 0), (long + 0.06, lift, 0), 0.18, TAN, tip=0.16),
        ball((long + 0.08, lift, 0), 0.21, TAN),
        rod((long + 0.08, lift, 0.07), (long + 0.2, lift + 0.42, 0.16), 0.04, TAN,
            mirror="z"),
        ball((long + 0.21, lift + 0.44, 0.16), 0.075, DARK, mirror="z"),
        rod((-long + 0.1, 0.1, 0), (-long - d.u(0.15, 0.35), 0.03, 0), 0.12, TAN,
            tip=0.03),
    ]  # fmt: skip
    return parts


def snowman(d):
    r, k = d.u(0.5, 0.6), d.u(0.68, 0.8)
    middle, head = r * k, r * k * k
    y1 = r + 0.75 * (r + middle)
    y2 = y1 + 0.78 * (middle + head)
    nose = d.u(0.2, 0.36)
    parts = [
        ball((0, r, 0), r, MAIN), ball((0, y1, 0), middle, MAIN),
        ball((0, y2, 0), head, MAIN),
        rod((0, y2, head * 0.9), (0.05, y2, head + nose), 0.07, GOLD, tip=0.015),
        ball((0.11, y2 + 0.1, head * 0.9), 0.05, DARK, mirror="x"),
        ball((0, y1 - 0.16, middle * 0.96), 0.055, DARK, repeat=((0, 0.17, 0), 3)),
        rod((middle * 0.8, y1 + 0.1, 0), (middle + 0.5, y1 + d.u(0, 0.5), 0), 0.035,
            WOOD, mirror="x"),
        ring((0, y2 - head * 0.85, 0), head * 0.8, 0.1, ACCENT, rot=(90, 0, 0)),
    ]  # fmt: skip
    if d.p(0.6):
        parts.append(block((0.18, y2 - head * 0.85 - 0.25, middle * 0.85),
                           (0.08, 0.22, 0.05), ACCENT, rot=(-15, 0, 8)))  # fmt: skip
    if d.p():
        parts.append(cylinder((0, y2 + head * 0.8, 0), head * 1.15, 0.035, DARK))
        parts.append(cylinder((0, y2 + head * 0.8 + 0.2, 0), head * 0.75, 0.2, DARK))
        parts.append(cylinder((0, y2 + head * 0.8 + 0.08, 0), head * 0.78, 0.06,
                              ACCENT))  # fmt: skip
    else:
        parts.append(ball((0, y2 + head * 0.3, 0), (head * 1.02,) * 3, ACCENT,
                          cut=(head * 0.15, 9)))  # fmt: skip
        parts.append(ball((0, y2 + head * 1.4, 0), 0.11, ACCENT))
    return parts


def sofa(d):
    n, w = d.k(1, 3), d.u(0.32, 0.4)
    half, deep, back = n * w, d.u(0.38, 0.5), d.u(0.3, 0.5)
    arm = d.u(0.1, 0.17)
    parts = [
        block((0, 0.28, 0), (half + arm, 0.16, deep), edge=0.05),
        block((-half + w, 0.52, 0.05), (w - 0.015, 0.11, deep - 0.03),
              d.pick(MAIN, ACCENT), edge=0.08, corner=0.05,
              repeat=((2 * w, 0, 0), n)),
        block((-half + w, 0.55 + back, -deep + 0.1), (w - 0.015, back, 0.14), edge=0.09,
              rot=(-8, 0, 0), corner=0.05, repeat=((2 * w, 0, 0), n)),
        block((half + arm, 0.42, 0.02), (arm, 0.36, deep), mirror="x", edge=0.08,
              corner=0.06),
        cylinder((half, 0.06, deep - 0.1), 0.06, 0.08, WOOD, mirror="xz"),
    ]  # fmt: skip
    if d.p():
        parts.append(rod((half + arm, 0.8, -deep), (half + arm, 0.8, deep), arm * 1.15,
                         edge=0.03, mirror="x"))  # fmt: skip
    for _ in range(d.k(0, 2)):
        parts.append(block((d.u(-0.7, 0.7) * half, 0.78, 0.02), (0.17, 0.17, 0.06),
                           ACCENT, rot=(-20, 0, d.u(-25, 25)), edge=0.05,
                           corner=0.04))  # fmt: skip
    return parts


def spider(d):
    r, knee, reach = d.u(0.34, 0.46), d.u(0.35, 0.65), d.u(0.85, 1.1)
    parts = [
        ball((0, 0.3, -0.32), (r, r * 0.85, r * 1.15)),
        ball((0, 0.26, 0.22), (0.27, 0.22, 0.27), d.pick(MAIN, ACCENT)),
        ball((0.1, 0.36, 0.42), 0.07, LIGHT, mirror="x"),
        ball((0.1, 0.37, 0.475), 0.035, DARK, mirror="x"),
        rod((0.06, 0.16, 0.44), (0.07, 0.02, 0.5), 0.035, LIGHT, tip=0.01, mirror="x"),
    ]  # fmt: skip
    for i in range(4):
        z = (0.62, 0.22, -0.22, -0.65)[i]
        bend = (0.55 * reach, 0.25 + knee, z * 0.7)
        parts.append(rod((0.15, 0.26, 0.2 + 0.1 * z), bend, 0.05, mirror="x"))
        parts.append(rod(bend, (reach, -0.05, z * 1.25), 0.05, tip=0.025, mirror="x"))
    return parts


def table(d):
    w, deep, h, t = d.u(0.75, 1.05), d.u(0.45, 0.65), d.u(0.4, 0.62), d.u(0.05, 0.09)
    style = d.pick("box", "box", "round", "pedestal")
    y = 2 * h
    if style in ("box", "round"):
        if style == "box":
            parts = [block((0, y, 0), (w, 0.05, deep))]
            x, z = w - t - 0.03, deep - t - 0.03
        else:
            parts = [cylinder((0, y, 0), w * 0.9, 0.05)]
            x = z = w * 0.52
        splay = d.u(0, 0.12)
        slot = d.pick(MAIN, WOOD, ACCENT, STEEL)
        parts.append(rod((x, y, z), (x + splay, 0, z + splay), t, slot, mirror="xz",
                         tip=d.u(0.5, 1) * t))  # fmt: skip
        if d.p(0.5) and style == "box":
            parts.append(block((0, y - 0.14, 0), (x, 0.1, z), slot))
        if d.p(0.3):
            parts.append(block((0, h * 0.6, 0), (x, 0.03, z), ACCENT))
    else:
        parts = [
            cylinder((0, y, 0), w * 0.9, 0.05),
            rod((0, 0, 0), (0, y, 0), t * 1.5, ACCENT),
            cylinder((0, 0.04, 0), w * 0.5, 0.05, ACCENT, edge=0.04),
        ]
    extra = d.pick("none", "none", "bowl", "books")
    if extra == "bowl":
        parts.append(ball((d.u(-0.2, 0.2), y + 0.22, 0), (0.22, 0.18, 0.22), ACCENT,
                          wall=0.03, cut=(-9, 0.02)))  # fmt: skip
    elif extra == "books":
        parts.append(block((d.u(-0.3, 0.3), y + 0.12, 0), (0.22, 0.08, 0.16), ACCENT))
    return parts


def teapot(d):
    r, h = d.u(0.55, 0.68), d.u(0.42, 0.58)
    side = d.pick(-1, 1)
    y = h
    parts = [
        ball((0, y, 0), (r, h, r)),
        cylinder((0, 0.05, 0), r * 0.6, 0.06, edge=0.03),
        ball((0, y + h * 0.75, 0), (r * 0.58, 0.16, r * 0.58), d.pick(MAIN, ACCENT),
             cut=(0, 9)),
        ball((0, y + h * 0.75 + 0.22, 0), d.u(0.08, 0.12), ACCENT),
        rod((side * r * 0.75, y - 0.15, 0), (side * (r + 0.4), y + d.u(0.3, 0.45), 0),
            0.17, tip=0.085),
    ]  # fmt: skip
    grip = d.pick("back", "back", "over")
    if grip == "back":
        parts.append(ring((-side * r * 0.95, y + 0.05, 0), h * 0.6, 0.07,
                          d.pick(MAIN, ACCENT), arc=200, rot=(0, 0, 90 * side)))
    else:
        parts.append(ring((0, y + h * 0.7, 0), r * 0.75, 0.06, ACCENT, arc=180))
    if d.p(0.4):
        parts.append(ring((0, y, 0), r, 0.04, ACCENT, rot=(90, 0, 0)))
    return parts


def train(d):
    long, r, wheel = d.u(0.55, 0.7), d.u(0.27, 0.34), d.u(0.16, 0.21)
    y = 2 * wheel + r
    cab = d.u(0.34, 0.44)
    n = d.k(3, 4)
    gap = (2 * long + 0.1) / (n - 1) * 0.82
    x = long + 0.02
    parts = [
        rod((-0.3, y, 0), (x, y, 0), r, edge=0.04),
        cylinder((x, y, 0), r * 0.85, 0.07, DARK, rot=(0, 0, 90)),
        block((0, 2 * wheel - 0.05, 0), (long + 0.28, 0.08, 0.34), DARK),
        block((-long, y + 0.15, 0), (0.3, cab, 0.36)),
        block((-long, y + 0.15 + cab, 0), (0.38, 0.05, 0.42), ACCENT),
        block((-long, y + 0.25, 0.36), (0.16, 0.14, 0.015), GLASS, mirror="z"),
        cylinder((x - 0.2, y + r + 0.14, 0), 0.09, 0.2, DARK, top=d.u(0.09, 0.19)),
        cylinder((-gap * (n - 1) / 2, wheel, 0.33), wheel, 0.05, ACCENT, mirror="z",
                 rot=(90, 0, 0), repeat=((gap, 0, 0), n)),
        cylinder((-gap * (n - 1) / 2, wheel, 0.38), wheel * 0.4, 0.03, DARK, mirror="z",
                 rot=(90, 0, 0), repeat=((gap, 0, 0), n)),
        block((x + 0.25, 0.16, 0), (0.16, 0.16, 0.3), STEEL, taper=(0.1, 1)),
    ]  # fmt: skip
    if d.p(0.7):
        parts.append(ball((x * 0.25, y + r, 0), (0.13, d.u(0.12, 0.24), 0.13), GOLD))
    if d.p():
        parts.append(cylinder((x * 0.5, y, 0), r + 0.02, 0.03, GOLD, rot=(0, 0, 90),
                              repeat=((-0.35, 0, 0), 2)))  # fmt: skip
    return parts


def tree(d):
    trunk, t = d.u(0.25, 0.5), d.u(0.1, 0.17)
    y = 2 * trunk
    parts = [rod((0, 0, 0), (0, y + 0.3, 0), t, WOOD, tip=t * 0.8)]
    style = d.pick("fir", "round", "cloud")
    if style == "fir":
        n, r = d.k(2, 4), d.u(0.55, 0.72)
        for _ in range(n):
            h = d.u(0.3, 0.38)
            parts.append(cylinder((0, y + h * 0.7, 0), r, h, top=0.03, edge=0.02))
            y += h * 1.05
            r *= 0.78
    elif style == "round":
        r = d.u(0.5, 0.62)
        parts.append(ball((0, y + r * 0.9, 0), (r, r * d.u(0.9, 1.5), r)))
    else:
        for _ in range(d.k(4, 6)):
            r = d.u(0.26, 0.36)
            parts.append(ball((d.u(-0.42, 0.42), y + d.u(0.2, 0.7), d.u(-0.3, 0.3)), r))
        parts.append(ball((0, y + 0.5, 0), 0.42))
    if d.p(0.4):
        for _ in range(5):
            a = d.u(-1, 1)
            s = {"fir": 0.48, "round": 0.56, "cloud": 0.55}[style]
            at = (s * np.sin(a), 2 * trunk + d.u(0.15, 0.6), s * np.cos(a))
            parts.append(ball(at, 0.085, ACCENT))
    return parts


def truck(d):
    wheel, load, tall = d.u(0.17, 0.22), d.u(0.55, 0.75), d.u(0.32, 0.48)
    y = 2 * wheel
    x = load + 0.32
    cab = d.u(0.27, 0.36)
    kind = d.pick("box", "flat", "tank")
    parts = [
        block((0.1, y, 0), (load + 0.5, 0.06, 0.34), DARK),
        block((x, y + cab, 0), (0.25, cab, 0.38), d.pick(MAIN, ACCENT), edge=0.06),
        block((x + 0.1, y + cab * 1.35, 0), (0.165, cab * 0.42, 0.39), GLASS),
        cylinder((x, wheel, 0.35), wheel, 0.08, DARK, rot=(90, 0, 0), mirror="z"),
        cylinder((-load * 0.75, wheel, 0.35), wheel, 0.08, DARK, rot=(90, 0, 0),
                 mirror="z", repeat=((2 * wheel + 0.06, 0, 0), d.k(1, 2))),
        cylinder((x, wheel, 0.43), wheel * 0.5, 0.02, STEEL, rot=(90, 0, 0),
                 mirror="z"),
        ball((x + 0.25, y + 0.14, 0.24), (0.04, 0.07, 0.07), GOLD, mirror="z"),
    ]  # fmt: skip
    if kind == "box":
        parts.append(block((-0.1, y + tall + 0.04, 0), (load + 0.08, tall, 0.4),
                           MAIN, edge=0.03))  # fmt: skip
    elif kind == "tank":
        parts.append(rod((-load - 0.1, y + 0.4, 0), (load - 0.02, y + 0.4, 0), 0.36,
                         MAIN, edge=0.15))  # fmt: skip
    else:
        parts.append(block((-0.1, y + 0.22, 0), (load + 0.06, 0.22, 0.4), MAIN,
                           wall=0.05))  # fmt: skip
        for i in range(d.k(1, 3)):
            parts.append(ball((-0.5 + 0.42 * i, y + 0.4, 0), d.u(0.2, 0.28), TAN))
    return parts


def umbrella(d):
    r, h, stick = d.u(0.9, 1.05), d.u(0.45, 0.7), d.u(1.2, 1.6)
    parts = [
        ball((0, 0, 0), (r, h, r), wall=0.03, cut=(0, 9)),
        rod((0, h - 0.05, 0), (0, h + 0.17, 0), 0.045, ACCENT, tip=0.02),
        rod((0, h - 0.05, 0), (0, h - stick, 0), 0.045, d.pick(STEEL, WOOD)),
    ]
    if d.p(0.7):
        parts.append(ring((0.16, h - stick, 0), 0.16, 0.06, ACCENT, arc=190,
                          rot=(0, 0, 180)))  # fmt: skip
    else:
        parts.append(rod((0, h - stick, 0), (0, h - stick - 0.25, 0), 0.09, ACCENT))
    n = 8
    for i in range(n):
        a = 2 * np.pi * (i + 0.5) / n
        parts.append(ball((r * np.sin(a), -0.01, r * np.cos(a)), 0.045, ACCENT))
    return parts


def windmill(d):
    h, r, blade = d.u(0.75, 0.95), d.u(0.4, 0.5), d.u(0.65, 0.85)
    n, turn = d.pick(4, 4, 3, 5), d.u(0, 90)
    y, z = 2 * h - 0.05, r * 0.75
    parts = [
        cylinder((0, h, 0), r, h, top=r * d.u(0.6, 0.75)),
        block((0, 0.25, r * 0.9), (0.13, 0.25, 0.06), DARK),
        block((0, h * 1.05, r * 0.78), (0.1, 0.12, 0.06), GLASS),
        rod((0, y, 0), (0, y, z + 0.1), 0.08, DARK),
    ]
    if d.p():
        parts.append(cylinder((0, 2 * h + 0.22, 0), r * 0.85, 0.24, ACCENT, top=0.03))
    else:
        parts.append(ball((0, 2 * h, 0), (r * 0.8, 0.34, r * 0.8), ACCENT, cut=(0, 9)))
    wide = d.u(0.1, 0.16)
    for i in range(n):
        a = turn + 360 * i / n
        way = np.array([np.sin(np.radians(a)), np.cos(np.radians(a)), 0])
        start = np.array([0, y, z + 0.06])
        parts.append(rod(start, start + way * 0.4, 0.035, WOOD))
        parts.append(block(start + way * (0.2 + blade / 2), (wide, blade / 2, 0.02),
                           LIGHT, rot=(0, 0, -a)))  # fmt: skip
    return parts


SHAPES = {
    shape.__name__: shape
    for shape in (
        airplane, anchor, banana, bed, bell, bicycle, boat, bookshelf, bottle, burger,
        cactus, cake, car, carrot, castle, chair, clock, duck, elephant, fish, flower,
        fork, giraffe, goblet, guitar, hammer, hat, helicopter, house, icecream, key,
        ladder, lamp, mug, mushroom, robot, rocket, snail, snowman, sofa, spider, table,
        teapot, train, tree, truck, umbrella, windmill,
    )
}  # fmt: skip
