"""The red one among its like: search by words, and the same re-ranked by a matcher.

python -m tools.rerank_table [--matcher runs/matching/test/trained-64-0]

Of each unseen Toybox category there are twelve photos of different things. A query is
the caption of one of them, alone or beside its drawing; the gallery is the photos of
its category. Acc@1 is the share of queries whose own photo comes first. Without a run
there are two scores: attention of the layers that descriptors load, and denoising gain.
"""

import argparse
import dataclasses
from typing import Any

import numpy as np

from sbir_jax import data, text_queries
from sbir_jax.embedder import Embedder
from sbir_jax.metrics.matching import standard_error
from sbir_jax.runtime import hardware
from sbir_jax.search import rerank
from sbir_jax.search.index import Hit
from sbir_jax.tasks.matching.matcher import Matcher
from sbir_jax.tasks.matching.rivals import DenoisingRival
from sbir_jax.tasks.matching.scores import MatchRecipe

EARLY = MatchRecipe(layers=("down", "mid"))  # what descriptors load
WEIGHTS = (0.3, 0.5, 1.0)  # of the words; docs/benchmarks.md has search alone at these


class Known:
    """A matcher's scores by photo and text, computed before."""

    def __init__(self, scores: dict[tuple[str, str], float]):
        self.scores = scores

    def score(self, images: Any, texts: Any) -> np.ndarray:
        return np.array(
            [[self.scores[image, text] for text in texts] for image in images]
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="toybox")
    parser.add_argument("--matcher", default="", help="a run; training-free without it")
    parser.add_argument("--queries", type=int, default=0, help="the first; 0 for all")
    parser.add_argument("--timesteps", type=int, default=10)
    args = parser.parse_args()
    hardware.keep_programs()
    toybox = data.load("toybox", size=64, instances=12, sketches=3, world=0)
    photos = np.flatnonzero(np.isin(toybox.photos.labels, _unseen(toybox)))
    embedder = Embedder.from_pretrained(args.backbone)
    queries = photos[: args.queries or None]
    labels = toybox.photos.labels
    photos = photos[np.isin(labels[photos], labels[queries])]
    matchers: dict[str, Any] = {}
    if args.matcher:
        matchers["run"] = Matcher.from_run(args.matcher)
    else:
        early = dataclasses.replace(EARLY, timesteps=args.timesteps)
        matchers["attention"] = Matcher.from_pretrained(args.backbone, early)
        whole = Matcher.from_pretrained(args.backbone)
        given = "diffusion_itm", whole, args.timesteps, True
        matchers["gain"] = DenoisingRival(*given)
    captions = [toybox.photos.captions[i] for i in queries]
    drawn = embedder.embed_items(toybox.sketches, _drawings(toybox, queries), "sketch")
    shown = embedder.embed_items(toybox.photos, photos, "photo")
    told = embedder.embed_words(captions)
    pixels = toybox.photos.pixels(photos, embedder.size)
    latents = next(iter(matchers.values())).encode(list(pixels))
    known = {
        name: Known(_scores(matcher, latents, labels, photos, queries, captions))
        for name, matcher in matchers.items()
    }
    rows: dict[str, list[float]] = {}
    for q, (photo, caption) in enumerate(zip(queries, captions, strict=True)):
        like = np.flatnonzero(labels[photos] == labels[photo])
        for weight in WEIGHTS:
            asked = text_queries.mix(drawn[q], told[q], weight)
            order = like[np.argsort(-(shown[like] @ asked), kind="stable")]
            hits = [Hit("", str(photos[i]), float(shown[i] @ asked)) for i in order]
            orders = {"search": hits}
            for name, scores in known.items():
                given = hits, caption, scores, len(hits), weight
                orders[f"re-ranked by {name}"] = rerank.rerank(*given)
            for name, found in orders.items():
                right = float(int(found[0].path) == photo)
                rows.setdefault(f"{name}, words' weight {weight:g}", []).append(right)
    groups = labels[queries]
    print(f"{len(queries)} queries, {args.matcher or 'training-free'}, Acc@1")
    for name, values in rows.items():
        error = standard_error(np.array(values), groups)
        print(f"| {name} | {np.mean(values):.3f} ± {error:.3f} |")


def _unseen(toybox: data.Dataset) -> list[int]:
    return [toybox.classes.index(name) for name in toybox.unseen]


def _drawings(toybox: data.Dataset, photos: np.ndarray) -> np.ndarray:
    """The first drawing of each photo's thing."""
    first: dict[int, int] = {}
    for row, thing in enumerate(toybox.sketches.instances.tolist()):
        first.setdefault(thing, row)
    return np.array(
        [first[thing] for thing in toybox.photos.instances[photos].tolist()]
    )


def _scores(
    matcher: Any, latents: np.ndarray, labels, photos, queries, captions
) -> dict[tuple[str, str], float]:
    """Of each caption with every photo of its category, by the photo's number."""
    pairs = [
        (i, q)
        for q, photo in enumerate(queries)
        for i in np.flatnonzero(labels[photos] == labels[photo]).tolist()
    ]
    images, texts = np.array(pairs).T
    found = matcher.pair_scores(latents, images, captions, texts, quiet=False).mean(1)
    return {
        (str(photos[i]), captions[q]): float(score)
        for (i, q), score in zip(pairs, found, strict=True)
    }


if __name__ == "__main__":
    main()
