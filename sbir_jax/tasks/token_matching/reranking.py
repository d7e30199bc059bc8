"""Re-ranking what descriptors find, by tokens of the same frozen backbone (ours)."""

import functools
from typing import Any, ClassVar

import numpy as np
from jax.sharding import Mesh

from sbir_jax.adapters.token_sources import TokenSource
from sbir_jax.backbones.base import LoadedBackbone
from sbir_jax.backbones.frozen import load_frozen
from sbir_jax.data import triplets
from sbir_jax.embedder import Embedder
from sbir_jax.report.sections import Words
from sbir_jax.reranker import frozen_tokens
from sbir_jax.tasks.base import Resources
from sbir_jax.tasks.retrieval import descriptor_cache, latent_cache, protocols
from sbir_jax.tasks.retrieval import evaluation as retrieval
from sbir_jax.tasks.retrieval.evaluation import ScoreRows
from sbir_jax.tasks.token_matching.setup import RerankSetup
from sbir_jax.tasks.token_matching.task import NAMES, PairTask

RERANKED = {
    **NAMES,
    "frozen": "Descriptors alone",
    "learned": "Re-ranked",
    "relation": "Relation score alone",
    "untrained": "Re-ranked, untrained",
}


class Reranking(PairTask):
    """Cross-attention and a relation network on decoder tokens of a frozen backbone.

    Tokens of what training draws are read once and kept in the run folder.
    """

    Setup: ClassVar[type[RerankSetup]] = RerankSetup
    words = Words(RERANKED, "put the right photos first")

    def __init__(self, given: Resources):
        super().__init__(given)
        self._described: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    @classmethod
    def load_backbone(
        cls, setup: Any, mesh: Mesh, dtype: str, taps: tuple[str, ...] = ()
    ) -> LoadedBackbone | None:
        given = taps or setup.recipe.taps, mesh, dtype, setup.encoder
        return load_frozen(setup.backbone, *given)

    def source(self) -> TokenSource:
        assert self.given.loaded is not None
        setup = self.setup
        given = setup.recipe, self.given.size, setup.reader
        return frozen_tokens(self.given.loaded, *given)

    @functools.cached_property
    def embedder(self) -> Embedder:
        """Of the descriptors that are re-ranked."""
        assert self.given.loaded is not None
        prompts = self.reranker.source.prompts  # pyright: ignore
        given = prompts, self.setup.recipe, self.given.size
        return Embedder(self.given.loaded, *given, mesh=self.given.local)

    def reader(self) -> triplets.Reader:
        """Tokens as the backbone gives them, float16 on disk."""
        assert self.given.folder is not None
        drawing = {k: v for k, v in self.drawing.items() if k not in ("size", "host")}
        host, reranker = self.drawing["host"], self.reranker
        codes = latent_cache.drawn(self.dataset, host=host, **drawing)
        whose = {
            "backbone": self.given.loaded.backbone.fingerprint,  # pyright: ignore
            "tokens": reranker.source.identity,
        }
        folder, size = self.given.folder / "tokens", self.given.size
        given = codes, folder, host, size, reranker.source.raw, whose, reranker.read
        return latent_cache.kept_reader(self.dataset, *given)

    def found_by(
        self, queries: np.ndarray, gallery: np.ndarray, protocol: protocols.Protocol
    ) -> ScoreRows:
        """Descriptors, which do not change while tokens are trained."""
        key = protocol.digest()
        if key not in self._described:
            if protocol is self.protocol:
                assert self.given.folder is not None
                out = self.given.folder / self.folder / "features"
                given = self.embedder, self.scored, protocol, out, "frozen"
                self._described[key] = descriptor_cache.cached_embed(*given)
            else:
                given = self.embedder, self.dataset, protocol
                self._described[key] = descriptor_cache.embed(*given)
        return retrieval.similarity(*self._described[key])

    def rows(
        self, own: dict[str, ScoreRows], again: dict[str, ScoreRows]
    ) -> dict[str, ScoreRows]:
        return {
            "frozen": own["learned"],
            "learned": again["learned"],
            "untrained": again["untrained"],
        }
