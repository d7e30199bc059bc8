"""Vehicles, buildings and other constructions of Toybox, from random draws to parts."""

import numpy as np

from sbir_jax.data.toybox_parts import (
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
)  # fmt: skip


def airplane(d: Dice) -> list[Part]:
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


def bicycle(d: Dice) -> list[Part]:
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


def boat(d: Dice) -> list[Part]:
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


def car(d: Dice) -> list[Part]:
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


def clock(d: Dice) -> list[Part]:
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


def guitar(d: Dice) -> list[Part]:
    r, neck, waist = d.u(0.54, 0.64), d.u(0.4, 0.58), d.u(0.32, 0.42)
    top = 0.62 + 2 * neck
    parts = [
        cylinder((0, 0, 0), r, 0.12, rot=(90, 0, 0), edge=0.04),
        cylinder((0, 0.62, 0), r * d.u(0.68, 0.8), 0.12, rot=(90, 0, 0), edge=0.04),
        block((0, 0.32, 0), (waist, 0.2, 0.12), edge=0.04),
        block((0, 0.65 + neck, 0.1), (0.11, neck + 0.1, 0.05), WOOD),
        block((0, top + 0.22, 0.1), (0.18, 0.2, 0.045), d.pick(MAIN, DARK),
              taper=(d.u(0.7, 1.2), 1)),
        block((0, -0.16, 0.14), (0.22, 0.04, 0.03), DARK),
        block((0.22, top + 0.1, 0.1), (0.05, 0.03, 0.03), STEEL, mirror="x",
              repeat=((0, 0.12, 0), 3)),
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


def helicopter(d: Dice) -> list[Part]:
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


def ladder(d: Dice) -> list[Part]:
    n, w, h, t = d.k(3, 6), d.u(0.32, 0.48), d.u(0.95, 1.1), d.u(0.06, 0.09)
    gap = 2 * h / (n + 0.4)
    lean = d.u(0, 0.12)
    parts = [
        rod((w + lean, -h, 0), (w, h, 0), t, mirror="x"),
        rod((-w - lean * 0.5, -h + gap * 0.7, 0), (w + lean * 0.5, -h + gap * 0.7, 0),
            t * 0.85, d.pick(MAIN, MAIN, WOOD, ACCENT), repeat=((0, gap, 0), n)),
    ]  # fmt: skip
    if d.p(0.5):
        back = d.u(0.5, 0.75)
        parts.append(rod((w, h - 0.05, -0.05), (w, -h, -back), t * 0.8, ACCENT,
                         mirror="x"))  # fmt: skip
        parts.append(rod((-w, -h * 0.4, -back * 0.7), (w, -h * 0.4, -back * 0.7), 0.05,
                         ACCENT))  # fmt: skip
        parts.append(block((0, h, -0.03), (w + 0.1, 0.05, 0.17), ACCENT))
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


def rocket(d: Dice) -> list[Part]:
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


def train(d: Dice) -> list[Part]:
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


def truck(d: Dice) -> list[Part]:
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


def umbrella(d: Dice) -> list[Part]:
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
