"""Furniture and fittings of Toybox, from random draws to parts."""

import numpy as np

from sbir_jax.data.toybox.parts import (  # fmt: skip
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
    Dice,
    Part,
    ball,
    block,
    cylinder,
    rod,
)


def bed(d: Dice) -> list[Part]:
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


def bookshelf(d: Dice) -> list[Part]:
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
        parts.append(
            block(
                (x, 0.08 + i * (gap - 0.02) + tall, 0.03),
                (thick, tall, 0.17),
                slot,
                repeat=(step, count),
            )
        )
    if d.p():
        parts.append(ball((d.u(-0.3, 0.3), 2 * h + 0.14, 0), 0.14, ACCENT))
    return parts


def chair(d: Dice) -> list[Part]:
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
            parts.append(
                block(
                    (0, y + 0.3, -w),
                    (w - t, 0.07, 0.035),
                    MAIN,
                    repeat=((0, (2 * back - 0.4) / (n - 1), 0), n),
                )
            )
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


def lamp(d: Dice) -> list[Part]:
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
        parts.append(
            cylinder(
                (0, y, 0),
                r,
                tall,
                wall=0.05,
                floor=-9,
                top=r * (0.45 if shade == "cone" else 0.85),
            )
        )
    if d.p(0.4):
        parts.append(rod((r * 0.6, y - tall, 0.3), (r * 0.6, y - tall - 0.35, 0.3),
                         0.02, GOLD))  # fmt: skip
        parts.append(ball((r * 0.6, y - tall - 0.37, 0.3), 0.05, GOLD))
    return parts


def sofa(d: Dice) -> list[Part]:
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


def table(d: Dice) -> list[Part]:
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
