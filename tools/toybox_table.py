"""The README's Toybox table: both tasks, three seeds, against random weights.

    python -m tools.toybox_table --workdir runs/table

Each cell is a run folder of its own and is not run again, so the command can be
stopped and started. Prints the table and writes `table.json` beside the runs.
"""

import argparse
import pathlib

import numpy as np
from absl import flags

from configs import toybox
from sbir_jax import experiment
from sbir_jax.config import Experiment
from sbir_jax.runtime import checkpoint, hardware

SEEDS = (0, 1, 2)
FIGURES = {
    "category": ("mAP@all", "P@10"),
    "fine_grained": ("Acc@1", "Acc@5", "Acc@1 (whole gallery)"),
}


def run(task: str, random_weights: bool, seed: int, root: pathlib.Path) -> dict:
    """`report.json` of one cell."""
    config = toybox.get_config(f"task={task}")
    config.random_weights = random_weights
    config.train.seed = seed
    kind = "random" if random_weights else "toybox"
    workdir = root / f"{task}-{kind}-{seed}"
    return experiment.open(Experiment.from_config(config), workdir).go()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workdir", type=pathlib.Path, default="runs/table")
    args = parser.parse_args()
    flags.FLAGS.mark_as_parsed()
    hardware.keep_programs()
    table = {}
    for task, names in FIGURES.items():
        rows: dict[str, list[dict]] = {}
        for seed in SEEDS:
            for random_weights in (False, True):
                report = run(task, random_weights, seed, args.workdir)
                for result in report["results"]:
                    name = result["name"]
                    if random_weights:
                        name = f"{name}, random weights"
                    rows.setdefault(name, []).append(result["metrics"])
        protocol = report["protocol"]
        print(
            f"\n{task}: {protocol['queries']} sketches over {protocol['gallery']} "
            f"photos of {protocol['classes']} unseen classes, {len(SEEDS)} seeds\n"
        )
        print(f"| | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
        table[task] = {"protocol": protocol, "rows": {}}
        for row in (
            "chance",
            "pixels",
            "hog",
            "frozen, random weights",
            "learned, random weights",
            "frozen",
            "learned",
        ):
            cells = {}
            for name in names:
                values = np.array([metrics[name] for metrics in rows[row]])
                cells[name] = [float(values.mean()), float(values.std(ddof=1))]
            table[task]["rows"][row] = cells
            text = [f"{mean:.3f} ± {std:.3f}" for mean, std in cells.values()]
            print(f"| {row} | {' | '.join(text)} |")
    checkpoint.write_json(args.workdir / "table.json", table)


if __name__ == "__main__":
    main()
