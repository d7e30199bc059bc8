"""The table of matching on Toybox scenes: several seeds, and random weights.

python -m tools.matching_table --workdir runs/matching

Each run is `configs/toybox.py:task=matching` in a folder of its own below the workdir;
a seed is that of the shots, of training and of the noise. Finished runs are read, so
that the same command goes on where it stopped. Other settings are given as to
`sbir_jax.main`, with a workdir of their own, and chosen on seen things:

python -m tools.matching_table --workdir runs/last --scored val --config.recipe.last=700

`--seeds 1 --shots 64 --config.rivals=False --config.test_questions=50` is a small one:
the denoising gain, which is read along with the attention, then stands for the rivals.
"""

import argparse
import ast
import json
import pathlib
import runpy
from typing import Any

import numpy as np

from sbir_jax import experiment
from sbir_jax.config import Experiment
from sbir_jax.runtime import hardware

CONFIG = pathlib.Path(__file__).resolve().parent.parent / "configs" / "toybox.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", default="runs/matching")
    parser.add_argument("--backbone", default="toybox")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shots", nargs="+", type=float, default=[16.0, 64.0])
    parser.add_argument("--scored", default="test", help="or val, to choose on")
    args, args.given = parser.parse_known_args()
    hardware.keep_programs()
    columns: dict[str, list[dict[str, float]]] = {}
    for seed in range(args.seeds):
        found: dict[str, dict[str, float]] = {}
        for shots in args.shots:
            found = _run(args, seed, shots, False)
            columns.setdefault(f"{shots:g} shots", []).append(found["learned"])
        for name, row in found.items():
            if name not in ("learned", "chance"):
                columns.setdefault(name, []).append(row)
        random = _run(args, seed, args.shots[-1], True)
        columns.setdefault("random, frozen", []).append(random["frozen"])
        columns.setdefault(f"random, {args.shots[-1]:g} shots", []).append(
            random["learned"]
        )
    _print(columns)


def _run(
    args: argparse.Namespace, seed: int, shots: float, random: bool
) -> dict[str, dict[str, float]]:
    """Figures of each model of one run."""
    config: Any = runpy.run_path(str(CONFIG))["get_config"]("task=matching")
    config.backbone, config.random_weights = args.backbone, random
    config.train.seed = config.recipe.noise_seed = seed
    config.train.shots, config.data.scored = shots, args.scored
    # They know no shots: once for each seed.
    config.rivals = not random and shots == args.shots[-1]
    config.update_from_flattened_dict(_given(args.given))
    kind = "random" if random else "trained"
    name = f"{kind}-{shots:g}-{seed}"
    folder = pathlib.Path(args.workdir) / args.scored / name
    report = folder / "report.json"
    if not report.exists():
        experiment.open(Experiment.from_config(config), folder).go()
    results = json.loads(report.read_text())["results"]
    return {row["name"]: row["metrics"] for row in results}


def _given(arguments: list[str]) -> dict[str, Any]:
    """`--config.KEY=VALUE` by key. Raises: SystemExit for anything else."""
    found = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not key.startswith("--config.") or not equals:
            raise SystemExit(f"{argument}: give --config.KEY=VALUE")
        try:
            found[key.removeprefix("--config.")] = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            found[key.removeprefix("--config.")] = value  # a text
    return found


def _print(columns: dict[str, list[dict[str, float]]]) -> None:
    """Mean and standard deviation over seeds, in Markdown."""
    metrics = list(next(iter(columns.values()))[0])
    print("| | " + " | ".join(metrics) + " |")
    print("|---" * (len(metrics) + 1) + "|")
    for name, rows in columns.items():
        cells = []
        for metric in metrics:
            values = np.array([row[metric] for row in rows])
            spread = values.std(ddof=1) if len(values) > 1 else float("nan")
            cells.append(f"{values.mean():.3f} ± {spread:.3f}")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
