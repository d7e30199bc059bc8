"""The result page: one HTML file that loads nothing, from the numbers of a report."""

import base64
import json
import math
import re
from collections.abc import Callable
from importlib import resources
from string import Template
from typing import Any

from sbir_jax.report.charts import chart_svg, number, panels, text
from sbir_jax.report.pictures import NAMES, Hit, Ranking, photo_jpegs, sketch_file

FACTS = {
    "queries": "Drawings asked",
    "gallery": "Photos in the gallery",
    "classes": "Classes",
    "task": "Task",
    "left_out": "Drawings left out",
    "rule": "Rule",
    "words": "Words beside them",
}
TIMES = {"train": "Training", "embed": "Describing pictures", "total": "In all"}


def page(report: dict, rankings: list[Ranking], history: list[dict]) -> str:
    """The whole page as text; every part that has no data is left out.

    The result is XML as well as HTML, so that tools and tests can read it.
    """
    parts = [
        _header(report),
        "<main>",
        _figures(report),
        _searches(rankings),
        _classes(report),
        _training(history),
        _made(report),
        "</main>",
        _footer(report),
    ]
    asset = resources.files("sbir_jax") / "assets" / "report.html"
    template = Template(asset.read_text("utf-8"))
    title = f"{text(report.get('benchmark', 'Result'))}: {_plain(_headline(report))}"
    return template.substitute(title=title, body="\n".join(filter(None, parts)))


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


def primary(report: dict) -> str:
    """The metric of the headline: the one named, or the first of all."""
    return report.get("primary") or next(iter(report["results"][0]["metrics"]), "")


def _metrics(report: dict) -> dict[str, dict[str, float | None]]:
    """Metrics by result name; left to right they should get better."""
    found = {result["name"]: result["metrics"] for result in report["results"]}
    order = [name for name in reversed(NAMES) if name in found]
    return {name: found[name] for name in order + [n for n in found if n not in NAMES]}


def _name(name: str) -> str:
    return text(NAMES.get(name, name))


def _style(name: str) -> str:
    return f"r-{name}" if name in NAMES else "r-other"


def _plain(fragment: str) -> str:
    return re.sub(r"<[^>]*>", "", fragment)


def _headline(report: dict) -> str:
    metric = primary(report)
    values = {name: m.get(metric) for name, m in _metrics(report).items()}
    lead = next((n for n in ("learned", "frozen") if n in values), next(iter(values)))
    first, frozen = values.pop(lead), values.get("frozen")
    found = "the very photo" if _task(report) == "fine_grained" else "the right photos"
    figure = f"{text(metric)} <strong>{number(first)}</strong>"
    if lead == "learned" and first is not None and frozen is not None:
        if first <= frozen:
            # A page that praises a failed training would be believed once.
            figure += ", no better than without them"
        says = f"Learned prompts find {found} with {figure}"
    else:
        verb = "find" if lead == "learned" else "finds"
        subject = "The frozen backbone" if lead == "frozen" else _name(lead)
        says = f"{subject} {verb} {found} with {figure}"
    rest = ", ".join(
        f"{NAMES[name].lower() if name in NAMES else text(name)} {number(values[name])}"
        for name in sorted(values, key=lambda n: n == "chance")
    )
    return f"{says}<span>; {rest}</span>." if rest else f"{says}."


def _task(report: dict) -> str:
    return str(report.get("protocol", {}).get("task", ""))


def _bar(value: float | int | None) -> str:
    width = 100 * min(max(value or 0.0, 0.0), 1.0)
    return f'<span class="bar"><i style="width:{width:.2f}%"></i></span>'


def _header(report: dict) -> str:
    metric = primary(report)
    bars = "".join(
        f'<li class="{_style(name)}"><span>{_name(name)}</span>'
        f'{_bar(m.get(metric))}<span class="num">{number(m.get(metric))}</span></li>'
        for name, m in reversed(_metrics(report).items())
    )
    facts = "".join(
        f"<div><dt>{text(FACTS.get(key, key.replace('_', ' ')))}</dt>"
        f"<dd>{text(_short(value))}</dd></div>"
        for key, value in report.get("protocol", {}).items()
    )
    facts = facts and f'<dl class="facts">{facts}</dl>'
    split = report.get("split")
    split = f", {text(split)}" if split else ""
    return (
        f'<header>\n<p class="over"><b>{text(report.get("benchmark", "Result"))}</b>'
        f"{split}</p>\n<h1>{_headline(report)}</h1>\n<div>"
        f'<ul class="bars">{bars}</ul>'
        f"<p>{text(metric)}, on a scale from 0 to 1</p></div>\n{facts}\n</header>"
    )


