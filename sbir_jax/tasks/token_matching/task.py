"""Training pairs to match token by token: what both kinds of tokens share, and
ZSE-SBIR.

After Lin et al. (CVPR 2023). `reranking` has the same on frozen tokens.
"""

import abc
import dataclasses
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh
from jaxtyping import Array

from sbir_jax import data
from sbir_jax.adapters import token_files
from sbir_jax.adapters.token_matcher import TokenMatcher
from sbir_jax.adapters.token_sources import TokenSource, ViTTokens
from sbir_jax.backbones.base import LoadedBackbone
from sbir_jax.data import triplets
from sbir_jax.metrics import ranking
from sbir_jax.metrics.cosine import unit
from sbir_jax.report.sections import Section, Words
from sbir_jax.reranker import SAVED_AS, Reranker
from sbir_jax.tasks.base import Evaluation, Resources, Task
from sbir_jax.tasks.retrieval import draws, protocols, reranked, scored_set
from sbir_jax.tasks.retrieval import evaluation as retrieval
from sbir_jax.tasks.retrieval.evaluation import ScoreRows
from sbir_jax.tasks.token_matching import evaluation, sections
from sbir_jax.tasks.token_matching.objective import objective
from sbir_jax.tasks.token_matching.setup import (
    SELECTED_ON,
    PairConfig,
    PairSetup,
    TokenSetup,
)

NAMES = {
    "learned": "Relation score",
    "frozen": "Untrained",
    "retrieval": "Retrieval token",
    "hog": "HOG",
    "pixels": "Pixels",
    "chance": "Chance",
}


class PairTask(Task):
    """What both kinds of tokens share.

    Attributes:
      reranker: computes; its parameters are those before training.
      protocol: what is asked, of `scored`.
    """

    saved_as: ClassVar[str] = SAVED_AS
    config: PairConfig

    def __init__(self, given: Resources):
        """Raises: ValueError for what cannot be scored or trained, or for batches that
        the devices cannot share."""
        setup: Any = given.setup
        self.setup, self.given, self.config = setup, given, setup.train
        self.dataset = given.dataset
        devices = given.mesh.shape["data"]
        if setup.train.batch_size % devices:
            raise ValueError(
                f"train.batch_size is {setup.train.batch_size}; give a multiple of "
                f"{devices}, since so many devices share it"
            )
        triplets.triplet_table(self.dataset)
        score = setup.score
        scored = scored_set.scored_on(score, self.dataset, "category")
        self.scored, self.unseen = scored
        self.protocol = protocols.make_protocol(
            self.scored, self.unseen, "category", score.cutoffs, score.generalised
        )
        self.folder = scored_set.folder(given.folder, score)
        self.metric = ranking.metric(self.protocol.primary)
        self.held_out = SELECTED_ON[setup.select_on]
        self._val = self._validation()
        self.validates = self._val is not None and setup.trains
        self.reranker = Reranker(
            self.source(), setup.relation, given.size, None, given.loaded, given.local
        )

    def _validation(self) -> protocols.Protocol | None:
        classes = self.dataset.val
        if self.setup.select_on == "test":
            classes = self.dataset.unseen
        if not classes:
            return None
        whole = protocols.make_protocol(self.dataset, classes, "category")
        return protocols.subsample(whole, self.setup.val_limit)

    @abc.abstractmethod
    def source(self) -> TokenSource:
        """Where its tokens come from."""

    @classmethod
    def load_data(cls, setup: PairSetup) -> data.Dataset:
        """With classes held out of the seen ones, where they choose what is kept."""
        held = setup.val_classes if setup.select_on == "held_out" else 0
        return data.load(**setup.data).hold_out(held, setup.train.seed)

    def identity(self) -> dict[str, Any]:
        return {"data": self.dataset.fingerprint, "unseen": list(self.dataset.unseen)}

    def init(self, key: Array) -> TokenMatcher:
        return self.reranker.init(key)

    @property
    def drawing(self) -> dict[str, Any]:
        """Which triplets this process draws; for `triplet_batches`."""
        return draws.draws(self.config, "category", self.given.size)

    def reader(self) -> triplets.Reader | None:
        """What stands for images in batches; None for the images."""
        return None

    def batches(self, step: int) -> Iterable[dict[str, np.ndarray]]:
        """ "sketch", "positive" and "negative"; none where nothing is trained."""
        if not self.setup.trains:
            return ()
        return triplets.triplet_batches(
            self.dataset, start_step=step, read=self.reader(), **self.drawing
        )

    def loss(
        self, trained: TokenMatcher, frozen: Any, batch: dict[str, Array], key: Array
    ) -> tuple[Array, dict[str, Array]]:
        return objective(
            trained,
            batch,
            key,
            source=self.reranker.source,
            relation=self.reranker.relation,
            config=self.config,
        )

    @abc.abstractmethod
    def found_by(
        self, queries: np.ndarray, gallery: np.ndarray, protocol: protocols.Protocol
    ) -> ScoreRows:
        """What finds the photos that pairs are scored of.

        Args:
          queries, gallery: retrieval tokens.
        """

    @abc.abstractmethod
    def rows(
        self, own: dict[str, ScoreRows], again: dict[str, ScoreRows]
    ) -> dict[str, ScoreRows]:
        """The report's rows, by what found photos and by their new order, of models
        "learned" and "untrained"."""

    def validate(self, trained: TokenMatcher) -> dict[str, float]:
        """The primary metric, by the score that the run is for."""
        assert self._val is not None
        protocol, score = self._val, self.setup.score
        model = self.reranker.with_matcher(trained)
        sketches = reranked.states(model, self.dataset.sketches, protocol.queries)
        photos = reranked.states(model, self.dataset.photos, protocol.gallery)
        shown = self.found_by(sketches[:, 0], photos[:, 0], protocol)
        if score.by == "relation":
            order = reranked.first_photos(shown, protocol, score.first)
            told = [
                model.logits(sketch, photos[chosen])
                for sketch, chosen in zip(sketches, order, strict=True)
            ]
            shown = reranked.reordered(shown, order, np.stack(told), score.weight)
        figures, _ = retrieval.score(protocol, shown)
        return {protocol.primary: figures[protocol.primary]}

    def evaluate(self, trained: TokenMatcher) -> Evaluation:
        return evaluation.evaluate(self, trained)

    def sections(self, found: Evaluation) -> Sequence[Section]:
        return sections.sections(self, found)


