"""How the prompts are trained: for how long, which of them, by which optimiser."""

import dataclasses

import optax


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How the prompts are trained. The paper publishes none of these; all are ours.

    Attributes:
      steps: optimiser steps.
      batch_size: triplets a step, over all hosts.
      learning_rate: AdamW's peak, after `warmup` of the steps; then a cosine to zero.
      margin: of the triplet loss, in cosine distance.
      parts: of the prompts; one that is not among them stays as it starts.
      log_every, save_every, score_every: in steps. Scoring is on held-out SEEN
        classes, and the prompts that score best there are the ones kept.
    """

    steps: int = 1000
    batch_size: int = 16
    learning_rate: float = 1e-2
    warmup: float = 0.05
    weight_decay: float = 0.0
    margin: float = 0.3
    parts: tuple[str, ...] = ("visual", "text")
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
        if not self.parts or set(self.parts) - {"visual", "text"}:
            raise ValueError(f"train.parts is {self.parts}; give visual, text or both")

    def trains(self, part: str) -> bool:
        """Whether this part of the prompts is trained: a frame is "visual" also where
        it is added to latents."""
        return {"latent": "visual"}.get(part, part) in self.parts

    def reads_latents(self, prompts: dict) -> bool:
        """Whether nothing of the prompts that is before the autoencoder is trained."""
        return not ("visual" in prompts and self.trains("visual"))

    def optimiser(self) -> optax.GradientTransformation:
        return optax.adamw(self.schedule(), weight_decay=self.weight_decay)

    def schedule(self) -> optax.Schedule:
        warmup = max(1, round(self.warmup * self.steps))
        return optax.warmup_cosine_decay_schedule(
            0.0, self.learning_rate, warmup, max(self.steps, warmup + 1)
        )
