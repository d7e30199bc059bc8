"""Whether training gets anywhere: what its history says while it runs, and after."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

NEAR = 0.97  # of the margin: a loss above it has learned nothing to speak of
LOSSES, SCORES = 8, 4  # rows of a kind before anything is said


def problems(
    history: Sequence[Mapping[str, Any]], margin: float, metric: str
) -> list[str]:
    """What is wrong with a run so far, a sentence each; nothing where all is well.

    A triplet's loss is at the margin where its two photos are equally near.

    Args:
      history: rows of metrics.jsonl.
      margin: of the triplet loss.
      metric: what validation scores; higher is better.
    """
    found = []
    losses = [row["loss"] for row in history if "loss" in row]
    late = float(np.mean(losses[len(losses) // 2 :])) if losses else 0.0
    if len(losses) >= LOSSES and late >= NEAR * margin:
        found.append(
            f"The loss stands at the margin ({late:.4f} of {margin:g}): right photos "
            "come out no nearer than wrong ones. Try other layers (recipe.taps), a "
            "higher train.learning_rate, or a backbone that knows such pictures."
        )
    scores = [row[key] for row in history if (key := f"val/{metric}") in row]
    if len(scores) >= SCORES and max(scores[1:]) <= scores[0]:
        found.append(
            f"{metric} on held-out seen classes never rose above its first "
            f"{scores[0]:.3f} in {len(scores)} validations: what is kept is as it was "
            "before training, or hardly trained."
        )
    return found
