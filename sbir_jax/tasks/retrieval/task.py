"""Finding photos by drawing: prompts on a frozen backbone, trained on triplets."""

import dataclasses
import functools
import shutil
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from absl import logging
from jax.sharding import Mesh
from jaxtyping import Array

from sbir_jax import data
from sbir_jax.adapters.prompts import Prompts, init_prompts
from sbir_jax.backbones.base import LoadedBackbone
from sbir_jax.backbones.frozen import text_states
from sbir_jax.data import triplets
from sbir_jax.embedder import Embedder
from sbir_jax.features import Recipe
from sbir_jax.metrics import ranking
from sbir_jax.report import literature
from sbir_jax.report.sections import ClassBars, RankedSheet, Section, Words
from sbir_jax.reranker import Reranker
from sbir_jax.runtime import metric_writer, multiprocess, sharding
from sbir_jax.tasks.base import Evaluation, Resources, Result, Task
from sbir_jax.tasks.retrieval import (
    baselines,
    descriptor_cache,
    draws,
    evaluation,
    imagined,
    latent_cache,
    microbatch,
    progress,
    protocols,
    query_texts,
    reranked,
    scored_set,
    uncertainty,
)
from sbir_jax.tasks.retrieval.objective import objective
from sbir_jax.tasks.retrieval.ranked_queries import ranked_queries
from sbir_jax.tasks.retrieval.setup import Setup as RetrievalSetup
from sbir_jax.tasks.retrieval.setup import TripletConfig
from sbir_jax.tasks.synthesis.imagined import open_imaginer

VAL_LIMIT = 200  # sketches, and photos, of held-out seen classes scored for the curve


