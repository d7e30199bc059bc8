"""How long a run trains, and by which optimiser."""

import dataclasses
import math

import optax


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How what a task trains is trained; a task may add fields of its own.

    Attributes:
      steps: optimiser steps.
      batch_size: rows of a batch, over all hosts.
      learning_rate: AdamW's peak, after `warmup` of the steps; then a cosine to zero.
      log_every, save_every, score_every: in steps. Scoring is on what the task holds
        out, and what scores best there is kept.
    """

    steps: int = 1000
    batch_size: int = 16
    learning_rate: float = 1e-2
    warmup: float = 0.05
    weight_decay: float = 0.0
    log_every: int = 10
    save_every: int = 50
    score_every: int = 50
    seed: int = 0

    def __post_init__(self):
        for name in ("steps", "batch_size", "log_every", "save_every", "score_every"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"train.{name} is {getattr(self, name)}; give 1 or more"
                )
        rate, decay = self.learning_rate, self.weight_decay
        if not (math.isfinite(rate) and rate > 0):
            raise ValueError(
                f"train.learning_rate is {rate}; give a number above 0, such as 0.01"
            )
        if not 0 <= self.warmup <= 1:
            raise ValueError(
                f"train.warmup is {self.warmup}; give a share of the steps, 0 to 1"
            )
        if not (math.isfinite(decay) and decay >= 0):
            raise ValueError(f"train.weight_decay is {decay}; give 0 or more")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"train.seed is {self.seed}; give 0 to 2147483647")

    def optimiser(self) -> optax.GradientTransformation:
        return optax.adamw(self.schedule(), weight_decay=self.weight_decay)

    def schedule(self) -> optax.Schedule:
        warmup = max(1, round(self.warmup * self.steps))
        return optax.warmup_cosine_decay_schedule(
            0.0, self.learning_rate, warmup, max(self.steps, warmup + 1)
        )
