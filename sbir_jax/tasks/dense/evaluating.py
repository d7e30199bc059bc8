"""Figures of several models on several tests."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from jaxtyping import Float

from sbir_jax.data.dense import Example, Split
from sbir_jax.tasks.base import Result

# From a split to its examples, each with what is found in it: [h w n], or of depth
# [h w 1].
Predict = Callable[[Split], Iterator[tuple[Example, Float[np.ndarray, "h w n"]]]]


def thinned(tests: Mapping[str, Split], most: int) -> dict[str, Split]:
    """At most so many examples of each test, evenly spread; 0 for all."""
    found = {}
    for name, split in tests.items():
        count = min(most or len(split), len(split))
        rows = np.linspace(0, len(split) - 1, count).round().astype(int)
        found[name] = split.part(rows)
    return found


def scores(
    models: Mapping[str, Predict],
    tests: Mapping[str, Split],
    score: Callable[[Predict, Split, str], dict[str, float]],
) -> list[Result]:
    """Each model's figures; those of all tests but the first have its name behind.

    Args:
      score: a model's figures on one test, whose name comes last.
    """
    results = []
    for name, predict in models.items():
        figures: dict[str, float] = {}
        for i, (test, split) in enumerate(tests.items()):
            found = score(predict, split, test)
            figures |= {f"{k}, {test}" if i else k: v for k, v in found.items()}
        results.append(Result(name, figures))
    return results
