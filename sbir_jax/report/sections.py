"""What a report is put together from; each section is drawn by a template of its own.

A new kind of section is a class with the attributes of `Section`, and a template of the
name it gives under `assets/report`, which sees it as `section`.
"""

import abc
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float

from sbir_jax.report.charts import Panel, finite
from sbir_jax.report.pictures import (
    NAMES,
    Hit,
    Picture,
    Ranking,
    check_picture,
    photo_jpegs,
)
from sbir_jax.types import Metric


class Section(abc.ABC):
    """One part of a report. Attributes: `title` above it, and `lead`, a sentence under
    that."""

    template: ClassVar[str]
    title: str
    lead: str

    @property
    @abc.abstractmethod
    def empty(self) -> bool:
        """Whether there is nothing to show, so that it is left out."""


@dataclasses.dataclass(frozen=True)
class Words:
    """What a report calls its results, and what its headline says of them.

    Attributes:
      names: of results, in the plural where they are learned: {"learned": "Learned
        prompts"}.
      claim: what they do, in the plural: "find the right photos".
    """

    names: Mapping[str, str] = dataclasses.field(default_factory=lambda: NAMES)
    claim: str = "reach"


@dataclasses.dataclass(frozen=True)
class Table(Section):
    """Rows of text and numbers; the first cell of each names it."""

    template: ClassVar[str] = "table.html"
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    lead: str = ""

    @property
    def empty(self) -> bool:
        return not self.rows


@dataclasses.dataclass(frozen=True)
class Curves(Section):
    """Charts over the steps of training."""

    template: ClassVar[str] = "curves.html"
    panels: Sequence[Panel]
    title: str = "How training went"
    lead: str = ""

    @property
    def empty(self) -> bool:
        return not self.panels


class Place(NamedTuple):
    """A photo of a ranking, and its file."""

    hit: Hit
    jpeg: bytes


@dataclasses.dataclass(frozen=True)
class RankedSheet(Section):
    """Drawings, and under each result's name what it found for them."""

    template: ClassVar[str] = "ranked_sheet.html"
    rankings: Sequence[Ranking]
    title: str = "What each drawing finds"
    lead: str = ""

    @property
    def empty(self) -> bool:
        return not self.rankings

    def queries(self) -> Iterator[tuple[Ranking, list[tuple[str, list[Place]]]]]:
        """Each drawing with its rows of photos."""
        # One pass over all photos, so that together they keep within the page's size.
        hits = [h for r in self.rankings for name in r.names() for h in r.hits[name]]
        files = iter(photo_jpegs([hit.image for hit in hits]))
        for ranking in self.rankings:
            yield (
                ranking,
                [
                    (name, [Place(hit, next(files)) for hit in ranking.hits[name]])
                    for name in ranking.names()
                ],
            )


@dataclasses.dataclass(frozen=True)
class ClassBars(Section):
    """A metric over the items of one class: {result: {class: value}}."""

    template: ClassVar[str] = "class_bars.html"
    per_class: Mapping[str, Mapping[str, float | None]]
    metric: Metric
    title: str = "Class by class"
    lead: str = ""

    def __post_init__(self):
        says = f"{self.metric.name} over the drawings of one class, best class first."
        object.__setattr__(self, "lead", self.lead or says)

    @property
    def empty(self) -> bool:
        return not any(self.per_class.values())

    def names(self) -> list[str]:
        """Results, the learned one first."""
        first = [name for name in ("learned", "frozen") if name in self.per_class]
        return first + [name for name in self.per_class if name not in first]

    def classes(self) -> list[tuple[str, list[tuple[str, float | None]]]]:
        """Each class with every result's value, by the first result's order."""
        names = self.names()
        labels = dict.fromkeys(label for n in names for label in self.per_class[n])
        first = self.per_class[names[0]]

        def rank(label: str) -> float:
            value = first.get(label)
            return math.inf if value is None else -self.metric.gain(value, 0.0)

        return [
            (label, [(name, self.per_class[name].get(label)) for name in names])
            for label in sorted(labels, key=rank)
        ]

    def share(self, value: float | None) -> float:
        """The length of a bar: of 1, or where the metric has a unit, of the longest."""
        tables = self.per_class.values()
        values = [v for table in tables for v in table.values() if finite(v)]
        longest = max(values, default=1.0) if self.metric.unit else 1.0
        if not finite(value):
            return 0.0
        return min(max(value / (longest or 1.0), 0.0), 1.0)


class Tile(NamedTuple):
    """A picture of a grid as a file, and what stands below it."""

    file: bytes
    caption: str


@dataclasses.dataclass(frozen=True, eq=False)
class Grid(Section):
    """Pictures side by side, each with its caption.

    Attributes:
      pictures: uint8 [h, w, 3] each.
      columns: of the grid; 0 for as many as there is room for.
    """

    template: ClassVar[str] = "grid.html"
    title: str
    pictures: Sequence[Picture]
    captions: Sequence[str]
    columns: int = 0
    lead: str = ""

    def __post_init__(self):
        if len(self.pictures) != len(self.captions):
            raise ValueError(
                f"{len(self.pictures)} pictures and {len(self.captions)} captions; "
                "give one each"
            )
        for picture, caption in zip(self.pictures, self.captions, strict=True):
            check_picture(picture, f"picture of {caption!r}")

    @property
    def empty(self) -> bool:
        return not self.pictures

    def tiles(self) -> list[Tile]:
        files = photo_jpegs(list(self.pictures))
        return [Tile(*pair) for pair in zip(files, self.captions, strict=True)]


def overlay(
    picture: Picture, strength: Float[np.ndarray, "_ _"], colour: Sequence[int]
) -> Picture:
    """A picture with a colour over it, for example a mask or a heat map; for `Grid`.

    Args:
      strength: of the colour at each pixel, 0 to 1.
    Raises: ValueError for a strength of another size than the picture.
    """
    if strength.shape != picture.shape[:2]:
        raise ValueError(
            f"the overlay is {strength.shape} and the picture {picture.shape[:2]}; "
            "give one value for each pixel"
        )
    weight = np.clip(strength, 0, 1)[..., None]
    mixed = (1 - weight) * picture + weight * np.asarray(colour, np.float64)
    return np.rint(mixed).astype(np.uint8)
