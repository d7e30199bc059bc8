"""Words that rooms share."""

import dataclasses
import math
from typing import Literal

Modality = Literal["sketch", "photo"]
MODALITIES: tuple[Modality, ...] = ("sketch", "photo")


@dataclasses.dataclass(frozen=True)
class Metric:
    """A figure's name and meaning, and which way it gets better.

    Attributes:
      name: as reports and histories hold it, for example "mAP@all".
      definition: the exact formula, in one sentence.
      better: "higher" or "lower".
      unit: "" for a share of 1, else what it is measured in, for example "m".
    """

    name: str
    definition: str = ""
    better: Literal["higher", "lower"] = "higher"
    unit: str = ""

    @property
    def worst(self) -> float:
        """What every value is better than."""
        return -math.inf if self.better == "higher" else math.inf

    def gain(self, new: float, old: float) -> float:
        """How much better `new` is than `old`; below zero where it is worse."""
        return new - old if self.better == "higher" else old - new

    def improves(self, new: float, old: float) -> bool:
        """Whether `new` is better than `old`. Nothing that is not a number is."""
        return new > old if self.better == "higher" else new < old
