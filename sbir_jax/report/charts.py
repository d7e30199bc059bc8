"""Training curves, as SVG for the page and as a PNG for slides."""

import html
import io
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sbir_jax.report.pictures import BLUE, LINE, RIGHT, printable

SERIES = ((BLUE, "-"), (RIGHT, "--"), ("#a0488a", ":"), ("#756c5c", "-."))
# From so many points on, a line is drawn smoothed over its own faint self.
MANY = 40


def text(value: object) -> str:
    """`value` safe between tags and in quoted attributes, hostile or not."""
    return html.escape(printable(value))


def number(value: float | int | None, signed: bool = False) -> str:
    """Three decimals, fewer for large numbers, "n/a" where there is no number."""
    if value is None or not finite(value):
        return "n/a"
    digits = 3 if abs(value) < 10 else 1
    shown = f"{value:{'+' if signed else ''},.{digits}f}"
    return shown.replace("-", "\N{MINUS SIGN}")


@dataclass(frozen=True)
class Panel:
    """One chart: lines by name, each a list of (step, value)."""

    title: str
    lines: dict[str, list[tuple[float, float]]]
    dots: bool = False
    bottom: float | None = None
    top: float | None = None
    lower: frozenset[str] = frozenset()  # lines that are better where they are lower
    across: str = "step"  # what the horizontal axis shows


def panels(history: list[dict], lower: Collection[str] = ()) -> list[Panel]:
    """Charts of loss, validation and active triplets, those that `history` holds.

    Args:
      history: rows of metrics.jsonl; a row without a step has no place on a chart.
      lower: metrics of which a lower value is better.
    """

    def lines(wanted: Callable[[str], bool]) -> dict[str, list[tuple[float, float]]]:
        found: dict[str, list[tuple[float, float]]] = {}
        for row in history:
            for key, value in row.items():
                if "step" in row and wanted(key) and finite(value):
                    name = printable(key.removeprefix("val/"))
                    found.setdefault(name, []).append(
                        (float(row["step"]), float(value))
                    )
        return {name: sorted(points) for name, points in found.items()}

    charts = [
        Panel("Training loss", lines(lambda key: key == "loss"), bottom=0.0),
        Panel(
            "Validation",
            lines(lambda key: key.startswith("val/")),
            dots=True,
            lower=frozenset(map(printable, lower)),
        ),
        Panel("Active triplets", lines(lambda key: key == "active"), False, 0.0, 1.0),
    ]
    return [chart for chart in charts if chart.lines]


def finite(value: Any) -> TypeGuard[float]:
    """Whether this is a number, and no infinite one."""
    try:
        return math.isfinite(value)
    except TypeError:
        return False


