"""The config of the synthesis task: what it adds to an `Experiment`."""

import dataclasses

from sbir_jax.config import Experiment
from sbir_jax.tasks.synthesis.drawing import Sampling


@dataclasses.dataclass(frozen=True)
class SynthesisScore:
    """What a run is scored on.

    Attributes:
      sketches: how many of each group are drawn, at most.
      seeds: pictures of each of them; diversity needs two.
    """

    sketches: int = 64
    seeds: int = 3

    def __post_init__(self):
        if self.sketches < 2 or self.seeds < 2:
            raise ValueError(
                f"score.sketches is {self.sketches} and score.seeds {self.seeds}; "
                "give 2 or more each"
            )


@dataclasses.dataclass(frozen=True)
class Setup(Experiment):
    """Attributes:
    held_out: every so many-th photo of the seen classes is held out, for validation
      and as unseen things of seen classes.
    caption_dropout: the share of captions that are left out in training, so that a
      drawing alone is enough.
    sampling: how pictures are sampled when a run is scored.
    """

    held_out: int = 6
    caption_dropout: float = 0.5
    sampling: Sampling = dataclasses.field(default_factory=Sampling)
    score: SynthesisScore = dataclasses.field(default_factory=SynthesisScore)

    def __post_init__(self):
        super().__post_init__()
        if self.held_out < 2:
            raise ValueError(f"held_out is {self.held_out}; give 2 or more")
        if not 0 <= self.caption_dropout <= 1:
            raise ValueError(f"caption_dropout is {self.caption_dropout}; give 0 to 1")
