"""What a run of token matching is scored on: rows, re-ranking at every k, and cost."""

import hashlib
import pathlib
import time
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from sbir_jax.adapters.token_matcher import TokenMatcher
from sbir_jax.data.dataset import Items
from sbir_jax.metrics import ranking
from sbir_jax.reranker import Reranker
from sbir_jax.runtime import row_cache
from sbir_jax.tasks.base import Evaluation, Result
from sbir_jax.tasks.retrieval import baselines, protocols, uncertainty
from sbir_jax.tasks.retrieval import evaluation as retrieval
from sbir_jax.tasks.retrieval.evaluation import ScoreRows
from sbir_jax.tasks.token_matching import reordering
from sbir_jax.tasks.token_matching.setup import SELECTED_ON

KEPT = np.dtype(np.float32)  # of pairs: in float16 many would tie
DEPTHS = (5, 10, 20, 50, 100, 200, 500, 1000)
REPEATS = 5  # of a measured call; the median counts


def unit(rows: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
    rows = np.asarray(rows, np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def tokens(
    model: Reranker, items: Items, rows: np.ndarray
) -> Float[np.ndarray, "n m c"]:
    """States of some items' tokens, a few images in memory at a time."""
    parts = range(0, len(rows), row_cache.BATCH)
    return np.concatenate(
        [_states(model, items, rows[i : i + row_cache.BATCH]) for i in parts]
    )


def _states(model: Reranker, items: Items, rows: np.ndarray) -> np.ndarray:
    modality: Any = items.modality
    return model.tokens(model.read(items.images(rows, model.size), modality)).states


class Scored:
    """A matcher's tokens and scores of a protocol, kept in a folder."""

    def __init__(self, task: Any, trained: TokenMatcher, name: str, out: pathlib.Path):
        self.task, self.name, self.out = task, name, out
        self.model: Reranker = task.reranker.with_matcher(trained)
        protocol = task.protocol
        data = f"{task.scored.fingerprint}:{protocol.digest()}"
        self._whose = {"matcher": self.model.fingerprint, "data": data}
        self.queries = self._tokens(task.scored.sketches, protocol.queries)
        self.gallery = self._tokens(task.scored.photos, protocol.gallery)
        first = self.queries[:, 0], self.gallery[:, 0]
        self.own: ScoreRows = task.found_by(*first, protocol)

    def _tokens(self, items: Items, rows: np.ndarray) -> np.ndarray:
        one = _states(self.model, items, rows[:1])
        return row_cache.keep(
            self.out / f"{self.name}_{items.modality}.bin",
            self._whose,
            (len(rows), *one.shape[1:]),
            lambda some: _states(self.model, items, rows[some]),
            f"tokens {items.modality}",
        )

    def pairs(self, first: int) -> tuple[np.ndarray, np.ndarray]:
        """The photos of each query that are scored as pairs, and their scores."""
        count = min(first or len(self.gallery), len(self.gallery))
        order = reordering.first_photos(self.own, len(self.queries), count)
        digest = hashlib.sha256(order.tobytes()).hexdigest()

        def make(rows: slice) -> np.ndarray:
            return np.stack(
                [
                    self.model.logits(sketch, self.gallery[chosen])
                    for sketch, chosen in zip(
                        self.queries[rows], order[rows], strict=True
                    )
                ]
            )

        told = row_cache.keep(
            self.out / f"{self.name}_pairs.bin",
            {**self._whose, "order": digest},
            (len(self.queries), count),
            make,
            "relate",
            KEPT,
        )
        return order, told


def evaluate(task: Any, trained: TokenMatcher) -> Evaluation:
    """Pairs by relation, what found them, the same untrained, rivals and chance."""
    protocol, score = task.protocol, task.setup.score
    out = task.given.folder / task.folder / "features"
    key = jax.random.key(task.config.seed + 1)
    learned = Scored(task, jax.device_get(trained), "learned", out)
    blind = Scored(task, task.reranker.init(key), "untrained", out)
    shown: dict[str, ScoreRows] = {}
    facts: dict[str, Any] = {}
    frozen_tokens = task.given.loaded is not None
    if score.by == "retrieval":
        shown |= {"frozen": blind.own, "learned": learned.own}
    else:
        order, told = learned.pairs(score.first)
        again = reordering.reordered(learned.own, order, told, score.share)
        by_chance = reordering.reordered(
            blind.own, *blind.pairs(score.first), score.share
        )
        if frozen_tokens:
            alone = reordering.reordered(learned.own, order, told, 1.0)
            shown |= {"frozen": learned.own, "learned": again, "relation": alone}
            shown |= {"untrained": by_chance}
        else:
            shown |= {"frozen": by_chance, "learned": again, "retrieval": learned.own}
        facts["depth"] = depth(protocol, learned.own, order, told, score.share)
    values = {name: retrieval.measure(protocol, rows) for name, rows in shown.items()}
    values |= baselines.cached_measure(task.scored, protocol, out)
    found = {name: retrieval.summarise(protocol, rows) for name, rows in values.items()}
    primary = {name: rows[protocol.primary] for name, rows in values.items()}
    results = [Result(name, means) for name, (means, _) in found.items()]
    results.append(Result("chance", retrieval.chance(protocol)))
    classes = task.scored.classes
    return Evaluation(
        results=results,
        metrics=[ranking.metric(name) for name in results[0].metrics],
        primary=protocol.primary,
        folder=task.folder,
        facts={
            "benchmark": task.scored.name,
            "split": f"{len(task.unseen)} unseen of {len(classes)} classes",
            "trained_on": task.dataset.name,
            "protocol": {
                **protocol.summary(),
                "rule": protocols.GENERALISED[score.generalised],
                "selected on": SELECTED_ON[task.setup.select_on],
                "pairs a query": score.first or len(protocol.gallery),
            },
            "definitions": {"where": ranking.NOTATION},
            "skipped": len(task.scored.skipped),
            "per_class": {
                name: {classes[i]: v for i, v in found[name][1].items()}
                for name in ("learned", "frozen")
            },
            "uncertainty": uncertainty.uncertainty(protocol, primary),
            "cost": cost(learned),
            "fingerprint": learned.model.fingerprint,
            **facts,
        },
        notes=[*task.scored.notes, *protocol.weakness()],
        kept=(shown, learned.model),
    )


def depth(
    protocol: protocols.Protocol,
    own: ScoreRows,
    order: np.ndarray,
    told: np.ndarray,
    share: float,
) -> dict[str, Any]:
    """The primary figure by how many photos are re-ranked; the last is all that were
    scored as pairs, and `enough` what reaches 99 % of it."""
    counts = [k for k in DEPTHS if k < order.shape[1]] + [order.shape[1]]
    found = {}
    for k in counts:
        rows = reordering.reordered(own, order[:, :k], told[:, :k], share)
        means, _ = retrieval.score(protocol, rows)
        found[k] = means[protocol.primary]
    return {
        "photos": counts,
        "value": list(found.values()),
        "enough": reordering.enough(found),
    }


def cost(scored: Scored) -> dict[str, float]:
    """Pairs and photos a second, on the devices of this process."""
    model, photos = scored.model, scored.gallery
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
        "pairs_a_second": rate(lambda: model.logits(scored.queries[0], some)),
        "photos_a_second": rate(lambda: model.tokens(model.read(images, "photo"))),
    }
