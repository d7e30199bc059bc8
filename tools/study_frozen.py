"""Studies that train nothing: layers by timesteps, noise copies, pooling, types."""

import dataclasses
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from sbir_jax.features import TAPS, Recipe
from tools import study_pictures
from tools.study_sweep import CLASSES, Bench, chance, sweep

PAPER_TIMESTEP = 273


def title(bench: Bench, *more: str) -> str:
    """What was scored, in two lines."""
    protocol = bench.protocol
    prompts = "learned prompts" if bench.learned else "frozen"
    task = protocol.task.replace("_", "-")
    return ", ".join((bench.dataset.name, task, prompts, *more)) + (
        f"\n{protocol.primary} of {len(protocol.queries):,} sketches over "
        f"{len(protocol.gallery):,} photos, {protocol.summary()['classes']} "
        f"{CLASSES[bench.classes]}"
    )


def copies_of(recipe: Recipe) -> str:
    return f"{recipe.copies} noise {'copy' if recipe.copies == 1 else 'copies'}"


def pooling_of(recipe: Recipe) -> str:
    grid = f" in {recipe.grid} x {recipe.grid} cells" if recipe.grid > 1 else ""
    return f"{recipe.pooling}-pooled{grid}"


def layers(
    bench: Bench,
    recipe: Recipe,
    taps: Sequence[str],
    timesteps: Sequence[int],
    picture: pathlib.Path,
) -> tuple[list[dict], str]:
    """Every layer alone, and the paper's pairs of them, at every timestep.

    Args:
      recipe: all but its layers and timestep is used.
    Returns: the cells, and a line on the best and the paper's.
    """
    levels = [(tap,) for tap in taps]
    levels += [pair for pair in TAPS.values() if set(pair) <= set(taps)]
    asked = [
        dataclasses.replace(recipe, taps=level, timestep=timestep)
        for level in levels
        for timestep in timesteps
    ]
    cells = sweep(bench, asked)
    primary = bench.protocol.primary
    values = np.array([cell["metrics"][primary] for cell in cells])
    values = values.reshape(len(levels), len(timesteps))
    names = [" + ".join(level) for level in levels]
    paper = " + ".join(TAPS[bench.protocol.task]), PAPER_TIMESTEP
    heading = title(bench, copies_of(recipe), pooling_of(recipe))
    study_pictures.heat_map(
        picture, heading, names, timesteps, values, chance(bench), paper
    )
    row, column = divmod(int(values.argmax()), len(timesteps))
    says = f"best {values.max():.3f} at {names[row]}, t = {timesteps[column]}"
    if paper[0] in names and paper[1] in timesteps:
        value = values[names.index(paper[0]), list(timesteps).index(paper[1])]
        says += f"; the paper's {paper[0]}, t = {paper[1]}: {value:.3f}"
    return cells, says


def reductions(
    bench: Bench,
    recipe: Recipe,
    changes: dict[str, dict[str, Any]],
    seeds: Sequence[int],
    axis: str,
    picture: pathlib.Path,
) -> tuple[list[dict], str]:
    """The recipe with each of the changes, under the noise bank of each seed.

    Args:
      changes: fields of the recipe, by the name to show.
      axis: "noise copies" or "pooling".
    Returns: the cells, and a line with the means.
    """
    asked = [
        dataclasses.replace(recipe, noise_seed=seed, **change)
        for change in changes.values()
        for seed in seeds
    ]
    cells = sweep(bench, asked)
    ordered = axis == "noise copies"
    other = pooling_of(recipe) if ordered else copies_of(recipe)
    values = _lines(bench, recipe, cells, changes, axis, other, picture, ordered)
    pairs = zip(changes, values.mean(axis=1), strict=True)
    return cells, ", ".join(f"{name}: {mean:.3f}" for name, mean in pairs)


def dtypes(
    benches: dict[str, Bench],
    recipe: Recipe,
    seeds: Sequence[int],
    picture: pathlib.Path,
) -> tuple[list[dict], str]:
    """The same recipe and prompts on networks of each compute type.

    Args:
      benches: by the name of the type, alike in all else.
    Returns: the cells, and a line with the means and how far they are apart.
    """
    asked = [dataclasses.replace(recipe, noise_seed=seed) for seed in seeds]
    cells = [
        {"dtype": name, **cell}
        for name, bench in benches.items()
        for cell in sweep(bench, asked)
    ]
    first, *_ = benches.values()
    other = copies_of(recipe)
    values = _lines(first, recipe, cells, benches, "compute type", other, picture)
    means = values.mean(axis=1)
    says = ", ".join(
        f"{name}: {mean:.4f}" for name, mean in zip(benches, means, strict=True)
    )
    apart = np.abs(values - values[0]).max()
    return cells, f"{says}; at most {apart:.4f} apart with the same noise"


def _lines(
    bench: Bench,
    recipe: Recipe,
    cells: Sequence[dict],
    names: Iterable[str],
    axis: str,
    more: str,
    picture: pathlib.Path,
    joined: bool = False,
) -> Float[np.ndarray, "n s"]:
    """Draws the cells of each name under each seed; returns their primary metric."""
    primary, names = bench.protocol.primary, list(names)
    values = np.array([cell["metrics"][primary] for cell in cells])
    values = values.reshape(len(names), -1)
    levels = f"{' + '.join(recipe.taps)}, t = {recipe.timestep}"
    heading = title(bench, levels, more)
    study_pictures.lines(
        picture,
        f"{heading}\nmean and standard deviation of {values.shape[1]} noise banks",
        axis,
        primary,
        names,
        values.tolist(),
        {"chance": chance(bench)},
        joined=joined,
    )
    return values
