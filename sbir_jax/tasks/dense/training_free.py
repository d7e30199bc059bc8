"""What segments without any training, as rivals of the learned heads."""

import functools
from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np

from sbir_jax.backbones.frozen import encode_texts
from sbir_jax.data.dense import Example, Split
from sbir_jax.dense.naming import name_segments
from sbir_jax.dense.training_free import MASK, TrainingFree
from sbir_jax.dense.views import resized
from sbir_jax.models.heads.resizing import resize
from sbir_jax.tasks.dense.augment import resized_target
from sbir_jax.tasks.dense.evaluating import Predict

METHODS = ("ovam", "daam", "diffseg", "diffcut")


def named_rivals(
    free: TrainingFree, classes: Sequence[str], side: int
) -> dict[str, Predict]:
    """For segmentation: each is told which classes are in the picture, as in their own
    papers' tests, and says where.

    Args:
      side: of the square that pictures are brought to.
    """
    texts = encode_texts(free.loaded, classes)

    @functools.lru_cache(maxsize=1)  # both take the same pass
    def cut(key: bytes) -> dict[str, np.ndarray]:
        return free.segments(np.frombuffer(key, np.uint8).reshape(side, side, 3))

    def labels(name: str, example: Example, there: np.ndarray) -> np.ndarray:
        picture, size = resized(example.image, (side, side)), example.target.shape
        if name == "ovam":
            heat = free.ovam(picture, texts)[..., there]
            return _enlarged(heat, size).argmax(-1)
        heat = free.daam(picture, [str(classes[i]) for i in there])
        if name == "daam":
            return _enlarged(heat, size).argmax(-1)
        found = resized_target(cut(picture.tobytes())[name], size)
        return name_segments(found, _enlarged(heat, size))

    def predict(name: str, split: Split) -> Iterator[tuple[Example, np.ndarray]]:
        for example in split:
            there = np.unique(example.target)
            there = there[there < len(classes)]
            found = there[labels(name, example, there)]
            yield example, np.eye(len(classes), dtype=np.float32)[found]

    return {name: functools.partial(predict, name) for name in METHODS}


def expression_rivals(free: TrainingFree, side: int) -> dict[str, Predict]:
    """For referring: the whole expression's map, cut in the middle of its range."""

    def predict(split: Split) -> Iterator[tuple[Example, np.ndarray]]:
        for example in split:
            picture = resized(example.image, (side, side))
            heat = free.ovam(picture, encode_texts(free.loaded, [example.text]))
            mask = _enlarged(heat, (side, side))[..., 0] > MASK
            yield example, np.stack([~mask, mask], -1).astype(np.float32)

    return {"ovam": predict}


def _enlarged(heat: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    return np.asarray(resize(jnp.asarray(heat)[None], size)[0])  # pyright: ignore
