"""Holding a frozen text-to-image model to drawings: an adapter, trained on pairs."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from sbir_jax.adapters import guides, sketch_adapter
from sbir_jax.adapters.guides import GUIDES
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
    """Trains a `SketchAdapter` to denoise photos, given their drawings; and guides."""

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
        names = [given.dataset.classes.index(name) for name in given.dataset.seen]
        # Of seen classes alone; others have no guide of their own.
        self.classes = {label: i for i, label in enumerate(names)}
        self.guides = guides.networks(self.backbone, len(names))

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
        given = self.backbone, self.loaded.frozen, key, len(self.dataset.seen)
        return sketch_adapter.init_adapter(*given)

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
        labels = self.dataset.photos.labels[pairs.photos]
        return {
            "photo": photos,
            "sketch": sketches,
            "tokens": self.backbone.tokenize(texts),
            "label": np.array([self.classes[label] for label in labels], np.int32),
            # Every other row of what the guides read is a drawing.
            "read_photo": np.arange(count) % 2 == 0,
        }

    def loss(
        self, trained: SketchAdapter, frozen: Any, batch: Any, key: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Of the residuals, and of the guides, which share nothing that is trained.

        Timesteps are drawn towards the noisy end, as 1 - u^3, where a drawing has most
        to say (T2I-Adapter, section 3.3).
        """
        steps = self.backbone.schedule.timesteps
        key_t, key_n = jax.random.split(key)
        share = 1 - jax.random.uniform(key_t, (len(batch["photo"]),)) ** 3
        t = jnp.minimum((share * steps).astype(jnp.int32), steps - 1)
        found = self._errors(trained, frozen, batch, t, key_n)
        total = sum(found.values(), jnp.zeros(()))
        return total, {name: found[name] for name in GUIDES}

    def _errors(self, trained, frozen, batch, t, key) -> dict[str, Array]:
        backbone = self.backbone
        text = backbone.encode_text(frozen, batch["tokens"])
        pictures = jnp.concatenate([batch["photo"], batch["sketch"]])
        latents = jax.lax.stop_gradient(backbone.encode_image(frozen, pictures))
        clean, drawn = jnp.split(latents, 2)
        noise = jax.random.normal(key, clean.shape)
        noised = noise_schedule.add_noise(backbone.schedule, clean, noise, t)
        held = sketch_adapter.residuals(self.encoder, trained, batch["sketch"])
        said = backbone.predict(frozen, noised, t, text, residuals=held)
        wanted = noise
        if backbone.schedule.prediction_type != "epsilon":
            wanted = noise_schedule.velocity(backbone.schedule, clean, noise, t)
        photo = batch["read_photo"]
        read = jnp.where(photo[:, None, None, None], clean, drawn)
        about = noise_schedule.add_noise(backbone.schedule, read, noise, t), t, text
        more = drawn, batch["label"], photo.astype(jnp.float32)
        given = self.guides, trained.guides, backbone, frozen
        found = guides.losses(*given, *about, *more)
        return {"loss": jnp.square(said.astype(jnp.float32) - wanted).mean(), **found}

    def validate(self, trained: SketchAdapter) -> dict[str, float]:
        pairs = self.groups.seen.some(VALIDATED)
        batch = self.batch(pairs, np.random.default_rng(0))
        steps = self.backbone.schedule.timesteps
        t = jnp.asarray((np.arange(len(pairs)) + 0.5) / len(pairs) * steps, jnp.int32)
        found = self._compiled(trained, self.loaded.frozen, batch, t, jax.random.key(0))
        return {name: float(value) for name, value in found.items()}

    @functools.cached_property
    def _compiled(self) -> Any:
        return hardware.jit(self._errors, on=self.given.mesh)

    def evaluate(self, trained: SketchAdapter) -> Evaluation:
        return evaluation.evaluate(self, trained)

    def sections(self, found: Evaluation) -> Sequence[Section]:
        return evaluation.sections(found)
