"""The config of the matching task: what it adds to an `Experiment`."""

import dataclasses
import math
from typing import ClassVar

from sbir_jax.adapters.match_adapter import AdapterConfig
from sbir_jax.config import Experiment, TrainConfig
from sbir_jax.tasks.matching.scores import MatchRecipe

LOSSES = ("softmax", "hinge")


@dataclasses.dataclass(frozen=True)
class ShotsConfig(TrainConfig):
    """How the adapter is trained. All values are ours, but for the hinge's form.

    Attributes:
      shots: pairs of an image and its text: how many, or below 1 which share of the
        training set; 0 for none, which is training-free.
      loss: "softmax" over the candidates, or the release's "hinge" on the hardest.
      margin: of the hinge, in scaled scores.
      candidates: of a question: its own negatives, then others at random.
      draws: timesteps and noises of a question in a step, shared by its candidates.
    """

    steps: int = 100
    batch_size: int = 8
    learning_rate: float = 3e-2
    shots: float = 64.0
    loss: str = "softmax"
    margin: float = 0.2
    candidates: int = 6
    draws: int = 2

    def __post_init__(self):
        super().__post_init__()
        if not (math.isfinite(self.shots) and self.shots >= 0):
            raise ValueError(
                f"train.shots is {self.shots}; give a number of pairs, a share below "
                "1, or 0 for training-free"
            )
        if self.shots > 1 and self.shots != round(self.shots):
            raise ValueError(f"train.shots is {self.shots}; give whole pairs")
        if self.loss not in LOSSES:
            raise ValueError(
                f"train.loss is {self.loss!r}; give one of {', '.join(LOSSES)}"
            )
        if self.candidates < 2 or self.draws < 1:
            raise ValueError(
                f"train.candidates is {self.candidates} and train.draws {self.draws}; "
                "give 2 or more, and 1 or more"
            )


@dataclasses.dataclass(frozen=True)
class Setup(Experiment):
    """A matching run.

    Attributes:
      rivals: whether scores by denoising error stand beside, at as many passes.
      clip: a CLIP model of transformers to stand beside, a folder or hub id; it needs
        torch. "" for none.
      match_batch_size: passes of the network at a time; 0 for what suits the devices.
      test_questions: of the test, evenly spread; 0 for all.
      questions_at_once: that go through the networks together in training; 0 for the
        whole batch. Fewer take less memory and learn the same.
    """

    MOVING: ClassVar[tuple[str, ...]] = (
        *Experiment.MOVING,
        "rivals",
        "clip",
        "match_batch_size",
        "test_questions",
        "questions_at_once",
    )
    train: ShotsConfig = dataclasses.field(default_factory=ShotsConfig)
    recipe: MatchRecipe = dataclasses.field(default_factory=MatchRecipe)
    adapter: AdapterConfig = dataclasses.field(default_factory=AdapterConfig)
    rivals: bool = True
    clip: str = ""
    match_batch_size: int = 0
    test_questions: int = 0
    questions_at_once: int = 0

    def __post_init__(self):
        super().__post_init__()
        for name in ("match_batch_size", "test_questions", "questions_at_once"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give 0 or more")
        at_once, batch = self.questions_at_once, self.train.batch_size
        if at_once and batch % at_once:
            raise ValueError(
                f"questions_at_once is {at_once}; give a divisor of train.batch_size "
                f"({batch})"
            )
        if self.adapter.weights == "importance" and not self.train.shots:
            raise ValueError(
                "adapter.weights is importance, which is measured on shots, and "
                "train.shots is 0; give some, or adapter.weights=plain"
            )