class Retrieval(Task):
    """By category or by instance, as the config's `task` says."""

    Setup: ClassVar[type[RetrievalSetup]] = RetrievalSetup
    saved_as: ClassVar[str] = "prompts"
    held_out = "held-out seen classes"
    config: TripletConfig

    def __init__(self, given: Resources):
        """Raises: ValueError for what cannot be scored, or for batches that the devices
        cannot share."""
        assert given.loaded is not None
        setup: RetrievalSetup = given.setup
        self.setup, self.loaded, self.dataset = setup, given.loaded, given.dataset
        self.backbone = given.loaded.backbone
        self.config, self.given = setup.train, given
        last = self.backbone.schedule.timesteps - 1
        if not 0 <= setup.recipe.timestep <= last:
            raise ValueError(
                f"recipe.timestep is {setup.recipe.timestep}; give 0 to {last}"
            )
        microbatch.check(setup.triplets_at_once, setup.train.batch_size, given.mesh)
        triplets.triplet_table(self.dataset, setup.task)
        score = setup.score
        self.scored, self.unseen = scored_set.scored_on(score, self.dataset, setup.task)
        self.protocol = protocols.make_protocol(
            self.scored, self.unseen, setup.task, score.cutoffs, score.generalised
        )
        self.reranker = None
        if score.rerank:
            self.reranker = Reranker.from_run(score.reranker, given.local)
        self.imaginer = open_imaginer(score.imaginer) if score.imaginer else None
        self.beside = query_texts.words_beside(score, self.scored, self.protocol)
        self.validates = bool(self.dataset.val)
        self.metric = ranking.metric(self.protocol.primary)
        found = "the very photo" if setup.task == "fine_grained" else "the right photos"
        self.words = Words(claim=f"find {found}")
        self.folder = scored_set.folder(given.folder, score)
        states = text_states(self.loaded, [setup.prompt.text])[0]
        latent = self.backbone.latent_shape(given.size)
        self.start = init_prompts(setup.prompt, given.size, states, latent)
        self.parts = setup.train.trained(self.start)
        self._told: set[str] = set()  # beginnings of what was said of this training

    @classmethod
    def load_data(cls, setup: RetrievalSetup) -> data.Dataset:
        """With classes held out of the seen ones."""
        return data.load(**setup.data).hold_out(setup.val_classes, setup.train.seed)

    @classmethod
    def load_backbone(
        cls,
        setup: RetrievalSetup,
        mesh: Mesh,
        dtype: str,
        taps: tuple[str, ...] = (),
    ) -> LoadedBackbone | None:
        """Up to the last layer of the recipe."""
        return super().load_backbone(setup, mesh, dtype, taps or setup.recipe.taps)

    def identity(self) -> dict[str, Any]:
        return {
            "data": self.dataset.fingerprint,
            "unseen": list(self.dataset.unseen),
        }

    def init(self, key: Array) -> Prompts:
        """They change nothing yet: no key is drawn from."""
        return self.start

    def frozen(self, mesh: Mesh) -> dict[str, Any]:
        return sharding.place_frozen(self.loaded.frozen, mesh)

    @property
    def encoded(self) -> bool:
        """Whether training reads latents instead of images."""
        return self.config.reads_latents(self.start)

    @property
    def drawing(self) -> dict[str, Any]:
        """Which triplets this process draws; for `triplet_batches`."""
        return draws.draws(self.config, self.setup.task, self.given.size)

    def batches(self, step: int) -> Iterable[dict[str, np.ndarray]]:
        """ "sketch", "positive" and "negative": images, or their latents."""
        read = None
        if self.encoded:
            assert self.given.folder is not None
            read = latent_cache.reader(
                self.loaded,
                self.start,
                self.setup.prompt.visual_scale,
                self.dataset,
                self.given.folder / "latents",
                self.given.mesh.shape["model"],
                **self.drawing,
            )
        return triplets.triplet_batches(
            self.dataset, start_step=step, read=read, **self.drawing
        )

    def rows_at_once(
        self, batch: dict[str, np.ndarray], mesh: Mesh, program: Callable
    ) -> int:
        return self.setup.triplets_at_once or microbatch.fitting(
            batch, self.given.size, mesh, program
        )

    def loss(
        self, trained: Prompts, frozen: dict, batch: dict[str, Array], key: Array
    ) -> tuple[Array, dict[str, Array]]:
        return objective(
            trained,
            frozen,
            batch,
            key,
            backbone=self.backbone,
            recipe=self.setup.recipe,
            margin=self.config.margin,
            visual_scale=self.setup.prompt.visual_scale,
            encoded=self.encoded,
        )

    def finish(self) -> None:
        """The latents are of no more use."""
        if multiprocess.is_first() and self.given.folder is not None:
            shutil.rmtree(self.given.folder / "latents", ignore_errors=True)

    def embedder(self, recipe: Recipe) -> Embedder:
        """With prompts that change nothing, on the devices of this process."""
        return Embedder(
            self.loaded,
            self.start,
            recipe,
            self.given.size,
            self.setup.prompt.visual_scale,
            self.setup.embed_batch_size,
            self.given.local,
        )

    @functools.cached_property
    def _validate(self) -> Callable[[Prompts], dict[str, float]]:
        # One copy of the noise: the curve shows the trend, the report the figure.
        quick = self.embedder(dataclasses.replace(self.setup.recipe, copies=1))
        return validator(quick, self.dataset, self.setup.task)

    def validate(self, trained: Prompts) -> dict[str, float]:
        """The primary metric on the held-out seen classes."""
        for problem in self._problems():
            if problem[:20] not in self._told:
                self._told.add(problem[:20])
                logging.warning(problem)
        return self._validate(trained)

    def _problems(self) -> list[str]:
        if self.given.folder is None:
            return []
        history = metric_writer.read(self.given.folder)
        return progress.problems(history, self.config.margin, self.metric.name)

    def evaluate(self, trained: Prompts) -> Evaluation:
        """Prompts that change nothing, the learned ones, what knows nothing of any
        backbone, and blind ranking."""
        protocol, results, rankings, per_class = self.protocol, [], {}, {}
        primary = {}
        frozen = self.embedder(self.setup.recipe)
        models = {"frozen": frozen, "learned": frozen.with_prompts(trained)}
        assert self.given.folder is not None
        out = self.given.folder / self.folder
        kept, score = out / "features", self.setup.score
        described = {
            name: descriptor_cache.cached_embed(
                model, self.scored, protocol, kept, name, self.beside
            )
            for name, model in models.items()
        }
        for name, both in described.items():
            rankings[name] = evaluation.similarity(*both)
        if self.imaginer is not None:
            drawn, gallery = described["learned"]
            given = models["learned"], drawn, self.scored, protocol
            names = [models["learned"].fingerprint, self.imaginer.fingerprint]
            more = score.imagined_weight, names, kept
            both = imagined.queries(self.imaginer, *given, *more), gallery
            rankings["imagined"] = evaluation.similarity(*both)
        if self.reranker is not None:
            given = self.scored, protocol, rankings["learned"], score, kept
            rankings["reranked"] = reranked.rows(self.reranker, *given)
        for name, shown in rankings.items():
            values = evaluation.measure(protocol, shown)
            found, classes = evaluation.summarise(protocol, values)
            results.append(Result(name, found))
            primary[name] = values[protocol.primary]
            per_class[name] = {self.scored.classes[i]: v for i, v in classes.items()}
        simple = baselines.cached_measure(self.scored, protocol, out / "features")
        for name, values in simple.items():
            results.append(Result(name, evaluation.summarise(protocol, values)[0]))
            primary[name] = values[protocol.primary]
        results.append(Result("chance", evaluation.chance(protocol)))
        return Evaluation(
            results=results,
            metrics=[ranking.metric(name) for name in results[0].metrics],
            primary=protocol.primary,
            folder=self.folder,
            facts={
                **self._facts(),
                "per_class": per_class,
                "uncertainty": uncertainty.uncertainty(protocol, primary),
                "fingerprint": models["learned"].fingerprint,
                "timing": {"embed_waiting_share": round(frozen.waiting.share, 4)},
            },
            notes=[*self.scored.notes, *self._problems(), *protocol.weakness()],
            kept=rankings,
        )

    def _facts(self) -> dict[str, Any]:
        score, scored, beside = self.setup.score, self.scored, self.beside
        words = f"{score.words} as {score.words_as}, weight {score.text_weight:g}"
        return {
            "benchmark": scored.name,
            "split": f"{len(self.unseen)} unseen of {len(scored.classes)} classes",
            "trained_on": self.dataset.name,
            "protocol": {
                **self.protocol.summary(),
                "rule": protocols.GENERALISED[score.generalised],
                "words": words if beside else "none",
            },
            "definitions": {"where": ranking.NOTATION},
            "skipped": len(scored.skipped),
        }

    def sections(self, found: Evaluation) -> Sequence[Section]:
        """Queries with what they find, and the figures of each class."""
        shown = ranked_queries(self.scored, self.protocol, found.kept)
        return (
            uncertainty.section(found.facts["uncertainty"], self.words.names),
            RankedSheet(shown),
            ClassBars(found.facts["per_class"], self.metric),
        )

    def texts(self, report: dict[str, Any]) -> dict[str, str]:
        return {"literature.md": literature.table(report)}


def validator(
    model: Embedder, dataset: data.Dataset, task: Any
) -> Callable[[Prompts], dict[str, float]]:
    """Scores prompts on the held-out seen classes."""
    protocol = protocols.subsample(
        protocols.make_protocol(dataset, dataset.val, task), VAL_LIMIT
    )

    def validate(prompts: Prompts) -> dict[str, float]:
        found = descriptor_cache.embed(model.with_prompts(prompts), dataset, protocol)
        figures, _ = evaluation.score(protocol, evaluation.similarity(*found))
        return {protocol.primary: figures[protocol.primary]}

    return validate
