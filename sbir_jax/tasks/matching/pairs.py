"""Scores of many pairs of images and texts, a few at a time, on any device."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int
from tqdm.auto import tqdm

from sbir_jax.backbones.base import LoadedBackbone
from sbir_jax.models.kernels.blocking import largest_divisor
from sbir_jax.runtime import hardware, multiprocess, sharding
from sbir_jax.runtime.prefetch import one_in_flight

# (frozen, trained, latents [p y x c], tokens of p texts, noise [1 k y x c], t [1 k],
# without [p k] or None) -> [p k], or more numbers for each
Program = Callable[..., Any]


def every(
    pair_scores: Callable[..., np.ndarray],
    latents: Float[np.ndarray, "i y x c"],
    texts: Sequence[str],
) -> Float[np.ndarray, "i t"]:
    """Each image with each text: the mean of a pair's scores over timesteps."""
    rows, columns = np.indices((len(latents), len(texts))).reshape(2, -1)
    found = pair_scores(latents, rows, texts, columns)
    return found.mean(1).reshape(len(latents), len(texts))


class PairScorer:
    """One program over all pairs and timesteps, in batches of one shape.

    A pair is computed by itself: batch size, position and padding change nothing.

    Attributes:
      rows_at_once: passes of the network that run together: pairs times timesteps.
    """

    def __init__(
        self,
        loaded: LoadedBackbone,
        program: Program,
        noise: Float[np.ndarray, "k y x c"],
        t: Int[np.ndarray, " k"],
        mesh: Mesh,
        rows_at_once: int = 0,
    ):
        """Compiles nothing yet.

        Args:
          loaded: its weights are on the mesh.
          program: of the scores; see `Program`.
          noise, t: of each timestep.
          rows_at_once: 0 for what suits the devices.
        Raises: ValueError for a number of rows below 0.
        """
        if rows_at_once < 0:
            raise ValueError(
                f"batch_size is {rows_at_once}; give 1 or more, 0 to find it"
            )
        self.loaded, self._mesh = loaded, mesh
        self.noise, self.t = np.asarray(noise), np.asarray(t)
        self._groups = mesh.shape["data"]
        self._asked = rows_at_once
        self._split = sharding.batch_sharding(mesh)
        self._run = hardware.jit(program, on=mesh)

    @functools.cached_property
    def rows_at_once(self) -> int:
        if self._asked:
            return self._asked
        side = self.noise.shape[1] * 8  # of an image, about
        platform = self._mesh.local_devices[0].platform
        return self._groups * hardware.image_counts(side, platform)[0]

    @property
    def steps_at_once(self) -> int:
        """Timesteps of a pair that run together."""
        each = max(1, self.rows_at_once // self._groups)
        return largest_divisor(len(self.t), each)

    @property
    def pairs_at_once(self) -> int:
        """A multiple of the groups of devices."""
        each = self.rows_at_once // (self._groups * self.steps_at_once)
        return self._groups * max(1, each)

    def __call__(
        self,
        trained: Any,
        latents: Float[np.ndarray, "n y x c"],
        images: Int[np.ndarray, " p"],
        texts: Sequence[str],
        rows: Int[np.ndarray, " p"],
        without: Float[np.ndarray, "p k"] | None = None,
        quiet: bool = True,
    ) -> Float[np.ndarray, "p k *more"]:
        """The score of image `images[i]` with text `rows[i]` at every timestep.

        Of several processes each scores its share, and all get the whole.

        Args:
          trained: handed to the program, on the devices of the mesh.
          without: handed to the program.
          quiet: shows no bar.
        """
        tokens = self.loaded.backbone.tokenize(texts)
        mine, k = multiprocess.part(len(images)), self.steps_at_once
        parts = [
            (
                slice(first, min(first + self.pairs_at_once, mine.stop)),
                slice(at, at + k),
            )
            for first in range(mine.start, mine.stop, self.pairs_at_once)
            for at in range(0, len(self.t), k)
        ]

        def start(part: tuple[slice, slice]) -> Callable[[], np.ndarray]:
            pairs, steps = part
            found = self._run(
                self.loaded.frozen,
                trained,
                self._place(latents[images[pairs]]),
                jax.tree.map(lambda x: self._place(np.asarray(x)[rows[pairs]]), tokens),
                self.noise[None, steps],
                self.t[None, steps],
                None if without is None else self._place(without[pairs, steps]),
            )
            count = pairs.stop - pairs.start
            return lambda: np.asarray(found, np.float32)[:count]

        shape = mine.stop - mine.start, len(self.t)
        out = np.zeros(shape, np.float32)
        hidden = quiet or not multiprocess.is_first()
        with tqdm(
            total=out.size, desc="match", unit="pass", disable=hidden, leave=False
        ) as bar:
            found = one_in_flight(map(start, parts))
            for (pairs, steps), scores in zip(parts, found, strict=True):
                if out.ndim < scores.ndim:
                    out = np.zeros((*shape, *scores.shape[2:]), np.float32)
                out[pairs.start - mine.start : pairs.stop - mine.start, steps] = scores
                bar.update(len(scores) * scores.shape[1])
        return multiprocess.join(out, len(images))

    def _place(self, rows: np.ndarray) -> jax.Array:
        padded = sharding.pad_batch(rows, self.pairs_at_once)
        return jax.device_put(padded, self._split)
