"""Published figures for the benchmark and protocol of a run, set beside its own.

Papers score by different rules, on different draws of classes and in different
galleries; `assets/literature.csv` says of each figure what is known of that, and the
table marks what differs. Figures on anything but the whole published test are not
comparable, and no table is made for them.
"""

import csv
import functools
import importlib.resources
from typing import NamedTuple

from sbir_jax.data import published

# What papers report on each benchmark.
METRICS = {
    ("sketchy", "21"): ("mAP@200", "P@200"),
    ("sketchy", "25"): ("mAP@all", "P@100"),
    ("sketchy", "25-sempcyc"): ("mAP@all", "P@100"),
    ("tuberlin", "sake"): ("mAP@all", "P@100"),
    ("tuberlin", "sempcyc"): ("mAP@all", "P@100"),
    ("quickdraw", "30"): ("mAP@all", "P@200"),
}
ACCURACY = ("Acc@1", "Acc@5")
ZERO_SHOT = "zero-shot"  # how the rule of a protocol without seen classes begins

LEGEND = (
    "Mark behind a figure: = scored by the rule of that name here, as far as the "
    "paper's code tells; ≠ by another rule, see the end of its line; ? by a rule that "
    "is not known. A gap of a few points between papers means little."
)


class Row(NamedTuple):
    """One published figure; the columns of `assets/literature.csv`."""

    method: str
    year: str
    venue: str
    backbone: str
    benchmark: str
    split: str  # empty: the paper does not say which draw
    task: str
    gallery: str  # photos ranked; empty: not known
    metric: str  # as the paper calls it
    value: str  # a share of 1, with the digits of the source
    rule: (
        str  # as `ranking.definition` calls it; "other": none of those; empty: unknown
    )
    basis: str  # how the rule is known, or why not
    source: str


class NotComparable(ValueError):
    """Why no published figure may stand beside a run's."""


def rows(benchmark: str, split: str, task: str = "category") -> list[Row]:
    """Published figures for a split; also those whose draw of classes is not stated."""
    names = ACCURACY if task == "fine_grained" else METRICS.get((benchmark, split), ())
    return [
        row
        for row in _all()
        if (row.benchmark, row.task) == (benchmark, task)
        and row.metric in names
        and row.split in (split, "")
    ]


def comparable(report: dict) -> published.Split:
    """The published split that a run was scored on, whole.

    Args:
      report: as a run makes it; "benchmark", "protocol" and "per_class" are
        read.
    Raises: NotComparable if the benchmark has no published figures, if words stood
      beside the sketches, if the classes are not those of a split, or if the number of
      sketches or photos is another.
    """
    benchmark, protocol = report.get("benchmark", ""), report.get("protocol", {})
    if benchmark not in published.SPLITS:
        raise NotComparable(f"there are no published figures for {benchmark}")
    if (words := protocol.get("words", "none")) != "none":
        raise NotComparable(f"words stood beside the sketches ({words})")
    classes = list(next(iter(report.get("per_class", {}).values()), ()))
    match = published.nearest(classes, benchmark)
    if not match.exact:
        raise NotComparable(f"the classes scored are {match}")
    split = match.split
    galleries = split.galleries()
    if protocol.get("task") == "fine_grained":
        galleries = {k: n for k, n in galleries.items() if k == "basic"}
    if not galleries:
        raise NotComparable(f"nobody published how large the test of {split.title} is")
    found = (protocol.get("queries"), protocol.get("gallery"))
    if _generalised(report):
        if found[0] != split.sketches():
            raise NotComparable(
                f"{found[0]} sketches were asked; the published test of {split.title} "
                f"has {split.sketches():,}"
            )
        return split
    allowed = [(split.sketches(), photos) for photos in galleries.values()]
    if found not in allowed:
        whole = " or ".join(f"{q:,} sketches over {g:,} photos" for q, g in allowed)
        raise NotComparable(
            f"{found[0]} sketches over {found[1]} photos were scored; the published "
            f"test of {split.title} is {whole}"
        )
    return split