def smooth(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """A centred running mean over a twentieth of the points; short series as is."""
    if len(points) < MANY:
        return points
    reach = len(points) // MANY
    values = np.array([value for _, value in points])
    means = [
        float(values[max(0, i - reach) : i + reach + 1].mean())
        for i in range(len(points))
    ]
    return [(step, mean) for (step, _), mean in zip(points, means, strict=True)]


def curves_png(history: list[dict]) -> bytes | None:
    """The training curves as one white picture for slides; None without history."""
    charts = panels(history)
    if not charts:
        return None
    buffer = io.BytesIO()
    # A class or metric with two dollar signs in its name is no formula.
    with rc_context({"text.parse_math": False, "font.size": 10}):
        figure = Figure(figsize=(4.2 * len(charts), 3.2), layout="constrained")
        for chart, axis in zip(
            charts, figure.subplots(1, len(charts), squeeze=False)[0], strict=True
        ):
            for i, (name, points) in enumerate(chart.lines.items()):
                colour, dash = SERIES[i % len(SERIES)]
                if len(points) >= MANY:
                    axis.plot(*zip(*points, strict=True), color=colour, alpha=0.25)
                marker = "o" if chart.dots or len(points) == 1 else ""
                xy = zip(*smooth(points), strict=True)
                axis.plot(*xy, dash, color=colour, marker=marker, label=name)
            axis.set_title(chart.title, loc="left")
            axis.set_xlabel("step")
            axis.set_ylim(chart.bottom, chart.top)
            axis.spines[["top", "right"]].set_visible(False)
            axis.grid(axis="y", color=LINE)
            if chart.dots:
                axis.legend(frameon=False)
        figure.savefig(buffer, format="png", dpi=160)
    return buffer.getvalue()


WIDTH, HEIGHT, LEFT, RIGHT_GAP, TOP, BOTTOM = 380, 220, 46, 18, 12, 30


def chart_svg(chart: Panel) -> str:
    """A chart as a figure element; its colours come from the page's style sheet."""
    xs, ys = zip(*(p for points in chart.lines.values() for p in points), strict=True)
    low = min(ys) if chart.bottom is None else min(chart.bottom, *ys)
    high = max(ys) if chart.top is None else max(chart.top, *ys)
    y_ticks = MaxNLocator(4).tick_values(low, high if high > low else low + 0.1)
    x_ticks = MaxNLocator(4, integer=True).tick_values(min(xs), max(xs))
    spread = (max(xs) - min(xs)) or 1.0

    def at(step: float, value: float) -> tuple[float, float]:
        across = (step - min(xs)) / spread
        up = (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return (
            round(LEFT + across * (WIDTH - LEFT - RIGHT_GAP), 1),
            round(HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM), 1),
        )

    marks = _axes(
        [(f"{tick:g}", at(0.0, tick)[1]) for tick in y_ticks],
        [(f"{t:,.0f}", at(t, 0.0)[0]) for t in x_ticks if min(xs) <= t <= max(xs)],
        chart.across,
    )
    keys, says = [], []
    for i, (name, points) in enumerate(chart.lines.items()):
        style = f"s{i % len(SERIES)}"
        if len(points) >= MANY:
            marks += _path([at(*point) for point in points], f"raw {style}")
        line = [at(*point) for point in smooth(points)]
        marks += _path(line, style)
        if chart.dots or len(points) == 1:
            for x, y in line:
                marks += f'<circle class="dot {style}" cx="{x}" cy="{y}" r="3" />'
        best = (min if name in chart.lower else max) if chart.dots else None
        says.append(_summary(name, points, best, chart.across))
        key = (
            '<svg class="key" viewBox="0 0 26 8" aria-hidden="true">'
            f"{_path([(1.0, 4.0), (25.0, 4.0)], style)}</svg> "
        )
        keys.append((key if len(chart.lines) > 1 else "") + text(says[-1]))
    label = text(f"{chart.title}: {'; '.join(says)}")
    return (
        f"<figure><h3>{text(chart.title)}</h3>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{label}">{marks}</svg>'
        f"<figcaption>{'<br />'.join(keys)}</figcaption></figure>\n"
    )


def _axes(
    y_ticks: list[tuple[str, float]], x_ticks: list[tuple[str, float]], across: str
) -> str:
    lines = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT_GAP}" y1="{y}" y2="{y}" />'
        f'<text x="{LEFT - 7}" y="{y + 4}" text-anchor="end">{label}</text>'
        for label, y in y_ticks
    )
    under = "".join(
        f'<text x="{x}" y="{HEIGHT - 14}" text-anchor="middle">{label}</text>'
        for label, x in x_ticks
    )
    end = f'x="{WIDTH - RIGHT_GAP}" y="{HEIGHT - 1}" text-anchor="end"'
    return f"{lines}{under}<text {end}>{text(across)}</text>"


def _path(points: list[tuple[float, float]], style: str) -> str:
    d = "M" + "L".join(f"{x:g},{y:g}" for x, y in points)
    return f'<path class="curve {style}" d="{d}" />'


def _summary(
    name: str, points: list[tuple[float, float]], best: Callable | None, across: str
) -> str:
    line = smooth(points)
    (first, start), (last, end) = line[0], line[-1]
    says = f"{name}: {number(start)} at {across} {first:,.0f}"
    if len(points) > 1:
        says += f", {number(end)} at {across} {last:,.0f}"
    if len(points) >= MANY:
        says += " (running mean)"
    if best:
        step, value = best(points, key=lambda point: point[1])
        says += f", best {number(value)} at {across} {step:,.0f}"
    return says
