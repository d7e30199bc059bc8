"""Figures of token matching on Toybox, over seeds, as a table.

    python -m tools.token_table reranking --seeds 3 --workdir runs/token-table
    python -m tools.token_table tokens --keep 1.0 0.9 --workdir runs/token-table

A run of each seed, trained where it is not there yet; what is in the folder counts. Of
every row the mean of mAP@all over seeds and its standard error over them; below, what
pairs cost and how many photos are worth re-ranking. With a keep rate below 1 tokens are
compared as they are (`relation.reduced=0`), and so they are then at 1.0. As the paper's
authors advise, both go on from the transformer of the same seed's run that kept all.
"""

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from configs import toybox
from sbir_jax import experiment
from sbir_jax.config import Experiment
from sbir_jax.metrics.matching import standard_error
from sbir_jax.runtime import hardware, schema


def report_of(
    task: str, seed: int, keep: float, as_they_are: bool, root: pathlib.Path, steps: int
) -> dict[str, Any]:
    """Of a run that is there, or made now."""
    name = f"{task}-{seed}" + f"-keep{keep:g}" * as_they_are
    folder = root / name
    if not (folder / "report.json").exists():
        config = toybox.get_config(f"task={task}")
        config.train.seed = seed
        if steps:
            config.train.steps = steps
        if as_they_are:
            config.vit.keep, config.relation.reduced = keep, 0
            report_of(task, seed, 1.0, False, root, steps)
            config.weights = str((root / f"{task}-{seed}").resolve())
        experiment.open(Experiment.from_config(config), folder).go()
    return schema.read_json(folder / "report.json")


def mean(values: Sequence[float]) -> str:
    """With its standard error, where there are several."""
    rows = np.array(values)
    if len(rows) < 2:
        return f"{rows[0]:.3f}"
    return f"{rows.mean():.3f} ± {standard_error(rows, np.arange(len(rows))):.3f}"


def lines(reports: Sequence[dict[str, Any]]) -> list[str]:
    """Of the runs of all seeds."""
    primary, found = reports[0]["primary"], []
    for row in reports[0]["results"]:
        values = [
            other["metrics"][primary]
            for report in reports
            for other in report["results"]
            if other["name"] == row["name"]
        ]
        found.append(f"| {row['name']} | {mean(values)} |")
    for name in reports[0]["cost"]:
        rates = [report["cost"][name] for report in reports]
        found.append(f"| {name.replace('_', ' ')} | {np.median(rates):,.0f} |")
    depths = [report["depth"] for report in reports if "depth" in report]
    for i, photos in enumerate(depths[0]["photos"] if depths else ()):
        values = [depth["value"][i] for depth in depths]
        found.append(f"| re-ranked {photos} | {mean(values)} |")
    enough = ", ".join(str(depth["enough"]) for depth in depths)
    found.append(f"| photos for 99 % of the last | {enough} |")
    found.append(f"| hardware | {reports[0]['hardware']} |")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=("tokens", "reranking"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--keep", type=float, nargs="*", default=[])
    parser.add_argument("--steps", type=int, default=0, help="0 for the config's")
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    args = parser.parse_args()
    if args.keep and args.task != "tokens":
        parser.error("--keep is of the task tokens: a reader keeps all tokens")
    hardware.keep_programs()
    for keep in args.keep or [1.0]:
        given = keep, bool(args.keep), args.workdir, args.steps
        reports = [report_of(args.task, seed, *given) for seed in range(args.seeds)]
        title = f"{args.task}, keep rate {keep:g}" if args.keep else args.task
        print(f"\n| {title}, {args.seeds} seeds | mAP@all |\n|---|---|")
        print("\n".join(lines(reports)))


if __name__ == "__main__":
    main()
