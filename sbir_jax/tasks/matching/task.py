"""Which text belongs to which image: a few learned numbers on a frozen backbone."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from sbir_jax.adapters import head_weights
from sbir_jax.adapters.match_adapter import MatchAdapter
from sbir_jax.backbones.base import LoadedBackbone
from sbir_jax.data import matching
from sbir_jax.metrics import matching as metrics
from sbir_jax.models.kernels.blocking import largest_divisor
from sbir_jax.report.sections import Section, Words
from sbir_jax.runtime import hardware, sharding
from sbir_jax.tasks.base import Evaluation, Resources, Result, Task
from sbir_jax.tasks.matching import evaluation, objective, rivals, scores, sections
from sbir_jax.tasks.matching.matcher import SAVED_AS, Matcher, initial
from sbir_jax.tasks.matching.score_cache import cached
from sbir_jax.tasks.matching.setup import Setup as MatchingSetup
from sbir_jax.tasks.matching.setup import ShotsConfig
from sbir_jax.tasks.matching.shots import Shots

NAMES = {
    "learned": "Few-shot",
    "frozen": "Training-free",
    "gain": "Denoising gain alone",
    "diffusion_itm": "DiffusionITM",
    "diffusion_classifier": "Diffusion Classifier",
    "clip": "CLIP",
    "chance": "Chance",
}
ROWS = 4  # times what suits the devices at inference: rows of a group in training


class Matching(Task):
    """After DSD: few-shot matching of texts and images."""

    Setup: ClassVar[type[MatchingSetup]] = MatchingSetup
    saved_as: ClassVar[str] = SAVED_AS
    words = Words(NAMES, "choose the right candidate")
    config: ShotsConfig

    def __init__(self, given: Resources):
        """Raises: ValueError for what cannot be scored or trained on."""
        assert given.loaded is not None
        setup: MatchingSetup = given.setup
        self.setup, self.given, self.config = setup, given, setup.train
        self.loaded = given.loaded
        self.test = given.dataset.test.evenly(setup.test_questions)
        start = initial(given.loaded, setup.recipe, setup.adapter, given.size)
        self.start = start
        # What is not trained is not there where nothing was learned.
        bare = dataclasses.replace(start, gain=None, prompts=None, lora=None)
        batch = setup.match_batch_size
        self.matcher = Matcher(
            given.loaded, setup.recipe, given.size, bare, batch, given.local
        )
        self.parts = setup.adapter.parts
        self.pairs = evaluation.pairs(self.test)
        self.metric = metrics.metric(next(iter(self._figures(self._blind()))))
        devices = given.mesh.shape["data"]
        group = setup.questions_at_once or self.config.batch_size
        if self.config.batch_size % devices or group % devices:
            raise ValueError(
                f"train.batch_size is {self.config.batch_size} and questions_at_once "
                f"{setup.questions_at_once}; give multiples of {devices}, since so "
                "many devices share them"
            )
        self.few = None
        if self.config.shots:
            if given.dataset.train is None:
                raise ValueError(
                    f"train.shots is {self.config.shots:g} and {self.test.name} has "
                    "nothing to train on; give train.shots=0"
                )
            self.few = given.dataset.train.some(self.config.shots, self.config.seed)

    @classmethod
    def load_data(cls, setup: MatchingSetup) -> matching.MatchingData:
        return matching.load(**setup.data)

    @classmethod
    def load_backbone(
        cls,
        setup: MatchingSetup,
        mesh: Mesh,
        dtype: str,
        taps: tuple[str, ...] = (),
    ) -> LoadedBackbone | None:
        """All of the network where errors of denoising are asked for."""
        whole = setup.rivals or setup.adapter.gain
        own = ("out",) if whole else setup.recipe.taps
        return super().load_backbone(setup, mesh, dtype, taps or own)

    def identity(self) -> dict[str, Any]:
        return {"data": self.given.dataset.fingerprint}

    @functools.cached_property
    def shots(self) -> Shots:
        """Encoded when training begins."""
        assert self.few is not None
        return Shots(self.few, self._reader, self.config, self.setup.adapter.linear)

    @property
    def _reader(self) -> Matcher:
        """With an adapter that has all there is to learn, as training begins."""
        return self.matcher.with_adapter(self.start)

    @property
    def _reading(self) -> dict[str, Any]:
        """What scores of questions are read with; for `objective`."""
        return {
            "backbone": self.loaded.backbone,
            "recipe": self.setup.recipe,
            "draws": self.config.draws,
        }

    def init(self, key: Array) -> MatchAdapter:
        """Its scores are the training-free ones, but for weights by importance."""
        setup = self.setup
        given = self.loaded, setup.recipe, setup.adapter, self.given.size
        adapter = initial(*given, key)
        if setup.adapter.weights != "importance":
            return adapter
        shares = objective.importance(
            adapter, self.loaded.frozen, self.shots.each(), key, **self._reading
        )
        return dataclasses.replace(
            adapter, heads=head_weights.of_shares(jnp.asarray(shares))
        )

    def frozen(self, mesh: Mesh) -> Any:
        return sharding.place_frozen(self.loaded.frozen, mesh)

    def batches(self, step: int) -> Iterable[Any]:
        """None without shots, so that nothing is trained."""
        return self.shots.batches(step) if self.few is not None else ()

    def rows_at_once(self, batch: Any, mesh: Mesh, program: Callable) -> int:
        if self.setup.questions_at_once:
            return self.setup.questions_at_once
        if self.setup.adapter.linear:  # no network is run
            return self.config.batch_size
        devices, platform = mesh.shape["data"], mesh.local_devices[0].platform
        each = self.config.batch_size // devices
        rows = ROWS * hardware.image_counts(self.given.size, platform)[0]
        passes = self.config.candidates * self.config.draws
        return devices * largest_divisor(each, max(1, rows // passes))

    def loss(
        self, trained: MatchAdapter, frozen: Any, batch: Any, key: Array
    ) -> tuple[Array, dict[str, Array]]:
        return objective.objective(
            trained,
            frozen,
            batch,
            key,
            loss=self.config.loss,
            margin=self.config.margin,
            **self._reading,
        )

    def _blind(self) -> Float[np.ndarray, " p"]:
        return np.zeros(len(self.pairs.images))

    def _figures(self, found: Float[np.ndarray, " p"]):
        return evaluation.figures(self.test, self.pairs, found)

    def evaluate(self, trained: MatchAdapter) -> Evaluation:
        """Training-free, learned where there are shots, rivals at as many passes."""
        learned = self.matcher.with_adapter(jax.device_get(trained))
        models: dict[str, Any] = {"frozen": self.matcher}
        if self.few is not None:
            models["learned"] = learned
        if self.setup.adapter.linear and self.setup.adapter.gain:
            models["gain"] = None  # read along with the others
        passes = self.setup.recipe.timesteps
        if self.setup.rivals:
            image = self.test.asks == "image"
            for name in rivals.NAMES:
                models[name] = rivals.DenoisingRival(name, self.matcher, passes, image)
        found, curves = {}, {}
        for name, model in models.items():
            each, seconds = self._scores(name, model)
            found[name] = self._figures(each.mean(1))
            curves[name] = self._curve(each, seconds)
        if self.setup.clip:
            found["clip"] = self._figures(self._clip().mean(1))
        results = [
            Result(name, {metric: figure.value for metric, figure in rows.items()})
            for name, rows in found.items()
        ]
        results.append(Result("chance", evaluation.chance(self.test, self.pairs)))
        figures = {
            name: {
                metric: dataclasses.asdict(figure) for metric, figure in rows.items()
            }
            for name, rows in found.items()
        }
        return Evaluation(
            results=results,
            metrics=[metrics.metric(name) for name in results[0].metrics],
            primary=self.metric.name,
            facts={
                "benchmark": self.test.name,
                "protocol": self._protocol(),
                "errors": figures,
                "cost": curves,
                "fingerprint": learned.fingerprint,
            },
            notes=self.test.notes,
            kept=learned if self.few is not None else self.matcher,
        )

    def _protocol(self) -> dict[str, Any]:
        shots = len(self.few.items) if self.few is not None else 0
        return {
            "asks for": self.test.asks,
            "questions": len(self.test.items),
            "pairs": len(self.pairs.images),
            "shots": shots,
            "timesteps": self.setup.recipe.steps.tolist(),
            "layers": list(self.matcher.layers),
        }

    @functools.cached_property
    def _latents(self) -> Float[np.ndarray, "n y x c"]:
        return self.matcher.encode(self.test.images)

    def _key(self, fingerprint: str) -> list[Any]:
        return [fingerprint, self.test.fingerprint, self.setup.recipe.timesteps]

    def _scores(self, name: str, model: Any) -> tuple[Float[np.ndarray, "p k"], float]:
        """Scores at every timestep, and the seconds that one of them took.

        Args:
          model: None for the denoising gain alone, where scores are linear.
        """
        assert self.given.folder is not None
        images, texts, rows, _ = self.pairs

        linear = self.setup.adapter.linear and isinstance(model, Matcher | None)
        # Sums of the same parts need one reading of the pairs.
        reader: Any = self._reader if linear else model
        name = "parts" if linear else name

        def compute() -> tuple[np.ndarray, float]:
            read = reader.pair_parts if linear else reader.pair_scores
            # Compiled on one pair, which is no part of what a pair takes.
            read(self._latents, images[:1], texts, rows[:1])
            begin = time.perf_counter()
            found = read(self._latents, images, texts, rows, quiet=False)
            return found, time.perf_counter() - begin

        own = getattr(reader, "fingerprint", self.matcher.fingerprint)
        folder, key = self.given.folder / "scores", [name, *self._key(own)]
        found, seconds = cached(folder, name, key, compute)
        if linear:
            gain = found[..., -1]
            found = np.asarray(scores.summed(model.adapter, found)) if model else gain
        return found, seconds / found.size

    def _clip(self) -> Float[np.ndarray, "p 1"]:
        from sbir_jax.tasks.matching.clip import Clip

        assert self.given.folder is not None
        pairs = self.pairs

        def compute() -> tuple[Float[np.ndarray, "p 1"], float]:
            model = Clip(self.setup.clip)
            given = self.test.images, pairs.images, pairs.texts, pairs.rows
            return model.pair_scores(*given), 0.0

        key = ["clip", *self._key(self.setup.clip)]
        return cached(self.given.folder / "scores", "clip", key, compute)[0]

    def _curve(
        self, found: Float[np.ndarray, "p k"], seconds: float
    ) -> dict[str, list[float]]:
        """The primary figure and its error at fewer timesteps."""
        curve: dict[str, list[float]] = {
            name: [] for name in ("passes", "milliseconds", "value", "error")
        }
        for count in evaluation.counts(found.shape[1]):
            some = found[:, evaluation.evenly(count, found.shape[1])].mean(1)
            figure = self._figures(some)[self.metric.name]
            curve["passes"].append(float(count))
            curve["milliseconds"].append(round(1000 * seconds * count, 3))
            curve["value"].append(figure.value)
            curve["error"].append(figure.error)
        return curve

    def sections(self, found: Evaluation) -> Sequence[Section]:
        """Figures by kind with their errors, what they cost, where the words are."""
        facts = found.facts
        return (
            sections.errors(facts["errors"], self.words.names),
            sections.cost(facts["cost"], self.metric.name, self.words.names),
            sections.heat_maps(self.test, found.kept),
        )
