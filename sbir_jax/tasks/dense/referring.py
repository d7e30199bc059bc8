"""`task=referring`: the mask of what an expression means."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from sbir_jax.data.dense import Example, Split
from sbir_jax.dense.painting import enlarged, paint_labels
from sbir_jax.dense.training_free import TrainingFree
from sbir_jax.metrics import segmentation as metrics
from sbir_jax.models.heads.resizing import Kind, resize
from sbir_jax.report.sections import Grid, Section, Words
from sbir_jax.tasks.base import Evaluation
from sbir_jax.tasks.dense import training_free
from sbir_jax.tasks.dense.augment import resized_target
from sbir_jax.tasks.dense.base import DenseTask
from sbir_jax.tasks.dense.evaluating import Predict
from sbir_jax.types import Metric

WEIGHTS = (0.9, 1.1)  # of background and of what is meant, as published
SHOWN = 12  # expressions of each test in the report
CUTS = 20  # of mean masks that are tried on the training expressions
NAMES = {
    "learned": "Learned decoder",
    "ovam": "OVAM",
    "per place": "Mean mask",
    "chance": "Everything",
}


class Referring(DenseTask):
    """LAVT's decoder, by an expression's states and their maps."""

    primary: ClassVar[str] = "oIoU"
    enlarge: ClassVar[Kind] = "corners"
    words = Words(NAMES, "find what is meant")

    def metrics(self) -> dict[str, Metric]:
        return metrics.METRICS

    def text_of(self, example: Example) -> np.ndarray:
        return self.backbone.tokenize([example.text])[0]

    def states(self, frozen: Any, text: Array) -> Float[Array, "s n d"]:
        found = self.backbone.encode_text(frozen["weights"], text)
        return found.states[:, : self.setup.text_length]

    def objective(self, found: Array, target: Array) -> Array:
        """Weighted cross-entropy, divided by the sum of weights."""
        logits = resize(found, target.shape[1:], "corners")  # pyright: ignore
        labels = target.astype(jnp.int32)
        each = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        weights = jnp.asarray(WEIGHTS)[labels]
        return (weights * each).sum() / weights.sum()

    def result_size(self, example: Example) -> tuple[int, int]:
        """As published masks are compared at the networks' size."""
        return self.given.size, self.given.size

    def score(self, predict: Predict, split: Split, test: str) -> dict[str, float]:
        pairs = []
        for example, found in predict(split):
            truth = resized_target(example.target, found.shape[:2])
            pairs.append(metrics.overlaps(truth, found[..., 1] > found[..., 0]))
        return metrics.referring_figures(pairs)

    def rivals(self) -> dict[str, Predict]:
        found = blind(self.train, self.given.size)
        if self.setup.training_free and self.setup.features == "backbone":
            free = TrainingFree(self.loaded, self.here["weights"])
            found |= training_free.expression_rivals(free, self.given.size)
        return found

    def sections(self, found: Evaluation) -> Sequence[Section]:
        """What is found for some expressions."""
        grids = []
        models = found.kept["models"]
        shown = [name for name in ("learned", "ovam") if name in models]
        for test, split in found.kept["tests"].items():
            rows = np.linspace(0, len(split) - 1, min(SHOWN, len(split))).astype(int)
            some = split.part(np.unique(rows))
            columns = [list(models[name](some)) for name in shown]
            pictures, captions = [], []
            side = self.given.size
            for row in zip(*columns, strict=True):
                example = row[0][0]
                large = enlarged(example.image)
                truth = resized_target(example.target, (side, side))
                pictures.append(paint_labels(large, truth.astype(int), bare=(0,)))
                captions.append(f"“{example.text}”")
                for name, (_, logits) in zip(shown, row, strict=True):
                    mask = logits[..., 1] > logits[..., 0]
                    both, either = metrics.overlaps(truth, mask)
                    pictures.append(paint_labels(large, mask.astype(int), bare=(0,)))
                    captions.append(f"{NAMES[name]}, IoU {both / max(either, 1):.2f}")
            lead = "The truth, then what was found for the words."
            title = f"Expressions of {test}"
            grids.append(Grid(title, pictures, captions, 2 * (1 + len(shown)), lead))
        return grids


def blind(train: Split, size: int) -> dict[str, Predict]:
    """What looks at no picture: everything, and the mean mask, cut where it is best on
    the training expressions."""
    rows = np.linspace(0, len(train) - 1, min(len(train), 2000)).astype(int)
    masks = np.stack(
        [resized_target(e.target, (size, size)) for e in train.part(np.unique(rows))]
    )
    mean = masks.mean(0)

    def found_at(cut: float) -> float:
        mask = mean >= cut
        pairs = [metrics.overlaps(truth, mask) for truth in masks]
        return metrics.referring_figures(pairs)["oIoU"]

    best = max(np.linspace(0, mean.max(), CUTS), key=found_at)

    def always(mask: np.ndarray) -> Predict:
        logits = np.stack([~mask, mask], -1).astype(np.float32)

        def predict(split: Split) -> Iterator[tuple[Example, np.ndarray]]:
            for example in split:
                yield example, logits

        return predict

    everything = np.ones((size, size), bool)
    return {"per place": always(mean >= best), "chance": always(everything)}
