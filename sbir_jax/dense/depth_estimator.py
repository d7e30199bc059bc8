"""Depth of photos of any size, by what a run has learned.

estimator = DepthEstimator.from_run("runs/depth")
estimator.estimate("kitchen.jpg")  # float32 [h, w], in `estimator.unit`
"""

import pathlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from sbir_jax.data import images
from sbir_jax.dense.class_texts import class_states
from sbir_jax.dense.learned import Learned
from sbir_jax.dense.photo_sizes import enlarge, network_size
from sbir_jax.dense.views import resized


class Estimate(NamedTuple):
    """Of one photo; both are of its own size."""

    photo: UInt8[np.ndarray, "h w 3"]
    depth: Float[np.ndarray, "h w"]


class DepthEstimator:
    """The depth head of a run.

    Attributes:
      unit: of depth, such as "m".
      places: kinds of scenes that it was told apart by; one, "", for none.
    """

    def __init__(self, learned: Learned):
        self._learned = learned
        self.unit, self.places = learned.unit, learned.places
        self._states = class_states(learned.loaded, learned.places)

    @classmethod
    def from_run(cls, workdir: str | pathlib.Path) -> "DepthEstimator":
        """Raises: as `Learned.from_run`."""
        return cls(Learned.from_run(workdir, "depth"))

    def estimate(self, photo: images.Source, place: str = "") -> Estimate:
        """Args:
          photo: a path, the bytes of a file, a PIL image, or a uint8 RGB array.
          place: the kind of scene, where the run tells them apart; without one the mean
            of all of their texts stands for it (ours).
        Raises: BadImage for a photo that cannot be read; ValueError for a place that
          the run does not know.
        """
        if place and place not in self.places:
            raise ValueError(
                f"place is {place!r}; this run knows {', '.join(self.places)}"
            )
        states = self._states.mean(0)
        if place:
            states = self._states[self.places.index(place)]
        whole, learned = images.decode(photo), self._learned
        height, width = whole.shape[:2]
        stride = learned.loaded.backbone.stride
        small = resized(whole, network_size(height, width, learned.size, stride))
        found = learned(small, states[None, None])[0]
        return Estimate(whole, enlarge(found, (height, width)))