class TokenMatching(PairTask):
    """ZSE-SBIR: a vision transformer, cross-attention and a relation network."""

    Setup: ClassVar[type[TokenSetup]] = TokenSetup
    words = Words(NAMES, "find the right photos")

    @classmethod
    def load_backbone(
        cls, setup: Any, mesh: Mesh, dtype: str, taps: tuple[str, ...] = ()
    ) -> LoadedBackbone | None:
        """None is read."""
        return None

    def source(self) -> TokenSource:
        return ViTTokens(self.setup.vit, self.given.size)

    def init(self, key: Array) -> TokenMatcher:
        """Random, or from what the config names. Raises: as `token_files.load` and
        `Reranker.from_run`; ValueError for a run with another transformer."""
        made, where = super().init(key), self.setup.weights
        if not where:
            return made
        if pathlib.Path(where).expanduser().is_dir():
            return _with_transformer(made, where)
        found, kept = token_files.load(where, made)
        for part in kept:
            logging.info("%s does not hold %s: random", where, part)
        return found

    def found_by(
        self, queries: np.ndarray, gallery: np.ndarray, protocol: protocols.Protocol
    ) -> ScoreRows:
        """The distance of retrieval tokens after self-attention, as `-r sa` in the
        release: unit vectors, so that their product has the same order."""
        return retrieval.similarity(*map(unit, (queries, gallery)))

    def rows(
        self, own: dict[str, ScoreRows], again: dict[str, ScoreRows]
    ) -> dict[str, ScoreRows]:
        return {
            "frozen": again["untrained"],
            "learned": again["learned"],
            "retrieval": own["learned"],
        }


def _with_transformer(made: TokenMatcher, run: str) -> TokenMatcher:
    """With that of a run; its relation network may be of another number of tokens."""
    found = jax.device_get(Reranker.from_run(run).matcher.source)
    if jax.tree.map(np.shape, found) != jax.tree.map(np.shape, made.source):
        raise ValueError(
            f"weights is {run}, a run whose transformer is of another size; set vit.* "
            "to what it was made with, but for vit.keep and vit.selects"
        )
    return dataclasses.replace(made, source=found)
