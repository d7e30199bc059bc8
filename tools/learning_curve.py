"""What versions of a model find, against how many images they were trained on.

    python -m tools.learning_curve --workdir runs/curve \
        --model 77024 v2 --model 168000 v3 --model 265376 toybox [--sketchy DIR]

Each --model is how many images it has seen and its folder. Figures are of the frozen
model: mAP@all on unseen classes and on novel ones, which no training saw, Acc@1 by
instance, and mAP@all on drawings of people where --sketchy names the folder of the
Sketchy data set (split 25, prepared). A run of each kind and model lies below the
workdir and is not made again. Prints the table with HOG below, what a power law of what
is missing to 1 says of ten times as many images, and draws `curve.png`.

By instance there is a ceiling: how often, within its category, a drawing finds another
drawing of the same thing. It is printed, too.
"""

import argparse
import pathlib
from typing import Any

import numpy as np
from absl import flags
from matplotlib.figure import Figure

from configs import sketchy, toybox
from sbir_jax import experiment, hog
from sbir_jax.config import Experiment
from sbir_jax.data.toybox import world
from sbir_jax.metrics.cosine import unit
from sbir_jax.report.pictures import BLUE
from sbir_jax.runtime import checkpoint, hardware
from sbir_jax.tasks.retrieval import descriptor_cache

KINDS = ("unseen classes", "novel classes", "by instance", "Sketchy")


def setup(kind: str, backbone: str, root: str) -> Experiment:
    """One step of training, as little as a run can have: the frozen row counts."""
    if kind == "Sketchy":
        config: Any = sketchy.get_config("split=25")
        config.data.root, config.score.prepare = root, True
    else:
        task = "fine_grained" if kind == "by instance" else "category"
        config = toybox.get_config(f"task={task}")
    if kind == "novel classes":
        config.data.unseen = ",".join(world.NOVEL)
    config.train.steps = config.train.score_every = 1
    config.backbone = backbone
    return Experiment.from_config(config)


def figure(report: dict, row: str) -> float:
    """The primary one."""
    (found,) = (r["metrics"] for r in report["results"] if r["name"] == row)
    return found[report["primary"]]


def ten_times(images: list[float], values: list[float]) -> float:
    """What ten times the most images would give, if what is missing to 1 goes on
    falling as a power of them."""
    slope, start = np.polyfit(np.log(images), np.log1p(-np.array(values)), 1)
    return float(-np.expm1(start + slope * np.log(10 * max(images))))


def ceilings(run: experiment.Run) -> dict[str, float]:
    """How often a drawing is nearest, of one drawing each of the things of its
    category, to another drawing of its own thing: by the frozen model, and by HOG."""
    task: Any = run.task
    protocol, sketches = task.protocol, task.scored.sketches
    labels, things = protocol.query_labels, protocol.query_instances
    kept = task.given.folder / task.folder / "features"
    given = task.embedder(run.setup.recipe), task.scored, protocol, kept, "frozen"
    rows, _ = descriptor_cache.cached_embed(*given)
    pixels = sketches.pixels(protocol.queries, hog.SIZE)
    found = {"frozen": unit(rows.astype(np.float32)), "hog": hog.describe(pixels)}
    return {name: nearest(rows, labels, things) for name, rows in found.items()}


def nearest(rows: np.ndarray, labels: np.ndarray, things: np.ndarray) -> float:
    """The share of drawings that are nearest to another one of their own thing, among
    one drawing of each thing of their category.

    Args:
      rows: unit descriptors [n, d]. labels, things: category and thing of each.
    """
    hits = []
    for label in np.unique(labels):
        there = np.unique(things[labels == label])
        of_things = [np.flatnonzero(things == thing) for thing in there]
        count = min(map(len, of_things))
        drawn = np.stack([rows[some[:count]] for some in of_things], 1)  # [count _ d]
        for i, asked in enumerate(drawn):
            for j, gallery in enumerate(drawn):
                if i != j:
                    hits.append((asked @ gallery.T).argmax(1) == np.arange(len(there)))
    return float(np.concatenate(hits).mean())


def draw(table: dict[str, dict], images: list[float], path: pathlib.Path) -> None:
    """Figures against images, and HOG's as dashes."""
    picture = Figure(figsize=(3 * len(table), 2.8), layout="constrained")
    axes = picture.subplots(1, len(table), squeeze=False)[0]
    for axis, (kind, found) in zip(axes, table.items(), strict=True):
        axis.semilogx(images, found["frozen"], "o-", color=BLUE, label="frozen")
        axis.axhline(found["hog"], color="grey", linestyle="--", label="HOG")
        axis.set_title(f"{kind}: {found['metric']}", loc="left", fontsize=9)
        axis.set_xlabel("images seen")
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False)
    picture.savefig(path, dpi=160)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workdir", type=pathlib.Path, default="runs/curve")
    parser.add_argument(
        "--model",
        nargs=2,
        action="append",
        required=True,
        metavar=("IMAGES", "FOLDER"),
    )
    parser.add_argument("--sketchy", default="", help="its folder")
    args = parser.parse_args()
    flags.FLAGS.mark_as_parsed()
    hardware.keep_programs()
    images = [float(seen) for seen, _ in args.model]
    table: dict[str, dict] = {}
    for kind in KINDS if args.sketchy else KINDS[:-1]:
        reports = []
        for seen, folder in args.model:
            where = args.workdir / f"{kind.replace(' ', '-')}-{seen}"
            run = experiment.open(setup(kind, folder, args.sketchy), where)
            reports.append(run.go())
        values = [figure(report, "frozen") for report in reports]
        table[kind] = {
            "metric": reports[-1]["primary"],
            "frozen": values,
            "hog": figure(reports[-1], "hog"),
            "ten times the images": ten_times(images, values),
        }
        if kind == "by instance":
            table[kind]["drawing to drawing"] = ceilings(run)
    print("\n| images | " + " | ".join(table) + " |\n|---" + "|---" * len(table) + "|")
    for i, seen in enumerate(images):
        cells = [f"{found['frozen'][i]:.3f}" for found in table.values()]
        print(f"| {seen:,.0f} | {' | '.join(cells)} |")
    for row in ("hog", "ten times the images"):
        print(f"| {row} | {' | '.join(f'{f[row]:.3f}' for f in table.values())} |")
    print(f"\ndrawing to drawing: {table['by instance']['drawing to drawing']}")
    checkpoint.write_json(args.workdir / "table.json", {"images": images, **table})
    draw(table, images, args.workdir / "curve.png")
    print(f"{args.workdir / 'table.json'}, {args.workdir / 'curve.png'}")


if __name__ == "__main__":
    main()
