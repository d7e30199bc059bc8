"""Studies that train prompts: each cell is an ordinary run in a folder of its own.

So it goes on where it stopped, is scored from its kept descriptors, and has a report.
"""

import copy
import pathlib
from collections.abc import Sequence

import ml_collections
import numpy as np
from tqdm.auto import tqdm

from sbir_jax import experiment
from sbir_jax.config import Experiment
from tools import study_pictures, study_sweep
from tools.study_sweep import CLASSES

AXES = {
    "border": "border in pixels",
    "parts": "trained parts",
    "share": "share of each seen class",
}
KEYS = {"border": "prompt.border", "parts": "train.parts", "share": "data.share"}
# What each part setting trains; "none" trains nothing, and is the frozen backbone.
PARTS = {
    "both": ("visual", "text"),
    "frame": ("visual",),
    "text": ("text",),
    "none": (),
}
# The paper's border widths, in pixels; scaled here from 512 px, as its 16 px are.
WIDTHS = (10, 16, 20, 30, 40, 50)
SHARES = (0.1, 0.3, 0.5, 0.7, 1.0)  # the paper's


def widths(size: int) -> list[int]:
    """The paper's border widths for images of `size` pixels, without repetition."""
    scaled = (max(1, round(width * size / 512)) for width in WIDTHS)
    return sorted(set(scaled))


def cell_config(
    config: ml_collections.ConfigDict, study: str, value, seed: int
) -> ml_collections.ConfigDict:
    """The config of one cell: `config` with one thing and the seed changed."""
    # Nothing is trained for "none": its figures are a run's frozen ones.
    given = (PARTS[value] or PARTS["both"]) if study == "parts" else value
    changed = copy.deepcopy(config)
    changed.update_from_flattened_dict({"train.seed": seed, KEYS[study]: given})
    return changed


def figures(
    config: ml_collections.ConfigDict,
    study: str,
    value,
    seed: int,
    folder: pathlib.Path,
    classes: str,
) -> dict[str, float]:
    """Trains one cell, or goes on with it, and scores it.

    Args:
      study: "border", "parts" or "share"; `value` is what the cell gives it.
      folder: of the whole study; runs lie below it.
      classes: a key of `study_sweep.CLASSES`.
    Returns: the primary metric of the cell, and of "frozen" and "chance" beside it.
    """
    # The run that trains both parts also tells what the untrained ones find.
    name = "both" if value == "none" else value
    workdir = folder / "runs" / f"{study}-{name}-{seed}"
    setup = Experiment.from_config(cell_config(config, study, value, seed))
    summary = experiment.open(setup, workdir).go()
    if classes == "unseen":
        found = {
            result["name"]: result["metrics"][summary["primary"]]
            for result in summary["results"]
        }
    else:
        found = {}
        for key, run in (("frozen", None), ("learned", workdir)):
            bench = study_sweep.open_bench(setup, folder, classes, run)
            (cell,) = study_sweep.sweep(bench, [setup.recipe])
            found[key] = cell["metrics"][bench.protocol.primary]
            found["chance"] = study_sweep.chance(bench)
    return found | {"cell": found["frozen" if value == "none" else "learned"]}


def trained(
    config: ml_collections.ConfigDict,
    study: str,
    values: Sequence,
    seeds: Sequence[int],
    folder: pathlib.Path,
    classes: str,
    picture: pathlib.Path,
) -> tuple[list[dict], str]:
    """A run for every value and seed; arguments as `figures`.

    Returns: the cells, and a line with the means.
    """
    cells = []
    with tqdm(total=len(values) * len(seeds), desc=study, unit="run") as bar:
        for value in values:
            for seed in seeds:
                found = figures(config, study, value, seed, folder, classes)
                cells.append({study: value, "seed": seed, **found})
                bar.update()
    by_value = [[c["cell"] for c in cells if c[study] == v] for v in values]
    setup = Experiment.from_config(config)
    metric = {"category": "mAP@all", "fine_grained": "Acc@1"}[setup.task]
    spread = f"mean and standard deviation of {len(seeds)} seeds"
    study_pictures.lines(
        picture,
        f"{setup.data['name']}, {setup.task.replace('_', '-')}, learned prompts, "
        f"{setup.train.steps} steps\n{metric} on {CLASSES[classes]}, "
        + (spread if len(seeds) > 1 else "one seed"),
        AXES[study],
        metric,
        [str(value) for value in values],
        by_value,
        {k: float(np.mean([c[k] for c in cells])) for k in ("frozen", "chance")},
        joined=study != "parts",
    )
    pairs = zip(values, by_value, strict=True)
    return cells, ", ".join(f"{v}: {np.mean(found):.3f}" for v, found in pairs)
