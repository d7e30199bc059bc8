"""Animals and plants of Toybox, from random draws to parts."""

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


def cactus(d: Dice) -> list[Part]:
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


def duck(d: Dice) -> list[Part]:
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


def elephant(d: Dice) -> list[Part]:
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


def fish(d: Dice) -> list[Part]:
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


def flower(d: Dice) -> list[Part]:
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


def giraffe(d: Dice) -> list[Part]:
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


def mushroom(d: Dice) -> list[Part]:
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


def snail(d: Dice) -> list[Part]:
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


def spider(d: Dice) -> list[Part]:
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


def tree(d: Dice) -> list[Part]:
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
            s = {"fir": 0.48, "round": 0.56, "cloud": 0.42}[style]
            at = (s * np.sin(a), 2 * trunk + d.u(0.15, 0.6), s * np.cos(a))
            parts.append(ball(at, 0.085, ACCENT))
    return parts
