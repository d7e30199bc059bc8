"""What a dense run's networks are given, batch by batch.

Which example comes at which step, and whether mirrored, is drawn before the first step.
So where nothing before the head is trained its inputs are computed once, else latents;
pictures alone are read where each is changed anew.
"""

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from sbir_jax.data import images
from sbir_jax.data.dense import DenseData, Split
from sbir_jax.runtime import row_cache
from sbir_jax.runtime.prefetch import read_ahead
from sbir_jax.tasks.dense import augment
from sbir_jax.tasks.dense.setup import DenseSetup

# From pictures in [-1, 1] and their texts to what is kept of them.
Encode = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, ...]]


@dataclasses.dataclass(frozen=True, eq=False)
class Drawing:
    """Which examples a process trains on, and how they come to it.

    Attributes:
      split: the training examples.
      text: from an example to what stands for its text, an array.
    """

    setup: DenseSetup
    data: DenseData
    split: Split
    size: int
    text: Callable[[Any], np.ndarray]

    def rows(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Of a step, the examples of this process and whether each is mirrored."""
        train, hosts = self.setup.train, jax.process_count()
        rng = np.random.default_rng((train.seed, step, jax.process_index()))
        count = train.batch_size // hosts
        flips = rng.random(count) < (0.5 if self.setup.augment == "flip" else 0)
        return rng.integers(len(self.split), size=count), flips

    def codes(self) -> np.ndarray:
        """Of all steps, each once: twice the example, and 1 more where mirrored."""
        drawn = [self.rows(step) for step in range(self.setup.train.steps)]
        return np.unique(np.concatenate([2 * rows + flips for rows, flips in drawn]))

    def example(self, i: int, mirrored: bool, rng: np.random.Generator | None) -> dict:
        """ "image", uint8, "target" and "text"; with `rng` changed as published."""
        example = self.split[i]
        if rng is None:
            image, target = augment.square(example, self.size, mirrored)
        else:
            image, target = augment.published(example, self.setup.task, self.size, rng)
        return {"image": image, "target": target, "text": self.text(example)}

    def batches(self, step: int, kept: Callable | None) -> Iterable[dict[str, Any]]:
        """ "inputs" (a tuple of arrays), "target" and "text" from this step on.

        Args:
          kept: from codes to the kept inputs; without it they are the pictures.
        """

        def batch(now: int) -> dict[str, Any]:
            rows, flips = self.rows(now)
            rng = None
            if self.setup.augment == "published":
                rng = np.random.default_rng((self.setup.train.seed, now, 1))
            found = [
                self.example(i, flip, rng)
                for i, flip in zip(rows.tolist(), flips.tolist(), strict=True)
            ]
            if kept is None:
                pictures = np.stack([one["image"] for one in found])
                inputs: Any = (images.to_float(pictures),)
            else:
                inputs = kept(2 * rows + flips)
            return {
                "inputs": inputs,
                "target": np.stack([one["target"] for one in found]),
                "text": np.stack([one["text"] for one in found]),
            }

        return read_ahead(batch, range(step, self.setup.train.steps))

    def keep(
        self,
        encode: Encode,
        shapes: tuple[tuple[int, ...], ...],
        folder: pathlib.Path,
        whose: dict[str, Any],
    ) -> Callable[[np.ndarray], tuple[Float[np.ndarray, "b _ _ _"], ...]]:
        """Computes the inputs of all that is drawn, or what is missing of them.

        Args:
          shapes: of one example's inputs.
          whose: all that they depend on beside the data and what is drawn of it.
        Returns: from codes to arrays, float32.
        """
        codes = self.codes()
        sizes = [int(np.prod(shape)) for shape in shapes]
        whose = {
            **whose,
            "data": self.data.fingerprint,
            "drawn": hashlib.sha256(codes.tobytes()).hexdigest(),
            "size": self.size,
        }

        def make(rows: slice) -> np.ndarray:
            some = [
                self.example(code // 2, code % 2 == 1, None)
                for code in codes[rows].tolist()
            ]
            pictures = images.to_float(np.stack([one["image"] for one in some]))
            found = encode(pictures, np.stack([one["text"] for one in some]))
            return np.concatenate([x.reshape(len(some), -1) for x in found], axis=1)

        path = folder / f"inputs-{jax.process_index()}.bin"
        shape = (len(codes), sum(sizes))
        stored = row_cache.keep(path, whose, shape, make, "read pictures")

        def read(wanted: np.ndarray) -> tuple[np.ndarray, ...]:
            rows = stored[np.searchsorted(codes, wanted)].astype(np.float32)
            parts = np.split(rows, np.cumsum(sizes)[:-1], axis=1)
            return tuple(
                part.reshape(len(rows), *shape)
                for part, shape in zip(parts, shapes, strict=True)
            )

        return read
