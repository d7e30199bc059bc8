"""Why this photo, by a re-ranker: which token of the drawing answers which of it."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from sbir_jax.report import correspondences
from sbir_jax.report.correspondences import Point
from sbir_jax.report.pictures import BLUE


class Match(NamedTuple):
    """Two places that belong together: (x, y) in [0, 1], from top left."""

    sketch: Point
    photo: Point
    similarity: float
    colour: str = BLUE


@dataclass(frozen=True, eq=False)
class TokenExplanation:
    """By a re-ranker: which token answers which.

    Attributes:
      score: the relation score, 0 to 1.
      matches: the strongest, in the colours of their places; `similarity` is how
        surely both choose each other, in multiples of choosing all alike.
    """

    score: float
    matches: list[Match]
    seen: correspondences.Seen

    def pictures(self) -> tuple[Image.Image, Image.Image]:
        """Both with the places that answer each other in one colour."""
        return correspondences.tinted(self.seen, correspondences.answers(self.seen))

    @property
    def note(self) -> str:
        return (
            f"relation score {self.score:.3f}; places of one colour answer each other"
        )


def by_tokens(seen: correspondences.Seen) -> TokenExplanation:
    """Of what a re-ranker saw."""
    found = correspondences.apart(correspondences.answers(seen), seen.side)
    matches = [
        Match(
            one.sketch,
            one.photo,
            one.strength,
            "#{:02x}{:02x}{:02x}".format(*correspondences.colour(one.sketch)),
        )
        for one in found
    ]
    return TokenExplanation(float(1 / (1 + np.exp(-seen.logit))), matches, seen)
