"""Holding a frozen text-to-image model to drawings: an adapter, trained on pairs."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from sbir_jax.adapters import sketch_adapter
from sbir_jax.adapters.sketch_adapter import SketchAdapter
from sbir_jax.backbones.base import LoadedBackbone
from sbir_jax.backbones.loading import load_backbone
from sbir_jax.diffusion import noise_schedule
from sbir_jax.report.sections import Section, Words
from sbir_jax.runtime import hardware, sharding
from sbir_jax.tasks.base import Evaluation, Resources, Task
from sbir_jax.tasks.synthesis import adapter_files, evaluation
from sbir_jax.tasks.synthesis.pairs import groups
from sbir_jax.tasks.synthesis.setup import Setup as SynthesisSetup
from sbir_jax.types import Metric

LOSS = Metric("loss", "mean square error of the prediction on held-out pairs", "lower")
VALIDATED = 32  # held-out pairs


class Synthesis(Task):
    """Trains a `SketchAdapter` to denoise photos, given their drawings."""

    Setup: ClassVar[type[SynthesisSetup]] = SynthesisSetup
    saved_as: ClassVar[str] = adapter_files.NAME
    validates, metric = True, LOSS
    held_out = "held-out things of seen classes"
    words = Words(
        {"frozen": "Words alone", "learned": "Drawings and words"},
        "make photos that follow a drawing",
    )

    def __init__(self, given: Resources):
        """Raises: ValueError as `groups`."""
        assert given.loaded is not None
        self.setup, self.given, self.config = given.setup, given, given.setup.train
        self.dataset, self.loaded = given.dataset, given.loaded
        self.backbone = given.loaded.backbone
        if given.size != self.backbone.image_size:
            raise ValueError(
                f"image_size is {given.size}; pictures are drawn at the backbone's own "
                f"{self.backbone.image_size} px: leave it at 0"
            )
        self.setup.sampling.stops(self.backbone.schedule)
        self.groups = groups(given.dataset, self.setup.held_out)
        self.encoder = sketch_adapter.network(self.backbone, self.loaded.frozen)

    @classmethod
    def load_backbone(
        cls,
        setup: SynthesisSetup,
        mesh: Mesh,
        dtype: str,
        taps: tuple[str, ...] = ("out",),
    ) -> LoadedBackbone | None:
        """All of it: the decoder makes the pictures."""
        return load_backbone(
            setup.backbone,
            dtype=np.dtype(hardware.dtype_name(dtype, mesh.local_devices[0])),
            sharding=sharding.frozen_rule(mesh),
            frozen=True,
            encoder=setup.encoder,
        )

    def identity(self) -> dict[str, Any]:
        return {"data": self.dataset.fingerprint, "unseen": list(self.dataset.unseen)}

    def init(self, key: Array) -> SketchAdapter:
        return sketch_adapter.init_adapter(self.backbone, self.loaded.frozen, key)

    def frozen(self, mesh: Mesh) -> dict[str, Any]:
        return sharding.place_frozen(self.loaded.frozen, mesh)

    def batches(self, step: int) -> Iterable[dict[str, Any]]:
        rows = self.config.batch_size // jax.process_count()
        for now in range(step, self.config.steps):
            rng = np.random.default_rng((self.config.seed, now, jax.process_index()))
            chosen = rng.integers(len(self.groups.train), size=rows)
            yield self.batch(self.groups.train.only(chosen), rng)

    def batch(self, pairs: Any, rng: np.random.Generator) -> dict[str, Any]:
        """Photos, drawings and captions of pairs; half of them turned left to right,
        and some captions left out."""
        size, count = self.given.size, len(pairs)
        photos = self.dataset.photos.images(pairs.photos, size)
        sketches = self.dataset.sketches.images(pairs.sketches, size)
        turned = rng.random(count) < 0.5
        photos[turned] = photos[turned, :, ::-1]
        sketches[turned] = sketches[turned, :, ::-1]
        captions = [self.dataset.photos.captions[row] for row in pairs.photos]
        told = rng.random(count) >= self.setup.caption_dropout
        texts = [
            text if tell else "" for text, tell in zip(captions, told, strict=True)
        ]
        tokens = self.backbone.tokenize(texts)
        return {"photo": photos, "sketch": sketches, "tokens": tokens}

    def loss(
        self, trained: SketchAdapter, frozen: Any, batch: Any, key: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Timesteps are drawn towards the noisy end, as 1 - u^3, where a drawing has
        most to say (T2I-Adapter, section 3.3)."""
        steps = self.backbone.schedule.timesteps
        key_t, key_n = jax.random.split(key)
        share = 1 - jax.random.uniform(key_t, (len(batch["photo"]),)) ** 3
        t = jnp.minimum((share * steps).astype(jnp.int32), steps - 1)
        return self._error(trained, frozen, batch, t, key_n), {}

    def _error(self, trained, frozen, batch, t, key):
        backbone = self.backbone
        text = backbone.encode_text(frozen, batch["tokens"])
        clean = jax.lax.stop_gradient(backbone.encode_image(frozen, batch["photo"]))
        noise = jax.random.normal(key, clean.shape)
        noised = noise_schedule.add_noise(backbone.schedule, clean, noise, t)
        held = sketch_adapter.residuals(self.encoder, trained, batch["sketch"])
        said = backbone.predict(frozen, noised, t, text, residuals=held)
        wanted = noise
        if backbone.schedule.prediction_type == "v_prediction":
            wanted = noise_schedule.velocity(backbone.schedule, clean, noise, t)
        return jnp.square(said.astype(jnp.float32) - wanted).mean()

    def validate(self, trained: SketchAdapter) -> dict[str, float]:
        pairs = self.groups.seen.some(VALIDATED)
        batch = self.batch(pairs, np.random.default_rng(0))
        steps = self.backbone.schedule.timesteps
        t = jnp.asarray((np.arange(len(pairs)) + 0.5) / len(pairs) * steps, jnp.int32)
        found = self._compiled(trained, self.loaded.frozen, batch, t, jax.random.key(0))
        return {"loss": float(found)}

    @functools.cached_property
    def _compiled(self) -> Any:
        return hardware.jit(self._error)

    def evaluate(self, trained: SketchAdapter) -> Evaluation:
        return evaluation.evaluate(self, trained)

    def sections(self, found: Evaluation) -> Sequence[Section]:
        return evaluation.sections(found)
