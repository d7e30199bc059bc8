"""The result of a run: report.json for programs, report.html for people.

Both are made whole in memory and then renamed into place together with two pictures
for slides, sheet.png and curves.png, so a failure leaves the last report as it was.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sbir_jax.report.charts import curves_png
from sbir_jax.report.page import page, primary
from sbir_jax.report.pictures import printable, sheet_png
from sbir_jax.report.sections import RankedSheet, Section, Words


def write_report(
    workdir: Path,
    report: dict,
    sections: Sequence[Section],
    history: list[dict],
    words: Words | None = None,
) -> Path:
    """Writes report.json, report.html, sheet.png and curves.png into `workdir`.

    Args:
      workdir: the run folder; made where missing.
      report: the figures. Needed: "results", a list of {"name", "metrics": {name:
        value}}, with the names "frozen", "learned" and "chance" as far as
        they were run. Shown where given: "benchmark", "split", "protocol" ("task",
        "queries", "gallery", "classes", "left_out", ...), "definitions" by metric,
        "metrics" {metric: {"better", "unit"}}, "primary" (a metric), "timing" in
        seconds, "fingerprint", "config", "hardware", "command", "notes" (a list).
      sections: the task's own. The first `RankedSheet` among them is drawn as
        sheet.png too; about 24 drawings with 8 to 10 photos each keep the page under
        3 MB.
      history: rows of metrics.jsonl: "step" and any of "loss", "active", "val/...".
      words: what results are called, and what the headline says of them.
    Returns: the path of report.html.
    Raises: ValueError or TypeError, before anything is written, for a report without
      results, a primary metric nobody computed, or values JSON has no word for. A
      figure that is not finite is no reason to lose a run: it becomes null in
      report.json, "n/a" on the page, and is named in the notes of both.
    """
    lost: list[str] = []
    report = plain({k: v for k, v in report.items() if v is not None}, lost)
    _check(report)
    if lost:
        note = f"Not a finite number, shown as n/a: {', '.join(lost)}"
        report["notes"] = [*report.get("notes", []), note]
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    sheets = [part for part in sections if isinstance(part, RankedSheet)]
    files = {
        "sheet.png": sheet_png([r for sheet in sheets[:1] for r in sheet.rankings]),
        "curves.png": curves_png(history),
        "report.html": page(report, sections, history, words).encode(),
        "report.json": text.encode() + b"\n",
    }
    replace_together(workdir, files)
    return workdir / "report.html"


def plain(value: Any, lost: list[str], where: str = "") -> Any:
    """`value` in JSON's own types: numpy and jax scalars, tuples and paths included.

    Args:
      lost: gets the place of every float that is not finite; these become None.
      where: place of `value` in the whole, for messages.
    Raises: TypeError for a type that would not come back from JSON.
    """
    if isinstance(value, Mapping):
        path = f"{where}." if where else ""
        return {
            printable(key): plain(item, lost, f"{path}{printable(key)}")
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [plain(item, lost, f"{where}[{i}]") for i, item in enumerate(value)]
    if hasattr(value, "tolist"):
        return plain(value.tolist(), lost, where)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        lost.append(where)
        return None
    if isinstance(value, str | Path):
        return printable(value)
    raise TypeError(
        f"report.json cannot hold {where} = {value!r} of type {type(value).__name__}; "
        "give numbers, text, paths, lists and dicts"
    )


def _check(report: dict) -> None:
    results = report.get("results")
    if not results:
        raise ValueError(
            f"a report needs results, a list of {{'name', 'metrics'}}; got {results!r}"
        )
    for result in results:
        metrics = result.get("metrics")
        if not result.get("name") or not isinstance(metrics, dict):
            raise ValueError(f"a result needs a name and its metrics; got {result!r}")
        for metric, value in metrics.items():
            if not isinstance(value, int | float | None):
                raise ValueError(
                    f"{metric} of {result['name']} must be a number; got {value!r}"
                )
    names = [result["name"] for result in results]
    if len(set(names)) < len(names):
        raise ValueError(f"results share a name: {', '.join(names)}")
    known = dict.fromkeys(metric for r in results for metric in r["metrics"])
    if primary(report) not in known:
        raise ValueError(
            f"primary metric {primary(report)!r} is in no result; "
            f"known: {', '.join(known) or 'none'}"
        )


def replace_together(folder: Path, files: dict[str, bytes | None]) -> None:
    """Puts `files` in `folder` by renaming once all are on disk; None removes a file.

    Renames follow the order given, so the last name tells that the others are there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = {name: folder / f".{name}.{os.getpid()}.part" for name in files}
    try:
        for name, data in files.items():
            if data is not None:
                parts[name].write_bytes(data)
        for name, data in files.items():
            if data is None:
                # A picture of an earlier result beside this one would mislead.
                (folder / name).unlink(missing_ok=True)
            else:
                os.replace(parts[name], folder / name)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
