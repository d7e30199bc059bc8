"""The tables of docs/synthesis.md: rivals, and each way of holding to a drawing.

    python -m tools.synthesis_table --workdir runs/synthesis-table [--seeds 3]

Trains a run of each seed that is not there yet, which scores the rivals; then draws the
same drawings with each guide on and off, with the adapter and without. Edge F and class
accuracy are means over runs with their standard errors over them; the cost is of a
picture, without compiling, over that of words alone. `--groups seen --classifier 2` and
the like are for choosing scales, on things of seen classes that no step saw.
"""

import argparse
import dataclasses
import itertools
import pathlib
import sys
import time
from collections.abc import Sequence

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from configs import toybox
from sbir_jax import experiment
from sbir_jax.config import Experiment
from sbir_jax.runtime import checkpoint, hardware, schema
from sbir_jax.tasks.synthesis import evaluation
from sbir_jax.tasks.synthesis.evaluation import Group
from sbir_jax.tasks.synthesis.imaginer import AT_ONCE, Imaginer
from tools.token_table import mean

# Chosen on held-out things of seen classes.
SCALES = {"lgp": 0.1, "classifier": 5.0, "distance": 1.0}
NAMES = {
    "lgp": "latent guidance predictor",
    "classifier": "classifier",
    "distance": "sketch distance",
}
SHOWN = 8  # drawings on a sheet


def guides(scales: dict[str, float]) -> dict[str, dict[str, float]]:
    """Scales of sampling by row: none, each guide alone, and all of them."""
    alone = {NAMES[name]: {name: scale} for name, scale in scales.items()}
    return {"": {}, **alone, "all three": scales}


def setup(args: argparse.Namespace, seed: int) -> Experiment:
    config = toybox.get_config("task=synthesis")
    config.train.seed = seed
    config.train.steps = args.steps
    config.score.update({"sketches": args.sketches, "seeds": args.pictures})
    return Experiment.from_config(config)


def draw(
    imaginer: Imaginer, group: Group, scales: dict, pictures: int
) -> tuple[np.ndarray, float]:
    """Pictures [seeds n h w 3] of each drawing and its words, and seconds for one."""
    imaginer.sampling = dataclasses.replace(imaginer.sampling, **scales)
    imaginer.imagine(group.sketches[:AT_ONCE], group.texts[:AT_ONCE])  # compiles
    begin = time.perf_counter()
    made = [imaginer.imagine(group.sketches, group.texts, i) for i in range(pictures)]
    took = time.perf_counter() - begin
    return np.stack(made), took / (pictures * len(group.texts))


def guided(
    run: experiment.Run,
    sheet: pathlib.Path,
    name: str,
    pictures: int,
    scales: dict[str, float],
) -> dict:
    """Figures and cost of each row, of one run's drawings of one group."""
    pairs = getattr(run.task.groups, name).some(run.setup.score.sketches)
    imaginer = Imaginer.from_run(sheet.parent)
    plain = imaginer.sampling
    group = evaluation.read_group(run.task.dataset, pairs, imaginer.size)
    seconds = {}
    ways = guides(scales)
    for held, guide in itertools.product((0.0, 1.0), ways):
        row = " + ".join(filter(None, ("adapter" * bool(held), guide)))
        row = row or "words alone"
        imaginer.sampling = plain
        made = draw(imaginer, group, {"hold": held, **ways[guide]}, pictures)
        group.pictures[row], seconds[row] = made
        tqdm.write(f"{row}: {seconds[row]:.2f} s a picture", file=sys.stderr)
    figures = evaluation.scored(group, evaluation.judge_of(run.task))
    save_sheet(group, sheet)
    return {row: figures[row] | {"seconds": seconds[row]} for row in figures}


def save_sheet(group: Group, path: pathlib.Path) -> None:
    """Some drawings, their photos, and the first picture of every row."""
    shown = range(min(SHOWN, len(group.sketches)))
    rows = [
        group.sketches,
        group.photos,
        *(made[0] for made in group.pictures.values()),
    ]
    lines = [np.concatenate([row[i] for row in rows], axis=1) for i in shown]
    Image.fromarray(np.concatenate(lines)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600, help="of training")
    parser.add_argument("--sketches", type=int, default=32, help="of each group")
    parser.add_argument("--pictures", type=int, default=2, help="of each drawing")
    parser.add_argument("--groups", nargs="*", default=("unseen", "seen"))
    for name, scale in SCALES.items():
        parser.add_argument(f"--{name}", type=float, default=scale, help="scale")
    args = parser.parse_args()
    scales = {name: getattr(args, name) for name in SCALES}
    hardware.keep_programs()
    reports, tables = [], {name: [] for name in args.groups}
    for seed in range(args.seeds):
        folder = args.workdir / str(seed)
        run = experiment.open(setup(args, seed), folder)
        reports.append(run.go())
        for name in args.groups:
            which = "_".join(f"{scale:g}" for scale in scales.values())
            sheet = folder / f"guides_{name}_{which}.png"
            kept = sheet.with_suffix(".json")
            if not kept.exists():
                given = run, sheet, name, args.pictures, scales
                checkpoint.write_own_json(kept, guided(*given))
            tables[name].append(schema.read_json(kept))
    names = [metric.name for metric in evaluation.METRICS]
    for name in args.groups:
        rivals = [rival_rows(report, name) for report in reports]
        print(f"\n{name}, rivals\n" + table(rivals, names, evaluation.ROWS))
        base = [rows["words alone"]["seconds"] for rows in tables[name]]
        for rows, seconds in zip(tables[name], base, strict=True):
            for row in rows.values():
                row["cost"] = row["seconds"] / seconds
        shown = ["edge F", "class accuracy", "cost"]
        print(f"\n{name}, guides\n" + table(tables[name], shown, {}))
    print(f"\n{reports[0]['hardware']}; {args.seeds} runs of {args.steps} steps")


def rival_rows(report: dict, group: str) -> dict:
    if group == "seen":
        return report["seen"]
    return {result["name"]: result["metrics"] for result in report["results"]}


def table(runs: Sequence[dict], columns: Sequence[str], titles: dict) -> str:
    """Means over runs, in Markdown."""
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row in runs[0]:
        cells = [mean([rows[row][name] for rows in runs]) for name in columns]
        lines.append(f"| {titles.get(row, row)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
