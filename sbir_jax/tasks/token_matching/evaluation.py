"""What a run of token matching is scored on: rows, re-ranking at every k, and cost."""

import time
from typing import Any

import jax
import numpy as np

from sbir_jax.adapters.token_matcher import TokenMatcher
from sbir_jax.metrics import ranking
from sbir_jax.tasks.base import Evaluation, Result
from sbir_jax.tasks.retrieval import baselines, protocols, reranked, uncertainty
from sbir_jax.tasks.retrieval import evaluation as retrieval
from sbir_jax.tasks.retrieval.evaluation import ScoreRows
from sbir_jax.tasks.token_matching.setup import SELECTED_ON

DEPTHS = (5, 10, 20, 50, 100, 200, 500, 1000)
REPEATS = 5  # of a measured call; the median counts


def evaluate(task: Any, trained: TokenMatcher) -> Evaluation:
    """Pairs by relation, what found them, the same untrained, rivals and chance."""
    protocol, score = task.protocol, task.setup.score
    out = task.given.folder / task.folder / "features"
    key = jax.random.key(task.config.seed + 1)
    models = {
        "learned": jax.device_get(trained),
        "untrained": task.reranker.init(key),
    }
    kept, own = {}, {}
    for name, matcher in models.items():
        given = task.reranker.with_matcher(matcher), task.scored, protocol, out, name
        kept[name] = reranked.Pairs(*given)
        first = kept[name].queries[:, 0], kept[name].gallery[:, 0]
        own[name] = task.found_by(*first, protocol)
    facts: dict[str, Any] = {}
    if score.by == "retrieval":
        shown = {"frozen": own["untrained"], "learned": own["learned"]}
    else:
        again: dict[str, Any] = {}
        told: dict[str, Any] = {}
        for name in models:
            order = reranked.first_photos(own[name], protocol, score.first)
            told[name] = own[name], order, kept[name].told(order)
            again[name] = reranked.reordered(*told[name], weight=score.weight)
        facts["depth"] = depth(protocol, *told["learned"], weight=score.weight)
        shown = task.rows(own, again)
        shown["relation"] = reranked.reordered(*told["learned"], weight=1.0)
        if score.weight == 1:
            del shown["relation"]  # it is what was learned
    values = {name: retrieval.measure(protocol, rows) for name, rows in shown.items()}
    values |= baselines.cached_measure(task.scored, protocol, out)
    found = {name: retrieval.summarise(protocol, rows) for name, rows in values.items()}
    primary = {name: rows[protocol.primary] for name, rows in values.items()}
    results = [Result(name, means) for name, (means, _) in found.items()]
    results.append(Result("chance", retrieval.chance(protocol)))
    classes, model = task.scored.classes, kept["learned"].model
    return Evaluation(
        results=results,
        metrics=[ranking.metric(name) for name in results[0].metrics],
        primary=protocol.primary,
        folder=task.folder,
        facts={
            **_protocol(task),
            "per_class": {
                name: {classes[i]: v for i, v in found[name][1].items()}
                for name in ("learned", "frozen")
            },
            "uncertainty": uncertainty.uncertainty(protocol, primary),
            "cost": cost(kept["learned"]),
            "fingerprint": model.fingerprint,
            **facts,
        },
        notes=[*task.scored.notes, *protocol.weakness()],
        kept=(shown, model),
    )


def _protocol(task: Any) -> dict[str, Any]:
    """What was asked, for the report."""
    score, protocol = task.setup.score, task.protocol
    pairs = 0 if score.by == "retrieval" else score.first or len(protocol.gallery)
    return {
        "benchmark": task.scored.name,
        "split": f"{len(task.unseen)} unseen of {len(task.scored.classes)} classes",
        "trained_on": task.dataset.name,
        "protocol": {
            **protocol.summary(),
            "rule": protocols.GENERALISED[score.generalised],
            "selected on": SELECTED_ON[task.setup.select_on],
            "pairs a query": pairs,
        },
        "definitions": {"where": ranking.NOTATION},
        "skipped": len(task.scored.skipped),
    }


def depth(
    protocol: protocols.Protocol,
    own: ScoreRows,
    order: np.ndarray,
    told: np.ndarray,
    weight: float,
) -> dict[str, Any]:
    """The primary figure by how many photos are re-ranked; the last is all that were
    scored as pairs, and `enough` what reaches 99 % of it."""
    counts = [k for k in DEPTHS if k < order.shape[1]] + [order.shape[1]]
    found = {}
    for k in counts:
        rows = reranked.reordered(own, order[:, :k], told[:, :k], weight)
        means, _ = retrieval.score(protocol, rows)
        found[k] = means[protocol.primary]
    return {
        "photos": counts,
        "value": list(found.values()),
        "enough": enough(found),
    }


def enough(found: dict[int, float], share: float = 0.99) -> int:
    """The least number of photos at which re-ranking reaches this share of what the
    largest one does.

    Args:
      found: the primary figure by how many are re-ranked.
    """
    most = found[max(found)]
    return min(k for k, value in found.items() if value >= share * most)


def cost(kept: reranked.Pairs) -> dict[str, float]:
    """Pairs and photos a second, on the devices of this process."""
    model, photos = kept.model, kept.gallery
    at_once = model.at_once
    some = np.resize(photos, (at_once, *photos.shape[1:]))
    images = np.zeros((at_once, model.size, model.size, 3), np.float32)

    def rate(call: Any) -> float:
        call()  # compiles
        times = []
        for _ in range(REPEATS):
            begin = time.perf_counter()
            call()
            times.append(time.perf_counter() - begin)
        return round(at_once / sorted(times)[REPEATS // 2], 1)

    return {
        "pairs_a_second": rate(lambda: model.logits(kept.queries[0], some)),
        "photos_a_second": rate(lambda: model.tokens(model.read(images, "photo"))),
    }
