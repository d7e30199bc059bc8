"""The sections that every report has: its figures, and how it was made."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from sbir_jax.report.sections import Section
from sbir_jax.types import Metric

COUNTED = {
    "queries": "drawings",
    "gallery": "gallery photos",
    "classes": "classes",
}
TIMES = {"train": "Training", "embed": "Describing pictures", "total": "In all"}


class Cell(NamedTuple):
    """A figure, and whether none in its row is better."""

    value: float | None
    best: bool


class Row(NamedTuple):
    """A metric of every result; `gain` is of learned over frozen, as a difference, and
    `better` whether that is an improvement."""

    metric: Metric
    primary: bool
    cells: list[Cell]
    gain: float | None
    better: bool


@dataclasses.dataclass(frozen=True)
class Figures(Section):
    """A row for each metric, a column for each result."""

    template: ClassVar[str] = "figures.html"
    columns: list[str]
    rows: list[Row]
    over: list[str]
    symbols: dict[str, str]
    title: str = "The figures"
    lead: str = ""

    @property
    def empty(self) -> bool:
        return not self.rows

    @property
    def gains(self) -> bool:
        """Whether there is a column for the gain."""
        return {"learned", "frozen"} <= set(self.columns)


def metric_of(report: Mapping[str, Any], name: str) -> Metric:
    """What a report says of a metric; higher is better where it says nothing."""
    meaning = report.get("definitions", {}).get(name, "")
    return Metric(name, meaning, **report.get("metrics", {}).get(name, {}))


def figures(report: Mapping[str, Any], primary: str) -> Figures:
    """The table of a report's results."""
    results = ordered(report)
    names = dict.fromkeys(metric for m in results.values() for metric in m)
    protocol = report.get("protocol", {})
    over = [
        f"{short(protocol[key])} {word}"
        for key, word in COUNTED.items()
        if key in protocol
    ]
    return Figures(
        list(results),
        [_row(metric_of(report, name), name == primary, results) for name in names],
        over,
        # An entry that names no metric explains the symbols of the others.
        {k: v for k, v in report.get("definitions", {}).items() if k not in names},
    )


def _row(metric: Metric, primary: bool, results: Mapping[str, Mapping]) -> Row:
    values = {name: m.get(metric.name) for name, m in results.items()}
    there = [value for value in values.values() if value is not None]
    best = max(there, key=lambda v: metric.gain(v, 0.0), default=None)
    cells = [Cell(v, v is not None and v == best) for v in values.values()]
    new, old = values.get("learned"), values.get("frozen")
    if new is None or old is None:
        return Row(metric, primary, cells, None, False)
    return Row(metric, primary, cells, new - old, metric.improves(new, old))


def ordered(report: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Metrics by result name; left to right they should get better."""
    found = {result["name"]: result["metrics"] for result in report["results"]}
    order = ("chance", "pixels", "hog", "frozen", "learned")
    first = [name for name in order if name in found]
    rest = [name for name in found if name not in first]
    return {name: found[name] for name in [*first, *rest]}


@dataclasses.dataclass(frozen=True)
class Made(Section):
    """The command, the times, the hardware and the whole configuration."""

    template: ClassVar[str] = "made.html"
    command: list[str]
    rows: dict[str, str]
    fingerprint: str
    notes: Sequence[str]
    config: list[tuple[str, Any]]
    title: str = "How it was made"
    lead: str = ""

    @property
    def empty(self) -> bool:
        parts = self.command, self.rows, self.fingerprint, self.notes, self.config
        return not any(parts)


def made(report: Mapping[str, Any]) -> Made:
    """What a report says of its making."""
    rows = {}
    for key, value in report.get("timing", {}).items():
        stem = key.removesuffix("_seconds")
        shown = seconds(value) if key.endswith("_seconds") else short(value)
        rows[TIMES.get(stem, stem.replace("_", " "))] = shown
    if report.get("hardware"):
        rows["Hardware"] = report["hardware"]
    return Made(
        # Words by themselves: lines then break between flags, not in them.
        str(report.get("command") or "").split(" ") if report.get("command") else [],
        rows,
        report.get("fingerprint", ""),
        report.get("notes", []),
        _flat(report.get("config", {})),
    )


def seconds(value: float | int | None) -> str:
    """A span of time as people say it."""
    if value is None:
        return "n/a"
    if value < 59.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def short(value: object) -> str:
    """A value as people write it."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _flat(config: dict, above: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in config.items():
        if isinstance(value, dict) and value:
            rows += _flat(value, f"{above}{key}.")
        else:
            rows.append((f"{above}{key}", value))
    return rows