def _short(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _section(title: str, body: str, lead: str = "") -> str:
    lead = lead and f"<p>{lead}</p>\n"
    return f'<section class="part">\n<h2>{title}</h2>\n{lead}{body}\n</section>'


def _figures(report: dict) -> str:
    results = _metrics(report)
    gains = {"learned", "frozen"} <= results.keys()
    columns = "".join(
        f'<th scope="col" class="{_style(name)}">{_name(name)}</th>' for name in results
    )
    names = dict.fromkeys(metric for m in results.values() for metric in m)
    body = "".join(_figure_row(report, metric, results, gains) for metric in names)
    gain = '<th scope="col">Gain</th>' if gains else ""
    protocol = report.get("protocol", {})
    over = [
        f"{text(_short(protocol[key]))} {word}"
        for key, word in (
            ("queries", "drawings"),
            ("gallery", "gallery photos"),
            ("classes", "classes"),
        )
        if key in protocol
    ]
    caption = f"<caption>Over {', '.join(over)}.</caption>" if over else ""
    # An entry that names no metric explains the symbols of the others.
    symbols = "".join(
        f"<p>{text(key)}: {text(meaning)}</p>"
        for key, meaning in report.get("definitions", {}).items()
        if key not in names
    )
    symbols = symbols and f'\n<div class="symbols">{symbols}</div>'
    cols = len(results) + gains
    return _section(
        "The figures",
        f'<table class="figures" style="--cols:{cols}">{caption}\n<thead><tr>'
        f'<th scope="col">Metric</th>{columns}{gain}</tr></thead>\n'
        f"<tbody>{body}</tbody></table>{symbols}",
    )


def _figure_row(report: dict, metric: str, results: dict, gains: bool) -> str:
    values = {name: m.get(metric) for name, m in results.items()}
    best = max((v for v in values.values() if v is not None), default=None)
    cells = ""
    for value in values.values():
        style = ' class="best"' if value is not None and value == best else ""
        cells += f"<td{style}>{number(value)}</td>"
    if gains:
        new, old = values["learned"], values["frozen"]
        gain = None if new is None or old is None else new - old
        style = "" if not gain else ' class="up"' if gain > 0 else ' class="down"'
        cells += f"<td{style}>{number(gain, signed=True)}</td>"
    meaning = report.get("definitions", {}).get(metric)
    meaning = f'<span class="def">{text(meaning)}</span>' if meaning else ""
    tag = ' <span class="primary">primary</span>' if metric == primary(report) else ""
    return f'<tr><th scope="row">{text(metric)}{tag}{meaning}</th>{cells}</tr>\n'


def _uri(data: bytes) -> str:
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _mark(name: str) -> str:
    return f'<svg class="mark" aria-hidden="true"><use href="#{name}" /></svg>'


def _searches(rankings: list[Ranking]) -> str:
    if not rankings:
        return ""
    # One pass over all photos, so that together they keep within the page's size.
    hits = [hit for r in rankings for name in r.names() for hit in r.hits[name]]
    files = iter(photo_jpegs([hit.image for hit in hits]))
    queries = "\n".join(_query(ranking, lambda: next(files)) for ranking in rankings)
    badge = _mark("tick").replace('class="mark"', 'class="mark badge"')
    legend = (
        f'<p class="legend"><span>{badge} right photo, ringed</span>'
        f"<span>{_mark('cross')} another photo</span>"
        "<span>The number is the score; larger is nearer. Best photo first.</span></p>"
    )
    return _section("What each drawing finds", legend + "\n" + queries)


def _query(ranking: Ranking, jpeg: Callable[[], bytes]) -> str:
    label = text(ranking.label)
    rows = []
    for name in ranking.names():
        hits = ranking.hits[name]
        tiles = "".join(_hit(hit, i, jpeg()) for i, hit in enumerate(hits, 1))
        right = sum(hit.right for hit in hits)
        columns = max(1, min(len(hits), 10))
        rows.append(
            f'<div class="row {_style(name)}"><h4>{_name(name)} '
            f"<span>{right} of {len(hits)} right</span></h4>\n"
            f'<ol class="hits" style="--n:{columns};--half:{(columns + 1) // 2}">'
            f"{tiles}</ol></div>"
        )
    return (
        f'<article class="query"><div class="sketch">'
        f'<img src="{_uri(sketch_file(ranking.query))}" '
        f'alt="Drawing of {label}" width="150" height="150" /><h3>{label}</h3></div>\n'
        f'<div class="rows">{"".join(rows)}</div></article>'
    )


def _hit(hit: Hit, place: int, jpeg: bytes) -> str:
    label, verdict = text(hit.label), "right" if hit.right else "wrong"
    score = number(hit.score if math.isfinite(hit.score) else None)
    return (
        f'<li class="hit {verdict}"><span class="tile">'
        f'<img src="{_uri(jpeg)}" width="96" height="96" '
        f'alt="Photo {place}: {label}, {verdict}" />'
        f"{_mark('tick') if hit.right else ''}</span>"
        f'<span class="cap">{"" if hit.right else _mark("cross")}{score}</span> '
        f'<span class="name" title="{label}">{label}</span></li>\n'
    )


def _classes(report: dict) -> str:
    tables = report.get("per_class", {})
    names = [n for n in NAMES if n in tables] + [n for n in tables if n not in NAMES]
    classes = dict.fromkeys(label for name in names for label in tables[name])
    if not classes:
        return ""
    first = tables[names[0]]
    rows = "".join(
        f"<li><b>{text(label)}</b>"
        + "".join(
            f'<span class="{_style(name)}">{_bar(tables[name].get(label))}</span>'
            f'<span class="num {_style(name)}">{number(tables[name].get(label))}</span>'
            for name in names
        )
        + "</li>\n"
        for label in sorted(classes, key=lambda c: -(first.get(c) or 0.0))
    )
    legend = "".join(
        f'<span class="{_style(n)}"><i></i>{_name(n)}</span>' for n in names
    )
    lead = f"{text(primary(report))} over the drawings of one class, best class first."
    return _section(
        "Class by class",
        f'<p class="legend">{legend}</p>\n'
        f'<ul class="classes" style="--rows:{len(names)}">{rows}</ul>',
        lead,
    )


def _training(history: list[dict]) -> str:
    charts = panels(history)
    if not charts:
        return ""
    figures = "".join(chart_svg(chart) for chart in charts)
    return _section("How training went", f'<div class="curves">{figures}</div>')


def _made(report: dict) -> str:
    rows = []
    if report.get("command"):
        # Each word in a span of its own: lines then break between flags, not in them.
        words = str(report["command"]).split(" ")
        spans = " ".join(f"<span>{text(word)}</span>" for word in words)
        rows.append(("Command", f"<pre>{spans}</pre>"))
    for key, value in report.get("timing", {}).items():
        stem = key.removesuffix("_seconds")
        shown = seconds(value) if key.endswith("_seconds") else text(_short(value))
        rows.append((text(TIMES.get(stem, stem.replace("_", " "))), shown))
    if report.get("hardware"):
        rows.append(("Hardware", text(report["hardware"])))
    if report.get("fingerprint"):
        rows.append(("Fingerprint", f"<code>{text(report['fingerprint'])}</code>"))
    if report.get("notes"):
        notes = "".join(f"<li>{text(note)}</li>" for note in report["notes"])
        rows.append(("Notes", f'<ul class="notes">{notes}</ul>'))
    body = "".join(f"<dt>{name}</dt><dd>{value}</dd>\n" for name, value in rows)
    body = body and f'<dl class="made">{body}</dl>'
    config = _flat(report.get("config", {}))
    if config:
        items = "".join(
            f"<div><dt>{text(key)}</dt> <dd>{text(_short(value))}</dd></div>"
            for key, value in config
        )
        body += (
            f"\n<details><summary>Configuration, {len(config)} settings</summary>"
            f'<dl class="config">{items}</dl></details>'
        )
    return _section("How it was made", body) if body else ""


def _flat(config: dict, above: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in config.items():
        if isinstance(value, dict) and value:
            rows += _flat(value, f"{above}{key}.")
        else:
            rows.append((f"{above}{key}", value))
    return rows


def _footer(report: dict) -> str:
    return (
        "<footer><p>Written by sbir_jax. All numbers are in <code>report.json</code> "
        "beside this page.</p></footer>"
    )
