"""`task=depth`: how far each pixel is."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sbir_jax.data.dense import Example, Split
from sbir_jax.dense import views
from sbir_jax.dense.class_texts import class_states
from sbir_jax.dense.painting import enlarged, paint_depth
from sbir_jax.metrics import depth as metrics
from sbir_jax.models.heads.resizing import resize
from sbir_jax.report.sections import Grid, Section, Words
from sbir_jax.tasks.base import Evaluation, Resources
from sbir_jax.tasks.dense.augment import resized_target
from sbir_jax.tasks.dense.base import DenseTask
from sbir_jax.tasks.dense.evaluating import Predict
from sbir_jax.types import Metric

VARIANCE_SHARE = 0.5  # of the squared mean that the loss forgives, as published
SHOWN = 6  # pictures of each test in the report
NAMES = {
    "learned": "Learned head",
    "per place": "Mean of each place",
    "chance": "Constant",
}


class Depth(DenseTask):
    """VPD's depth head, by the kind of scene."""

    primary: ClassVar[str] = "RMSE"
    words = Words(NAMES, "reach")

    def __init__(self, given: Resources):
        assert given.loaded is not None
        self.table = class_states(given.loaded, given.dataset.places)
        super().__init__(given)

    def metrics(self) -> dict[str, Metric]:
        return metrics.metrics(self.data.unit)

    def text_of(self, example: Example) -> np.ndarray:
        return np.asarray(example.place, np.int32)

    def contexts(self) -> Any:
        return self.table[:, None]

    def states(self, frozen: Any, text: Array) -> Float[Array, "s n d"]:
        return jnp.asarray(frozen["contexts"])[text]

    def shown(self, found: Array) -> Float[Array, "b y x n"]:
        return found[..., None]

    def objective(self, found: Array, target: Array) -> Array:
        return silog(resize(found[..., None], target.shape[1:])[..., 0], target)  # pyright: ignore

    def views_of(self, example: Example) -> list[views.View]:
        """As published: two windows that reach the sides, each mirrored as well."""
        if self.setup.slide:
            text = self.text_of(example)
            return views.windows(example.image, self.given.size, flip=True, text=text)
        return super().views_of(example)

    def score(self, predict: Predict, split: Split, test: str) -> dict[str, float]:
        rows = []
        for example, found in predict(split):
            truth, counted = example.target, None
            if self.data.crop:
                counted = metrics.eigen_crop(*truth.shape)
            rows.append(metrics.figures(truth, found[..., 0], self.data.most, counted))
        return metrics.mean(rows)

    def rivals(self) -> dict[str, Predict]:
        return blind(self.train, self.given.size)

    def sections(self, found: Evaluation) -> Sequence[Section]:
        """Photo, truth, and what was found, on one scale."""
        grids, learned = [], found.kept["models"]["learned"]
        for test, split in found.kept["tests"].items():
            rows = np.linspace(0, len(split) - 1, min(SHOWN, len(split))).astype(int)
            pictures, captions = [], []
            for example, depth in learned(split.part(np.unique(rows))):
                truth, ours = example.target, depth[..., 0]
                there = truth[truth > metrics.LEAST]
                low, high = float(there.min()), float(there.max())
                figures = metrics.figures(truth, ours, self.data.most)
                error = figures["RMSE"] if figures else 0.0
                for picture in (
                    example.image,
                    paint_depth(truth, low, high),
                    paint_depth(ours, low, high),
                ):
                    pictures.append(enlarged(picture))
                captions += ["photo", f"truth, {low:.1f} to {high:.1f}"]
                captions.append(f"found, RMSE {error:.2f} {self.data.unit}")
            lead = "Near is bright, far is dark; truth and result have one scale."
            grids.append(Grid(f"Pictures of {test}", pictures, captions, 6, lead))
        return grids


def silog(found: Float[Array, "b h w"], truth: Float[Array, "b h w"]) -> Array:
    """Root of the mean of d^2 less half of the squared mean of d, where d is the error
    of the logarithm at pixels of known depth (Eigen et al., 2014, as in VPD)."""
    known = truth > metrics.LEAST
    count = jnp.maximum(known.sum(), 1)
    safe = jnp.where(known, truth, 1.0)
    error = jnp.log(safe) - jnp.log(jnp.maximum(found, metrics.LEAST))
    error = jnp.where(known, error, 0.0)
    square, mean = (error**2).sum() / count, error.sum() / count
    # The floor keeps the gradient of the root finite.
    return jnp.sqrt(jnp.maximum(square - VARIANCE_SHARE * mean**2, 1e-12))


def blind(train: Split, size: int) -> dict[str, Predict]:
    """What looks at no picture: the mean depth of all pixels, and of each place."""
    total, count = np.zeros((size, size)), np.zeros((size, size))
    for example in train:
        depth = resized_target(example.target, (size, size))
        total += depth
        count += depth > metrics.LEAST
    place = (total / np.maximum(count, 1)).astype(np.float32)
    whole = float(total.sum() / max(count.sum(), 1))

    def always(values: np.ndarray) -> Predict:
        def predict(split: Split) -> Iterator[tuple[Example, np.ndarray]]:
            for example in split:
                size: tuple[int, int] = example.target.shape
                found = resize(jnp.asarray(values)[None, ..., None], size)
                yield example, np.asarray(found[0])

        return predict

    return {"per place": always(place), "chance": always(np.full_like(place, whole))}
