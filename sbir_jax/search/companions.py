"""Models beside the one that made an index: what looks at single photos again, and what
makes photos of drawings."""

from typing import Any

from sbir_jax import hog
from sbir_jax.dense.segmenter import Segmenter
from sbir_jax.reranker import Reranker
from sbir_jax.search import rerank
from sbir_jax.tasks.matching import rivals
from sbir_jax.tasks.matching.matcher import Matcher
from sbir_jax.tasks.matching.scores import MatchRecipe
from sbir_jax.tasks.synthesis import imagined
from sbir_jax.tasks.synthesis.imagined import Imagines


def matcher(source: str, embedder: Any) -> rerank.Scores:
    """What re-ranks by words.

    Args:
      source: a run folder of the task "matching", or a backbone; "" for the backbone of
        the embedder, training-free.
    Raises: Unable without a source where the embedder has no backbone; ValueError as
      of `load_whole`.
    """
    if source:
        return rivals.open_scorer(source)
    if isinstance(embedder, hog.HogEmbedder):
        raise hog.unable("cannot tell which words fit a photo")
    # The words were searched with before, so that all of the backbone is there.
    return rivals.untrained(Matcher(embedder.whole(), MatchRecipe(), embedder.size))


def reranker(source: str) -> Reranker | None:
    """What re-ranks by drawings, of a run folder; None for none."""
    return Reranker.from_run(source) if source else None


def imaginer(source: str) -> Imagines | None:
    """What makes photos of drawings, of a run folder; None for none."""
    return imagined.open_imaginer(source) if source else None


def segmenter(embedder: Any, index: str) -> Segmenter:
    """What shows where words are in a photo, without training: all of the denoiser, of
    which descriptors need a part.

    Args:
      index: its folder, for errors.
    Raises: ValueError for a backbone with random weights; Unable without a backbone.
    """
    if isinstance(embedder, hog.HogEmbedder):
        raise hog.unable("cannot tell where words are in a photo")
    backbone = embedder.backbone
    if backbone.random_seed is not None:
        raise ValueError(
            f"{index} was made by a backbone with random weights, which has learnt no "
            "words; make an index with trained weights to see masks"
        )
    return Segmenter(str(backbone.folder), dtype=backbone.dtype.name)
