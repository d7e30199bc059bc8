"""What the report of token matching shows beside its figures."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sbir_jax.report import correspondences
from sbir_jax.report.sections import ClassBars, Grid, RankedSheet, Section, Table
from sbir_jax.reranker import Reranker
from sbir_jax.tasks.base import Evaluation
from sbir_jax.tasks.retrieval import uncertainty
from sbir_jax.tasks.retrieval.ranked_queries import ranked_queries

PICTURES = 6
SKETCHY = 15_229 * 17_101  # pairs of Sketchy's 25 unseen classes


def sections(task: Any, found: Evaluation) -> Sequence[Section]:
    """How sure figures are, what re-ranking costs and needs, rankings, matches."""
    shown, model = found.kept
    facts = found.facts
    return (
        uncertainty.section(facts["uncertainty"], task.words.names),
        depth(facts.get("depth"), found.primary),
        cost(facts["cost"]),
        matches(task, model),
        RankedSheet(ranked_queries(task.scored, task.protocol, shown)),
        ClassBars(facts["per_class"], task.metric),
    )


def depth(found: dict[str, Any] | None, metric: str) -> Table:
    """The primary figure by how many photos are scored as pairs."""
    found = found or {"photos": [], "value": [], "enough": 0}
    pairs = zip(found["photos"], found["value"], strict=True)
    rows = [(str(k), f"{value:.3f}") for k, value in pairs]
    lead = f"The first {found['enough']} photos give 99 % of what all of these give."
    return Table("How many photos to re-rank", ("photos", metric), rows, lead=lead)


def cost(found: dict[str, float]) -> Table:
    """What a query takes, and what all pairs of a benchmark would."""
    pairs, photos = found["pairs_a_second"], found["photos_a_second"]

    def query(k: int) -> tuple[str, str, str]:
        kept = k / pairs
        return f"{k} photos re-ranked", _time(kept), _time(kept + k / photos)

    days = f"{SKETCHY / pairs / 3600:,.0f} hours"
    rows = [query(20), query(100), ("all pairs of Sketchy-25", days, days)]
    lead = (
        f"{pairs:,.0f} pairs and tokens of {photos:,.0f} photos a second on the "
        "devices of this run."
    )
    columns = ("", "tokens kept", "tokens read anew")
    return Table("What pairs cost", columns, rows, lead=lead)


def _time(seconds: float) -> str:
    return f"{1000 * seconds:,.0f} ms"


def matches(task: Any, model: Reranker) -> Grid:
    """Drawings and photos of their class, with which place answers which."""
    protocol = task.protocol
    order = np.argsort(protocol.query_labels, kind="stable")
    spread = np.linspace(0, len(order) - 1, PICTURES + 2)[1:-1].astype(int)
    pictures, captions = [], []
    for query in order[spread]:
        photo = int(protocol.right(slice(query, query + 1))[0].argmax())
        both = (
            task.scored.sketches.pixels(protocol.queries[[query]], model.size)[0],
            task.scored.photos.pixels(protocol.gallery[[photo]], model.size)[0],
        )
        pictures.append(correspondences.picture(model.look(*both)))
        captions.append(task.scored.classes[protocol.query_labels[query]])
    lead = (
        "Places of one colour are each other's choice by their tokens; lines join the "
        "surest."
    )
    return Grid("Which place answers which", pictures, captions, columns=2, lead=lead)
