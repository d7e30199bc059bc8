"""Time of a scene's picture for each thing in it, beside a picture of one thing.

    python -m tools.bench_scenes --scenes 64 --runs 5

Prints one JSON line: milliseconds of processor time a thing, and their ratio in each of
the runs, which take turns so that both meet the same machine.
"""

import argparse
import json
import time

import numpy as np

from sbir_jax.data.toybox import world
from sbir_jax.data.toybox.scenes.render import render_scenes
from sbir_jax.data.toybox.scenes.scene import draw_scene
from sbir_jax.runtime import hardware

SIZE = 64


def milliseconds(render, things: int) -> float:
    """Of processor time a thing; what overlaps on two cores counts twice."""
    begin = time.process_time()
    render()
    return 1000 * (time.process_time() - begin) / things


def measure(scenes: int, runs: int, size: int = SIZE) -> dict:
    """Medians over runs, after one that compiles."""
    drawn = [draw_scene(index, seed=0) for index in range(scenes)]
    inside = sum(len(scene.things) for scene in drawn)
    alone = [
        world.instance(world.CATEGORIES[index % len(world.CATEGORIES)], index)
        for index in range(scenes)
    ]

    def together():
        return milliseconds(lambda: render_scenes(drawn, size=size, looks=(0,)), inside)

    def single():
        return milliseconds(lambda: world.render_photos(alone, size), scenes)

    together(), single()
    pairs = [(together(), single()) for _ in range(runs)]
    ratios = [a / b for a, b in pairs]
    return {
        "size": size,
        "things": inside,
        "scene_ms": float(np.median([a for a, _ in pairs])),
        "single_ms": float(np.median([b for _, b in pairs])),
        "ratios": [round(ratio, 2) for ratio in ratios],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scenes", type=int, default=64)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    hardware.keep_programs()
    print(json.dumps(measure(args.scenes, args.runs)))


if __name__ == "__main__":
    main()
