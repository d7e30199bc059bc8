"""The result page: one HTML file that loads nothing, from sections and a template."""

import base64
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from sbir_jax.report.charts import chart_svg, number, panels
from sbir_jax.report.figures import figures, made, metric_of, ordered, short
from sbir_jax.report.pictures import printable, sketch_file
from sbir_jax.report.sections import Curves, Section, Words
from sbir_jax.types import Metric

STYLED = ("learned", "frozen", "chance")  # by name; others share a colour
FACTS = {
    "queries": "Drawings asked",
    "gallery": "Photos in the gallery",
    "classes": "Classes",
    "task": "Task",
    "left_out": "Drawings left out",
    "rule": "Rule",
    "words": "Words beside them",
}


def page(
    report: Mapping[str, Any],
    sections: Sequence[Section] = (),
    history: Sequence[dict] = (),
    words: Words | None = None,
) -> str:
    """The whole page as text; every section that has no data is left out.

    The result is XML as well as HTML, so that tools and tests can read it.

    Args:
      sections: the task's own; they stand between the figures and the curves.
      history: rows of metrics.jsonl.
    """
    words, name = words or Words(), primary(report)
    best = metric_of(report, name)
    lower = {
        metric
        for metric, told in report.get("metrics", {}).items()
        if told.get("better") == "lower"
    }
    body = [
        figures(report, name),
        *sections,
        Curves(panels(list(history), lower)),
        made(report),
    ]
    return (
        _environment()
        .get_template("page.html")
        .render(
            report=report,
            primary=best,
            scale=f"in {best.unit}" if best.unit else "on a scale from 0 to 1",
            headline=headline(report, best, words),
            bars=_bars(report, best),
            sections=[section for section in body if not section.empty],
            names=words.names,
            facts=FACTS,
        )
    )


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sbir_jax", "assets/report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=Absent,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    environment.filters |= {
        "number": number,
        "short": short,
        "sketch_file": sketch_file,
        "style": lambda name: f"r-{name}" if name in STYLED else "r-other",
        "svg": lambda chart: Markup(chart_svg(chart)),
        "uri": uri,
    }
    return environment


class Absent(jinja2.StrictUndefined):
    """A name that a report may lack can be asked for, and cannot be shown."""

    def __bool__(self) -> bool:
        return False


def primary(report: Mapping[str, Any]) -> str:
    """The metric of the headline: the one named, or the first of all."""
    return report.get("primary") or next(iter(report["results"][0]["metrics"]), "")


def headline(report: Mapping[str, Any], metric: Metric, words: Words) -> Markup:
    """One sentence on the primary metric, as HTML."""
    values = {name: m.get(metric.name) for name, m in ordered(report).items()}
    lead = next((n for n in ("learned", "frozen") if n in values), next(iter(values)))
    first, frozen = values.pop(lead), values.get("frozen")
    known = words.names.get(lead)
    subject = (
        f"The {known[0].lower()}{known[1:]}"
        if lead == "frozen" and known
        else (known or printable(lead))
    )
    claim = words.claim
    if lead != "learned":  # in the singular
        verb, _, rest = claim.partition(" ")
        claim = f"{verb}{'es' if verb.endswith('ch') else 's'} {rest}".rstrip()
    unit = f" {metric.unit}" if metric.unit else ""
    says = Markup("{} {} with {} <strong>{}{}</strong>").format(
        subject, claim, printable(metric.name), number(first), unit
    )
    if lead == "learned" and first is not None and frozen is not None:
        gain = report.get("uncertainty", {}).get("gain")
        # A page that praises a failed training would be believed once.
        if not metric.improves(first, frozen):
            says += ", no better than without them"
        elif gain and gain[0] <= 0 <= gain[1]:
            says += ", which this test set does not show to be more than without them"
    rest = ", ".join(
        f"{words.names[n].lower() if n in words.names else printable(n)} "
        f"{number(values[n])}"
        for n in sorted(values, key=lambda n: n == "chance")
    )
    return says + Markup("<span>; {}</span>.").format(rest) if rest else says + "."


def _bars(report: Mapping[str, Any], metric: Metric) -> list[tuple[str, dict]]:
    values = {name: m.get(metric.name) for name, m in reversed(ordered(report).items())}
    longest = max((v or 0.0 for v in values.values()), default=0) if metric.unit else 1
    return [
        (name, {"number": v, "share": min(max((v or 0.0) / (longest or 1), 0.0), 1.0)})
        for name, v in values.items()
    ]


def uri(data: bytes) -> str:
    """A picture's file as an address that holds it."""
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
