"""Furniture, kitchen things, tools and clothes of Toybox, from draws to parts."""

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
    Dice,
    Part,
    ball,
    block,
    cylinder,
    ring,
    rod,
)  # fmt: skip


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
