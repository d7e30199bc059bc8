"""Checks that scenes, their truth and their texts agree, on any number of scenes.

    python -m tools.check_scenes --scenes 10000

Nothing is shaded: only the geometry is traced. Every text is read by the brute-force
reader of `tools.scene_reader`. Prints what was counted and every fault with the number
of its scene; exits with 1 if there is one.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator

import numpy as np
from tqdm.auto import tqdm

from sbir_jax.data.toybox.scenes import placing, words
from sbir_jax.data.toybox.scenes.render import FIRST, FLOOR, WALL, render_scenes
from sbir_jax.data.toybox.scenes.scene import ASPECTS, Scene, draw_scene
from sbir_jax.data.toybox.scenes.truth import RELATIONS, TRUE, Truth, truths
from sbir_jax.runtime import hardware
from tools.scene_reader import RELATIONS as READ
from tools.scene_reader import Reader

BATCH = 64


def text_faults(scene: Scene, truth: Truth, counts: Counter) -> Iterator[str]:
    """Texts that one of the two readers does not take as they were meant."""
    readers = [Reader(truth, strict) for strict in (True, False)]
    rng = scene.rng("words")
    for text, thing, kind in words.refer(truth, rng):
        counts[f"referring by {kind}"] += 1
        for reader in readers:
            if (found := reader.things(text)) != [thing]:
                yield f"{text!r} is meant for {thing}, is true of {found}"
    said = words.statement(truth, rng)
    if said is None:
        return
    counts["captions"] += 1
    for drawn in (False, True):
        text = words.caption(said, rng, drawn)
        if not readers[0].is_so(text):
            yield f"{text!r} is false"
    for text, change in words.negatives(truth, said, rng):
        counts[f"negatives by {change}"] += 1
        if any(reader.is_so(text) for reader in readers):
            yield f"{text!r} is true"


def relation_faults(truth: Truth, counts: Counter) -> Iterator[str]:
    """Relations that do not follow from the truth's own coordinates."""
    reader = Reader(truth, strict=True)
    for how in RELATIONS:
        counts[f"pairs {how}"] += int((truth.relations[how] == TRUE).sum())
        for i, j in np.argwhere(~np.eye(truth.number, dtype=bool)):
            said = truth.relations[how][i, j] == TRUE
            if said != reader.stands(READ[tuple(how.split())], i, j):
                yield f"thing {i} {how} thing {j}: {said} by the table"


def place_faults(scene: Scene) -> Iterator[str]:
    """Things that meet, float or leave the frame."""
    feet = [
        placing.corners(p.thing, p.yaw, p.scale, (p.origin[0], p.origin[2]))
        for p in scene.things
    ]
    for i, placed in enumerate(scene.things):
        for j in range(i):
            if placed.on != j and not placing.apart(feet[i], feet[j], 0.05):
                yield f"things {j} and {i} meet"
        ground = 0.0
        if placed.on is not None:
            base = scene.things[placed.on]
            levels = [top.height * base.scale for top in placing.body(base.thing).tops]
            ground = min(
                levels, key=lambda level: abs(level - placed.points[:, 1].min())
            )
        if abs(placed.points[:, 1].min() - ground) > 1e-6:
            yield f"thing {i} floats or sinks"
    scales = [placed.scale for placed in scene.things]
    if max(scales) > 2 * min(scales):
        yield "sizes differ by more than two"


