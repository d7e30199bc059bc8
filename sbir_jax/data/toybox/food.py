"""Food of Toybox, from random draws to parts."""

import numpy as np

from sbir_jax.data.toybox.parts import (  # fmt: skip
    ACCENT,
    DARK,
    GOLD,
    LEAF,
    LIGHT,
    MAIN,
    TAN,
    WOOD,
    Dice,
    Part,
    ball,
    block,
    cylinder,
    ring,
    rod,
)


def banana(d: Dice) -> list[Part]:
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


def burger(d: Dice) -> list[Part]:
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


def cake(d: Dice) -> list[Part]:
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


def carrot(d: Dice) -> list[Part]:
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


def icecream(d: Dice) -> list[Part]:
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
