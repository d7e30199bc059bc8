"""Cheaper recipes: what each saves, and what it costs in retrieval figures.

    python -m tools.recipes --workdir runs/recipes
    python -m tools.recipes --workdir runs/recipes --task fine_grained --seeds 0,1,2

Each recipe changes a few keys of `configs/toybox.py`. Its figures are those of ordinary
runs on the unseen classes, one for each seed, in folders of their own that are not run
again. Seconds are of the networks alone: all recipes take turns in one process, and a
figure is the median over `--rounds`. They are kept too, in `costs-TASK.json`: remove it
to time again. Prints a table in Markdown, and writes `recipes-TASK.json` beside it.
"""

import argparse
import copy
import dataclasses
import json
import pathlib
import statistics
from collections.abc import Callable
from typing import Any

import jax
import ml_collections
import numpy as np
from absl import flags
from tqdm.auto import tqdm

from configs import toybox
from sbir_jax import data, experiment, train_step
from sbir_jax.adapters import parts
from sbir_jax.config import Experiment
from sbir_jax.data import triplets
from sbir_jax.embedder import Embedder
from sbir_jax.runtime import checkpoint, hardware
from sbir_jax.tasks.retrieval import latent_cache
from sbir_jax.tasks.retrieval.setup import TripletConfig
from tools import study_sweep
from tools.bench_common import timed

# What each recipe changes; the first one is what the others are compared with.
RECIPES: dict[str, dict[str, Any]] = {
    "as in the paper": {},
    "frame in latent space": {"prompt.space": "latent"},
    "text prompt only": {"train.parts": ("text",)},
    "2 noise copies": {"recipe.copies": 2},
    "1 noise copy": {"recipe.copies": 1},
    "frame in latent space, 2 copies": {"prompt.space": "latent", "recipe.copies": 2},
    "images of 32 px": {"image_size": 32},
    "distilled encoder": {"encoder": "tiny"},
    "computed in bfloat16": {"dtype": "bfloat16"},
}
COPIES = "recipe.copies"
TOGETHER = 8  # triplets, and images, at a time; more are no faster here


def changed(
    config: ml_collections.ConfigDict, changes: dict[str, Any]
) -> ml_collections.ConfigDict:
    found = copy.deepcopy(config)
    found.update_from_flattened_dict(changes)
    return found


def figures(
    config: ml_collections.ConfigDict,
    changes: dict[str, Any],
    seed: int,
    folder: pathlib.Path,
) -> dict[str, float]:
    """Trains one recipe, or goes on with it; its primary metric on unseen classes.

    Training takes one noise copy whatever the recipe, so that recipes which differ in
    copies only share a run, and are scored in one pass.

    Args:
      folder: of all recipes; the runs lie below it.
    Returns: the metric as "frozen" and "learned".
    """
    trained = {key: value for key, value in changes.items() if key != COPIES}
    name = "-".join(
        "+".join(v) if isinstance(v, tuple) else str(v) for v in trained.values()
    )
    workdir = folder / "runs" / f"{config.task}-{name or 'plain'}-{seed}"
    keys = trained | {"train.seed": seed, COPIES: 1}
    setup = Experiment.from_config(changed(config, keys))
    experiment.open(setup, workdir).go()
    wanted = Experiment.from_config(changed(config, changes)).recipe
    counts = {wanted.copies, config.recipe.copies}
    counts |= {other[COPIES] for other in RECIPES.values() if COPIES in other}
    asked = [dataclasses.replace(wanted, copies=k) for k in sorted(counts)]
    found = {}
    for name, run in (("frozen", None), ("learned", workdir)):
        bench = study_sweep.open_bench(setup, folder, "unseen", run)
        for cell in study_sweep.sweep(bench, asked):
            if cell["recipe"]["copies"] == wanted.copies:
                found[name] = cell["metrics"][bench.protocol.primary]
    return found


class Model:
    """The compiled programs of a recipe, on blank images, `TOGETHER` at a time."""

    def __init__(self, setup: Experiment):
        run = experiment.open(setup)
        self.setup, self.task, given = setup, run.task, run.given
        self.loaded, self.size, self.mesh = given.loaded, given.size, given.mesh
        self.latent = self.loaded.backbone.latent_shape(self.size)
        self.prompts = self.task.init(jax.random.key(setup.train.seed))
        self.images = np.zeros((TOGETHER, self.size, self.size, 3), np.float32)

    def extract(self) -> Callable:
        scale, recipe = self.setup.prompt.visual_scale, self.setup.recipe
        model = Embedder(
            self.loaded, self.prompts, recipe, self.size, scale, TOGETHER, self.mesh
        )
        return lambda: model.embed_arrays(self.images, "photo")

    def encode(self) -> Callable:
        """Images to latents, as before training on those."""
        scale = self.setup.prompt.visual_scale
        encode = latent_cache.encoder(self.loaded, self.prompts, scale, 1, TOGETHER)
        return lambda: encode(self.images, "photo")

    def step(self) -> tuple[Callable, int]:
        """A training step, and the bytes that it takes beside weights and batch, by
        XLA's own analysis."""
        config, rows = self.setup.train, self.images
        if config.reads_latents(self.prompts):
            rows = np.zeros((TOGETHER, *self.latent), np.float32)
        batch = dict.fromkeys(triplets.MODALITY, rows)
        # Copies, since all of the state is donated.
        trained, fixed = parts.split(self.prompts, self.task.parts)
        optimiser, frozen = config.optimiser(), self.loaded.frozen
        new = jax.tree.map(
            np.array, train_step.new_state(trained, optimiser, -np.inf, False)
        )
        step = train_step.Step(self.task.loss, optimiser, config.seed)
        found = step.compiled(new, fixed, frozen, batch).memory_analysis()
        return (
            lambda: jax.block_until_ready(step(new, fixed, frozen, [batch])),
            found.temp_size_in_bytes,
        )