def pixel_faults(scene: Scene, truth: Truth) -> Iterator[str]:
    """Ids, boxes and depth that do not agree to the pixel."""
    if not truth.inside.all():
        yield "a thing is cut by the frame"
    if truth.instances.max() >= FIRST + truth.number:
        yield "there are pixels of a thing that is not there"
    for i, mask in enumerate(truth.masks()):
        x0, y0, x1, y1 = truth.boxes[i]
        box = np.zeros_like(mask)
        box[y0:y1, x0:x1] = True
        tight = mask.any() and all(
            edge.any()
            for edge in (mask[y0], mask[y1 - 1], mask[:, x0], mask[:, x1 - 1])
        )
        if (mask & ~box).any() or mask.any() != tight or box.any() != mask.any():
            yield f"box of thing {i} is not that of its pixels"
        if mask.any() and not truth.visible[i] > 0:
            yield f"thing {i} has pixels and is said to be hidden"
    low, high = room_depth(scene, truth.instances.shape)
    behind = np.isin(truth.instances, (WALL, FLOOR))
    if (truth.depth[behind] < low[behind] * (1 - 1e-4)).any() or (
        truth.depth[behind] > high[behind] * (1 + 1e-4)
    ).any():
        yield "depth of floor or wall is not where they are"
    if (truth.depth[~behind] > high[~behind] * (1 + 1e-3)).any():
        yield "a thing is behind the floor or the wall"
    eye = scene.camera()["eye"]
    for i, placed in enumerate(scene.things):
        own = truth.depth[truth.instances == FIRST + i]
        away = np.linalg.norm(placed.points - eye, axis=1)
        if own.size and not (
            0.8 * away.min() <= own.min() and own.max() <= 1.15 * away.max() + 0.1
        ):
            yield f"depth of thing {i} is not where it stands"


def room_depth(scene: Scene, shape) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest distance of floor or wall over the samples of each pixel."""
    camera, (height, width) = scene.camera(), shape
    px, py = np.meshgrid(np.arange(2 * width), np.arange(2 * height))
    u = ((px + 0.5) / width - 1 - camera["shift"][0]) / camera["focal"]
    v = ((py + 0.5) / width - height / width - camera["shift"][1]) / camera["focal"]
    way = np.stack([u, -v, np.ones_like(u)], -1)
    way = way / np.linalg.norm(way, axis=-1, keepdims=True) @ camera["axes"]
    eye = camera["eye"]
    with np.errstate(divide="ignore"):
        floor = np.where(way[..., 1] < 0, -eye[1] / way[..., 1], np.inf)
    a, b = (way[..., [0, 2]] ** 2).sum(-1), way[..., [0, 2]] @ eye[[0, 2]]
    c = (eye[[0, 2]] ** 2).sum() - scene.wall**2
    wall = (np.sqrt(b**2 - a * c) - b) / a
    samples = np.minimum(floor, wall).reshape(height, 2, width, 2)
    return samples.min((1, 3)), samples.max((1, 3))


def check(first: int, number: int, size: int, seed: int = 0) -> tuple[Counter, list]:
    """Counts and faults of scenes `first` to `first + number - 1`, aspects in turn."""
    counts, faults = Counter(), []
    aspects = list(ASPECTS)
    for k, aspect in enumerate(aspects):
        wanted = [i for i in range(first, first + number) if i % len(aspects) == k]
        if not wanted:
            continue
        scenes = [draw_scene(i, seed, aspect=aspect) for i in wanted]
        pictures = render_scenes(scenes, size, looks=())
        for scene, truth in zip(scenes, truths(scenes, pictures), strict=True):
            counts["scenes"] += 1
            counts["things"] += truth.number
            counts["hidden over 80 %"] += int((truth.visible < 0.2).sum())
            found = [
                *place_faults(scene),
                *pixel_faults(scene, truth),
                *relation_faults(truth, counts),
                *text_faults(scene, truth, counts),
            ]
            faults += [(scene.index, fault) for fault in found]
    return counts, faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scenes", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--size", type=int, default=64)
    args = parser.parse_args()
    hardware.keep_programs()
    counts, faults = Counter(), []
    for first in tqdm(range(args.first, args.first + args.scenes, BATCH)):
        number = min(BATCH, args.first + args.scenes - first)
        some, found = check(first, number, args.size)
        counts += some
        faults += found
    for name, count in sorted(counts.items()):
        print(f"{count:8,} {name}")
    for index, fault in faults:
        print(f"scene {index}: {fault}")
    print(f"{len(faults)} fault(s)")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
