"""What segmentation, referring and depth have in common: reading, training, tests."""

import abc
import dataclasses
import functools
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from sbir_jax.backbones.base import LoadedBackbone
from sbir_jax.backbones.frozen import PARTS
from sbir_jax.backbones.loading import load_backbone
from sbir_jax.data import dense as dense_data
from sbir_jax.data import images as images_lib
from sbir_jax.data.dense import DenseData, Example, Split
from sbir_jax.dense import colour, views
from sbir_jax.dense.model import (
    DenseModel,
    apply_head,
    init_model,
    levels_of,
    make_head,
)
from sbir_jax.dense.reading import level_shapes
from sbir_jax.models.heads.layers import Levels
from sbir_jax.models.heads.resizing import Kind
from sbir_jax.runtime import hardware, multiprocess, sharding
from sbir_jax.tasks.base import Evaluation, Resources, Task
from sbir_jax.tasks.dense.evaluating import Predict, scores, thinned
from sbir_jax.tasks.dense.inputs import Drawing
from sbir_jax.tasks.dense.setup import DenseSetup
from sbir_jax.types import Metric

TOGETHER = 16  # squares at a time, in tests


class DenseTask(Task):
    """Constructing one finds whatever is wrong with a run before it trains."""

    Setup: ClassVar[type[DenseSetup]] = DenseSetup
    saved_as: ClassVar[str] = "model"
    held_out = "training examples held out"
    enlarge: ClassVar[Kind] = "linear"

    def __init__(self, given: Resources):
        """Raises: ValueError for what cannot be trained or scored."""
        assert given.loaded is not None
        setup: DenseSetup = given.setup
        data: DenseData = given.dataset
        self.setup, self.given, self.data, self.config = setup, given, data, setup.train
        self.loaded, self.backbone = given.loaded, given.loaded.backbone
        last = self.backbone.schedule.timesteps - 1
        if not 0 <= setup.read.timestep <= last:
            raise ValueError(
                f"read.timestep is {setup.read.timestep}; give 0 to {last}"
            )
        devices = given.mesh.shape["data"]
        if (setup.rows_at_once or setup.train.batch_size) % devices:
            raise ValueError(
                f"train.batch_size and rows_at_once must be multiples of {devices}, "
                "since so many devices share them"
            )
        self.train, self.held = data.train.held_out(setup.val_examples)
        self.validates = len(self.held) > 0
        self.head = make_head(setup.task, setup.head_width, data.known, data.most)
        self.metric = self.metrics()[self.primary]
        # On this process's devices once, for training and tests alike.
        self.shapes = self._level_shapes()
        unet = setup.train.unet_rate > 0
        fields = {"adapter": setup.adapts, "head": True, "unet": unet}
        self.parts = tuple(name for name, there in fields.items() if there)

    primary: ClassVar[str]

    @classmethod
    def load_data(cls, setup: DenseSetup) -> DenseData:
        return dense_data.load(setup.task, **setup.data)

    @classmethod
    def load_backbone(
        cls,
        setup: Any,
        mesh: Mesh,
        dtype: str,
        taps: tuple[str, ...] = ("out",),
    ) -> LoadedBackbone | None:
        """All of the denoiser: its last activation is among what is read."""
        if not setup.train.unet_rate:
            return super().load_backbone(setup, mesh, dtype, taps)
        # What is trained keeps the form that it is saved in.
        return load_backbone(
            setup.backbone,
            taps=taps,
            parts=PARTS,
            dtype=np.dtype(hardware.dtype_name(dtype, mesh.local_devices[0])),
            sharding=sharding.frozen_rule(mesh),
            encoder=setup.encoder,
        )

    def identity(self) -> dict[str, Any]:
        """Also what `dense.learned` needs to know of a run without its data."""
        data = self.data
        return {
            "data": data.fingerprint,
            "classes": list(data.classes[: data.known]),
            "places": list(data.places),
            "most": data.most,
            "unit": data.unit,
        }

    @abc.abstractmethod
    def metrics(self) -> dict[str, Metric]:
        """Every figure by name; those of further tests have the test's name behind."""

    # -- texts ------------------------------------------------------------------------

    @abc.abstractmethod
    def text_of(self, example: Example) -> np.ndarray:
        """What a batch holds of an example's text."""

    @abc.abstractmethod
    def states(self, frozen: Any, text: Array) -> Float[Array, "s n d"]:
        """Text states of a batch's texts."""

    def contexts(self) -> Any:
        """Arrays that `states` reads beside the weights."""
        return {}

    # -- inputs -----------------------------------------------------------------------

    def frozen(self, mesh: Mesh) -> dict[str, Any]:
        if self.setup.keeps_levels:
            return {}
        place = sharding.place_whole
        return {
            "weights": sharding.place_frozen(self.loaded.frozen, mesh),
            "contexts": place(self.contexts(), mesh),
        }

    @functools.cached_property
    def here(self) -> dict[str, Any]:
        """As `frozen`, whole, on the devices of this process."""
        mesh = self.given.local
        return {
            "weights": sharding.place_frozen(self.loaded.frozen, mesh),
            "contexts": sharding.place_whole(self.contexts(), mesh),
        }

    def _level_shapes(self) -> tuple[tuple[int, ...], ...]:
        text = self.text_of(Example(np.zeros((1, 1, 3), np.uint8), None))
        size = self.given.size
        shaped = jax.eval_shape(
            self.levels,
            DenseModel(),
            {"weights": self.loaded.frozen, "contexts": self.contexts()},
            jax.ShapeDtypeStruct((1, size, size, 3), np.float32),
            jax.ShapeDtypeStruct((1, *text.shape), text.dtype),
        )
        return tuple(level.shape[1:] for level in shaped)

    def levels(
        self, model: DenseModel, frozen: Any, images: Array, text: Array
    ) -> Levels:
        """What the head takes, of images in [-1, 1], by what is trained before it."""
        if self.setup.features == "colour":
            shapes = level_shapes(self.loaded, self.given.size, self.setup.read)
            return colour.colour_levels(images, shapes)
        latents = self.backbone.encode_image(frozen["weights"], images)
        return self.from_latents(model, frozen, latents, text)

    def from_latents(
        self, model: DenseModel, frozen: Any, latents: Array, text: Array
    ) -> Levels:
        states, how = self.states(frozen, text), self.setup.read
        weights = frozen["weights"]
        return levels_of(self.backbone, weights, model, latents, states, how)

    # -- training ---------------------------------------------------------------------

    def init(self, key: Array) -> DenseModel:
        width = self.backbone.context_dim if self.setup.adapts else None
        shapes = [jax.ShapeDtypeStruct((1, *s), np.float32) for s in self.shapes]
        unet = None
        if self.setup.train.unet_rate:
            unet = jax.tree.map(
                lambda x: jnp.asarray(x, jnp.float32), self.loaded.frozen["unet"]
            )
        return init_model(key, self.head, tuple(shapes), width, unet)  # pyright: ignore

    def batches(self, step: int) -> Iterable[dict[str, Any]]:
        """ "inputs", "target" and "text"; see `inputs.Drawing`."""
        drawing = Drawing(
            self.setup, self.data, self.train, self.given.size, self.text_of
        )
        if self.setup.augment == "published":
            return drawing.batches(step, None)
        assert self.given.folder is not None
        how, latent = self.setup, self.backbone.latent_shape(self.given.size)
        whose = {
            "backbone": self.backbone.fingerprint,
            "computed": self.backbone.dtype.name,
            "read": vars(how.read),
            "features": how.features,
            "levels": how.keeps_levels,
            "length": how.text_length,
        }
        shapes = self.shapes if how.keeps_levels else (latent,)
        folder = self.given.folder / "inputs"
        kept = drawing.keep(self._encode(), shapes, folder, whose)
        return drawing.batches(step, kept)

    def _encode(self) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, ...]]:
        levels = self.setup.keeps_levels

        @functools.partial(hardware.jit, on=self.given.local)
        def run(frozen: Any, images: Array, text: Array) -> tuple[Array, ...]:
            if levels:
                return self.levels(DenseModel(), frozen, images, text)
            return (self.backbone.encode_image(frozen["weights"], images),)

        def encode(images: np.ndarray, text: np.ndarray) -> tuple[np.ndarray, ...]:
            parts = []
            for start in range(0, len(images), TOGETHER):
                some = [x[start : start + TOGETHER] for x in (images, text)]
                count = len(some[0])
                full = [sharding.pad_batch(x, TOGETHER) for x in some]
                found = run(self.here, *self._place(full))
                parts.append([np.asarray(x)[:count] for x in found])
            return tuple(np.concatenate(rows) for rows in zip(*parts, strict=True))

        return encode

    def _place(self, arrays: Sequence[np.ndarray]) -> list[Array]:
        split = sharding.batch_sharding(self.given.local)
        if TOGETHER % self.given.local.shape["data"]:
            split = sharding.replicated(self.given.local)
        return [jax.device_put(x, split) for x in arrays]

    def rows_at_once(self, batch: Any, mesh: Mesh, program: Callable) -> int:
        return self.setup.rows_at_once or self.config.batch_size

    def loss(
        self, trained: DenseModel, frozen: Any, batch: Any, key: Array
    ) -> tuple[Array, dict[str, Array]]:
        levels = batch["inputs"]
        if self.setup.augment == "published":
            levels = self.levels(trained, frozen, levels[0], batch["text"])
        elif not self.setup.keeps_levels:
            levels = self.from_latents(trained, frozen, levels[0], batch["text"])
        found = apply_head(self.head, trained.head, levels, key)
        return self.objective(found, batch["target"]), {}

    @abc.abstractmethod
    def objective(self, found: Array, target: Array) -> Array:
        """The loss of what the head gives."""

    def finish(self) -> None:
        """The kept inputs are of no more use."""
        if multiprocess.is_first() and self.given.folder is not None:
            shutil.rmtree(self.given.folder / "inputs", ignore_errors=True)

    # -- tests ------------------------------------------------------------------------

    def views_of(self, example: Example) -> list[views.View]:
        """The squares of a test picture that the networks see."""
        text = self.text_of(example)
        if not self.setup.slide:
            return views.stretched(example.image, self.given.size, text)
        scales = self.setup.scales
        flip = len(scales) > 1
        return views.windows(example.image, self.given.size, scales, flip, text)

    @functools.cached_property
    def _predict(self) -> Any:
        @functools.partial(hardware.jit, on=self.given.local)
        def run(model: DenseModel, frozen: Any, images: Array, text: Array) -> Array:
            levels = self.levels(model, frozen, images, text)
            return self.shown(apply_head(self.head, model.head, levels))

        return run

    def shown(self, found: Array) -> Float[Array, "b y x n"]:
        """What the head gives, as views are merged."""
        return found

    def final(self, found: Array) -> Array:
        """Of a whole picture at one size, before the mean over sizes."""
        return found

    def predictor(self, model: DenseModel) -> Predict:
        """From a split to its examples, each with what the model finds in it."""
        placed = sharding.place_whole(model, self.given.local)

        def run(squares: np.ndarray, texts: list) -> np.ndarray:
            arrays = images_lib.to_float(squares), np.stack(texts)
            return np.asarray(self._predict(placed, self.here, *self._place(arrays)))

        def predict(split: Split) -> Iterator[tuple[Example, np.ndarray]]:
            items = ((example, self.views_of(example)) for example in split)
            for example, seen, found in views.run_views(items, run, TOGETHER):
                size = self.result_size(example)
                yield example, views.merge(seen, found, size, self.enlarge, self.final)

        return predict

    def result_size(self, example: Example) -> tuple[int, int]:
        return example.target.shape

    @abc.abstractmethod
    def score(self, predict: Predict, split: Split, test: str) -> dict[str, float]:
        """Figures of a split; `test` is its name, "" for the held-out examples."""

    def validate(self, trained: DenseModel) -> dict[str, float]:
        found = self.score(self.predictor(trained), self.held, "")
        return {self.primary: found[self.primary]}

    @abc.abstractmethod
    def rivals(self) -> dict[str, Predict]:
        """What needs no training beside the learned heads, by name."""

    def evaluate(self, trained: DenseModel) -> Evaluation:
        """The learned heads, what needs no training, and what looks at no picture."""
        models = {"learned": self.predictor(trained), **self.rivals()}
        tests = thinned(self.data.tests, self.setup.test_examples)
        results = scores(models, tests, self.score)
        known = self.metrics()
        names = dict.fromkeys(name for result in results for name in result.metrics)
        return Evaluation(
            results=results,
            metrics=[
                dataclasses.replace(known[name.split(",")[0]], name=name)
                for name in names
            ],
            primary=self.primary,
            facts={
                "benchmark": self.data.name,
                "split": ", ".join(f"{len(s)} {n}" for n, s in tests.items()),
                "protocol": {"task": self.setup.task},
                "fingerprint": self.backbone.fingerprint,
            },
            kept={"models": models, "tests": tests},
        )
