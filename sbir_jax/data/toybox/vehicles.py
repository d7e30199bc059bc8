"""Vehicles of Toybox, from random draws to parts."""

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
