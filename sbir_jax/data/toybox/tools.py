"""Kitchen things, tools, instruments and clothes of Toybox, from draws to parts."""

import numpy as np

from sbir_jax.data.toybox.parts import (  # fmt: skip
    ACCENT,
    DARK,
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


def anchor(d: Dice) -> list[Part]:
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


def bell(d: Dice) -> list[Part]:
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


def bottle(d: Dice) -> list[Part]:
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


def fork(d: Dice) -> list[Part]:
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


def goblet(d: Dice) -> list[Part]:
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


def hammer(d: Dice) -> list[Part]:
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


def hat(d: Dice) -> list[Part]:
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


def key(d: Dice) -> list[Part]:
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


def mug(d: Dice) -> list[Part]:
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
        parts.append(
            rod(
                (x + side * reach, h * 0.6, 0),
                (x + side * reach, h * 1.45, 0),
                0.07,
                ACCENT,
            )
        )
    else:
        size = h * (0.5 if grip == "round" else 0.66)
        parts.append(ring((x, h, 0), size, 0.075, d.pick(MAIN, ACCENT), arc=185,
                          rot=(0, 0, -90 * side)))  # fmt: skip
    if d.p(0.6):
        parts.append(cylinder((0, h, 0), r * 0.9, h * 0.8, WOOD, top=r * wide * 0.86))
    if d.p(0.25):
        parts.append(cylinder((0, 0.05, 0), r + 0.35, 0.04, ACCENT, edge=0.03))
    return parts


def teapot(d: Dice) -> list[Part]:
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
        parts.append(
            ring(
                (-side * r * 0.95, y + 0.05, 0),
                h * 0.6,
                0.07,
                d.pick(MAIN, ACCENT),
                arc=200,
                rot=(0, 0, 90 * side),
            )
        )
    else:
        parts.append(ring((0, y + h * 0.7, 0), r * 0.75, 0.06, ACCENT, arc=180))
    if d.p(0.4):
        parts.append(ring((0, y, 0), r, 0.04, ACCENT, rot=(90, 0, 0)))
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
