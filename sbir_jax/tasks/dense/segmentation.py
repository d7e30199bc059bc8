"""`task=segmentation`: a class for each pixel."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from sbir_jax.data.dense import Example, Split
from sbir_jax.dense.class_texts import class_states
from sbir_jax.dense.painting import enlarged, legend, paint_labels
from sbir_jax.dense.training_free import TrainingFree
from sbir_jax.metrics import segmentation as metrics
from sbir_jax.metrics.segmentation import IGNORED
from sbir_jax.models.heads.resizing import resize
from sbir_jax.report.sections import ClassBars, Grid, Section, Words
from sbir_jax.tasks.base import Evaluation, Resources
from sbir_jax.tasks.dense import training_free
from sbir_jax.tasks.dense.augment import resized_target
from sbir_jax.tasks.dense.base import DenseTask
from sbir_jax.tasks.dense.evaluating import Predict
from sbir_jax.types import Metric

SHOWN = 6  # pictures of each test in the report
NAMES = {
    "learned": "Learned heads",
    "ovam": "OVAM",
    "daam": "DAAM",
    "diffseg": "DiffSeg",
    "diffcut": "DiffCut",
    "per place": "Commonest class of each place",
    "chance": "Commonest class",
}
GROUPED = "mIoU of groups"


class Segmentation(DenseTask):
    """Semantic FPN on a pyramid neck, by class names and their maps."""

    primary: ClassVar[str] = "mIoU"
    words = Words(NAMES, "segment")

    def __init__(self, given: Resources):
        data = given.dataset
        assert given.loaded is not None
        names = data.classes[: data.known]
        self.table = class_states(given.loaded, names)
        super().__init__(given)

    def metrics(self) -> dict[str, Metric]:
        groups = " and ".join(self.data.group_names)
        grouped = Metric(GROUPED, f"mIoU of {groups}, whichever class was named")
        return metrics.METRICS | {GROUPED: grouped}

    def text_of(self, example: Example) -> np.ndarray:
        """All pictures have the same text: the names of all classes."""
        return np.zeros((), np.int32)

    def contexts(self) -> Any:
        return self.table[None]

    def states(self, frozen: Any, text: Array) -> Float[Array, "s n d"]:
        return frozen["contexts"]

    def objective(self, found: Array, target: Array) -> Array:
        """Cross-entropy of the pixels that count."""
        logits = resize(found, target.shape[1:])  # pyright: ignore
        counted = target != IGNORED
        labels = jnp.where(counted, target, 0).astype(jnp.int32)
        each = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return (each * counted).sum() / jnp.maximum(counted.sum(), 1)

    def final(self, found: Array) -> Array:
        """Sizes and mirrors are averaged as probabilities, windows as logits."""
        return jax.nn.softmax(found, axis=-1)

    def score(self, predict: Predict, split: Split, test: str) -> dict[str, float]:
        count = len(self.data.classes)
        table = np.zeros((count, count), np.int64)
        for example, found in predict(split):
            table += metrics.confusion(example.target, found.argmax(-1), count)
        figures = metrics.class_figures(table)
        if self.data.groups:
            sums = np.eye(len(self.data.group_names), dtype=np.int64)
            sums = sums[list(self.data.groups)]
            figures[GROUPED] = metrics.class_figures(sums.T @ table @ sums)["mIoU"]
        return figures

    def rivals(self) -> dict[str, Predict]:
        found = blind(self.train, self.given.size, self.data.known)
        if self.setup.training_free and self.setup.features == "backbone":
            free = TrainingFree(self.loaded, self.here["weights"])
            found |= training_free.named_rivals(
                free, self.data.classes, self.given.size
            )
        return found

    def sections(self, found: Evaluation) -> Sequence[Section]:
        """What each finds in some pictures, and the learned heads' classes."""
        grids = []
        models = found.kept["models"]
        shown = [n for n in ("learned", "ovam", "diffseg", "diffcut") if n in models]
        for test, split in found.kept["tests"].items():
            rows = np.linspace(0, len(split) - 1, min(SHOWN, len(split))).astype(int)
            grids.append(self._grid(models, shown, split.part(np.unique(rows)), test))
        per_class = {"learned": self._per_class(models["learned"], found)}
        return (*grids, ClassBars(per_class, self.metric, lead="IoU of each class."))

    def _grid(
        self, models: dict[str, Predict], shown: Sequence[str], split: Split, test: str
    ) -> Grid:
        columns = [[(example, None) for example in split]]
        columns += [list(models[name](split)) for name in shown]
        pictures, captions = [], []
        for row in zip(*columns, strict=True):
            example = row[0][0]
            large = enlarged(example.image)
            pictures += [large, self._painted(large, example.target)]
            captions += ["photo", "truth"]
            for name, (_, found) in zip(shown, row[1:], strict=True):
                pictures.append(self._painted(large, found.argmax(-1)))
                captions.append(NAMES[name])
        lead = "Colours are classes. " + (
            "The training-free methods were told which classes are there."
            if len(shown) > 1
            else ""
        )
        title = f"Pictures of {test}"
        return Grid(title, pictures, captions, 2 + len(shown), lead.strip())

    def _painted(self, large: np.ndarray, labels: np.ndarray) -> np.ndarray:
        there = [int(n) for n in np.unique(labels) if n != IGNORED]
        names = [(n, self.data.classes[n]) for n in there]
        return legend(paint_labels(large, labels, bare=(IGNORED,)), names)

    def _per_class(
        self, predict: Predict, found: Evaluation
    ) -> dict[str, float | None]:
        count, split = len(self.data.classes), next(iter(found.kept["tests"].values()))
        table = np.zeros((count, count), np.int64)
        for example, logits in predict(split):
            table += metrics.confusion(example.target, logits.argmax(-1), count)
        ious = metrics.class_ious(table)
        names = self.data.classes
        return {n: float(v) for n, v in zip(names, ious, strict=True) if np.isfinite(v)}


def blind(train: Split, size: int, classes: int) -> dict[str, Predict]:
    """What looks at no picture: the commonest class of all, and of each place."""
    counts = np.zeros((size, size, classes), np.int64)
    places = np.arange(size)
    for example in train:
        target = resized_target(example.target, (size, size))
        rows, columns = np.nonzero(target != IGNORED)
        counts[places[rows], places[columns], target[rows, columns]] += 1
    common = np.eye(classes, dtype=np.float32)[counts.sum((0, 1)).argmax()]
    each = counts.argmax(-1)

    def constant(split: Split) -> Iterator[tuple[Example, np.ndarray]]:
        for example in split:
            yield example, np.broadcast_to(common, (*example.target.shape, classes))

    def per_place(split: Split) -> Iterator[tuple[Example, np.ndarray]]:
        for example in split:
            labels = resized_target(each, example.target.shape)
            yield example, np.eye(classes, dtype=np.float32)[labels]

    return {"per place": per_place, "chance": constant}