def encoded_share(setup: Experiment, dataset: data.Dataset) -> float:
    """Images that are encoded before training on latents, for each triplet of it."""
    config = setup.train
    drawn = latent_cache.drawn(
        dataset,
        seed=config.seed,
        steps=config.steps,
        batch_size=config.batch_size,
        task=setup.task,
        host=0,
        hosts=1,
    )
    return sum(map(len, drawn.values())) / (config.steps * config.batch_size)


def costs(
    setups: dict[str, Experiment], dataset: data.Dataset, rounds: int
) -> dict[str, dict[str, float]]:
    """What each recipe takes, by its name.

    Returns: medians over the rounds, of processor seconds, and of wall ones as "wall_":
      "triplet" for training on one, with its share of the encoding beforehand; "image"
      for extracting one; and "step_bytes".
    """
    needs: dict[str, dict[str, str]] = {}  # keys of programs; recipes may share them
    programs: dict[str, Callable] = {}
    step_bytes: dict[str, int] = {}
    for name, setup in setups.items():
        model = Model(setup)
        one_copy = dataclasses.replace(setup.recipe, copies=1)
        trained = _key(dataclasses.replace(setup, recipe=one_copy))
        plain = _key(dataclasses.replace(setup, train=TripletConfig()))
        needs[name] = {"extract": f"extract {plain}", "step": f"step {trained}"}
        if setup.train.reads_latents(model.prompts):
            needs[name]["encode"] = f"encode {trained}"
        for kind, key in needs[name].items():
            if key in programs:
                continue
            if kind == "step":
                programs[key], step_bytes[key] = model.step()
            else:
                programs[key] = getattr(model, kind)()
    seen: dict[str, list[dict]] = {key: [] for key in programs}
    # The first round is thrown away: there is compiling in it.
    for _ in tqdm(range(rounds + 1), "time", unit="round"):
        for key, run in programs.items():
            seen[key].append(timed(run))
    table: dict[str, dict[str, float]] = {}
    for name, keys in needs.items():
        table[name] = {"step_bytes": step_bytes[keys["step"]]}
        for prefix, clock in (("", "cpu_seconds"), ("wall_", "seconds")):
            one = {
                kind: statistics.median(run[clock] for run in seen[key][1:]) / TOGETHER
                for kind, key in keys.items()
            }
            if "encode" in one:
                one["step"] += one["encode"] * encoded_share(setups[name], dataset)
            table[name][f"{prefix}triplet"] = one["step"]
            table[name][f"{prefix}image"] = one["extract"]
    return table


def _key(setup: Experiment) -> str:
    return json.dumps(setup.to_json(), sort_keys=True)


def markdown(cells: dict[str, dict[str, Any]], metric: str) -> str:
    """One row a recipe; ratios are to the first."""
    head = (
        "| | training, processor ms a triplet | its memory, MB "
        "| extraction, processor ms an image "
        f"| {metric}, frozen | {metric}, learned | learned, of the first |"
    )
    first, lines = next(iter(cells.values())), [head, "|---" * 7 + "|"]
    for name, cell in cells.items():
        texts = [name]
        for key, unit in (("triplet", 1e3), ("step_bytes", 1e-6), ("image", 1e3)):
            saved = first[key] / cell[key]
            texts.append(f"{unit * cell[key]:.3g} (/ {saved:.2f})")
        for key in ("frozen", "learned"):
            values = cell[key]
            spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            texts.append(f"{statistics.mean(values):.3f}{spread}")
        share = statistics.mean(cell["learned"]) / statistics.mean(first["learned"])
        texts.append(f"{share:.1%}")
        lines.append(f"| {' | '.join(texts)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", type=pathlib.Path, default="runs/recipes")
    parser.add_argument("--task", default="category")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    flags.FLAGS.mark_as_parsed()
    hardware.keep_programs()
    config = toybox.get_config(f"task={args.task}")
    seeds = [int(seed) for seed in args.seeds.split(",")]
    setups = {
        name: Experiment.from_config(changed(config, changes))
        for name, changes in RECIPES.items()
    }
    path = args.workdir / f"costs-{args.task}.json"
    cells = json.loads(path.read_text()) if path.exists() else {}
    if set(cells) != set(RECIPES):
        first = next(iter(setups.values()))
        dataset = data.load(**first.data)
        dataset = dataset.hold_out(first.val_classes, first.train.seed)
        cells = costs(setups, dataset, args.rounds)
        checkpoint.write_json(path, cells)
    for seed in seeds:
        for name, changes in RECIPES.items():
            found = figures(config, changes, seed, args.workdir)
            for key, value in found.items():
                cells[name].setdefault(key, []).append(value)
    checkpoint.write_json(args.workdir / f"recipes-{args.task}.json", cells)
    print(markdown(cells, "mAP@all" if args.task == "category" else "Acc@1"))


if __name__ == "__main__":
    main()
