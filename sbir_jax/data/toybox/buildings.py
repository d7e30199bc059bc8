"""Buildings and figures of Toybox, from random draws to parts."""

import numpy as np

from sbir_jax.data.toybox.parts import (  # fmt: skip
    ACCENT,
    DARK,
    GLASS,
    GOLD,
    LIGHT,
    MAIN,
    STEEL,
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


def castle(d: Dice) -> list[Part]:
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


def house(d: Dice) -> list[Part]:
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


def robot(d: Dice) -> list[Part]:
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


def snowman(d: Dice) -> list[Part]:
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


def windmill(d: Dice) -> list[Part]:
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
