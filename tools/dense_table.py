"""The tables of docs/dense.md: dense heads on Toybox scenes, and their rivals.

    python -m tools.dense_table --workdir runs/dense

Every cell is a run folder of its own and is not run again, so the command can be
stopped and started. Prints a table for each task and writes `table.json` and
`curves.png`, the held-out figure against steps on the trained and the random backbone.

Rivals are run with every seed, variants of our own with the first one. Heads are
trained without the text adapter, so that what they are given is computed once; it has a
row of its own.

`--tasks`, `--seeds`, `--steps`, `--scenes` and `--tests` make it smaller.
"""

import argparse
import pathlib
from collections.abc import Iterator

import numpy as np
from absl import flags
from matplotlib.figure import Figure

from configs import toybox_scenes
from sbir_jax import experiment
from sbir_jax.config import Experiment
from sbir_jax.report.pictures import BLUE, RIGHT
from sbir_jax.runtime import checkpoint, hardware, metric_writer

TASKS = ("segmentation", "referring", "depth")
FIGURES = {
    "segmentation": ("mIoU", "mIoU of groups, unseen", "mIoU of groups, novel"),
    "referring": ("oIoU", "oIoU, unseen", "oIoU, novel"),
    "depth": ("RMSE", "delta 1", "RMSE, unseen", "RMSE, novel"),
}
OWN = "trained backbone"
# Rows of the table: what is learned on what, and settings that make it so.
RIVALS: dict[str, dict] = {
    OWN: {},
    "random weights": {"random_weights": True},
    "colours and edges": {"features": "colour", "read.maps": False},
}
VARIANTS: dict[str, dict] = {
    "without maps": {"read.maps": False},
    "with maps": {"read.maps": True},
    "with the text adapter": {"adapter": True},
    "denoiser trained too": {"train.unet_rate": 0.1},
}


def rows_to_run(task: str, first: bool) -> Iterator[tuple[str, dict]]:
    """Of a seed; depth joins no maps unless told to."""
    left_out = "without maps" if task == "depth" else "with maps"
    found = RIVALS | (VARIANTS if first else {})
    return ((name, more) for name, more in found.items() if name != left_out)


def run(
    task: str, variant: str, more: dict, seed: int, args: argparse.Namespace
) -> tuple:
    """Report and history of one cell."""
    config = toybox_scenes.get_config(f"task={task}")
    config.train.seed = seed
    config.train.steps, config.data.train = args.steps, args.scenes
    config.train.score_every = max(args.steps // 8, 1)
    config.test_examples = args.tests
    # They do not depend on the seed, and need the trained backbone.
    config.training_free = variant == OWN and seed == args.seeds[0]
    config.update_from_flattened_dict({"adapter": False, **more})
    workdir = args.workdir / f"{task}-{variant.replace(' ', '_')}-{seed}"
    report = experiment.open(Experiment.from_config(config), workdir).go()
    return report, metric_writer.read(workdir)


def rows_of(task: str, args: argparse.Namespace) -> tuple[dict, dict]:
    """Figures by row of the table, one for each seed; histories by variant."""
    rows: dict[str, list[dict]] = {}
    histories: dict[str, list] = {}
    for seed in args.seeds:
        for variant, more in rows_to_run(task, seed == args.seeds[0]):
            report, history = run(task, variant, more, seed, args)
            histories.setdefault(variant, []).append(history)
            for result in report["results"]:
                name = result["name"]
                if name == "learned":
                    rows.setdefault(variant, []).append(result["metrics"])
                elif variant == OWN and seed == args.seeds[0]:
                    rows[name] = [result["metrics"]]
    return rows, histories


def curves(histories: dict[str, dict[str, list]], path: pathlib.Path) -> None:
    """The held-out figure against steps, mean over seeds."""
    figure = Figure(figsize=(4.2 * len(histories), 3.2), layout="constrained")
    axes = figure.subplots(1, len(histories), squeeze=False)[0]
    for axis, (task, found) in zip(axes, histories.items(), strict=True):
        key = f"val/{FIGURES[task][0]}"
        for variant, colour in ((OWN, BLUE), ("random weights", RIGHT)):
            points: dict[int, list] = {}
            for history in found[variant]:
                for row in history:
                    if key in row:
                        points.setdefault(row["step"], []).append(row[key])
            means = [np.mean(values) for values in points.values()]
            axis.plot(list(points), means, "o-", color=colour, label=variant)
        axis.set_title(f"{task}: {FIGURES[task][0]}", loc="left")
        axis.set_xlabel("step")
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False)
    figure.savefig(path, dpi=160)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--workdir", type=pathlib.Path, default=pathlib.Path("runs/dense")
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--scenes", type=int, default=800)
    parser.add_argument("--tests", type=int, default=0, help="of each test; 0 for all")
    args = parser.parse_args()
    flags.FLAGS.mark_as_parsed()
    hardware.keep_programs()
    table, histories = {}, {}
    for task in args.tasks:
        rows, histories[task] = rows_of(task, args)
        names = FIGURES[task]
        print(f"\n{task}, {len(args.seeds)} seeds, {args.steps} steps\n")
        print(f"| | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
        table[task] = {}
        for row, found in rows.items():
            cells, text = {}, []
            for name in names:
                values = np.array([metrics[name] for metrics in found])
                spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
                cells[name] = [float(values.mean()), spread]
                shown = f"{values.mean():.3f}"
                text.append(shown + (f" ± {spread:.3f}" if len(values) > 1 else ""))
            table[task][row] = cells
            print(f"| {row} | {' | '.join(text)} |")
    checkpoint.write_json(args.workdir / "table.json", table)
    curves(histories, args.workdir / "curves.png")
    print(f"\n{args.workdir / 'table.json'}, {args.workdir / 'curves.png'}")


if __name__ == "__main__":
    main()