def table(report: dict) -> str:
    """Markdown: the run's figures, and below them the published ones.

    Where the run is not comparable, one sentence that says why.

    Args:
      report: as a run makes it.
    """
    try:
        split = comparable(report)
    except NotComparable as reason:
        return f"Not set beside published figures: {reason}.\n"
    protocol = report["protocol"]
    task = "generalised" if _generalised(report) else protocol["task"]
    names = ACCURACY if task == "fine_grained" else METRICS[split.benchmark, split.name]
    size = f"{protocol['queries']:,} sketches over {protocol['gallery']:,} photos"
    lines = [
        f"## {split.title} beside the literature",
        "",
        f"{split.origin}; {size} of {len(split.unseen)} unseen classes"
        f"{', and of seen ones' * (task == 'generalised')}. {LEGEND}",
        "",
        _line("method", "year", *names, "remarks"),
        _line(*["---"] * (len(names) + 3)),
        *_own(report, names),
        *_others(rows(split.benchmark, split.name, task), report, names),
    ]
    return "\n".join(lines) + "\n"


def _generalised(report: dict) -> bool:
    """Whether seen classes were among the photos."""
    rule = report["protocol"].get("rule", ZERO_SHOT)
    return report["protocol"]["task"] == "category" and not rule.startswith(ZERO_SHOT)


def _own(report: dict, names: tuple[str, ...]) -> list[str]:
    """The run's lines: one by the plain rules, one for each other rule it scored."""
    lines = []
    aside = _aside(report)
    for result in report["results"]:
        found = result["metrics"]
        rules = {
            rule.removeprefix(name).strip(" ()")
            for rule in found
            for name in names
            if rule == name or rule.startswith(f"{name} (")
        }
        for rule in sorted(rules):
            cells = [
                _number(found.get(f"{name} ({rule})" if rule else name), name)
                for name in names
            ]
            remarks = ([f"rule: {rule}"] if rule else []) + aside
            title = f"**this run, {result['name']}**"
            lines.append(_line(title, "", *cells, "; ".join(remarks)))
    lost = [n for n in names if not any(n in r["metrics"] for r in report["results"])]
    if lost:
        said = f"not scored here: {', '.join(lost)} (see score.cutoffs)"
        lines.append(_line("this run", "", *[""] * len(names), said))
    return lines


def _aside(report: dict) -> list[str]:
    """What sets the training of this run apart from that of the papers."""
    share = report.get("config", {}).get("data", {}).get("share", 1)
    trained_on = report.get("trained_on", report["benchmark"])
    remarks = [f"trained on {share:g} of each seen class"] if share != 1 else []
    if trained_on != report["benchmark"]:
        remarks.append(f"trained on {trained_on}, other data than the papers'")
    return remarks


def _others(found: list[Row], report: dict, names: tuple[str, ...]) -> list[str]:
    lines = []
    for mine in _figures(found):
        cells, remarks = [], []
        for name in names:
            if (row := mine.get(name)) is None:
                cells.append("")
                continue
            cells.append(f"{row.value} {_mark(row)}")
            if row.rule in ("", "other"):
                others = {r.basis for r in mine.values()} - {row.basis}
                remarks.append(f"{name}: {row.basis}" if others else row.basis)
            elif row.rule != name:
                remarks.append(f"rule: {row.rule}")
        row = next(iter(mine.values()))
        if not row.split:
            remarks.append("which draw of classes: not stated")
        photos = report["protocol"]["gallery"]
        if row.task != "fine_grained" and not row.gallery:
            remarks.append("gallery not stated")
        elif row.gallery and int(row.gallery) != photos:
            remarks.append(f"over {int(row.gallery):,} photos")
        remarks.append(f"from {row.source}")
        text = "; ".join(dict.fromkeys(remarks))
        lines.append(_line(row.method, row.year, *cells, text))
    return lines


def _figures(found: list[Row]) -> list[dict[str, Row]]:
    """By metric, for each method; for each source of it where two print different
    ones."""
    lines: dict[tuple[str, str], dict[str, Row]] = {}
    for row in found:
        same = [r.metric for r in found if r.method == row.method]
        differ = len(set(same)) < len(same)
        lines.setdefault((row.method, row.source * differ), {})[row.metric] = row
    return list(lines.values())


def _mark(row: Row) -> str:
    if not row.rule:
        return "?"
    return "=" if row.rule == row.metric else "≠"


def _number(value: float | int | None, name: str) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if name in ACCURACY else f"{value:.3f}"


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


@functools.cache
def _all() -> tuple[Row, ...]:
    asset = importlib.resources.files("sbir_jax") / "assets" / "literature.csv"
    text = asset.read_text(encoding="utf-8").splitlines()
    lines = [line for line in text if not line.startswith("#")]
    return tuple(Row(**row) for row in csv.DictReader(lines))
