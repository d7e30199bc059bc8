"""Pictures of studies: a heat map, a line with its spread, maps in shared colours."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from sbir_jax.report.pictures import BLUE, LINE, SOFT

STYLE: Any = {"text.parse_math": False, "font.size": 9}
MARK = "#d03a2b"
TILE = 84  # pixels of one map on its sheet


def _save(figure: Figure, path: pathlib.Path) -> None:
    """Writes aside and renames."""
    partial = path.with_suffix(".part.png")
    figure.savefig(partial, dpi=120)
    partial.replace(path)


def heat_map(
    path: pathlib.Path,
    title: str,
    layers: Sequence[str],
    timesteps: Sequence[int],
    values: Float[np.ndarray, "l t"],
    chance: float,
    paper: tuple[str, int] | None,
) -> None:
    """One value in every cell; `paper`, a layer and a timestep, gets a frame.

    Args:
      chance: drawn as a line on the colour bar; cells below it are in italics.
    """
    with rc_context(STYLE):
        size = (max(6.5, 2.8 + 0.6 * len(timesteps)), 1.6 + 0.32 * len(layers))
        figure = Figure(figsize=size, layout="constrained")
        axis = figure.subplots()
        image = axis.imshow(values, aspect="auto", cmap="viridis")
        low, high = min(chance, values.min()), max(values.max(), chance + 1e-3)
        image.set_clim(low, high)
        axis.set_xticks(range(len(timesteps)), [str(t) for t in timesteps])
        axis.set_yticks(range(len(layers)), layers)
        axis.set_xlabel("timestep")
        for row, column in np.ndindex(*values.shape):
            value = float(values[row, column])
            dark = value < low + 0.6 * (high - low)
            axis.text(
                column,
                row,
                f"{value:.3f}",
                ha="center",
                va="center",
                size=8,
                color="white" if dark else "black",
                style="italic" if value < chance else "normal",
            )
        says = f"chance {chance:.3f} (line on the bar)"
        if paper and paper[0] in layers and paper[1] in timesteps:
            corner = timesteps.index(paper[1]) - 0.5, layers.index(paper[0]) - 0.5
            axis.add_patch(Rectangle(corner, 1, 1, fill=False, ec=MARK, lw=2.5))
            says += ", frame: the paper's choice"
        figure.suptitle(f"{title}\n{says}", x=0.01, ha="left", fontsize=9)
        bar = figure.colorbar(image, ax=axis)
        bar.ax.axhline(chance, color=MARK, lw=2)
        _save(figure, path)


def lines(
    path: pathlib.Path,
    title: str,
    x_label: str,
    y_label: str,
    ticks: Sequence[str],
    values: Sequence[Sequence[float]],
    levels: dict[str, float],
    joined: bool,
) -> None:
    """Mean, standard deviation and every single value at each tick.

    Args:
      values: those of each tick, one a seed.
      levels: horizontal dashed lines by name, such as chance.
      joined: whether the ticks have an order, so that a line may join them.
    """
    means = [float(np.mean(v)) for v in values]
    spreads = [float(np.std(v, ddof=1)) if len(v) > 1 else 0.0 for v in values]
    with rc_context(STYLE):
        size = (max(6.5, 1.8 + 0.75 * len(ticks)), 3.3)
        figure = Figure(figsize=size, layout="constrained")
        axis = figure.subplots()
        axis.errorbar(
            range(len(ticks)),
            means,
            yerr=spreads,
            fmt="o-" if joined else "o",
            color=BLUE,
            capsize=4,
        )
        for place, found in enumerate(values):
            axis.plot([place] * len(found), found, ".", color=BLUE, alpha=0.4)
            label = f"{means[place]:.3f}"
            top = max(*found, means[place] + spreads[place])
            axis.annotate(label, (place, top), (0, 7), ha="center", size=8,
                          textcoords="offset points")  # fmt: skip
        for name, level in levels.items():
            axis.axhline(level, ls="--", color=MARK if name == "chance" else SOFT)
            where = (1.0, level)
            axis.annotate(f"{name} {level:.3f}", where, (-2, -10), ha="right", size=8,
                          xycoords=("axes fraction", "data"), color=SOFT,
                          textcoords="offset points")  # fmt: skip
        axis.margins(x=0.12, y=0.18)
        axis.set_xticks(range(len(ticks)), ticks)
        axis.set(xlabel=x_label, ylabel=y_label)
        figure.suptitle(title, x=0.01, ha="left", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color=LINE)
        _save(figure, path)


def maps_sheet(
    path: pathlib.Path,
    title: str,
    inputs: UInt8[np.ndarray, "p 2 h w 3"],
    colours: dict[str, dict[int, UInt8[np.ndarray, "p 2 _ _ 3"]]],
) -> None:
    """Sketch above photo, a pair beside the other, a layer below the other.

    Args:
      inputs: the p pairs, sketch first.
      colours: the pairs' maps as pictures, by layer and timestep.
    """
    layers, timesteps = list(colours), list(next(iter(colours.values())))
    columns, width = len(inputs) * (1 + len(timesteps)), 1 + len(timesteps)
    # Tiles lie close within a pair and a layer, and farther apart between them.
    lefts = [i * (TILE + 4) + i // width * 12 for i in range(columns)]
    tops = [i * (TILE + 4) + i // 2 * 12 for i in range(2 * len(layers))]
    sheet = np.full((tops[-1] + TILE, lefts[-1] + TILE, 3), 255, np.uint8)
    for i, left in enumerate(lefts):
        pair, column = divmod(i, width)
        for j, top in enumerate(tops):
            maps = colours[layers[j // 2]]
            shown = maps[timesteps[column - 1]] if column else inputs
            tile = Image.fromarray(shown[pair, j % 2])
            tile = tile.resize((TILE, TILE), Image.Resampling.NEAREST)
            sheet[top : top + TILE, left : left + TILE] = np.asarray(tile)
    names = ["input", *(f"t = {t}" for t in timesteps)] * len(inputs)
    with rc_context(STYLE):
        size = sheet.shape[1] / 120 + 0.9, sheet.shape[0] / 120 + 0.8
        figure = Figure(figsize=size, layout="constrained")
        axis = figure.subplots()
        axis.imshow(sheet)
        axis.xaxis.tick_top()
        axis.set_xticks([left + TILE / 2 for left in lefts], names)
        axis.set_yticks([top + TILE + 2 for top in tops[::2]], layers)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        figure.suptitle(title, x=0.01, ha="left", fontsize=9)
        _save(figure, path)
